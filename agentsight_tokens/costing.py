"""What a record lacks until it is counted: its whole scope and its cost."""

from __future__ import annotations

from typing import Final

from msgspec.structs import astuple, replace

from .config import TokenConfig
from .pricing import CostBreakdown, CostEstimator
from .privacy import hashed_user_id
from .summary import UsageSummary
from .usage import COUNTERS, MAX_COUNT, USAGE_FIELDS, Scope, UsageRecord, checked_count

__all__ = ["Completion", "breakdown_of", "priced"]

_MOST_SCOPES: Final = 1_000
"""How many scopes are remembered as they are when they are whole."""


class Completion:
    """
    Gives records their whole scope and their cost.

    Args:
        estimator: What prices them.
        conversation_id: The conversation of a call that names none.
        config: Whether user ids are hashed, and how.
    """

    def __init__(
        self, estimator: CostEstimator, *, conversation_id: str, config: TokenConfig
    ) -> None:
        self._estimator = estimator
        self._conversation_id = conversation_id
        self._config = config
        self._scopes: dict[Scope, Scope] = {}

    def completed(self, record: UsageRecord) -> UsageRecord:
        """
        Return the record with what it lacks.

        Raises:
            InvalidCountError: For a count that is too large.
        """
        if sum(counts := astuple(record.usage)[COUNTERS]) > MAX_COUNT:
            for name, count in zip(USAGE_FIELDS, counts, strict=True):
                checked_count(name, count)
        scope = self._scopes.get(record.scope) or self._whole(record.scope)
        return priced(record, self._estimator, scope=scope)

    def _whole(self, scope: Scope) -> Scope:
        conversation_id = scope.conversation_id or self._conversation_id
        whole = replace(
            scope,
            conversation_id=conversation_id,
            session_id=scope.session_id or conversation_id,
            user_id=hashed_user_id(scope.user_id, self._config),
        )
        if len(self._scopes) >= _MOST_SCOPES:
            self._scopes = {}
        self._scopes[scope] = whole
        return whole


def priced(
    record: UsageRecord, estimator: CostEstimator, *, scope: Scope | None = None
) -> UsageRecord:
    """
    Return the record with its cost: none if it is unreported, its own if it has one.

    Args:
        record: The call.
        estimator: What prices it.
        scope: Its whole scope, where that is another one than the record's.
    """
    if record.unreported_reason is not None or record.cost_pico_usd is not None:
        return record if scope is None else replace(record, scope=scope)
    price = estimator.price(
        record.usage,
        record.model,
        provider=record.provider,
        operation=record.operation,
        service_tier=record.service_tier,
        region=record.region,
        at=record.at,
    )
    card = price.card
    return replace(
        record,
        scope=record.scope if scope is None else scope,
        cost_pico_usd=price.cost_pico_usd,
        prompt_cost_pico_usd=price.prompt_cost_pico_usd,
        completion_cost_pico_usd=price.completion_cost_pico_usd,
        cost_status=price.status,
        price_key=None if card is None else card.key,
        price_version=None if card is None else card.version,
    )


def breakdown_of(summary: UsageSummary) -> CostBreakdown:
    """Return what the prompts and completions of many calls cost, and which models they were."""
    parts = summary.prompt_cost_pico_usd + summary.completion_cost_pico_usd
    has_embeddings = bool(summary.embedding_tokens)
    return CostBreakdown(
        cost_pico_usd=summary.cost_pico_usd,
        prompt_cost_pico_usd=summary.prompt_cost_pico_usd,
        completion_cost_pico_usd=summary.completion_cost_pico_usd,
        embedding_cost_pico_usd=summary.cost_pico_usd - parts if has_embeddings else 0,
        status="priced" if summary.cost_is_complete else "unpriced",
        model=", ".join(sorted(summary.by_model)) or None,
    )
