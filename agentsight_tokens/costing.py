"""What a record lacks until it is counted: its whole scope and its cost."""

from __future__ import annotations

from operator import attrgetter
from typing import Final

import msgspec

from .config import TokenConfig
from .pricing import CostBreakdown, CostEstimator
from .privacy import hashed_user_id
from .summary import UsageSummary
from .usage import MAX_COUNT, USAGE_FIELDS, Scope, UsageRecord, checked_count

__all__ = ["breakdown_of", "completed", "priced"]

_counts: Final = attrgetter(*USAGE_FIELDS)


def completed(
    record: UsageRecord, estimator: CostEstimator, *, conversation_id: str, config: TokenConfig
) -> UsageRecord:
    """
    Return the record with its whole scope and its cost.

    Args:
        record: The call.
        estimator: What prices it.
        conversation_id: The conversation of a call that names none.
        config: Whether user ids are hashed, and how.

    Raises:
        InvalidCountError: For a count that is too large.
    """
    scope, usage = record.scope, record.usage
    if max(_counts(usage)) > MAX_COUNT:
        for name in USAGE_FIELDS:
            checked_count(name, getattr(usage, name))
    conversation_id = scope.conversation_id or conversation_id
    scope = Scope(
        conversation_id=conversation_id,
        session_id=scope.session_id or conversation_id,
        user_id=hashed_user_id(scope.user_id, config),
        org_id=scope.org_id,
        agent=scope.agent,
        feature=scope.feature,
        tags=scope.tags,
    )
    return priced(msgspec.structs.replace(record, scope=scope), estimator)


def priced(record: UsageRecord, estimator: CostEstimator) -> UsageRecord:
    """Return the record with its cost: none if it is unreported, its own if it has one."""
    if record.is_unreported or record.cost_pico_usd is not None:
        return record
    price = estimator.price(
        record.usage,
        record.model,
        provider=record.provider,
        operation=record.operation,
        service_tier=record.service_tier,
        region=record.region,
        at=record.at,
    )
    return msgspec.structs.replace(
        record,
        cost_pico_usd=price.cost_pico_usd,
        prompt_cost_pico_usd=price.prompt_cost_pico_usd,
        completion_cost_pico_usd=price.completion_cost_pico_usd,
        cost_status=price.status,
        price_key=price.price_key,
        price_version=price.price_version,
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
