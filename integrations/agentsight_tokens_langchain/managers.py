"""
LangChain's callback managers, which every run goes through, tell of it where they are called.

A callback that is added to them is told the same, but each event is handed to it through a
loop that takes longer than the counting, and one that runs in the caller's own thread, where
the scope in force can be seen, keeps others from hearing of a start (langchain#39633).
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from typing import Any, Final

from agentsight_tokens.errors import BudgetExceededError
from agentsight_tokens.usage import Operation
from agentsight_tokens_wire.patches import Patches

from .run_events import RunEvents

__all__ = ["watch_managers"]

_OPERATIONS: Final[Mapping[str, Operation]] = {
    "on_chat_model_start": "chat",
    "on_llm_start": "completion",
}

_Method = Callable[..., Any]
_Told = dict[str, Any]
_TellStart = Callable[[Any, Sequence[Any], _Told], None]
"""Is told what a start returned, the arguments by position and those by name."""


def watch_managers(module: Any, events: RunEvents, patches: Patches) -> None:
    """
    Let the managers tell of the runs of models, tools and chains.

    Args:
        module: The module `langchain_core.callbacks.manager`.
        events: Who is told.
        patches: What is replaced, and how to take it back.
    """
    heard = _Heard(events, patches)
    for kind, starts, model_starts in (
        ("", _starts, _model_starts),
        ("Async", _awaited_starts, _awaited_model_starts),
    ):
        manager = getattr(module, f"{kind}CallbackManager")
        model_run = getattr(module, f"{kind}CallbackManagerForLLMRun")
        for name, operation in _OPERATIONS.items():
            tell = heard.model_starts(operation)
            patches.replace(manager, name, functools.partial(model_starts, tell, events.asks_later))
        patches.replace(model_run, "on_llm_new_token", heard.tokens)
        patches.replace(model_run, "on_llm_end", heard.ends)
        patches.replace(model_run, "on_llm_error", heard.errors)
        for what, tell_start in (("tool", heard.tool_start), ("chain", heard.chain_start)):
            run = getattr(module, f"{kind}CallbackManagerFor{what.title()}Run")
            patches.replace(manager, f"on_{what}_start", functools.partial(starts, tell_start))
            patches.replace(run, f"on_{what}_end", heard.closes)
            patches.replace(run, f"on_{what}_error", heard.closes)


def _starts(tell: _TellStart, original: _Method) -> _Method:
    @functools.wraps(original)
    def start(self: Any, *args: Any, **told: Any) -> Any:
        started = original(self, *args, **told)
        tell(started, args, told)
        return started

    return start


def _awaited_starts(
    tell: _TellStart, original: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    @functools.wraps(original)
    async def start(self: Any, *args: Any, **told: Any) -> Any:
        started = await original(self, *args, **told)
        tell(started, args, told)
        return started

    return start


def _model_starts(tell: _TellStart, asks_later: Container[int], original: _Method) -> _Method:
    @functools.wraps(original)
    def start(self: Any, *args: Any, **told: Any) -> Any:
        started = original(self, *args, **told)
        if id(sys._getframe(1).f_code) in asks_later:  # noqa: SLF001  # no public way tells who calls
            return started
        try:
            tell(started, args, told)
        except BudgetExceededError as error:
            for run in started:  # the program's own callbacks have been told of its start
                run.on_llm_error(error)
            raise
        return started

    return start


def _awaited_model_starts(
    tell: _TellStart, asks_later: Container[int], original: Callable[..., Awaitable[Any]]
) -> Callable[..., Awaitable[Any]]:
    async def tell_of(starting: Awaitable[Any], args: Sequence[Any], told: _Told) -> Any:
        started = await starting
        try:
            tell(started, args, told)
        except BudgetExceededError as error:
            for run in started:
                await run.on_llm_error(error)
            raise
        return started

    @functools.wraps(original)
    def start(self: Any, *args: Any, **told: Any) -> Awaitable[Any]:
        starting = original(self, *args, **told)
        if id(sys._getframe(1).f_code) in asks_later:  # noqa: SLF001  # as above
            return starting
        return tell_of(starting, args, told)

    return start


class _Heard:
    """
    What is heard, as long as the patches are on.

    Where nothing is to be done after a method, a plain function wraps it also if it is
    awaited: what it returns is awaited as it is.
    """

    def __init__(self, events: RunEvents, patches: Patches) -> None:
        self._events = events
        self._patches = patches

    def model_starts(self, operation: Operation) -> _TellStart:
        started, patches = self._events.started, self._patches

        def model_start(runs: Any, args: Sequence[Any], told: _Told) -> None:
            if patches.is_on:
                started(operation, runs, args, told)

        return model_start

    def tool_start(self, run: Any, args: Sequence[Any], told: _Told) -> None:
        if self._patches.is_on:
            self._events.tool_started(run.run_id, args[0] if args else told.get("serialized"))

    def chain_start(self, run: Any, args: Sequence[Any], told: _Told) -> None:
        del args, told
        if self._events.tools.names:  # only those inside a tool matter, to know the tool's calls
            self._events.chain_started(run.run_id, run.parent_run_id)

    def tokens(self, original: _Method) -> _Method:
        token_came, patches = self._events.token, self._patches

        @functools.wraps(original)
        def on_llm_new_token(self: Any, token: Any, *, chunk: Any = None, **told: Any) -> Any:
            if patches.is_on:
                token_came(self.run_id, token, chunk)
            return original(self, token, chunk=chunk, **told)

        return on_llm_new_token

    def ends(self, original: _Method) -> _Method:
        ended, patches = self._events.ended, self._patches

        @functools.wraps(original)
        def on_llm_end(self: Any, response: Any, **told: Any) -> Any:
            if patches.is_on:
                ended(self, response)
            return original(self, response, **told)

        return on_llm_end

    def errors(self, original: _Method) -> _Method:
        failed, patches = self._events.failed, self._patches

        @functools.wraps(original)
        def on_llm_error(self: Any, error: BaseException, **told: Any) -> Any:
            if patches.is_on:
                failed(self, error, told.get("response"))
            return original(self, error, **told)

        return on_llm_error

    def closes(self, original: _Method) -> _Method:
        names, closed = self._events.tools.names, self._events.closed

        @functools.wraps(original)
        def close(self: Any, *args: Any, **told: Any) -> Any:
            if names:
                closed(self.run_id)
            return original(self, *args, **told)

        return close
