"""
The runs of one `generate`: what it sends is theirs, and what it leaves open is closed.

A cancelled `ainvoke` of a chat model tells no callback of its end, and neither does the first
prompt of a `generate` whose second fails. `agenerate` of a legacy model starts its runs in
tasks, whose context is not the one in which the request is sent. And which of several prompts
is asked, or found in LangChain's cache, no callback tells (langchain-core 1.8).
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any, Final

import msgspec

from agentsight_tokens.errors import BudgetExceededError
from agentsight_tokens.faults import guarded
from agentsight_tokens.meter import OpenCall
from agentsight_tokens_wire.patches import Patches

from .runs import Run, run_key

__all__ = ["Generation", "call_in_force", "generation_in_force", "watch_generation"]

TellAnswer = Callable[[Run, Any], None]
"""`RunEvents.answered`."""

_ASKING: Final = (
    ("_generate_with_cache", "_agenerate_with_cache"),  # of chat models, one prompt
    ("_generate_helper", "_agenerate_helper"),  # of legacy models, a whole batch
)


class Generation(msgspec.Struct, eq=False):
    """The runs that one `generate` has started."""

    outer: list[Run] | None = None
    """Where it is a model that makes the call, the runs that this one does it for."""
    is_open: bool = True
    runs: dict[Any, Run] = {}  # msgspec copies it
    """By what they are known by; see `run_key`."""


_around: Final[ContextVar[Generation | list[Run] | None]] = ContextVar(
    "agentsight_langchain_generation", default=None
)
"""The `generate` that is at work, or the runs for which a model is asked now."""


def generation_in_force() -> Generation | None:
    """Return the `generate` to which a run belongs that starts now."""
    around = _around.get()
    return around if type(around) is Generation and around.is_open else None


def call_in_force() -> OpenCall | None:
    """
    Return the call of the run for which a model is asked now.

    That model may ask another of LangChain's, whose call is then the inner one. Of several
    runs it is the first that sent nothing yet, else the first.
    """
    around = _around.get()
    if around is None:
        return None
    asked = around.outer if isinstance(around, Generation) else around
    if asked is None:
        return None
    calls = [run.call for run in asked if not run.call.is_finished]
    return next((call for call in calls if call.inner is None), calls[0] if calls else None)


def watch_generation(model: Any, tell_answer: TellAnswer, patches: Patches) -> None:
    """Watch the methods of `BaseChatModel` or `BaseLLM`."""
    patches.replace(model, "generate", functools.partial(_watched, tell_answer))
    patches.replace(model, "agenerate", functools.partial(_watched_async, tell_answer))
    for name, async_name in _ASKING:
        if name in vars(model):
            patches.replace(model, name, _asked)
            patches.replace(model, async_name, _asked_async)


def _watched(tell_answer: TellAnswer, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def generate(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = _around.get()
        generation = Generation(before if type(before) is list else None)
        _around.set(generation)
        try:
            return original(self, *args, **kwargs)
        except BaseException as error:
            _close(generation, error, tell_answer)
            raise
        finally:
            generation.is_open = False
            _around.set(before)

    return generate


def _watched_async(
    tell_answer: TellAnswer, original: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(original)
    async def agenerate(self: Any, *args: Any, **kwargs: Any) -> Any:
        before = _around.get()
        generation = Generation(before if type(before) is list else None)
        _around.set(generation)
        try:
            return await original(self, *args, **kwargs)
        except BaseException as error:
            _close(generation, error, tell_answer)
            raise
        finally:
            generation.is_open = False
            _around.set(before)

    return agenerate


def _asked(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def ask(self: Any, *args: Any, **kwargs: Any) -> Any:
        generation = _around.get()
        asked = _runs_of(generation, args, kwargs)
        if not asked:
            return original(self, *args, **kwargs)
        _around.set(asked)
        try:
            result = original(self, *args, **kwargs)
        finally:
            _around.set(generation)
        asked[0].result = result
        return result

    return ask


def _asked_async(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(original)
    async def ask(self: Any, *args: Any, **kwargs: Any) -> Any:
        generation = _around.get()
        asked = _runs_of(generation, args, kwargs)
        if not asked:
            return await original(self, *args, **kwargs)
        _around.set(asked)
        try:
            result = await original(self, *args, **kwargs)
        finally:
            _around.set(generation)
        asked[0].result = result
        return result

    return ask


def _runs_of(
    generation: Generation | list[Run] | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[Run] | None:
    """Return the runs for which a model is about to be asked; None if that is not known."""
    if type(generation) is not Generation or not generation.runs:
        return None
    started = generation.runs
    manager: Any = kwargs.get("run_manager") or kwargs.get("run_managers")
    if manager is None and len(args) > 2:
        manager = args[2]
    managers = manager if isinstance(manager, list) else (manager,)
    found = []
    for each in managers:
        run = started.get(run_key(getattr(each, "run_id", None)))
        if run is not None:
            run.was_asked = True
            found.append(run)
    return found


@guarded
def _close(generation: Generation, error: BaseException, tell_answer: TellAnswer) -> None:
    """Finish what is still open, now that nobody else will."""
    # Where a model asks in a way of its own, nothing is known of any.
    is_known = any(run.was_asked for run in generation.runs.values())
    for run in generation.runs.values():
        if run.call.is_finished:
            continue
        if run.result is not None:
            result = run.result
            told = SimpleNamespace(generations=[result.generations], llm_output=result.llm_output)
            tell_answer(run, told)
        elif isinstance(error, BudgetExceededError) or (is_known and not run.was_asked):
            run.call.drop()  # nothing was sent
        elif isinstance(error, asyncio.CancelledError):
            run.call.finish(None, status="cancelled", unreported_reason="cancelled")
        else:
            run.call.finish(None, status="error", unreported_reason="run_never_closed")
