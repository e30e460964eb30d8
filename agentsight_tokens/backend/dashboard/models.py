"""Models: what each costs, how well its cache is used, and what it says nothing of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from agentsight_tokens.backend.analytics import UsageGroup, usage_by
from agentsight_tokens.backend.endpoint import Asked
from agentsight_tokens.pricing import CostEstimator
from agentsight_tokens.summary import UsageSummary

from .figures import Figure, cost_of, count, decimals_of, money, share
from .page import page
from .prices import PriceRow, price_row
from .selection import Selection, SelectionQuery, selection_of

__all__ = ["ENDPOINTS"]

_MILLION: Final = 1_000_000
_MOST_ROWS: Final = 200


class Row(NamedTuple):
    """A model."""

    name: str
    link: str
    provider: str | None
    calls: Figure
    tokens: Figure
    cached: Figure
    cached_width: str
    per_call: Figure
    blended: Figure
    """What a million of its tokens did cost."""
    cost: Figure
    share: Figure
    price: PriceRow
    unreported: Figure | None


class Models(NamedTuple):
    """What the page shows."""

    rows: tuple[Row, ...]
    others: int
    has_providers: bool
    """Whether models are told apart by who sells them."""
    total: UsageSummary


def view_of(asked: Asked, query: SelectionQuery) -> Mapping[str, Any]:
    """Read the models of a selection."""
    selection = selection_of("/models", query, asked.server.accounts.now())
    # Sums by provider, too, are kept by the hour, which are many in a long span.
    has_providers = selection.period.is_short
    by = ["model", "provider"] if has_providers else ["model"]
    report = usage_by(asked.project, by, where=selection.where)
    shown = report.groups[:_MOST_ROWS]
    decimals = decimals_of(usage.cost_pico_usd for _, usage in shown)
    return {
        "selection": selection,
        "view": Models(
            rows=tuple(
                _row(group, selection, report.total, decimals, asked.server.meter.estimator)
                for group in shown
            ),
            others=len(report.groups) - len(shown),
            has_providers=has_providers,
            total=report.total,
        ),
    }


def _row(
    group: UsageGroup,
    selection: Selection,
    total: UsageSummary,
    decimals: int,
    prices: CostEstimator,
) -> Row:
    name, provider = group.key[0], group.key[1] if len(group.key) > 1 else None
    usage = group.usage
    tokens = usage.total_tokens + usage.embedding_tokens
    priced_calls = usage.request_count - usage.unpriced_calls - usage.unreported_calls
    priced_tokens = tokens - usage.unpriced_tokens
    cost = usage.cost_pico_usd
    return Row(
        name=name or "",
        link=selection.link("/usage", model=name, by="user") if name else "",
        provider=provider,
        calls=count(usage.request_count),
        tokens=count(tokens),
        cached=share(usage.cache_read_tokens, usage.input_tokens),
        cached_width=f"{100 * usage.cache_read_tokens / max(usage.input_tokens, 1):.2f}",
        per_call=money(cost // priced_calls if priced_calls else None),
        blended=money(cost * _MILLION // priced_tokens if priced_tokens else None),
        cost=cost_of(usage, decimals=decimals),
        share=share(cost, total.cost_pico_usd),
        price=price_row(prices, name or "", provider, usage.unpriced_calls),
        unreported=count(usage.unreported_calls) if usage.unreported_calls else None,
    )


ENDPOINTS: Final = (
    page("/models", view_of, SelectionQuery, template="models.html", title="Models"),
)
