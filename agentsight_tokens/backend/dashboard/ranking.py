"""Rankings: who or what costs most."""

from __future__ import annotations

from typing import NamedTuple

from agentsight_tokens.backend.analytics import UsageReport

from .figures import Figure, cost_of, count, decimals_of, share
from .selection import Selection
from .trend import METRICS

__all__ = ["Rank", "Ranking", "ranking_of"]


class Rank(NamedTuple):
    """One of those that cost."""

    name: str | None
    """None where the calls say nothing."""
    link: str
    """To its own usage; empty without a name."""
    cost: Figure
    tokens: Figure
    share: Figure
    width: str
    """Of its bar, in percent of the longest one's."""


class Ranking(NamedTuple):
    """Those that cost most, by one dimension."""

    by: str
    ranks: tuple[Rank, ...]
    link: str
    """To all of them."""


def ranking_of(report: UsageReport, selection: Selection, *, most: int) -> Ranking:
    """Return the first groups of a report by one dimension, the costliest first."""
    [key] = report.by
    by = key.removesuffix("_id").removesuffix("_name")
    first = report.groups[:most]
    decimals = decimals_of(usage.cost_pico_usd for _, usage in first)

    ranks = []
    weigh = METRICS["cost" if report.total.cost_pico_usd else "tokens"].value
    weights = [weigh(usage) for _, usage in first]
    longest = max(weights, default=0) or 1
    whole = weigh(report.total)
    for ((name,), usage), weight in zip(first, weights, strict=False):
        ranks.append(
            Rank(
                name=name,
                link=selection.link("/usage", by="model" if by != "model" else "user", **{by: name})
                if name
                else "",
                cost=cost_of(usage, decimals=decimals),
                tokens=count(usage.total_tokens + usage.embedding_tokens),
                share=share(weight, whole),
                width=f"{100 * weight / longest:.2f}",
            )
        )
    return Ranking(by, tuple(ranks), selection.link("/usage", by=by))
