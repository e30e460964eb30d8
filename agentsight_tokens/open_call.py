"""A call that has begun, and how calls for the same request nest."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextvars import ContextVar
from datetime import datetime, timezone
from threading import RLock
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

import msgspec

from .budgets.request import CallRequest
from .faults import contained
from .ids import time_ordered_id
from .usage import CallStatus, Operation, Scope, Source, TokenUsage, UnreportedReason, UsageRecord

if TYPE_CHECKING:
    from .budgets.request import CallGuard
    from .budgets.reservation import Reservation

__all__ = [
    "Hold",
    "OpenCall",
    "Recorder",
    "calls_begun_together",
    "nest",
    "newest_call",
    "surround",
]

MOST_CALLS_AROUND: Final = 256
"""How many calls that have not ended a context remembers."""

# Reentrant: the garbage collector may end a stream, and so finish its call, anywhere.
_nesting_lock = RLock()
_UTC: Final = timezone.utc
_NOTHING: Final = TokenUsage()
_newest: Final[ContextVar[OpenCall | None]] = ContextVar("agentsight_call", default=None)

newest_call: Final = _newest.get
"""Returns the call that began last in this context to surround others; it may have ended."""


class Recorder(Protocol):
    """What takes finished calls: a tracker."""

    @property
    def guard(self) -> CallGuard | None:
        """What holds budgets for the calls; None without any."""

    def receive(self, record: UsageRecord) -> UsageRecord | None:
        """Price, keep and count a record; None when the call was counted before."""


class Hold(NamedTuple):
    """What a call holds of its budgets, and who is told how it ended."""

    guard: CallGuard
    reservation: Reservation


class OpenCall(msgspec.Struct, eq=False):
    """
    A call that has begun. It finishes once; whatever comes later is ignored.

    Calls nest: a framework begins one, a client library beneath it another for the same
    request, and the SDK that sends it a third. Each is the `inner` of the one around it. The
    innermost that knows the usage records it, with the scope, the tool and the time of the
    outermost; the calls around it then record nothing. What is held of the budgets is held by
    the outermost, and settled with the record.
    """

    recorder: Recorder | None
    scope: Scope
    handler: str
    operation: Operation
    model: str | None = None
    provider: str | None = None
    tool_name: str | None = None
    attribution: object = None
    """What was in force when it began, to tell what belongs to it from what came later."""
    began: float = msgspec.field(default_factory=time.perf_counter)
    """When it began, by the clock of `time.perf_counter`."""
    first_token_at: float | None = None
    is_finished: bool = False
    """Whether the call was finished or dropped."""
    is_programs_own: bool = False
    """Whether it is a function of the program, which sends its request by itself."""
    has_record: bool = False
    """Whether a call nearer the wire has recorded what this one used."""
    inner: OpenCall | None = None
    outer: OpenCall | None = None
    told: UsageRecord | None = None
    """What the handler told while the inner call was not through."""
    earlier: OpenCall | None = None
    """The call that began before it in the same context and had not ended."""
    depth: int = 0
    """How many of those there are."""
    hold: Hold | None = None
    """What the request under way holds of the budgets; only the outermost call has one."""

    def first_token(self) -> None:
        """Note the time of the first token; later calls change nothing."""
        if self.first_token_at is None:
            self.first_token_at = time.perf_counter()
            if self.outer is not None:
                self.outer.first_token()

    @property
    def outermost(self) -> OpenCall:
        """The call around all those for the same request."""
        call = self
        while call.outer is not None:
            call = call.outer
        return call

    def renew(self) -> None:
        """Note that the answer goes on, so that what is held stays held."""
        hold = self.outermost.hold
        if hold is not None:
            hold.reservation.renew()

    def release(self) -> None:
        """Give back what is held, because another call holds its own."""
        if self.hold is not None:  # few calls have one, and the lock costs more than the look
            with _nesting_lock:
                hold = self.take_hold()
            _give_back(hold)

    def forget(self) -> None:
        """Leave the call to another one that begins for the same request."""
        self.is_finished = True
        self.release()

    def drop(self) -> None:
        """Forget the call, and those around it: nothing was sent to a provider."""
        call: OpenCall | None = self
        while call is not None:
            call.is_finished = True
            call.release()
            call = call.outer

    def finish(  # noqa: PLR0913  # each is a fact that only the handler knows
        self,
        usage: TokenUsage | None,
        *,
        model: str | None = None,
        provider: str | None = None,
        status: CallStatus = "ok",
        source: Source = "provider",
        unreported_reason: UnreportedReason | None = None,
        response_id: str | None = None,
        service_tier: str | None = None,
        error_type: str | None = None,
    ) -> UsageRecord | None:
        """
        Record the call, in the scope in which it began.

        Args:
            usage: What the provider said; None is recorded as unreported.
            model: The model that answered; the one asked for when not given.
            provider: Who answered, by the provider's own name.
            status: How the call ended.
            source: Who says what was used.
            unreported_reason: Why there is no usage; `provider_silent` when not given.
            response_id: The provider's id of the response.
            service_tier: The tier that served the call.
            error_type: The class name of the exception that ended the call.

        Returns:
            The record; None where another call has it, or will have it.
        """
        first = self.first_token_at
        # Python passes more than 15 keywords in a dict, which takes longer than the rest.
        record = UsageRecord(
            id=time_ordered_id(),
            at=datetime.now(_UTC),
            usage=_NOTHING if usage is None else usage,
            scope=self.scope,
            model=model or self.model,
            provider=provider or self.provider,
            operation=self.operation,
            status=status,
            service_tier=service_tier,
            duration_seconds=int((time.perf_counter() - self.began) * 1e6) / 1e6,
            time_to_first_token_seconds=first and int((first - self.began) * 1e6) / 1e6,
            tool_name=self.tool_name,
            handler=self.handler,
            response_id=response_id,
        )
        if usage is None or error_type or source != "provider":
            record = msgspec.structs.replace(
                record,
                source=source,
                unreported_reason=unreported_reason or "provider_silent" if usage is None else None,
                error_type=error_type,
            )
        told: UsageRecord | None = record
        with _nesting_lock:
            if self.is_finished:
                return None
            self.is_finished = True
            hold = self.hold
            if self.inner is None and self.outer is None and not self.has_record:
                self.hold = None
            else:
                told, hold = self._close(record)
        if told is None:
            _give_back(hold)
            return None
        recorder = self.recorder if self.outer is None else self.outermost.recorder
        if recorder is None:
            return None
        if hold is None and recorder.guard is None:
            return recorder.receive(told)
        return self._settle(told, hold, recorder)

    def may_hold(self, handler: str | None, operation: Operation) -> bool:
        """
        Tell whether a call of another handler that begins now can be for this request.

        Args:
            handler: Whose call begins; None where this one surely makes it, whoever's it is.
            operation: What the call does.
        """
        if self.is_finished or self.handler == handler:
            return False
        if (operation == "embedding") != (self.operation == "embedding"):
            return False
        if self.inner is not None:
            return self.inner.is_finished
        # Where an answer came without a call nearer the wire, there is none to come.
        return self.first_token_at is None

    def take_in(self, inner: OpenCall) -> None:
        """Make a call that begins now the inner one of this."""
        self.inner = inner
        inner.outer = self

    def _close(self, told: UsageRecord) -> tuple[UsageRecord | None, Hold | None]:
        """Return what to count, if it is this call that does, and what is held no more."""
        if self.inner is not None and not self.inner.is_finished:
            self.told = told  # the call nearer the wire is not through
            return None, None
        if self.has_record:
            return None, self.take_hold()
        outer = self.outer
        if told.is_unreported and outer is not None and not outer.has_record:
            if not outer.is_finished:
                return None, None  # the call around this one may know more
            told = outer.told or told
        while outer is not None:
            outer.has_record = True
            outer = outer.outer
        outermost = self.outermost
        return self._seen_from(outermost, told), outermost.take_hold()

    def _seen_from(self, outermost: OpenCall, told: UsageRecord) -> UsageRecord:
        """Return what was told, with what the call around all others knows of itself."""
        began, first = outermost.began, outermost.first_token_at
        now = time.perf_counter()
        return msgspec.structs.replace(
            told,
            at=datetime.now(_UTC),
            scope=outermost.scope,
            model=told.model or outermost.model,
            provider=told.provider or outermost.provider,
            operation=self.operation,
            duration_seconds=int((now - began) * 1e6) / 1e6,
            time_to_first_token_seconds=first and int((first - began) * 1e6) / 1e6,
            tool_name=outermost.tool_name,
            handler=outermost.handler,
        )

    def _settle(
        self, record: UsageRecord, hold: Hold | None, recorder: Recorder
    ) -> UsageRecord | None:
        """Count a record, and what it used of the budgets."""
        counted: UsageRecord | None = record
        try:
            counted = recorder.receive(record)
        finally:
            if hold is not None:
                with contained("settling a budget"):
                    hold.guard.settle(hold.reservation, counted)
            elif counted is not None and recorder.guard is not None:
                with contained("settling a budget"):
                    outermost = self.outermost
                    request = CallRequest(outermost.scope, self.operation, outermost.model)
                    recorder.guard.add(request, counted)
        return counted

    def take_hold(self) -> Hold | None:
        """Return what is held, for the one who settles it."""
        hold, self.hold = self.hold, None
        return hold


def _give_back(hold: Hold | None) -> None:
    """Release what is held for a request that was not made, or that another call recorded."""
    if hold is not None:
        with contained("releasing a budget"):
            hold.guard.settle(hold.reservation, None)


def surround(call: OpenCall) -> None:
    """Let the calls that begin in this context from now on be inside this one."""
    # A sibling begun before may still wait for its request, as in a batch.
    earlier = _first_open(newest_call())
    if earlier is not None and earlier.depth < MOST_CALLS_AROUND:
        call.earlier = earlier
        call.depth = earlier.depth + 1
    _newest.set(call)


def calls_begun_together(call: OpenCall) -> list[OpenCall]:
    """
    Return the calls of this context that are around one that begins now, in their order.

    Some frameworks never end a call that failed. Such a one stays in its context, but the
    requests of another conversation, or for another tracker, are not its own.
    """
    each = _first_open(newest_call())
    found = []
    while each is not None:
        if each.attribution is call.attribution and each.recorder is call.recorder:
            found.append(each)
        each.earlier = _first_open(each.earlier)
        each = each.earlier
    found.reverse()
    return found


def _first_open(call: OpenCall | None) -> OpenCall | None:
    """Return the call, or the one begun before it that has not ended."""
    while call is not None and call.is_finished:
        call = call.earlier
    return call


def nest(call: OpenCall, candidates: Iterable[OpenCall], *, is_sure: bool = False) -> bool:
    """
    Put a call that begins now inside the first of the candidates that may hold it.

    Args:
        call: The call that begins.
        candidates: Calls that may be around it.
        is_sure: Whether they are around it for certain, so that one of its own handler may be
            a model that only passes on what this one says.
    """
    handler = None if is_sure else call.handler
    with _nesting_lock:
        # One that holds no call yet comes first: those of a batch are sent in their order.
        for outer in sorted(candidates, key=lambda c: c.inner is not None):
            if outer.may_hold(handler, call.operation):
                outer.take_in(call)
                return True
    return False


def _begin_anew_in_child() -> None:
    global _nesting_lock
    _nesting_lock = RLock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_begin_anew_in_child)
