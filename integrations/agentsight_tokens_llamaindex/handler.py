"""LlamaIndexHandler: registers with LlamaIndex when the program imports it."""

from __future__ import annotations

from threading import RLock
from types import ModuleType
from typing import ClassVar

from agentsight_tokens.config import TokenConfig
from agentsight_tokens.meter import Meter
from agentsight_tokens_wire import install_taps
from agentsight_tokens_wire.patches import Patches

from .capture import Capture
from .enforcement import stop_refused_calls
from .stream_usage import ask_for_stream_usage

__all__ = ["LlamaIndexHandler"]


class LlamaIndexHandler:
    """
    Counts the calls of LlamaIndex's models and embeddings.

    It listens at the root of LlamaIndex's dispatchers, which every model reports to whenever
    and however it was built, and leaves `Settings.callback_manager` to the program. Nothing
    here imports LlamaIndex, which costs a program that never calls it a third of a second.
    """

    name: ClassVar[str] = "llamaindex"
    framework: ClassVar[str] = "llama_index_instrumentation"
    extra: ClassVar[str] = "agentsight-tokens[llamaindex]"

    def __init__(self) -> None:
        self._lock = RLock()
        self._patches: Patches | None = None

    def install(self, meter: Meter, config: TokenConfig) -> None:
        """Listen from now on, or from LlamaIndex's import on."""
        with self._lock:
            if self._patches is not None:
                return
            patches = self._patches = Patches()
        # Outside the lock: an import may be under way in another thread.
        capture = Capture(meter, with_embeddings=config.capture_embeddings)
        patches.after_import(self.framework, lambda module: _listen(module, capture, patches))
        stop_refused_calls(capture, patches)
        if config.stream_usage:
            ask_for_stream_usage(patches)
        meter.barriers.append(capture.settle)
        patches.on_undo(lambda: meter.barriers.remove(capture.settle))
        meter.finders.append(capture.find_call)
        patches.on_undo(lambda: meter.finders.remove(capture.find_call))
        # After the barrier: what it finishes, the taps beneath finish too.
        patches.on_undo(install_taps(meter, config, surroundings=capture.surroundings))
        patches.on_undo(capture.clear)

    def uninstall(self) -> None:
        """Stop listening; what is under way is not counted."""
        with self._lock:
            patches, self._patches = self._patches, None
        if patches is not None:
            patches.undo()


def _listen(module: ModuleType, capture: Capture, patches: Patches) -> None:
    from .listeners import active_span_id, event_listener, span_listener  # imports LlamaIndex

    root = module.root_dispatcher
    events, spans = event_listener(capture), span_listener(capture)
    capture.active_span_id = active_span_id
    root.add_span_handler(spans)
    root.add_event_handler(events)

    def stop() -> None:
        # New lists, as a dispatcher may be walking through the old ones.
        root.event_handlers = [each for each in root.event_handlers if each is not events]
        root.span_handlers = [each for each in root.span_handlers if each is not spans]

    patches.on_undo(stop)
