"""What the calls of a tracker cost together."""

from __future__ import annotations

from .pricing import CostBreakdown
from .summary import UsageSummary

__all__ = ["breakdown_of"]


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
