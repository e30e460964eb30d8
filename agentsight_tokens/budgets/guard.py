"""BudgetGuard: reserves for a call that is about to be sent, and settles by how it ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from agentsight_tokens.context.messages import ReadMessage
from agentsight_tokens.counting import TokenCounter
from agentsight_tokens.pricing import CostEstimator
from agentsight_tokens.usage import Scope, TokenUsage, UsageRecord, usd

from .manager import BudgetManager
from .request import CallRequest
from .reservation import Reservation
from .status import BudgetStatus
from .windows import CallScope

__all__ = ["DEFAULT_OUTPUT_TOKENS", "BudgetGuard", "Estimate"]

DEFAULT_OUTPUT_TOKENS: Final = 4096
"""What is held for the output of a call whose model and maximum are both unknown."""

_ESTIMATE_MARGIN: Final = 0.35
"""By how much other makers' tokenizers make more of a text than the one that stands in."""


class Estimate(NamedTuple):
    """What a call may use at most."""

    prompt_tokens: int
    output_tokens: int
    prompt_pico_usd: int | None
    """None where no price is known."""
    pico_usd: int | None


class BudgetGuard:
    """
    Enforces the budgets of a manager for calls of any framework.

    Args:
        manager: The budgets.
        estimator: Prices calls before they are sent; the bundled catalog when None.
        output_tokens: What is held for the output of a call that sets no maximum; None holds
            all that the model can produce.
        session_id: The session of calls that name neither one nor a conversation.
    """

    def __init__(
        self,
        manager: BudgetManager,
        *,
        estimator: CostEstimator | None = None,
        output_tokens: int | None = None,
        session_id: str | None = None,
    ) -> None:
        self.manager = manager
        self._estimator = estimator or CostEstimator()
        self._output_tokens = output_tokens
        self._session_id = session_id
        self._counters: dict[str | None, TokenCounter] = {}

    def reserve(self, request: CallRequest, *, may_clamp: bool = False) -> Reservation:
        """
        Hold what a call may use at most.

        Args:
            request: The call.
            may_clamp: Whether the caller can keep the output below what is granted.

        Raises:
            BudgetExceededError: If a budget does not allow the call.
        """
        estimate = self.estimate(request)
        return self.manager.reserve(
            estimate.prompt_tokens + estimate.output_tokens,
            None if estimate.pico_usd is None else usd(estimate.pico_usd),
            prompt_tokens=estimate.prompt_tokens,
            prompt_cost=None if estimate.prompt_pico_usd is None else usd(estimate.prompt_pico_usd),
            min_output_tokens=1 if may_clamp else estimate.output_tokens,
            **self._scope_of(request),
        )

    def settle(self, reservation: Reservation, record: UsageRecord | None) -> None:
        """
        Put what a call used in the place of what it held.

        A call whose provider reported nothing is settled at what it held if it ended well,
        and at its prompt if it broke off.

        Args:
            reservation: What `reserve` returned.
            record: The call; None if it was never sent.
        """
        if record is None:
            self.manager.release(reservation)
        elif record.is_unreported and record.status != "ok":
            self.manager.cancel(reservation)
        else:
            self.manager.settle(reservation, record)

    def add(self, request: CallRequest, record: UsageRecord) -> None:
        """Count a call for which nothing was held."""
        self.manager.add(record, **self._scope_of(request))

    def status(self, scope: Scope, *, model: str | None) -> BudgetStatus:
        """Return the budgets that a call would meet."""
        return self.manager.status(**self._scope_of(CallRequest(scope, model=model)))

    def estimate(self, request: CallRequest) -> Estimate:
        """Return what a call may use at most."""
        is_embedding = request.operation == "embedding"
        prompt = self._prompt_tokens(request)
        output = 0 if is_embedding else self._most_output(request) * max(request.choices, 1)
        usage = TokenUsage(
            input_tokens=0 if is_embedding else prompt,
            output_tokens=output,
            embedding_tokens=prompt if is_embedding else 0,
        )
        cost = self._estimator.price(usage, request.model, provider=request.provider)
        of_prompt = cost.embedding_cost_pico_usd if is_embedding else cost.prompt_cost_pico_usd
        return Estimate(prompt, output, of_prompt, cost.cost_pico_usd)

    def _most_output(self, request: CallRequest) -> int:
        if request.max_output_tokens is not None:
            return request.max_output_tokens
        if self._output_tokens is not None:
            return self._output_tokens
        match = request.model and self._estimator.match(request.model, provider=request.provider)
        return (match and match.entry.max_output_tokens) or DEFAULT_OUTPUT_TOKENS

    def _prompt_tokens(self, request: CallRequest) -> int:
        if isinstance(request.prompt, int):
            return request.prompt
        counter = self._counters.get(request.model)
        if counter is None:
            counter = TokenCounter(model=request.model, fallback="bytes")
            self._counters[request.model] = counter
        tokens = _counted(counter, request.prompt)
        if request.tools:
            tokens += counter.count_messages([], tools=request.tools)
        if counter.is_estimate:
            tokens += int(tokens * _ESTIMATE_MARGIN)
        return tokens

    def _scope_of(self, request: CallRequest) -> CallScope:
        scope = request.scope
        return {
            "model": request.model,
            "org_id": scope.org_id,
            "user_id": scope.user_id,
            "agent": scope.agent,
            "feature": scope.feature,
            "session_id": scope.session_id,
            "conversation_id": scope.conversation_id or self._session_id,
        }


def _counted(counter: TokenCounter, prompt: Any) -> int:
    """Return the tokens of a prompt, in whatever form it comes; texts are counted one by one."""
    if prompt is None:
        return 0
    if isinstance(prompt, (str, Mapping)):
        return _counted_part(counter, prompt)
    if isinstance(prompt, Iterable):
        parts = list(prompt)
        if all(isinstance(part, int) for part in parts):
            return len(parts)  # tokens, as embeddings take them
        if any(isinstance(part, (str, list, tuple)) for part in parts):
            return sum(_counted(counter, part) for part in parts)
        try:
            return counter.count_messages([ReadMessage(part).canonical() for part in parts])
        except (TypeError, AttributeError):
            return sum(_counted_part(counter, part) for part in parts)
    return counter.count(str(prompt))


def _counted_part(counter: TokenCounter, part: Any) -> int:
    """Return the tokens of one part; of a form that is not known those of all it says."""
    try:
        return counter.count(part)
    except (TypeError, AttributeError):
        return counter.count(str(part))
