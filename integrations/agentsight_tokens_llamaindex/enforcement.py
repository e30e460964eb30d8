"""
Where LlamaIndex lets a call be stopped.

Its dispatcher swallows whatever the handler of a start event raises. The callback manager is
told of the same call right after it, and what is raised there stops the call.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any, Final

from agentsight_tokens_wire.patches import Patches

from .capture import Capture

__all__ = ["stop_refused_calls"]

_CALLS: Final = frozenset({"llm", "embedding"})


def stop_refused_calls(capture: Capture, patches: Patches) -> None:
    """Let callback managers, the program's own too, stop the calls that a budget refuses."""

    def stopping(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def on_event_start(self: Any, event_type: Any, *args: Any, **kwargs: Any) -> Any:
            if event_type in _CALLS and patches.is_on:
                capture.refuse()
            return original(self, event_type, *args, **kwargs)

        return on_event_start

    def patch(module: ModuleType) -> None:
        patches.replace(module.CallbackManager, "on_event_start", stopping)

    patches.after_import("llama_index.core.callbacks.base", patch)
