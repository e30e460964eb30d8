"""The calls that are under way: bound where they begin, finished once, each billed once."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from threading import RLock
from typing import Any, Final

from agentsight_tokens.errors import BudgetExceededError
from agentsight_tokens.extract import Extracted
from agentsight_tokens.meter import Asked, Meter, OpenCall
from agentsight_tokens.usage import CallStatus, TokenUsage, UnreportedReason
from agentsight_tokens_wire.errors import is_unbilled

from .answers import Source, find_source, is_first_token, lacks_cache, read_answer
from .generators import Origin
from .providers import sends_lazily
from .spans import Span

__all__ = ["HANDLER", "Call", "CallTable"]

HANDLER: Final = "llamaindex"

_MAX_CALLS: Final = 65_536
_MAX_BILLED: Final = 1024
_CANCELLATIONS: Final = (GeneratorExit, asyncio.CancelledError, KeyboardInterrupt)


class Call:
    """One call of a model, from its start event to its end."""

    __slots__ = ("first", "has_token", "is_stream", "open", "raw", "source", "span")

    def __init__(self, span: Span, opened: OpenCall) -> None:
        self.span = span
        self.open = opened
        self.is_stream = False
        self.has_token = False
        """Whether a part of the stream brought anything that the model produced."""
        self.first: Any = None
        """The first raw answer or event."""
        self.raw: Any = None
        """The last raw answer or event."""
        self.source: Source | None = None
        """Where the last usage was found that is not 0."""

    @property
    def is_untouched(self) -> bool:
        """Whether nothing of the answer has arrived."""
        return self.first is None and self.source is None

    def observe(self, response: Any) -> None:
        """Take what a response or a part of one tells."""
        raw = getattr(response, "raw", None)
        if raw is not None:
            self.raw = raw
            if self.first is None:
                self.first = raw
        source = find_source(response)
        if source is not None:
            self.source = source


class CallTable:
    """The calls that are under way, by the id of their span."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._calls: dict[str, Call] = {}
        self._billed: OrderedDict[int, Any] = OrderedDict()
        self._lock = RLock()

    def __len__(self) -> int:
        return len(self._calls)

    def get(self, span_id: str | None) -> Call | None:
        """Return the call that a span makes."""
        return self._calls.get(span_id) if span_id is not None else None

    def nearest(self, span: Span | None) -> Call | None:
        """Return the innermost call under way around a span."""
        if span is None:
            return None
        return next((c for each in span.line() if (c := self._calls.get(each.id))), None)

    def begin(
        self,
        span: Span,
        origin: Origin | None,
        *,
        model: str | None = None,
        provider: str | None = None,
        tags: dict[str, Any] | None = None,
        asked: Callable[[], Asked] | None = None,
    ) -> Call:
        """
        Bind a call that begins now, and hold its budgets.

        Calls around it are forgotten: they only pass on what this one asks the provider.

        Raises:
            BudgetExceededError: If a budget does not allow the call.
        """
        self._forget_around(span)
        if origin is not None:
            self._forget_around(origin.span)
        cause = span if origin is None else origin.span
        opened = self._meter.begin(
            HANDLER,
            model=model,
            provider=provider,
            metadata=tags,
            agent=cause.agent,
            tool_name=cause.tool,
            # Its requests find it by their span; in the context it would also be found by
            # those of other calls, as a stream stays open there that nobody drains.
            surrounds=False,
        )
        if origin is not None:
            _rebind(opened, origin)
        if asked is not None:
            self._meter.hold(opened, asked)
        call = Call(span, opened)
        if len(self._calls) >= _MAX_CALLS:
            self._evict()
        self._calls[span.id] = call
        return call

    def observe(self, span_id: str | None, response: Any) -> None:
        """Take a part of a stream."""
        call = self.get(span_id)
        if call is None or response is None:
            return
        if not call.has_token and is_first_token(response):
            call.has_token = True
            call.open.first_token()
        call.open.renew()
        call.observe(response)

    def end(self, span_id: str | None, response: Any) -> None:
        """Finish a call that came to its end."""
        call = self.take(span_id)
        if call is None:
            return
        if response is not None:
            call.observe(response)
        reason: UnreportedReason = "stream_without_usage" if call.is_stream else "provider_silent"
        self._finish(call, status="ok", reason=reason)

    def fail(self, span_id: str | None, error: BaseException) -> None:
        """Finish a call that an exception ended."""
        call = self.take(span_id)
        if call is None:
            return
        name = type(error).__name__
        if isinstance(error, BudgetExceededError):  # refused before it was sent
            call.open.drop()
        elif isinstance(error, _CANCELLATIONS):
            self._finish(call, status="cancelled", reason="cancelled", error_type=name)
        elif call.is_untouched and is_unbilled(error):
            call.open.finish(TokenUsage(), status="error", error_type=name)
        else:
            self._finish(call, status="error", reason="error_without_usage", error_type=name)

    def abandon(self, call: Call) -> None:
        """Finish a call whose stream is gone without any event, or that is older than all."""
        if call.is_untouched and call.open.inner is None and sends_lazily(type(call.span.instance)):
            call.open.drop()
            return
        reason: UnreportedReason = "run_never_closed" if call.is_untouched else "cancelled"
        self._finish(call, status="cancelled", reason=reason)

    def clear(self) -> None:
        """Forget every call."""
        self._calls.clear()
        self._billed.clear()

    def take(self, span_id: str | None) -> Call | None:
        """Remove a call from those under way, and return it."""
        return self._calls.pop(span_id, None) if span_id is not None else None

    def _forget_around(self, span: Span) -> None:
        for each in span.line():
            each.has_call = True
            call = self.take(each.id)
            if call is not None:
                call.open.forget()  # not dropped: calls of other frameworks around it go on

    def _evict(self) -> None:
        call = None
        with suppress(RuntimeError):  # another thread has just changed the table
            call = self.take(next(iter(self._calls), None))
        if call is not None:
            self.abandon(call)

    def _finish(
        self,
        call: Call,
        *,
        status: CallStatus,
        reason: UnreportedReason,
        error_type: str | None = None,
    ) -> None:
        answer = read_answer(call.source, call.raw, call.first, call.open.provider)
        usage = answer.usage or None
        if usage is not None:
            if not self._is_first(call.source.usage if call.source else call.first):
                call.open.drop()
                return
            status = "partial" if status != "ok" or lacks_cache(call.source) else "ok"
            call.open.operation = answer.operation
        record = call.open.finish(
            usage,
            model=answer.model,
            provider=answer.provider or call.open.provider,
            status=status,
            unreported_reason=None if usage is not None else reason,
            response_id=answer.response_id,
            service_tier=answer.service_tier,
            error_type=error_type,
        )
        if record is not None:
            for other in answer.others:
                _finish_other(call.open, other)

    def _is_first(self, source: Any) -> bool:
        """Tell whether a usage object was not billed yet; it is kept, so its id stays its own."""
        key = id(source)
        with self._lock:
            if key in self._billed:
                return False
            self._billed[key] = source
            if len(self._billed) > _MAX_BILLED:
                self._billed.popitem(last=False)
            return True


def _finish_other(opened: OpenCall, other: Extracted) -> None:
    """Record what the same answer used of another model, which is billed at its own rates."""
    call = OpenCall(
        opened.recorder, opened.scope, handler=opened.handler, operation=other.operation
    )
    call.tool_name = opened.tool_name
    call.finish(other.usage, model=other.model, provider=other.provider or opened.provider)


def _rebind(opened: OpenCall, origin: Origin) -> None:
    """Give a call to whoever asked for the generator that makes it."""
    scope, agent = origin.attribution.scope, origin.span.agent
    opened.scope = scope if scope.agent else scope.replace(agent=agent)
    opened.recorder = origin.recorder
    opened.attribution = origin.attribution
