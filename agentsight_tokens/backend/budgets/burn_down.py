"""Burn-down: how a budget's window has filled, step by step, and where it leads to."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Final

import msgspec

from agentsight_tokens.backend.analytics import usage_by
from agentsight_tokens.backend.store import ProjectReader
from agentsight_tokens.backend.store.budget_usage import BudgetUsage, usage_between
from agentsight_tokens.backend.store.server_budget import EACH, ServerBudget, at_of
from agentsight_tokens.budgets.periods import zone_named
from agentsight_tokens.calls import microseconds
from agentsight_tokens.errors import InvalidBudgetError
from agentsight_tokens.usage import usd

from .standing import NOT_PROJECTED, PROJECTED, Projection, projection_of
from .stored_usage import usage_of_summary

__all__ = ["BurnDown", "BurnPoint", "burn_down"]

_MICROSECONDS: Final = 1_000_000
_FEW_MINUTES: Final = 300 * _MICROSECONDS
_STEPS: Final = {"day": "hour", "week": "day", "month": "day", "total": "month"}


class BurnPoint(msgspec.Struct, frozen=True, kw_only=True):
    """What the window had used by a moment."""

    at: datetime
    used_tokens: int
    used_cost_usd: Decimal


class BurnDown(msgspec.Struct, frozen=True, kw_only=True):
    """How one key has used a budget's window until now."""

    budget_id: str
    key: str
    starts_at: datetime | None
    """None for a window that is all time."""
    ends_at: datetime | None
    token_limit: int | None
    cost_limit_usd: Decimal | None
    points: tuple[BurnPoint, ...]
    """
    In the order of time, steps without use left out; the last one is of now.

    Of a window that slides, each is what the window that ended then had used.
    """
    projection: Projection | None
    projection_method: str


def burn_down(
    reader: ProjectReader, budget: ServerBudget, now: datetime, *, key: str | None = None
) -> BurnDown:
    """
    Return how the window of a moment has filled.

    Args:
        reader: The budget's project.
        budget: Which one.
        now: The moment.
        key: Whose use; needed where each user, model, ... has the limit by itself.

    Raises:
        InvalidBudgetError: If the key is not said, or is none of the budget's.
    """
    whose = _checked_key(budget, key)
    span = budget.span.span(int(now.timestamp()))
    points: list[tuple[datetime, BudgetUsage]]
    if budget.span.period == "rolling":
        points = [*_sliding(reader, budget, whose, now)] or [(now, BudgetUsage())]
    else:
        start = None if span is None else at_of(span.start * _MICROSECONDS)
        points = [] if start is None else [(start, BudgetUsage())]
        used = BudgetUsage()
        for at, usage in _steps(reader, budget, whose, start, now):
            used = used.plus(usage)
            points.append((min(at, now), used))
        if not points or points[-1][0] < now:
            points.append((now, used))
    return BurnDown(
        budget_id=budget.id,
        key=whose,
        starts_at=None if span is None else at_of(span.start * _MICROSECONDS),
        ends_at=None if span is None else at_of(span.end * _MICROSECONDS),
        token_limit=budget.token_limit,
        cost_limit_usd=budget.cost_limit_usd,
        points=tuple(
            BurnPoint(at=at, used_tokens=each.tokens, used_cost_usd=usd(each.cost_pico_usd))
            for at, each in points
        ),
        projection=projection_of(budget, points[-1][1], now),
        projection_method=PROJECTED if budget.span.is_calendar else NOT_PROJECTED,
    )


def _checked_key(budget: ServerBudget, key: str | None) -> str:
    if budget.scope != "global" and budget.value == EACH:
        if key is None:
            raise InvalidBudgetError(
                f"the budget {budget.name!r} is of each {budget.scope}: say the key of one"
            )
        return key
    if key not in {None, budget.value}:
        raise InvalidBudgetError(f"the budget {budget.name!r} has no key {key!r}")
    return budget.value


def _steps(
    reader: ProjectReader, budget: ServerBudget, key: str, start: datetime | None, now: datetime
) -> Iterator[tuple[datetime, BudgetUsage]]:
    """Return what was used in each step of a window until now, by the step's end."""
    where: dict[str, Any] = {"since": start, "until": now}
    if budget.column is not None:
        where[budget.column] = key
    if budget.span.period == "hour" and start is not None:
        at = start
        while at < now:
            until = min(at + timedelta(microseconds=_FEW_MINUTES), now)
            usage = usage_by(reader, (), where={**where, "since": at, "until": until}).total
            if usage.request_count:
                yield until, usage_of_summary(usage)
            at = until
        return
    step = _STEPS[budget.span.period]
    zone = zone_named(budget.timezone)
    for (name,), summary in usage_by(reader, (step,), where=where, zone=zone).groups:
        end = _end_of(step, name or "", budget).astimezone(timezone.utc)
        yield end, usage_of_summary(summary)


def _end_of(step: str, name: str, budget: ServerBudget) -> datetime:
    """Return when a period of a name ends, in the budget's zone."""
    zone = zone_named(budget.timezone)
    if step == "hour":
        return datetime.fromisoformat(name) + timedelta(hours=1)
    if step == "day":
        day = datetime.fromisoformat(name).date() + timedelta(days=1)
        return datetime(day.year, day.month, day.day, tzinfo=zone)
    year, month = (int(part) for part in name.split("-"))
    return datetime(year + month // 12, month % 12 + 1, 1, tzinfo=zone)


def _sliding(
    reader: ProjectReader, budget: ServerBudget, key: str, now: datetime
) -> Iterator[tuple[datetime, BudgetUsage]]:
    """Return what the windows had used that ended with each slice of the last one, and now."""
    window = budget.span
    newest = window.stored_start(int(now.timestamp()))
    found = usage_between(
        reader,
        reader.project_id,
        budget.id,
        first=newest - 2 * window.reach_seconds,
        last=newest,
        keys=[key],
    ).get(key, {})
    since = 0 if budget.counts_since is None else microseconds(budget.counts_since) // _MICROSECONDS
    for start in range(newest - window.reach_seconds, newest + 1, window.slice_seconds):
        if start - window.reach_seconds < since:
            continue  # what it had used was not counted
        used = BudgetUsage()
        for each, usage in found.items():
            if start - window.reach_seconds <= each <= start:
                used = used.plus(usage)
        at = at_of((start + window.slice_seconds) * _MICROSECONDS)
        yield min(at, now), used
