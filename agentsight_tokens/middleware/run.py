"""Run: one call of a wrapped function, from its arguments to its settlement."""

from __future__ import annotations

import logging
from typing import Any, Final

from agentsight_tokens.attributes import CallDetails
from agentsight_tokens.budgets.guard import BudgetGuard
from agentsight_tokens.budgets.request import Asked, CallGuard, CallRequest
from agentsight_tokens.budgets.reservation import Reservation
from agentsight_tokens.context import CompressionResult
from agentsight_tokens.errors import BudgetExceededError
from agentsight_tokens.faults import contained
from agentsight_tokens.meter import OpenCall, Recorder, meter
from agentsight_tokens.open_call import Hold
from agentsight_tokens.scope import Attribution, ScopeEntry, current_attribution
from agentsight_tokens.usage import Operation, UsageRecord

from .arguments import CallArguments
from .outcome import (
    Outcome,
    UsageReader,
    failed,
    label,
    merged,
    read_answer,
    stop_reason_of,
    told_by_texts,
)
from .spans import SpanWriter
from .surroundings import Surroundings

__all__ = ["HANDLER", "Run", "Witness", "reported"]

_logger: Final = logging.getLogger("agentsight_tokens")

HANDLER: Final = "middleware"
"""The handler of the calls that only the middleware saw."""


class Witness:
    """
    Passes records on to a tracker, and remembers them for the run that caused them.

    Args:
        run: The run.
        tracker: What counts, or the witness of a run around this one.
    """

    def __init__(self, run: Run, tracker: Recorder) -> None:
        self.run = run
        self._tracker = tracker
        self.records: list[UsageRecord] = []
        self.own_guard: CallGuard | None = None
        """The run's budgets, once they are held for its first request: each later one, as of
        an agent, is then held for itself."""

    @property
    def guard(self) -> CallGuard | None:
        """The budgets of the tracker, unless the run itself holds them."""
        if self.own_guard is not None:
            return self.own_guard
        guard = self._tracker.guard
        return None if guard is not None and self.run.shares(guard) else guard

    @property
    def may_hold_all(self) -> bool:
        """Whether the run's budgets are the only ones that its requests meet."""
        guard = self._tracker.guard
        return guard is None or self.run.shares(guard)

    def receive(self, record: UsageRecord) -> UsageRecord | None:
        """Price, keep and count a record; None when the call was counted before."""
        if isinstance(self._tracker, Surroundings):
            counted = self._tracker.receive_from(self.run, record)
        else:
            counted = self._tracker.receive(record)
        if counted is not None:
            self.records.append(counted)
        return counted


class RunScope(ScopeEntry):
    """The scope of a run, which is entered again for each step of its stream."""

    __slots__ = ("_run",)

    def __init__(self, run: Run, owner: Witness, fields: dict[str, object]) -> None:
        super().__init__(owner, fields)
        self._run = run

    def __enter__(self) -> ScopeEntry:
        self.enter(depth=2)
        # Calls are known to belong together by their attribution, which is made but once.
        self._run.attribution = self.attribution = self._run.attribution or self.attribution
        return self


