"""Usage: who used what, when, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timezone, tzinfo
from typing import Any, NamedTuple

from agentsight_tokens.backend.store import Reader
from agentsight_tokens.calls import summarise, summary_columns, summary_of_row
from agentsight_tokens.summary import UsageSummary

from .dimensions import PERIODS, key_of
from .filters import condition_of
from .zones import expression, offsets

__all__ = ["UsageGroup", "UsageReport", "usage_by"]


class UsageGroup(NamedTuple):
    """The usage of the calls that have the same key."""

    key: tuple[str | None, ...]
    """One value for each dimension; None where the calls say nothing."""
    usage: UsageSummary


class UsageReport(NamedTuple):
    """Usage by group, and the sum of all groups."""

    by: tuple[str, ...]
    """The keys, in the order of each group's values: `conversation_id`, `day`, ..."""
    groups: tuple[UsageGroup, ...]
    total: UsageSummary


def usage_by(
    store: Reader,
    by: Sequence[str],
    *,
    where: Mapping[str, Any] | None = None,
    zone: tzinfo = timezone.utc,
) -> UsageReport:
    """
    Add up the calls that a filter selects, group by group.

    Groups come in the order of time where time is a dimension, else the costliest first.

    Args:
        store: Where the calls are.
        by: Names or keys of `DIMENSIONS`.
        where: The filter, as `calls.selection` takes it, and `environment`.
        zone: The time zone in which hours and days begin.

    Raises:
        InvalidScopeError: For an unknown dimension or filter.
    """
    keys = tuple(dict.fromkeys(key_of(name) for name in by))
    condition, values = condition_of(store, where or {})
    segments = offsets(store, condition, values, zone) if set(keys) & set(PERIODS) else []
    columns = [expression(key, segments, store.dialect) for key in keys]
    rows = store.rows(
        f"SELECT {', '.join([*columns, summary_columns()])} FROM calls WHERE {condition}"  # noqa: S608  # our own names
        + (f" GROUP BY {', '.join(str(i + 1) for i in range(len(keys)))}" if keys else ""),
        values,
    )
    groups = [UsageGroup(row[: len(keys)], summary_of_row(row[len(keys) :])) for row in rows]
    groups.sort(key=_by_time if set(keys) & set(PERIODS) else _by_cost)
    total = summarise([row[len(keys) :] for row in rows], {})
    return UsageReport(keys, tuple(groups), total)


def _by_time(group: UsageGroup) -> tuple[Any, ...]:
    return tuple((value is None, value or "") for value in group.key)


def _by_cost(group: UsageGroup) -> tuple[Any, ...]:
    usage = group.usage
    tokens = usage.total_tokens + usage.embedding_tokens
    return -usage.cost_pico_usd, -tokens, -usage.request_count, _by_time(group)
