"""Standing: what is used and left of a budget now, and where it leads to."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Final

import msgspec

from agentsight_tokens.backend.store import Reader
from agentsight_tokens.backend.store.budget_usage import USAGE_COLUMNS, BudgetUsage, usage_of_row
from agentsight_tokens.backend.store.server_budget import EACH, ServerBudget, at_of
from agentsight_tokens.usage import usd

__all__ = ["BudgetStanding", "KeyStanding", "Projection", "projection_of", "standing_of"]

_MICROSECONDS: Final = 1_000_000
_LEAST_ELAPSED: Final = Fraction(1, 20)

PROJECTED: Final = (
    "linear: the window's average rate so far goes on to its end; none before a twentieth of "
    "the window is over"
)
NOT_PROJECTED: Final = "none: a window that slides, or never ends, has no end to project to"


class Projection(msgspec.Struct, frozen=True, kw_only=True):
    """Where the use of a window leads to, by the method that its budget's standing states."""

    tokens: int
    """At the window's end."""
    cost_usd: Decimal
    exhausted_at: datetime | None
    """When the limit is reached; None if it is not before the window's end, or is already."""


class KeyStanding(msgspec.Struct, frozen=True, kw_only=True):
    """What one key has used of its limit."""

    key: str
    """The user, model, ...; `*` for all calls."""
    used_tokens: int
    used_cost_usd: Decimal
    tokens_left: int | None
    """None without a limit on them."""
    cost_left_usd: Decimal | None
    fraction: float
    """The part of the limit that is used, above 1 past it; of two limits, of the nearer one."""
    calls: int
    unreported_calls: int
    """Calls that nobody knows the use of; they are in no sum."""
    unpriced_calls: int
    """Calls without a known price; they are not in the cost."""
    estimated_calls: int
    projection: Projection | None


class BudgetStanding(msgspec.Struct, frozen=True, kw_only=True):
    """A budget, and the current window of its keys."""

    budget: ServerBudget
    starts_at: datetime | None
    """None for a window that is all time."""
    resets_at: datetime | None
    """When what is used now no longer counts; None if it always does."""
    keys: tuple[KeyStanding, ...]
    """Those first that have used most of their limit."""
    key_count: int
    """How many keys have used something, those that are not shown included."""
    projection_method: str

    @property
    def fraction(self) -> float:
        """How much the key that is nearest to its limit has used of it."""
        return max((key.fraction for key in self.keys), default=0.0)


def standing_of(
    reader: Reader, budget: ServerBudget, now: datetime, *, limit: int
) -> BudgetStanding:
    """Return where a budget stands at a moment; `limit` bounds the keys."""
    at = int(now.timestamp())
    window = budget.span
    last = window.stored_start(at)
    first = last - window.reach_seconds
    span = window.span(at)
    resets_at = window.resets_at(at)
    bounds = (budget.id, first * _MICROSECONDS, last * _MICROSECONDS)
    sums = ", ".join(f"CAST(SUM({name}) AS BIGINT)" for name in USAGE_COLUMNS)
    condition = "budget_id = ? AND window_start BETWEEN ? AND ?"
    rows = reader.rows(
        f"SELECT key, {sums} FROM budget_usage WHERE {condition} "  # noqa: S608  # our own names
        f"GROUP BY key ORDER BY {_order(budget)} DESC, key LIMIT ?",
        (*bounds, limit),
    )
    [(key_count,)] = reader.rows(
        f"SELECT COUNT(DISTINCT key) FROM budget_usage WHERE {condition}",  # noqa: S608  # our own names
        bounds,
    )
    found = {key: usage_of_row(row) for key, *row in rows}
    if not found and (budget.value != EACH or budget.scope == "global"):
        found = {budget.value: BudgetUsage()}
    return BudgetStanding(
        budget=budget,
        starts_at=None if span is None else at_of(span.start * _MICROSECONDS),
        resets_at=None if resets_at is None else at_of(resets_at * _MICROSECONDS),
        keys=tuple(_key(budget, key, usage, now) for key, usage in found.items()),
        key_count=key_count,
        projection_method=PROJECTED if window.is_calendar else NOT_PROJECTED,
    )


def projection_of(budget: ServerBudget, usage: BudgetUsage, now: datetime) -> Projection | None:
    """Return where usage leads to; None where that cannot be told, or not yet."""
    if not budget.span.is_calendar:
        return None
    span = budget.span.span(int(now.timestamp()))
    assert span is not None  # noqa: S101  # a calendar's windows have an end
    start = at_of(span.start * _MICROSECONDS)
    elapsed = Fraction((now - start) // timedelta(microseconds=1), _MICROSECONDS)
    part = elapsed / (span.end - span.start)
    if part < _LEAST_ELAPSED:
        return None
    ends = []
    for used, limit in (
        (usage.tokens, budget.token_limit),
        (usage.cost_pico_usd, budget.cost_limit_pico_usd),
    ):
        if limit is not None and 0 < used < limit <= used / part:
            ends.append(start + timedelta(seconds=float(elapsed * limit / used)))
    return Projection(
        tokens=round(usage.tokens / part),
        cost_usd=usd(round(usage.cost_pico_usd / part)),
        exhausted_at=min(ends, default=None),
    )


def _key(budget: ServerBudget, key: str, usage: BudgetUsage, now: datetime) -> KeyStanding:
    limit, cost_limit = budget.token_limit, budget.cost_limit_pico_usd
    parts = [
        float(Fraction(used, of)) if of else 1.0
        for used, of in ((usage.tokens, limit), (usage.cost_pico_usd, cost_limit))
        if of is not None
    ]
    return KeyStanding(
        key=key,
        used_tokens=usage.tokens,
        used_cost_usd=usd(usage.cost_pico_usd),
        tokens_left=None if limit is None else max(limit - usage.tokens, 0),
        cost_left_usd=None if cost_limit is None else usd(max(cost_limit - usage.cost_pico_usd, 0)),
        fraction=max(parts),
        calls=usage.calls,
        unreported_calls=usage.unreported_calls,
        unpriced_calls=usage.unpriced_calls,
        estimated_calls=usage.estimated_calls,
        projection=projection_of(budget, usage, now),
    )


def _order(budget: ServerBudget) -> str:
    """Return the SQL of the part of the limit that a key has used, as nearly as a float tells."""
    parts = []
    if budget.token_limit is not None:
        parts.append(f"SUM(tokens) * 1.0 / {max(budget.token_limit, 1)}")
    if budget.cost_limit_pico_usd is not None:
        cost = "(SUM(cost_micro_usd) * 1000000.0 + SUM(cost_rest_pico_usd))"
        parts.append(f"{cost} / {max(budget.cost_limit_pico_usd, 1)}")
    if len(parts) == 1:
        return parts[0]
    first, second = parts
    return f"CASE WHEN {first} > {second} THEN {first} ELSE {second} END"
