"""LlamaIndexHandler: registers with LlamaIndex when the program imports it."""

from __future__ import annotations

from threading import RLock
from types import ModuleType
from typing import Any, ClassVar

import wrapt

from agentsight_tokens.config import TokenConfig
from agentsight_tokens.faults import guarded
from agentsight_tokens.meter import Meter

from .capture import Capture

__all__ = ["LlamaIndexHandler"]


class LlamaIndexHandler:
    """
    Counts the calls of LlamaIndex's models and embeddings.

    It listens at the root of LlamaIndex's dispatchers, which every model reports to whenever
    and however it was built, and leaves `Settings.callback_manager` to the program.
    """

    name: ClassVar[str] = "llamaindex"
    framework: ClassVar[str] = "llama_index_instrumentation"
    extra: ClassVar[str] = "agentsight-tokens[llamaindex]"

    def __init__(self) -> None:
        self._lock = RLock()
        self._capture: Capture | None = None
        self._is_awaiting_import = False
        self._registered: tuple[Any, Any, Any] | None = None

    def install(self, meter: Meter, config: TokenConfig) -> None:
        """Listen from now on, or from LlamaIndex's import on."""
        with self._lock:
            if self._capture is not None:
                return
            self._capture = Capture(meter)
            if self._is_awaiting_import:
                return
            self._is_awaiting_import = True
        # Outside the lock: an import may be under way in another thread. Importing it here
        # would cost programs that never call LlamaIndex a third of a second.
        wrapt.register_post_import_hook(self._register, self.framework)

    def uninstall(self) -> None:
        """Stop listening; what is under way is not counted."""
        with self._lock:
            capture, self._capture = self._capture, None
            registered, self._registered = self._registered, None
        if registered is not None:
            root, events, spans = registered
            root.event_handlers = [each for each in root.event_handlers if each is not events]
            root.span_handlers = [each for each in root.span_handlers if each is not spans]
        if capture is not None:
            capture.clear()

    @guarded
    def _register(self, module: ModuleType) -> None:
        from .listeners import CaptureEvents, CaptureSpans  # imports LlamaIndex

        with self._lock:
            self._is_awaiting_import = False
            if self._capture is None or self._registered is not None:
                return
            root = module.root_dispatcher
            events, spans = CaptureEvents(self._capture), CaptureSpans(self._capture)
            root.add_event_handler(events)
            root.add_span_handler(spans)
            self._registered = (root, events, spans)
