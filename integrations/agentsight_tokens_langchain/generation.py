"""
The runs of one `generate`: what it sends is theirs, and what it leaves open is closed.

A cancelled `ainvoke` of a chat model tells no callback of its end, and neither does the first
prompt of a `generate` whose second fails. `agenerate` of a legacy model starts its runs in
tasks, whose context is not the one in which the request is sent (langchain-core 1.8).
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final

from agentsight_tokens.errors import BudgetExceededError
from agentsight_tokens.faults import guarded
from agentsight_tokens.meter import OpenCall

from .runs import Run

__all__ = ["call_in_force", "note_start", "watch_generation"]


class _Generation:
    """The runs that one `generate` has started."""

    __slots__ = ("is_open", "runs")

    def __init__(self) -> None:
        self.is_open = True
        self.runs: list[Run] = []


_current: Final[ContextVar[_Generation | None]] = ContextVar(
    "agentsight_langchain_generation", default=None
)


def note_start(run: Run) -> None:
    """Remember a run that started, for the `generate` that it belongs to."""
    generation = _current.get()
    if generation is not None and generation.is_open:
        generation.runs.append(run)


@guarded
def call_in_force() -> OpenCall | None:
    """Return the call of the `generate` inside which this runs, the first that sent nothing."""
    generation = _current.get()
    if generation is None or not generation.is_open:
        return None
    calls = [run.call for run in generation.runs if not run.call.is_finished]
    return next((call for call in calls if call.inner is None), calls[0] if calls else None)


def watch_generation(model: Any) -> Callable[[], None]:
    """Watch the methods of `BaseChatModel` or `BaseLLM`, and return what undoes it."""
    originals = {name: vars(model)[name] for name in ("generate", "agenerate")}
    ours = {
        "generate": _watched(originals["generate"]),
        "agenerate": _watched_async(originals["agenerate"]),
    }
    for name, method in ours.items():
        setattr(model, name, method)

    def undo() -> None:
        for name, method in ours.items():
            if vars(model).get(name) is method:  # else a stranger has wrapped it since
                setattr(model, name, originals[name])

    return undo


def _watched(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def generate(self: Any, *args: Any, **kwargs: Any) -> Any:
        generation = _Generation()
        token = _current.set(generation)
        try:
            return original(self, *args, **kwargs)
        except BaseException as error:
            _close(generation, error)
            raise
        finally:
            generation.is_open = False
            _current.reset(token)

    return generate


def _watched_async(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(original)
    async def agenerate(self: Any, *args: Any, **kwargs: Any) -> Any:
        generation = _Generation()
        token = _current.set(generation)
        try:
            return await original(self, *args, **kwargs)
        except BaseException as error:
            _close(generation, error)
            raise
        finally:
            generation.is_open = False
            _current.reset(token)

    return agenerate


@guarded
def _close(generation: _Generation, error: BaseException) -> None:
    """Finish what is still open, now that nobody else will."""
    if isinstance(error, BudgetExceededError):  # raised by a start, before anything was sent
        for run in generation.runs:
            run.call.drop()
        return
    finished = [i for i, run in enumerate(generation.runs) if run.call.is_finished]
    for i, run in enumerate(generation.runs):
        if isinstance(error, asyncio.CancelledError):
            run.call.finish(None, status="cancelled", unreported_reason="cancelled")
        elif finished and i > finished[-1]:  # prompts are sent in turn, up to the one that failed
            run.call.drop()
        else:
            run.call.finish(None, status="error", unreported_reason="run_never_closed")
