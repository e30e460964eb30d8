"""The conversation tracker: what a program uses, counted by conversation."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from datetime import datetime, timezone
from decimal import Decimal
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import msgspec

from .budgets.request import CallRequest
from .config import TokenConfig
from .costing import breakdown_of
from .cycle import SealedBy
from .destinations import Destination
from .errors import StorageError, TrackerClosedError
from .faults import contained
from .guards import guard_of
from .handlers import activate
from .ids import time_ordered_id
from .meter import meter
from .open_cycle import OpenCycle
from .pricing import CostBreakdown, CostEstimator
from .privacy import hashed_user_id
from .responses import CountedResponses, record_of
from .runtime import configured_destinations, shared
from .scope import ScopeEntry, current_attribution, tool_in_force
from .send_result import SendResult
from .steps import StepHook, StepListeners
from .summary import UsageSummary
from .usage import Scope, TokenUsage, UsageRecord, checked_count, usd
from .usage_analytics import UsageQuestions
from .whole_scopes import WholeScopes

if TYPE_CHECKING:
    from .budgets import Budget, BudgetManager
    from .usage_history import UsageHistory

__all__ = ["ConversationTracker"]

_logger: Final = logging.getLogger("agentsight_tokens")
_encoder: Final = msgspec.json.Encoder()


class ConversationTracker(UsageQuestions):
    """
    Counts the tokens of conversations, each for itself, until they are sent.

    It needs no key and no network. Calls are tracked by hand or by the handlers that
    `AGENTSIGHT_TOKEN_HANDLER_TYPE` names, each is on disk before it counts, and
    `send_tracked_data()` ships what a conversation has used since the last time.

    Args:
        api_key: The key that the backend asks for.
        conversation_id: The conversation of calls that name none; a new one by default.
        endpoint: The backend's address; without one, the embedded store is used.
        token_handler: Handlers to switch on, with commas, or `auto`.
        config: The settings; arguments win over them.
        estimator: What prices the calls.
        budgets: What calls may use, in place of the configured budget.
        destination: Where cycles are delivered, in place of the configured one.

    Raises:
        ConfigurationError: For a setting that cannot be read.
        UnknownHandlerError: For a handler that no installed package registers.
    """

    handler_status: Mapping[str, str]
    """Of each handler that was asked for: `active`, or `skipped: <why and how to install>`."""

    def __init__(  # noqa: PLR0913  # the documented interface
        self,
        api_key: str | None = None,
        conversation_id: str | None = None,
        *,
        endpoint: str | None = None,
        token_handler: str | None = None,
        config: TokenConfig | None = None,
        estimator: CostEstimator | None = None,
        budgets: BudgetManager | Budget | None = None,
        destination: Destination | None = None,
    ) -> None:
        given = {
            "api_key": api_key,
            "conversation_id": conversation_id,
            "endpoint": endpoint,
            "token_handler": token_handler,
        }
        self.config = (config or TokenConfig()).replace(
            **{name: value for name, value in given.items() if value is not None}
        )
        if self.config.log_level:
            _logger.setLevel(self.config.log_level)
        self._conversation_id = self.config.conversation_id or time_ordered_id()
        self._default_scope = Scope().replace(conversation_id=self._conversation_id)
        self._estimator = estimator or CostEstimator(
            self.config.cost_rates or None, prices_file=self.config.prices
        )
        self._whole_scopes = WholeScopes(conversation_id=self._conversation_id, config=self.config)
        self.guard = guard_of(
            budgets, self.config, estimator=self._estimator, session_id=self._conversation_id
        )
        """What holds budgets for the calls; None without any."""
        self._has_own_budgets = budgets is not None
        self._listeners = StepListeners()
        self._is_closed = False
        self._runtime = shared(
            self.config,
            [destination] if destination else configured_destinations(self.config),
        )
        self._number = self._runtime.join(self)
        self.forget_after_fork()
        self.handler_status = activate(self.config.handlers, self.config)
        meter.default_recorder = self

    def track_token_usage(  # noqa: PLR0913  # the documented interface
        self,
        prompt_tokens: int | None = 0,
        completion_tokens: int | None = 0,
        total_tokens: int | None = 0,
        embedding_tokens: int | None = 0,
        *,
        model: str | None = None,
        provider: str | None = None,
        cache_read_tokens: int = 0,
        cache_creation_tokens: int = 0,
        reasoning_tokens: int = 0,
        tool_name: str | None = None,
        response_id: str | None = None,
    ) -> None:
        """
        Add what one call used to the current conversation; None counts as 0.

        Args:
            prompt_tokens: The input, cache included.
            completion_tokens: The output, reasoning included.
            total_tokens: The total that the provider reported; input + output when not given.
            embedding_tokens: Tokens that were embedded; never part of the total.
            model: The model, by which the call is priced.
            provider: Who serves the model.
            cache_read_tokens: The part of the input that was read from a prompt cache.
            cache_creation_tokens: The part of the input that was written to a prompt cache.
            reasoning_tokens: The part of the output that was reasoning.
            tool_name: The tool inside which the call was made.
            response_id: The provider's id of the response; each is counted once.

        Raises:
            InvalidCountError: For a count that is negative or no integer; nothing is counted.
            TrackerClosedError: After `close()`.
        """
        usage = TokenUsage(
            input_tokens=checked_count("prompt_tokens", prompt_tokens),
            output_tokens=checked_count("completion_tokens", completion_tokens),
            total_tokens=checked_count("total_tokens", total_tokens),
            embedding_tokens=checked_count("embedding_tokens", embedding_tokens),
            cache_read_tokens=checked_count("cache_read_tokens", cache_read_tokens),
            cache_creation_tokens=checked_count("cache_creation_tokens", cache_creation_tokens),
            reasoning_tokens=checked_count("reasoning_tokens", reasoning_tokens),
        )
        self._refuse_if_closed()
        if not usage:
            return
        is_embedding = usage.embedding_tokens and not usage.total_tokens
        self._count(
            UsageRecord(
                id=time_ordered_id(),
                at=datetime.now(timezone.utc),
                usage=usage,
                scope=current_attribution().scope,
                model=model,
                provider=provider,
                operation="embedding" if is_embedding else "chat",
                source="manual",
                tool_name=tool_name or tool_in_force(),
                response_id=response_id,
            )
        )

    def record(
        self, response: object, *, provider: str | None = None, **scope: object
    ) -> UsageRecord:
        """
        Count a provider's response, an object of its SDK or its JSON as a dict.

        Args:
            response: The response; what it did not report is counted as unreported.
            provider: Who answered, where the response does not tell.
            **scope: Scope fields of this call: conversation_id, session_id, user_id, org_id,
                agent, feature, tags.

        Raises:
            UnknownResponseError: For a response of no known shape.
            TrackerClosedError: After `close()`.
        """
        # Imported here: who uses a handler needs it not.
        from .extract import extract_usage

        self._refuse_if_closed()
        extracted = extract_usage(response, provider=provider)
        whole = current_attribution().scope.replace(**scope)
        record = record_of(extracted, whole, provider)
        counted = self._count(record)
        if counted is not None:
            # What other models were billed for within the same response.
            for other in extracted.others:
                billed = record_of(other, whole, provider)
                self._count(msgspec.structs.replace(billed, response_id=None))
        return counted or record

    def get_token_usage(self) -> dict[str, int]:
        """Return the counters of the current conversation's open cycle."""
        meter.settle()
        cycle = self._open.get(self._current_conversation())
        usage = cycle.usage if cycle else TokenUsage()
        return {
            "prompt_llm_token_count": usage.input_tokens,
            "completion_llm_token_count": usage.output_tokens,
            "total_llm_token_count": usage.total_tokens,
            "total_embedding_token_count": usage.embedding_tokens,
        }

    def send_tracked_data(self, *, wait: float = 0) -> SendResult:
        """
        Ship what the current conversation has used, and begin its next cycle at zero.

        The cycle is durable when this returns; delivery goes on in the background, also
        after a failure and in later processes.

        Args:
            wait: How many seconds to wait for the destination's acknowledgement.

        Raises:
            TrackerClosedError: After `close()`.
        """
        return self._send(self._current_conversation(), wait)

    async def asend_tracked_data(self, *, wait: float = 0) -> SendResult:
        """Do what `send_tracked_data` does, off the event loop."""
        # Imported here: who does not await anything need not pay for it.
        import asyncio

        return await asyncio.to_thread(self._send, self._current_conversation(), wait)

    def conversation(self, conversation_id: str, **scope: object) -> ConversationScope:
        """
        Make the calls of a block those of a conversation; `with` gives the tracker.

        Args:
            conversation_id: The conversation.
            **scope: Further scope fields: session_id, user_id, org_id, agent, feature, tags.

        Raises:
            InvalidScopeError: For a field that no scope has, or an empty id.
        """
        return ConversationScope(self, {"conversation_id": conversation_id, **scope})

    def attribution(self, **scope: object) -> ScopeEntry:
        """
        Attribute the calls of a block: agent, feature, user_id, org_id, session_id, tags.

        Raises:
            InvalidScopeError: For a field that no scope has, or an empty value.
        """
        return ScopeEntry(self, scope)

    def get_usage(self, **where: Any) -> UsageSummary:
        """
        Return what this tracker recorded since it began or was reset, sent or not.

        Args:
            **where: Values of scope fields, `model`, `provider`, `operation`, `status`,
                `handler`, `tool_name`, and `since` / `until` (aware times, `until` excluded).

        Raises:
            InvalidScopeError: For an unknown filter.
        """
        self._refuse_if_closed()
        meter.settle()
        return self._runtime.ledger.summary(self._hashed(where), self._number, self._since)

    def group_by(
        self, *dimensions: str, **where: Any
    ) -> Mapping[str | tuple[str | None, ...] | None, UsageSummary]:
        """
        Return the sum of each group of the calls that `get_usage` adds up.

        Args:
            *dimensions: Scope fields, model, provider, operation, status, source, handler,
                tool_name, service_tier, or `day` and `month` in UTC; keys are their values,
                tuples of them for several.
            **where: Filters; see `get_usage`.

        Raises:
            InvalidScopeError: For a dimension that calls are not grouped by.
        """
        self._refuse_if_closed()
        meter.settle()
        ledger = self._runtime.ledger
        return ledger.groups(dimensions, self._hashed(where), self._number, self._since)

    def get_usage_history(self, **where: Any) -> UsageHistory:
        """Return the calls that `get_usage` adds up, oldest first; filters as there."""
        # Imported here: few programs ask for single calls.
        from .usage_history import UsageHistory

        self._refuse_if_closed()
        meter.settle()
        found = self._runtime.ledger.history(self._hashed(where), self._number, self._since)
        return UsageHistory(found)

    @property
    def budgets(self) -> BudgetManager | None:
        """What calls may use, to ask and to add to; None where nothing is limited."""
        return self.guard.manager if self.guard is not None else None

    def get_cost(self) -> Decimal:
        """Return the cost in USD of the calls that have a price; see `get_usage`."""
        return self.get_usage().cost

    def get_cost_breakdown(self) -> CostBreakdown:
        """Return the cost of prompts and completions, and the models that caused it."""
        return breakdown_of(self.get_usage())

    def get_token_count(self, text: str | None = None) -> int:
        """
        Return the tokens of a text, or of the current conversation's context.

        The context is what the newest call of the conversation read and produced, as its
        provider reported it.

        Raises:
            EncodingUnavailableError: If the tokenizer's data are not on this machine.
        """
        if text is not None:
            # Imported here: few programs count texts.
            from .counting import TokenCounter

            return TokenCounter().count(text)
        self._refuse_if_closed()
        meter.settle()
        where = {"conversation_id": self._current_conversation(), "operation": "chat"}
        newest = self._runtime.ledger.newest(where, self._number, self._context_since)
        return newest.input_tokens + newest.output_tokens if newest else 0

    def reset_tracking(self) -> None:
        """
        Begin the usage, the history and the counters at zero; the context is kept for a day.

        What was billed stays billed: open cycles are sealed and delivered, not thrown away.
        """
        self._refuse_if_closed()
        meter.settle()
        self._seal_all("reset")
        self._since = self._runtime.ledger.last_number()
        self._steps = 0

    def reset_all(self) -> None:
        """Do what `reset_tracking` does, and forget the context too."""
        self.reset_tracking()
        self._context_since = self._since

    def on_step_complete(self, hook: StepHook) -> None:
        """Call `hook(state, step)` after every call; what it raises is logged, not passed on."""
        self._listeners.add(hook)

    def flush(self, timeout: float | None = None) -> bool:
        """
        Deliver everything that is sealed in the data directory.

        Args:
            timeout: Seconds to wait at most; without it, for as long as it takes.

        Returns:
            Whether everything is delivered.
        """
        self._refuse_if_closed()
        meter.settle()
        return self._runtime.flush(timeout)

    def close(self) -> None:
        """Seal what is open, deliver for a short time and end; what is left stays on disk."""
        if self._is_closed:
            return
        meter.settle()
        with contained("closing a tracker"):
            self._seal_all("close")
        self._is_closed = True
        if self.guard is not None and not self._has_own_budgets:
            with contained("closing the budgets"):
                self.guard.manager.close()  # it opens again for another tracker's calls
        if meter.default_recorder is self:
            meter.default_recorder = None
        self._runtime.leave(self)

    def __enter__(self) -> ConversationTracker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def receive(self, record: UsageRecord) -> UsageRecord | None:
        """
        Price a call, put it on disk and count it; handlers call this through the meter.

        Returns:
            The record as it was counted; None if it was counted before.
        """
        if record.response_id is not None and self._responses.add(record.response_id, record):
            return None
        record = self._estimator.priced(record, scope=self._whole_scopes[record.scope])
        if self._is_closed:
            return record
        conversation_id = record.scope.conversation_id or self._conversation_id
        body = _encoder.encode(record)
        with self._runtime.lock:
            cycle = self._open.get(conversation_id)
            if cycle is None:
                cycle = self._open.setdefault(
                    conversation_id,
                    OpenCycle(self._runtime.next_sequence(self._number, conversation_id)),
                )
            self._runtime.append(self._number, cycle.sequence, body)
            cycle.add(record)
            self._steps += 1
            step_number = self._steps
        self._listeners.tell(step_number, record)
        return record

    def _count(self, record: UsageRecord) -> UsageRecord | None:
        """Count a call that the program tells of itself, against the budgets too."""
        counted = self.receive(record)
        if counted is not None and self.guard is not None:
            with contained("counting against a budget"):
                self.guard.add(CallRequest(record.scope, record.operation, record.model), counted)
        return counted

    @property
    def asks_after(self) -> int:
        """The number of the last call before the last reset, which nobody asks for any more."""
        return self._since

    def forget_after_fork(self) -> None:
        """Begin anew in a child: what the parent counted is the parent's."""
        self._open: dict[str, OpenCycle] = {}
        self._responses = CountedResponses()
        self._steps = 0
        self._since = 0
        self._context_since = 0

    def _send(self, conversation_id: str, wait: float) -> SendResult:
        self._refuse_if_closed()
        meter.settle()
        with self._runtime.lock:
            cycle = self._open.pop(conversation_id, None)
        if cycle is None:
            return SendResult(status="empty", pending=self._runtime.pending())
        result = SendResult(
            status="queued",
            key=self._runtime.key(conversation_id, cycle.sequence),
            totals=cycle.usage,
            cost=usd(cycle.cost_pico_usd),
        )
        try:
            self._runtime.seal(self._number, {conversation_id: cycle.sequence}, "send")
        except StorageError as error:
            return msgspec.structs.replace(
                result, error=str(error), pending=self._runtime.pending()
            )
        state, reason = self._runtime.wait_for(cycle.sequence, wait)
        status: Final = {"pending": "queued", "delivered": "delivered", "dead": "rejected"}
        return msgspec.structs.replace(
            result,
            status=status[state],
            pending=self._runtime.pending(),
            error=reason or (self._runtime.last_error() if state == "pending" else None),
        )

    def _seal_all(self, sealed_by: SealedBy) -> None:
        with self._runtime.lock:
            cycles, self._open = self._open, {}
        sequences = {conversation_id: cycle.sequence for conversation_id, cycle in cycles.items()}
        if sequences:
            with contextlib.suppress(StorageError):  # they are sealed when they can be
                self._runtime.seal(self._number, sequences, sealed_by)

    def _current_conversation(self) -> str:
        return current_attribution().scope.conversation_id or self._conversation_id

    def _hashed(self, where: dict[str, Any]) -> dict[str, Any]:
        return {**where, "user_id": hashed_user_id(where.get("user_id"), self.config)}

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise TrackerClosedError("this tracker is closed; construct a new one to go on")


class ConversationScope(ScopeEntry):
    """A conversation to enter and leave; `with` gives the tracker."""

    def __init__(self, tracker: ConversationTracker, fields: dict[str, object]) -> None:
        super().__init__(tracker, fields)
        self._tracker = tracker

    def __enter__(self) -> ConversationTracker:  # type: ignore[override]  # narrower than the base, by design
        self.enter(depth=2)
        return self._tracker
