"""Budgets of the server, and what they must hold by the plainest reckoning."""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from agentsight_tokens import UsageRecord
from agentsight_tokens.backend.budgets import ServerBudget
from agentsight_tokens.backend.store import Store
from agentsight_tokens.cycle import Cycle
from tests.records import AT

UTC = timezone.utc

FIELDS = {
    "org": "org_id",
    "user": "user_id",
    "agent": "agent",
    "feature": "feature",
    "session": "session_id",
    "conversation": "conversation_id",
}


def cycle_of(*records: UsageRecord, key: str, environment: str | None = None) -> Cycle:
    return Cycle.of(
        records,
        key=key,
        conversation_id="c",
        sealed_by="send",
        sealed_at=AT,
        environment=environment,
    )


def key_of(budget: ServerBudget, record: UsageRecord, environment: str | None) -> str | None:
    """Return the key of a call in a budget, None if the budget does not meet it."""
    if budget.scope == "global":
        return "*"
    if budget.scope == "environment":
        key = environment
    elif budget.scope in FIELDS:
        key = getattr(record.scope, FIELDS[budget.scope])
    else:
        key = getattr(record, budget.scope)
    return key if key and budget.value in {"*", key} else None


def beginning(window: str, at: datetime, zone: str) -> datetime:
    """Return when a calendar's window begins, by walking back to where the name changes."""
    local = at.astimezone(ZoneInfo(zone))

    def name(moment: datetime) -> Any:
        there = moment.astimezone(ZoneInfo(zone))
        if window == "hour":
            return there.date(), there.hour
        if window == "week":
            return there.isocalendar()[:2]
        return there.date() if window == "day" else (there.year, there.month)

    moment = local.astimezone(UTC).replace(second=0, microsecond=0)
    moment -= timedelta(minutes=moment.minute % 15)
    # An hour that comes twice is two, which begin at its full hour each.
    while name(moment - timedelta(minutes=15)) == name(at) and not (
        window == "hour" and moment.astimezone(ZoneInfo(zone)).minute == 0
    ):
        moment -= timedelta(minutes=15)
    return moment


def expected_usage(
    budget: ServerBudget, calls: Iterable[tuple[UsageRecord, str | None]]
) -> dict[tuple[str, int], tuple[int, int, int]]:
    """Return (tokens, pico-USD, calls) by key and by the second at which the window begins."""
    found: dict[tuple[str, int], tuple[int, int, int]] = {}
    for record, environment in calls:
        key = key_of(budget, record, environment)
        if key is None or (budget.counts_since is not None and record.at < budget.counts_since):
            continue
        start = 0
        if budget.window.startswith("rolling"):
            size = budget.span.slice_seconds
            start = math.floor(record.at.timestamp()) // size * size
        elif budget.window != "total":
            start = int(beginning(budget.window, record.at, budget.timezone).timestamp())
        tokens, cost, number = found.get((key, start), (0, 0, 0))
        usage = record.usage
        found[key, start] = (
            tokens + usage.total_tokens + usage.embedding_tokens,
            cost + (record.cost_pico_usd or 0),
            number + 1,
        )
    return found


def expected_alerts(
    budget: ServerBudget,
    usage: dict[tuple[str, int], tuple[int, int, int]],
    *,
    since: int,
) -> set[tuple[str, int, str, float]]:
    """Return (key, window, unit, level) of every alert that must have been given."""
    found = set()
    for key, start in usage:
        window, counted = start, [(key, start)]
        if budget.window.startswith("rolling"):
            length = budget.span.seconds
            reach = math.ceil(length / budget.span.slice_seconds) * budget.span.slice_seconds
            window = start // length * length
            counted = [(k, s) for k, s in usage if k == key and start - reach <= s <= start]
            if start < since:
                continue
        tokens, cost = (sum(usage[each][i] for each in counted) for i in (0, 1))
        for unit, used, limit in (
            ("tokens", tokens, budget.token_limit),
            ("usd", cost, budget.cost_limit_pico_usd),
        ):
            for level in budget.levels:
                if limit is not None and used >= max(1, math.ceil(Fraction(str(level)) * limit)):
                    found.add((key, window, unit, level))
    return found


def stored_usage(
    store: Store, budget: ServerBudget, project_id: int = 1
) -> dict[tuple[str, int], tuple[int, int, int]]:
    """Return the same as `expected_usage`, from the table."""
    rows = store.rows(
        "SELECT key, window_start, tokens, cost_micro_usd, cost_rest_pico_usd, calls "
        "FROM budget_usage WHERE project_id = ? AND budget_id = ? AND window_start >= 0",
        (project_id, budget.id),
    )
    return {
        (key, start // 1_000_000): (tokens, micro * 1_000_000 + rest, calls)
        for key, start, tokens, micro, rest, calls in rows
    }


def stored_alerts(
    store: Store, budget: ServerBudget, project_id: int = 1
) -> set[tuple[str, int, str, float]]:
    """Return the same as `expected_alerts`, from the table."""
    rows = store.rows(
        "SELECT key, window_start, unit, level_millionths FROM alerts "
        "WHERE project_id = ? AND budget_id = ?",
        (project_id, budget.id),
    )
    found = {(key, start // 1_000_000, unit, level / 1e6) for key, start, unit, level in rows}
    assert len(found) == len(rows)
    return found
