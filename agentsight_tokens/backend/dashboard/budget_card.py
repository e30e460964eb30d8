"""Budget cards: where a budget stands, at a glance."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from fractions import Fraction
from typing import Final, NamedTuple

from agentsight_tokens.backend.budgets import BudgetStanding, KeyStanding, ServerBudget
from agentsight_tokens.backend.store.server_budget import EACH
from agentsight_tokens.usage import pico_usd

from .figures import NOTHING, Figure, count, moment, money, share
from .period import zone_of
from .selection import address

__all__ = ["WINDOWS", "BudgetCard", "LimitBar", "bars_of", "card_of", "nearest_first", "whose"]

_NEAR: Final = 0.8
WINDOWS: Final[dict[str, str]] = {
    "hour": "each hour",
    "day": "each day",
    "week": "each week",
    "month": "each month",
    "total": "for ever",
}


class LimitBar(NamedTuple):
    """How much of one limit is used."""

    unit: str
    """What stands behind the limit: `tokens`, or nothing."""
    used: Figure
    limit: Figure
    left: Figure
    part: Figure
    width: str
    tone: str
    """bad above the limit, warn near it, or nothing."""


class BudgetCard(NamedTuple):
    """A budget, and the key of it that is nearest to its limit."""

    id: str
    name: str
    link: str
    whose: str
    window: str
    is_on: bool
    fraction: float
    limits: tuple[LimitBar, ...]
    key: str | None
    """Whose use is shown, where each has a limit of its own."""
    key_count: int
    resets: Figure
    outlook: str
    """Where it leads to; empty where that cannot be told."""
    is_exhausted_early: bool
    gaps: str
    """What is not in the sums."""


def card_of(standing: BudgetStanding) -> BudgetCard:
    """Return the card of a budget."""
    budget = standing.budget
    first = standing.keys[0] if standing.keys else None
    is_each = budget.value == EACH and budget.scope != "global"
    outlook, is_early = _outlook(budget, first)
    return BudgetCard(
        id=budget.id,
        name=budget.name,
        link=address("/budgets/one", {"id": budget.id}),
        whose=whose(budget),
        window=f"{WINDOWS.get(budget.window, budget.window)}"
        + (f", {budget.timezone}" if budget.timezone != "UTC" else ""),
        is_on=budget.enabled,
        fraction=standing.fraction,
        limits=() if first is None else bars_of(budget, first),
        key=first.key if first is not None and is_each else None,
        key_count=standing.key_count,
        resets=moment(standing.resets_at, zone_of(budget.timezone)),
        outlook=outlook,
        is_exhausted_early=is_early,
        gaps="" if first is None else _gaps(first),
    )


def nearest_first(standings: Sequence[BudgetStanding], *, most: int) -> tuple[BudgetCard, ...]:
    """Return the cards of the budgets that are nearest to their limits."""
    near = sorted(standings, key=lambda standing: -standing.fraction)
    return tuple(card_of(each) for each in near[:most])


def whose(budget: ServerBudget) -> str:
    """Return in words whose use is limited."""
    if budget.scope == "global":
        return "All calls"
    if budget.value == EACH:
        return f"Each {budget.scope}"
    return f"{budget.scope.capitalize()} {budget.value}"


def bars_of(budget: ServerBudget, key: KeyStanding) -> tuple[LimitBar, ...]:
    """Return how much a key has used of each limit."""
    bars = []
    cost_limit = budget.cost_limit_pico_usd
    if cost_limit is not None:
        used = pico_usd(key.used_cost_usd)
        left = None if key.cost_left_usd is None else pico_usd(key.cost_left_usd)
        bars.append(_bar("", used, cost_limit, money(used), money(cost_limit), money(left)))
    if budget.token_limit is not None:
        used, limit = key.used_tokens, budget.token_limit
        left_tokens = NOTHING if key.tokens_left is None else count(key.tokens_left)
        bars.append(_bar("tokens", used, limit, count(used), count(limit), left_tokens))
    return tuple(bars)


def _bar(  # what a bar is made of
    unit: str, used: int, limit: int, used_figure: Figure, limit_figure: Figure, left: Figure
) -> LimitBar:
    part = Fraction(used, limit) if limit else Fraction(1)
    return LimitBar(
        unit=unit,
        used=used_figure,
        limit=limit_figure,
        left=left,
        part=share(used, limit) if limit else Figure("100%"),
        width=f"{min(float(part), 1) * 100:.2f}",
        tone="bad" if part >= 1 else "warn" if part >= _NEAR else "",
    )


def _outlook(budget: ServerBudget, key: KeyStanding | None) -> tuple[str, bool]:
    if key is None or key.projection is None or key.fraction >= 1:
        return "", False
    leads_to = key.projection
    if leads_to.exhausted_at is not None:
        at: datetime = leads_to.exhausted_at.astimezone(zone_of(budget.timezone))
        return f"At this pace used up {at:%Y-%m-%d %H:%M}", True
    if budget.cost_limit_usd is not None:
        return f"At this pace {money(pico_usd(leads_to.cost_usd)).text} at the end", False
    return f"At this pace {count(leads_to.tokens).text} tokens at the end", False


def _gaps(key: KeyStanding) -> str:
    parts = {
        "unpriced": key.unpriced_calls,
        "unreported": key.unreported_calls,
        "estimated": key.estimated_calls,
    }
    return ", ".join(f"{calls:,} {name}" for name, calls in parts.items() if calls)
