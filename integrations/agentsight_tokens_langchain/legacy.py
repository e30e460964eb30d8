"""
Keeps the callback from hiding the start of legacy models from the program's own callbacks.

Where one callback runs inline, `AsyncCallbackManager.on_llm_start` tells no other of the
start (langchain#39633, in langchain-core 1.8). Ours must run inline, so it is told apart.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Awaitable, Callable
from typing import Any

from .callbacks import usage_callback

__all__ = ["tell_apart"]


def tell_apart(manager: Any) -> Callable[[], None]:
    """Patch `AsyncCallbackManager`, and return what undoes it."""
    original = vars(manager)["on_llm_start"]
    ours = _telling_apart(original)
    manager.on_llm_start = ours

    def undo() -> None:
        if vars(manager).get("on_llm_start") is ours:  # else a stranger has wrapped it since
            manager.on_llm_start = original

    return undo


def _telling_apart(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(original)
    async def on_llm_start(
        self: Any, serialized: Any, prompts: list[str], *args: Any, **kwargs: Any
    ) -> Any:
        others = [handler for handler in self.handlers if handler is not usage_callback]
        if len(others) == len(self.handlers) or all(other.run_inline for other in others):
            return await original(self, serialized, prompts, *args, **kwargs)
        without_ours = copy.copy(self)
        without_ours.handlers = others
        runs = await original(without_ours, serialized, prompts, *args, **kwargs)
        kwargs.pop("run_id", None)
        for run, prompt in zip(runs, prompts, strict=False):
            run.handlers = self.handlers
            usage_callback.on_llm_start(
                serialized,
                [prompt],
                run_id=run.run_id,
                parent_run_id=self.parent_run_id,
                metadata=self.metadata,
                **kwargs,
            )
        return runs

    return on_llm_start
