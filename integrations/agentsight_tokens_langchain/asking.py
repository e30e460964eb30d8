"""
Where LangChain asks a model: there a call begins, and there its answer is.

The managers tell of more and of less. A run starts before it is known whether its answer is in
LangChain's cache, and no callback is told of an end where a cancelled `ainvoke` leaves, or where
another prompt of the same `generate` fails (langchain-core 1.8).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextvars import ContextVar
from types import CodeType
from typing import Any, Final

from agentsight_tokens.errors import BudgetExceededError
from agentsight_tokens.meter import OpenCall
from agentsight_tokens_wire.patches import Patches

from .run_events import RunEvents
from .runs import Run

__all__ = ["call_in_force", "watch_asking"]

_asked: Final[ContextVar[Sequence[Run]]] = ContextVar("agentsight_langchain_asked", default=())
"""The runs for which a model is asked now."""


def call_in_force() -> OpenCall | None:
    """
    Return the call of the run for which a model is asked now.

    That model may ask another of LangChain's, whose call is then the inner one. Of several
    runs it is the first that sent nothing yet, else the first.
    """
    asked = _asked.get()
    if not asked:
        return None
    calls = [run.call for run in asked if not run.call.is_finished]
    return next((call for call in calls if call.inner is None), calls[0] if calls else None)


def watch_asking(model: Any, events: RunEvents, patches: Patches) -> None:
    """
    Watch how `BaseChatModel` or `BaseLLM` is asked.

    Args:
        model: The class.
        events: Who is told.
        patches: What is replaced, and how to take it back.
    """
    if "_generate_with_cache" in vars(model):  # a chat model is asked one prompt
        patches.replace(model, "_generate_with_cache", functools.partial(_asks, events))
        patches.replace(model, "_agenerate_with_cache", functools.partial(_awaits, events))
    else:  # a legacy one a whole batch, whose ends are told before it returns
        patches.replace(model, "_generate_helper", functools.partial(_asks_batch, events))
        patches.replace(model, "_agenerate_helper", functools.partial(_awaits_batch, events))
    for name in ("generate", "agenerate"):
        events.watch_later_in(_codes_of(inspect.unwrap(vars(model)[name]).__code__))


def _codes_of(code: CodeType) -> Iterator[CodeType]:
    """Return the code of a function and of what stands inside it, as comprehensions do."""
    yield code
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _codes_of(each)


def _asks(events: RunEvents, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def ask(
        self: Any, messages: Any, stop: Any = None, run_manager: Any = None, **told: Any
    ) -> Any:
        run = events.asked(self, messages, stop, run_manager, told)
        if run is None:
            return original(self, messages, stop=stop, run_manager=run_manager, **told)
        around = _asked.get()
        _asked.set((run,))
        try:
            result = original(self, messages, stop=stop, run_manager=run_manager, **told)
        finally:
            _asked.set(around)
        events.answered(run, result.generations, result.llm_output)
        return result

    return ask


def _awaits(
    events: RunEvents, original: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(original)
    async def ask(
        self: Any, messages: Any, stop: Any = None, run_manager: Any = None, **told: Any
    ) -> Any:
        run = events.asked(self, messages, stop, run_manager, told)
        if run is None:
            return await original(self, messages, stop=stop, run_manager=run_manager, **told)
        around = _asked.get()
        _asked.set((run,))
        try:
            result = await original(self, messages, stop=stop, run_manager=run_manager, **told)
        except BaseException as error:
            if not isinstance(error, Exception):
                events.failed(run.manager, error, None)
            raise
        finally:
            _asked.set(around)
        events.answered(run, result.generations, result.llm_output)
        return result

    return ask


def _asks_batch(events: RunEvents, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def ask(self: Any, prompts: Any, stop: Any, run_managers: Any, **told: Any) -> Any:
        try:
            runs = events.batch_asked(self, prompts, run_managers, told)
        except BudgetExceededError as error:
            for manager in run_managers:  # the program's own callbacks have been told of its start
                manager.on_llm_error(error)
            raise
        around = _asked.get()
        _asked.set(runs)
        try:
            return original(self, prompts, stop, run_managers, **told)
        finally:
            _asked.set(around)

    return ask


def _awaits_batch(
    events: RunEvents, original: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(original)
    async def ask(self: Any, prompts: Any, stop: Any, run_managers: Any, **told: Any) -> Any:
        try:
            runs = events.batch_asked(self, prompts, run_managers, told)
        except BudgetExceededError as error:
            for manager in run_managers:
                await manager.on_llm_error(error)
            raise
        around = _asked.get()
        _asked.set(runs)
        try:
            return await original(self, prompts, stop, run_managers, **told)
        finally:
            _asked.set(around)

    return ask
