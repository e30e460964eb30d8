"""
Carries the scope in force into the threads in which LiteLLM makes calls for the caller.

`batch_completion` starts threads without its caller's context, and so do a router and
`completion(fallbacks=...)` where a loop runs already, as it does in every notebook.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Context, copy_context
from types import ModuleType
from typing import Any, Final

from agentsight_tokens.faults import contained

from .patches import Patches

__all__ = ["RUNNERS", "carry_into_batches", "carry_into_loops"]

RUNNERS: Final = (
    "litellm.litellm_core_utils.fallback_utils",
    "litellm.responses.main",
    "litellm.router",
)
"""The modules that run coroutines for synchronous callers."""

_OURS: Final = "agentsight_"
"""How the names of our own context variables begin; the program's are left alone."""


def carry_into_batches(module: ModuleType, patches: Patches) -> None:
    """Carry into the threads of `litellm.batch_completion.main`."""

    def carrying(original: type[Any]) -> type[Any]:
        class CarryingExecutor(original):
            def submit(
                self, function: Callable[..., Any], /, *args: Any, **kwargs: Any
            ) -> Future[Any]:
                carried = functools.partial(_run_within, copy_context(), function)
                found: Future[Any] = super().submit(carried, *args, **kwargs)
                return found

        return CarryingExecutor

    patches.replace(module, "ThreadPoolExecutor", carrying)


def carry_into_loops(module: ModuleType, patches: Patches) -> None:
    """Carry into the loops of one of the `RUNNERS`."""

    def carrying(original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def run_async_function(
            async_function: Callable[..., Any], *args: Any, **kwargs: Any
        ) -> Any:
            context = copy_context()

            @functools.wraps(async_function)
            async def carried(*args: Any, **kwargs: Any) -> Any:
                _enter(context)
                return await async_function(*args, **kwargs)

            return original(carried, *args, **kwargs)

        return run_async_function

    patches.replace(module, "run_async_function", carrying)


def _run_within(context: Context, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    # A context of its own, so that nothing is left behind in a thread that is used again.
    def run() -> Any:
        _enter(context)
        return function(*args, **kwargs)

    return copy_context().run(run)


def _enter(context: Context) -> None:
    with contained("carrying the scope into a thread"):
        for variable, value in context.items():
            if variable.name.startswith(_OURS):
                variable.set(value)