class Run:
    """
    A call of a wrapped function, from its arguments to its settlement.

    It is counted once: by the handler that captures it, if one does, else by what its answer
    says.

    Args:
        tracker: What counts.
        arguments: The call's arguments.
        guard: Holds budgets; None without any.
        reader: Reads the usage of answers of your own.
        spans: Writes what was used to the span in force; None without any.
    """

    def __init__(
        self,
        tracker: Recorder,
        arguments: CallArguments,
        *,
        guard: BudgetGuard | None,
        reader: UsageReader | None,
        spans: SpanWriter | None = None,
    ) -> None:
        self.arguments = arguments
        self.attribution: Attribution | None = None
        self.settled: set[str] = set()
        """The ids of records that a run within this one has settled already."""
        self._guard = guard
        self._reader = reader
        self._spans = spans
        self._span = spans.current_span() if spans else None  # a stream may end in another
        around = current_attribution().owner
        self._outer = around.run if isinstance(around, Witness) else None
        self._tracker = around if isinstance(around, (Witness, Surroundings)) else tracker
        self._witness = Witness(self, self._tracker)
        self._call: OpenCall | None = None
        self._request: CallRequest | None = None
        self._reservation: Reservation | None = None
        self._compression: CompressionResult | None = None
        self._told: Outcome | None = None
        self._texts: list[str] = []
        self._stop_reason: str | None = None
        self._chunks = 0
        self._has_ended = False

    def scope(self, fields: dict[str, object]) -> ScopeEntry:
        """Return the scope in which the function, and each step of its stream, is to run."""
        return RunScope(self, self._witness, fields)

    def take_compressed(self, result: CompressionResult) -> None:
        """Send what a compression has left."""
        self.arguments.set_prompt(reported(result))
        self._compression = result

    def begin(
        self, operation: Operation, *, model: str | None, provider: str | None
    ) -> CallRequest:
        """Begin the call, in the scope in force; return what a guard is to be asked."""
        if self._outer is not None:
            self._outer.release()
        self._call = meter.begin(
            HANDLER, operation, model=model, provider=provider, asked=self._asked
        )
        self._call.is_programs_own = True
        self._request = CallRequest(
            self._call.scope,
            operation=operation,
            model=model,
            provider=provider,
            **self._asked()._asdict(),
        )
        return self._request

    def hold(self, enforcement: str) -> None:
        """
        Reserve what the call may use.

        Args:
            enforcement: `enforce`; `warn` says what would be refused, `track` holds nothing.

        Raises:
            BudgetExceededError: If a budget does not allow the call and it is enforced.
        """
        guard, request, call = self._guard, self._request, self._call
        if guard is None or request is None or call is None or enforcement == "track":
            return
        if self._outer is not None:
            self._outer.hand_over(guard)
        try:
            self._reservation = guard.reserve(request, may_clamp=self.arguments.limits_output)
        except BudgetExceededError as error:
            if enforcement == "enforce":
                self.refuse()
                raise
            _logger.warning("not enforced: %s", error)
            return
        if self._reservation.is_clamped:
            self.arguments.set_max_output_tokens(
                self._reservation.max_output_tokens // request.choices
            )
        if enforcement == "enforce" and self._witness.may_hold_all:
            call.hold = Hold(guard, self._reservation)
            self._reservation, self._witness.own_guard = None, guard

    def hand_over(self, guard: BudgetGuard) -> None:
        """Give the hold back, because a run within this one holds its own for the call."""
        if self.shares(guard):
            if self._reservation is not None:
                self._reservation.release()
                self._reservation = None
            if self._outer is not None:
                self._outer.hand_over(guard)

    def refuse(self) -> None:
        """End the call: it was never sent."""
        self._finish(Outcome(was_sent=False))

    def note(self, chunk: Any) -> None:
        """Take what a chunk of a stream says."""
        if self._call is not None:
            self._call.first_token()
            self._call.renew()
        if self._reservation is not None:
            self._reservation.renew()
        self._chunks += 1
        with contained("reading a chunk"):
            self._note_stop(chunk)
            if isinstance(chunk, str):
                self._texts.append(chunk)
            else:
                self._told = merged(self._told, self._read(chunk))

    def end(self, answer: Any = None) -> None:
        """End the call with its answer, or after the last chunk of its stream."""
        outcome = self._told
        with contained("reading an answer"):
            self._note_stop(answer)
            if isinstance(answer, str):
                self._texts.append(answer)
            elif answer is not None:
                outcome = self._read(answer)
            if outcome is None and self._texts:
                outcome = told_by_texts(self.arguments.prompt, self._texts, self._model)
        self._finish(outcome or Outcome(unreported_reason="provider_silent"))
        if answer is not None and self._witness.records:
            with contained("labelling an answer"):
                label(answer, self._witness.records)

    def fail(self, error: BaseException) -> None:
        """End the call with what it raised; a stream may have told some use before."""
        outcome = failed(error)
        if self._told is not None and self._told.usage is not None:
            outcome = self._told._replace(status="partial", error_type=outcome.error_type)
        self._finish(outcome)

    @property
    def _model(self) -> str | None:
        return self._request.model if self._request else None

    def _note_stop(self, answer: Any) -> None:
        if self._spans is not None:
            self._stop_reason = stop_reason_of(answer) or self._stop_reason

    def _details(self) -> CallDetails:
        return CallDetails(
            requested_model=self.arguments.model,
            temperature=self.arguments.temperature,
            max_tokens=self.arguments.max_output_tokens,
            stop_reason=self._stop_reason,
            is_streaming=self._chunks > 0,
            chunks=self._chunks or None,
        )

    def _read(self, answer: Any) -> Outcome | None:
        provider = self._request.provider if self._request else None
        return read_answer(answer, provider, self._reader)

    def _finish(self, outcome: Outcome) -> None:
        if self._has_ended or self._call is None:
            return
        self._has_ended = True
        try:
            with contained("counting a call"):
                self._count(self._call, outcome)
        finally:
            with contained("settling a call"):
                self._settle(outcome)
        if self._spans is not None:
            with contained("writing to a span"):
                self._spans.write(
                    self._span,
                    self._witness.records,
                    compression=self._compression,
                    details=self._details(),
                )

    def _count(self, call: OpenCall, outcome: Outcome) -> None:
        meter.settle()
        if not self._witness.records:
            self._take_back(call)
        if not outcome.was_sent and not self._witness.records:
            call.drop()
            return
        # A handler that captured the call in another context has not told this one so.
        call.has_record = call.has_record or bool(self._witness.records)
        call.finish(
            outcome.usage,
            model=outcome.model,
            provider=outcome.provider,
            status=outcome.status,
            source=outcome.source,
            unreported_reason=outcome.unreported_reason,
            response_id=outcome.response_id,
            service_tier=outcome.service_tier,
            error_type=outcome.error_type,
        )

    def _settle(self, outcome: Outcome) -> None:
        guard, request, reservation = self._guard, self._request, self._reservation
        if guard is None or request is None:
            return
        records = [r for r in self._witness.records if r.id not in self.settled]
        if self._outer is not None and self._outer.shares(guard):
            self._outer.settled.update(self.settled, (record.id for record in records))
        if self._witness.own_guard is not None:
            return  # the handlers' records have settled what was held for them
        if reservation is not None:
            _settle_hold(guard, reservation, records.pop(0) if records else None, outcome)
        for record in records:  # of an agent that made several calls
            guard.add(request, record)

    def _take_back(self, call: OpenCall) -> None:
        """Settle by the answer what was held for a request that no handler has seen."""
        if self._witness.own_guard is not None:
            hold = call.take_hold()
            self._reservation = None if hold is None else hold.reservation
            self._witness.own_guard = None

    def release(self) -> None:
        """Give back what the tracker's budgets hold, as a run within this one holds its own."""
        if self._call is not None:
            self._call.release()
        if self._outer is not None:
            self._outer.release()

    def _asked(self) -> Asked:
        arguments = self.arguments
        return Asked(
            arguments.prompt, arguments.max_output_tokens, arguments.choices, arguments.tools
        )

    def shares(self, guard: CallGuard) -> bool:
        """Tell whether this run settles with the same budgets."""
        return self._guard is not None and self._guard.manager is guard.manager


def _settle_hold(
    guard: BudgetGuard, reservation: Reservation, record: UsageRecord | None, outcome: Outcome
) -> None:
    """Put what a call used in the place of what it held."""
    if record is not None or not outcome.was_sent:
        guard.settle(reservation, record)
    elif outcome.usage is None and outcome.status != "ok":
        reservation.cancel()
    else:
        reservation.settle(outcome.usage)


def reported(result: CompressionResult) -> list[Any]:
    """Write a compression to the log; return its messages."""
    _logger.info(
        "Context compressed: %d tokens to %d (%s)",
        result.tokens_before,
        result.tokens_after,
        ", ".join(result.strategies) or "nothing could be left out",
    )
    return result.messages
