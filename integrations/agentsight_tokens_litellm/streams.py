"""
The streams that LiteLLM hands out: when they bring a token, end, break or are left.

Callbacks tell the end of an asynchronous stream only to a loop that goes on, of one that was
left nothing, and of a silent one LiteLLM's own guess at what it used (litellm 1.106). What the
provider itself told is in the parts that a stream has passed on.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from types import ModuleType
from typing import Any, Final

from agentsight_tokens.extract import Extracted
from agentsight_tokens.faults import guarded

from .answers import read_answer
from .barrier import Barrier
from .call import Call
from .calls import CallTable
from .patches import Patches
from .stream_usage import Asked

__all__ = ["StreamWatch"]

_CALL: Final = "_agentsight_call"
"""The attribute of a stream that holds its call."""

_TERMINAL: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
"""The events after which a stream of Responses brings nothing more."""

_guess: Final[ContextVar[Any]] = ContextVar("agentsight_litellm_guess", default=None)
"""The last usage that LiteLLM has made up."""


class StreamWatch:
    """Watches LiteLLM's classes of streams."""

    def __init__(self, table: CallTable, barrier: Barrier, patches: Patches) -> None:
        self._table = table
        self._barrier = barrier
        self._patches = patches

    def watch_chats(self, module: ModuleType) -> None:
        """Watch the streams of chats and completions, of every provider."""
        owner = module.CustomStreamWrapper
        self._watch(owner, "__init__", "__next__", "__anext__")
        self._patches.replace(owner, "aclose", self._leaving)
        self._patches.add(owner, "__del__", self._letting_go)

    def watch_responses(self, module: ModuleType) -> None:
        """Watch the streams of OpenAI's Responses."""
        base = module.BaseResponsesAPIStreamingIterator
        self._watch(base, "__init__")
        self._patches.add(base, "__del__", self._letting_go)
        for owner in vars(module).values():
            if isinstance(owner, type) and issubclass(owner, base):
                self._watch(owner, "__next__", "__anext__")
        self._patches.replace(module, "_estimate_usage_safely", _noting_guesses)

    def _watch(self, owner: type[Any], *names: str) -> None:
        wraps = {
            "__init__": self._binding,
            "__next__": self._watching,
            "__anext__": self._watching_async,
        }
        for name in names:
            self._patches.replace(owner, name, wraps[name])

    def _binding(self, original: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(original)
        def __init__(stream: Any, *args: Any, **kwargs: Any) -> None:
            original(stream, *args, **kwargs)
            if self._patches.is_on:
                self._bind(stream)

        return __init__

    def _watching(self, original: Callable[[Any], Any]) -> Callable[[Any], Any]:
        @functools.wraps(original)
        def __next__(stream: Any) -> Any:
            if not self._patches.is_on:
                return original(stream)
            try:
                part = original(stream)
            except BaseException as error:
                self._stopped(stream, error)
                raise
            self._told(stream, part)
            return part

        return __next__

    def _watching_async(
        self, original: Callable[[Any], Awaitable[Any]]
    ) -> Callable[[Any], Awaitable[Any]]:
        @functools.wraps(original)
        async def __anext__(stream: Any) -> Any:
            if not self._patches.is_on:
                return await original(stream)
            try:
                part = await original(stream)
            except BaseException as error:
                self._stopped(stream, error)
                raise
            self._told(stream, part)
            return part

        return __anext__

    def _leaving(
        self, original: Callable[[Any], Awaitable[Any]]
    ) -> Callable[[Any], Awaitable[Any]]:
        @functools.wraps(original)
        async def aclose(stream: Any) -> Any:
            try:
                return await original(stream)
            finally:
                self._left(stream)

        return aclose

    def _letting_go(self, original: Callable[[Any], None] | None) -> Callable[[Any], None]:
        def __del__(stream: Any) -> None:
            if not sys.is_finalizing():
                self._dropped(stream)
            if original is not None:
                original(stream)

        return __del__

    @guarded
    def _bind(self, stream: Any) -> Call | None:
        """Remember whose stream this is."""
        held = vars(stream)
        details = getattr(held.get("logging_obj"), "model_call_details", None)
        call = self._table.get(details) if details is not None else None
        if call is None:
            return None
        held[_CALL] = call
        call.streams.append(id(stream))
        asked = held.get("stream_options")
        if isinstance(asked, Asked):
            # Without the part that LiteLLM adds for who asked for the usage.
            held["stream_options"], held["send_stream_usage"] = asked.said, False
        chunks = held.get("chunks")
        if isinstance(chunks, list):
            call.sources.append(chunks)
        return call

    def _call_of(self, stream: Any) -> Call | None:
        held = vars(stream)
        if _CALL in held:
            call: Call | None = held[_CALL]
            return call
        # One that sends its request only when it is first asked was made before the call.
        call = self._bind(stream)
        held[_CALL] = call
        return call

    @guarded
    def _told(self, stream: Any, part: Any) -> None:
        """Take a part that a stream passes on."""
        call = self._call_of(stream)
        if call is None:
            return
        call.last_part_at = time.monotonic()
        call.open.renew()
        if call.sources:
            if not call.has_token and _has_content(part):
                call.has_token = True
                call.open.first_token()
            return
        kind = getattr(part, "type", None) or ""
        if not call.has_token and kind.endswith(".delta"):
            call.has_token = True
            call.open.first_token()
        if kind in _TERMINAL:
            self._table.end_stream(call, _told_by(part, call))

    @guarded
    def _stopped(self, stream: Any, error: BaseException) -> None:
        """Take the end of a stream."""
        call = self._call_of(stream)
        if call is None or call.open.is_finished:
            return
        if isinstance(error, (StopIteration, StopAsyncIteration)):
            self._table.end_stream(call)
        else:
            last = getattr(stream, "completed_response", None)
            self._table.fail(call, error, None if last is None else _told_by(last, call))

    @guarded
    def _left(self, stream: Any) -> None:
        """Finish a stream that the program has closed."""
        call = vars(stream).get(_CALL)
        if call is not None and not call.open.is_finished:
            self._table.leave_stream(call, is_complete=_is_complete(stream))

    @guarded
    def _dropped(self, stream: Any) -> None:
        """Note that a stream is gone; of the router's two, the program holds the outer one."""
        call = vars(stream).get(_CALL)
        if call is None or call.open.is_finished or id(stream) not in call.streams:
            return
        is_outermost = call.streams[-1] == id(stream)
        call.streams.remove(id(stream))
        if is_outermost:
            self._barrier.let_go(call, is_complete=_is_complete(stream))


def _noting_guesses(original: Callable[..., Any]) -> Callable[..., Any]:
    """Remember the usage that LiteLLM itself makes up where the provider told none."""

    @functools.wraps(original)
    def estimate(*args: Any, **kwargs: Any) -> Any:
        found = original(*args, **kwargs)
        _guess.set(found)
        return found

    return estimate


def _told_by(event: Any, call: Call) -> Extracted:
    """Return what an event of Responses says, as far as the provider itself told it."""
    found = read_answer(event, call.open.provider)
    guess = _guess.get()
    if guess is not None and getattr(getattr(event, "response", None), "usage", None) is guess:
        return Extracted(model=found.model, response_id=found.response_id)
    return found


def _has_content(part: Any) -> bool:
    """Tell whether a part brings anything that the model produced."""
    choices = getattr(part, "choices", None)
    delta = getattr(choices[0], "delta", None) if choices else None
    return any(
        getattr(delta, name, None) for name in ("content", "tool_calls", "reasoning_content")
    )


def _is_complete(stream: Any) -> bool:
    """Tell whether the model had come to its end when a stream was left."""
    return getattr(stream, "received_finish_reason", None) is not None
