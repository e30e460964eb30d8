"""The cost of a record."""

from __future__ import annotations

import msgspec

from .pricing import CostBreakdown, CostEstimator
from .summary import UsageSummary
from .usage import UsageRecord

__all__ = ["breakdown_of", "priced"]


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
