"""Exchange: one request that is under way, and what its answer has said so far."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from agentsight_tokens.extract import Extracted
from agentsight_tokens.meter import OpenCall
from agentsight_tokens.usage import CallStatus, Operation, TokenUsage, UnreportedReason

from .answers import Answer, read_json
from .errors import CANCELLATIONS, is_unbilled

__all__ = ["Endpoint", "Exchange"]

_USAGE: Final = re.compile(rb'"usage(?:Metadata)?"\s*:\s*\{')


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One kind of request of an SDK, and how its answers are read."""

    operation: Operation
    read: Callable[[Answer, Answer | None, str | None], Extracted]
    """Reads an answer, or a stream's last event with a usage, its first one, and the provider."""
    tells_usage: Callable[[Answer], bool]
    """Tells whether a stream's event carries a usage."""
    first_token: re.Pattern[bytes]
    """Found in an event of a stream that brings anything that the model produced."""
    end: re.Pattern[bytes]
    """Found in the event after which a stream brings no more usage."""
    failure: re.Pattern[bytes]
    """Found in the last event of a stream by which the provider tells that it failed."""
    error_type: str
    """The exception that the SDK raises for such an event."""

    content_type: str | None = None
    """The kind of the body, where what the server says of it is not to be relied on."""

    def replace(self, **changes: Any) -> Endpoint:
        """Return an endpoint that differs in some fields."""
        return dataclasses.replace(self, **changes)


class _Ending(NamedTuple):
    """How a call ended."""

    status: CallStatus
    reason: UnreportedReason
    """Why there is no usage, if there is none."""
    error_type: str | None = None
    is_partial: bool = False
    """Whether a usage that was told is not the whole one."""


class Exchange:
    """
    One request that is under way.

    The body is read as it passes by, so it counts however the program reads it, and what was
    told counts also where the program never reads the end.
    """

    __slots__ = (
        "__weakref__",
        "_event",
        "_has_token",
        "_last",
        "_on_stream",
        "call",
        "endpoint",
        "first",
        "is_stream",
    )

    def __init__(
        self,
        call: OpenCall,
        endpoint: Endpoint,
        on_stream: Callable[[Exchange], None] | None = None,
    ) -> None:
        self.call = call
        self.endpoint = endpoint
        self._on_stream = on_stream
        """Is told of a stream, which is finished from elsewhere if nobody closes it."""
        self.is_stream = False
        self._has_token = False
        self.first: Answer | None = None
        """The first event of a stream, which names the model, and Anthropic's the input."""
        self._last: Answer | None = None
        self._event = b""

    @property
    def is_left(self) -> bool:
        """Whether the framework is through with a stream that has not ended."""
        call = self.call
        return call.outer is not None and call.outer.is_finished and not call.is_finished

    def begin_stream(self) -> None:
        """Note that the answer is a stream."""
        self.is_stream = True
        if self._on_stream is not None:
            self._on_stream(self)

    def see(self, event: bytes) -> None:
        """Take an event of a stream."""
        if not self._event:
            self.first = read_json(event)
        self._event = event
        self.call.renew()
        if not self._has_token and self.endpoint.first_token.search(event):
            self._has_token = True
            self.call.first_token()
        if b'"usage' in event and _USAGE.search(event):
            told = read_json(event)
            if told is not None and self.endpoint.tells_usage(told):
                self._last = told

    def has_ended(self) -> bool:
        """Tell whether a stream has brought all that there is to count."""
        endpoint, event = self.endpoint, self._event
        return bool(endpoint.end.search(event) or endpoint.failure.search(event))

    def unsent(self) -> None:
        """Forget the call: nothing was sent to the provider."""
        self.call.drop()

    def answer(self, body: bytes) -> None:
        """Take a whole answer, and finish."""
        self.take(read_json(body))

    def take(self, told: Answer | None, *, service_tier: str | None = None) -> None:
        """Finish with what an answer says, and with its tier where that is known otherwise."""
        self._finish(told, _Ending("ok", "provider_silent"), service_tier=service_tier)

    def end(self) -> None:
        """Finish a stream that came to its end."""
        endpoint = self.endpoint
        if endpoint.failure.search(self._event) is None:
            ending = _Ending("ok", "stream_without_usage")
        else:
            is_partial = endpoint.end.search(self._event) is None
            ending = _Ending("error", "error_without_usage", endpoint.error_type, is_partial)
        self._finish(self._last or self.first, ending)

    def cut(self, error: BaseException | None = None) -> None:
        """Finish a stream that was left, or that an exception ended."""
        if self.has_ended():
            self.end()
            return
        name = None if error is None else type(error).__name__
        if error is None or isinstance(error, CANCELLATIONS):
            ending = _Ending("cancelled", "cancelled", name, is_partial=True)
        else:
            ending = _Ending("error", "error_without_usage", name, is_partial=True)
        self._finish(self._last or self.first, ending)

    def fail(self, error: BaseException, body: bytes | None) -> None:
        """Finish a call that raised; its answer may have come and been billed all the same."""
        name = type(error).__name__
        ending = _Ending("error", "error_without_usage", name)
        if body is not None:
            self._finish(read_json(body), ending)
        elif is_unbilled(error):
            # A framework that tries again has made one call; one that gives up tells of it.
            outer = self.call.outer
            is_told_of = outer is not None and not outer.is_finished
            self.call.finish(None if is_told_of else TokenUsage(), status="error", error_type=name)
        elif isinstance(error, CANCELLATIONS):
            self._finish(None, _Ending("cancelled", "cancelled", name))
        else:
            self._finish(None, ending)

    def _finish(
        self, answer: Answer | None, ending: _Ending, *, service_tier: str | None = None
    ) -> None:
        call, start = self.call, self.first
        if call.is_finished:
            return
        found = Extracted()
        if answer is not None:
            found = self.endpoint.read(answer, None if start is answer else start, call.provider)
        usage = found.usage or None  # servers that do not count send zeros
        record = call.finish(
            usage,
            model=found.model,
            provider=call.provider or found.provider,
            status="partial" if usage is not None and ending.is_partial else ending.status,
            unreported_reason=None if usage is not None else ending.reason,
            response_id=found.response_id,
            service_tier=service_tier or found.service_tier,
            error_type=ending.error_type,
        )
        if record is not None:
            for other in found.others:
                _finish_other(call, other)


def _finish_other(call: OpenCall, other: Extracted) -> None:
    """Record what the same answer used of another model, which is billed at its own rates."""
    while call.outer is not None:
        call = call.outer
    its = OpenCall(call.recorder, call.scope, handler=call.handler, operation=other.operation)
    its.tool_name = call.tool_name
    its.finish(other.usage, model=other.model, provider=other.provider)
