"""The requests that are under way: bound where LiteLLM sends them, each counted once."""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Iterator, Mapping
from datetime import datetime
from threading import Condition, RLock
from typing import Any, Final

from agentsight_tokens.extract import Extracted
from agentsight_tokens.faults import contained
from agentsight_tokens.meter import Asked, Meter, OpenCall
from agentsight_tokens.usage import Operation, TokenUsage
from agentsight_tokens_wire.asked import asked_of

from .answers import OPERATIONS, provider_of, read_answer, read_parts
from .attribution import attribution_in
from .call import Call, Key, key_of
from .failures import CANCELLATIONS, is_unbilled

__all__ = ["HANDLER", "CallTable"]

HANDLER: Final = "litellm"

_MOST_CALLS: Final = 10_000
_LONGEST_CALL_SECONDS: Final = 6 * 3600.0
_SECONDS_BETWEEN_LOOKS: Final = 60.0

_MARK: Final = "agentsight_was_seen"
"""Stands in LiteLLM's details of a call that was begun, so that what comes late is known."""

_SENT_AT: Final = "api_call_start_time"
"""Where LiteLLM notes when it sent a request."""


class CallTable:
    """
    The calls under way.

    Some are never told to have ended, so the table is bounded in number and age: what leaves
    it unfinished is counted as unreported.
    """

    def __init__(
        self, meter: Meter, *, most: int = _MOST_CALLS, longest: float = _LONGEST_CALL_SECONDS
    ) -> None:
        self.ended = Condition(RLock())
        """Notified with each call that ends."""
        self._meter: Meter | None = meter
        self._calls: dict[Key, Call] = {}
        self._most = most
        self._longest_seconds = longest
        self._next_look = 0.0
        self._since = datetime.now()  # noqa: DTZ005  # as LiteLLM's own times
        _tables.add(self)

    def __len__(self) -> int:
        return len(self._calls)

    def get(self, details: Mapping[str, Any]) -> Call | None:
        """Return the call under way of LiteLLM's `model_call_details`."""
        return self._calls.get(key_of(details))

    def is_under_way(self, call: Call) -> bool:
        """Tell whether a call has not ended, or its record is not kept yet."""
        return self._calls.get(call.key) is call

    def under_way(self) -> list[Call]:
        """Return every call under way."""
        with self.ended:
            return list(self._calls.values())

    def begin(self, details: dict[str, Any]) -> Call | None:
        """
        Begin a request.

        An attempt before it of the same call has failed, though LiteLLM may not have told.
        """
        operation = OPERATIONS.get(str(details.get("call_type")))
        if self._meter is None or operation is None:
            return None
        details[_MARK] = True
        earlier = self.get(details)
        if earlier is not None:
            caught = sys.exc_info()[1]
            self.fail(earlier, earlier.error or (caught if caught is not earlier.before else None))
        opened = self._opened(self._meter, operation, details)
        call = Call(opened, details)
        with self.ended:
            self._calls[call.key] = call
            expired = list(self._expired(call.began))
        for each in expired:
            self.expire(each)
        return call

    def nothing_sent(self, details: dict[str, Any] | None = None) -> None:
        """Forget a call that LiteLLM itself answered, and those of frameworks around it."""
        if self._meter is None:
            return
        if details is not None:
            details[_MARK] = True
            call = self.get(details)
            if call is not None:
                call.open.drop()
                self._end(call)
                return
        inner = self._meter.begin_on_wire(HANDLER, only_inside=True)
        if inner is not None:
            inner.drop()

    def succeed(self, details: dict[str, Any], answer: Any) -> None:
        """Finish a call with its whole answer."""
        call = self.get(details)
        if call is None:
            if not self._has_lost_start(details):
                return
            call = self.begin(details)
            if call is None:
                return
        # A stream that is watched is finished by what the provider itself told.
        if not call.streams:
            self.finish(call, read_answer(answer, call.open.provider))

    def fail_attempt(self, details: Mapping[str, Any], error: object) -> None:
        """Finish a call that LiteLLM says has failed, unless its stream is watched."""
        call = self.get(details)
        if call is not None and not call.streams:
            self.fail(call, error if isinstance(error, BaseException) else None)

    def end_stream(self, call: Call, told: Extracted | None = None) -> None:
        """
        Finish a stream that came to its end.

        Args:
            call: The stream's call.
            told: What the provider said of the use, where that is not in the stream's parts.
        """
        found = told or read_parts(call.sources, call.open.provider)
        around = call.open.outer
        if found.usage is None and around is not None:
            # What LiteLLM shows to a framework in its place is a guess.
            around.finish(None, unreported_reason="stream_without_usage")
        self.finish(call, found)

    def leave_stream(self, call: Call, *, is_complete: bool) -> None:
        """
        Finish a stream that the program left.

        Args:
            call: The stream's call.
            is_complete: Whether the model had come to its end.
        """
        _leave(call.open.inner)
        found = read_parts(call.sources, call.open.provider)
        if found.usage is not None:
            self._finish(call, found, status="ok" if is_complete else "partial")
        else:
            self._finish(call, found, status="cancelled", unreported_reason="cancelled")

    def fail(self, call: Call, error: BaseException | None, told: Extracted | None = None) -> None:
        """
        Finish a call that failed; it may still have been billed.

        Args:
            call: The call.
            error: What ended it, if that is known.
            told: What the provider said of the use when it told that it failed.
        """
        _leave(call.open.inner)
        name = type(error).__name__ if error is not None else None
        found = told or read_parts(call.sources, call.open.provider)
        if found.usage is not None:
            status = "partial" if told is None else "error"
            self._finish(call, found, status=status, error_type=name)
        elif isinstance(error, CANCELLATIONS):
            self._finish(
                call, found, status="cancelled", unreported_reason="cancelled", error_type=name
            )
        elif error is not None and not call.has_token and is_unbilled(error, before=call.before):
            found = Extracted(usage=TokenUsage(), model=found.model)
            self._finish(call, found, status="error", error_type=name)
        else:
            reason = "error_without_usage"
            self._finish(call, found, status="error", unreported_reason=reason, error_type=name)

    def finish(self, call: Call, found: Extracted) -> None:
        """Finish a call that came to its end with what its answer said."""
        silent = "stream_without_usage" if call.is_stream else "provider_silent"
        self._finish(call, found, unreported_reason=silent if found.usage is None else None)

    def expire(self, call: Call) -> None:
        """Finish a call of whose end nothing was told."""
        with contained("expiry of a LiteLLM call"):
            self._finish(call, Extracted(), status="error", unreported_reason="run_never_closed")

    def begin_anew_in_child(self) -> None:
        """Forget what the parent process sees to its end; another thread may have held the lock."""
        self.ended = Condition(RLock())
        for call in self._calls.values():
            call.open.is_finished = True  # a stream that the child drops is not left
        self._calls.clear()

    def close(self) -> None:
        """Count what is under way as unreported, and nothing any more."""
        self._meter = None
        for call in self.under_way():
            self.expire(call)

    def _has_lost_start(self, details: Mapping[str, Any]) -> bool:
        """
        Tell whether a call that has ended was sent, though nothing told of it.

        LiteLLM carries the ends of a loop that is gone over to the next one, so those of calls
        from before the handler was switched on may still come.
        """
        if _MARK in details or details.get("cache_hit"):
            return False
        sent_at = details.get(_SENT_AT)
        return isinstance(sent_at, datetime) and sent_at >= self._since

    def _finish(self, call: Call, found: Extracted, **facts: Any) -> None:
        with self.ended:
            if call.is_ending:
                return  # another thread is at it: the call is under way until its record is kept
            call.is_ending = True
        try:
            call.open.finish(
                found.usage,
                model=found.model,
                provider=call.open.provider or found.provider,
                response_id=found.response_id,
                service_tier=found.service_tier,
                **facts,
            )
        finally:
            self._end(call)

    def _end(self, call: Call) -> None:
        with self.ended:
            if self.is_under_way(call):
                del self._calls[call.key]
            self.ended.notify_all()
        call.let_go()

    def _opened(self, meter: Meter, operation: Operation, details: dict[str, Any]) -> OpenCall:
        return meter.begin(
            HANDLER,
            operation,
            model=details.get("model"),
            provider=provider_of(details),
            metadata=attribution_in(details),
            asked=lambda: _asked(details),
        )

    def _expired(self, now: float) -> Iterator[Call]:
        if len(self._calls) <= self._most and now < self._next_look:
            return
        self._next_look = now + _SECONDS_BETWEEN_LOOKS
        excess = len(self._calls) - self._most
        for call in list(self._calls.values()):
            if excess <= 0 and now - call.began < self._longest_seconds:
                return
            excess -= 1
            yield call


def _asked(details: Mapping[str, Any]) -> Asked:
    prompt = details.get("input") or details.get("messages")
    return asked_of(prompt, details.get("optional_params"))


def _leave(call: OpenCall | None) -> None:
    """Finish the calls beneath a stream; an SDK's own may be gone only when memory is swept."""
    if call is not None:
        _leave(call.inner)
        call.finish(None, status="cancelled", unreported_reason="cancelled")


_tables: Final[weakref.WeakSet[CallTable]] = weakref.WeakSet()


def _begin_anew_in_child() -> None:
    for table in _tables:
        table.begin_anew_in_child()


os.register_at_fork(after_in_child=_begin_anew_in_child)
