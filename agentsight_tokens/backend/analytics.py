"""Named queries over a store: who used what, when, and what it cost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Any, Final, NamedTuple

from agentsight_tokens.calls import (
    CALL_COLUMNS,
    microseconds,
    records,
    selection,
    summarise,
    summary_columns,
    summary_of_row,
)
from agentsight_tokens.errors import InvalidScopeError
from agentsight_tokens.summary import UsageSummary
from agentsight_tokens.usage import UsageRecord

from .store.base import Reader
from .store.dialect import Dialect

__all__ = [
    "DIMENSIONS",
    "PERIODS",
    "UsageGroup",
    "UsageReport",
    "call_of_id",
    "newest_calls",
    "usage_by",
]

PERIODS: Final[tuple[str, ...]] = ("hour", "day", "week", "month", "year")
"""The dimensions of time; a week is named by its Monday."""

DIMENSIONS: Final[Mapping[str, str]] = {
    "conversation": "conversation_id",
    "session": "session_id",
    "user": "user_id",
    "org": "org_id",
    "agent": "agent",
    "feature": "feature",
    "model": "model",
    "provider": "provider",
    "operation": "operation",
    "status": "status",
    "source": "source",
    "handler": "handler",
    "tool": "tool_name",
    "tier": "service_tier",
    "environment": "environment",
    **{period: period for period in PERIODS},
}
"""What usage can be grouped by, and the key under which a group is found in a row."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_EVERYTHING: Final = 2**63 - 1
_OFFSET_STEP: Final = timedelta(days=6)
"""No zone of the tz database (2026) changes its offset twice in so short a time."""


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
    keys = tuple(dict.fromkeys(_key(name) for name in by))
    condition, values = _selection(store, where or {})
    segments = _offsets(store, condition, values, zone) if set(keys) & set(PERIODS) else []
    columns = [_expression(key, segments, store.dialect) for key in keys]
    rows = store.rows(
        f"SELECT {', '.join([*columns, summary_columns()])} FROM calls WHERE {condition}"  # noqa: S608  # our own names
        + (f" GROUP BY {', '.join(str(i + 1) for i in range(len(keys)))}" if keys else ""),
        values,
    )
    groups = [UsageGroup(row[: len(keys)], summary_of_row(row[len(keys) :])) for row in rows]
    groups.sort(key=_by_time if set(keys) & set(PERIODS) else _by_cost)
    total = summarise([row[len(keys) :] for row in rows], {})
    return UsageReport(keys, tuple(groups), total)


def newest_calls(
    store: Reader, *, where: Mapping[str, Any] | None = None, limit: int | None = None
) -> list[UsageRecord]:
    """
    Return the newest calls that a filter selects, the newest first.

    Args:
        store: Where the calls are.
        where: The filter, as `usage_by` takes it.
        limit: How many to return at most; all when not given.

    Raises:
        InvalidScopeError: For an unknown filter.
    """
    condition, values = _selection(store, where or {})
    found = store.rows(
        f"SELECT {', '.join(CALL_COLUMNS)} FROM calls WHERE {condition} "  # noqa: S608  # our own names
        "ORDER BY at DESC, id DESC LIMIT ?",
        [*values, _EVERYTHING if limit is None else limit],
    )
    return list(records(found))


def call_of_id(store: Reader, id: str) -> UsageRecord | None:
    """Return the call of an id, or None if the store has no such call."""
    found = store.rows(f"SELECT {', '.join(CALL_COLUMNS)} FROM calls WHERE id = ?", [id])  # noqa: S608  # our own names
    return next(records(found), None)


def _key(name: str) -> str:
    if name in DIMENSIONS:
        return DIMENSIONS[name]
    if name in DIMENSIONS.values():
        return name
    raise InvalidScopeError(f"{name!r} is nothing to group by; known are {', '.join(DIMENSIONS)}")


def _selection(store: Reader, where: Mapping[str, Any]) -> tuple[str, list[Any]]:
    environment = where.get("environment")
    condition, values = selection(
        {k: v for k, v in where.items() if k != "environment"}, has_tag=store.dialect.has_tag
    )
    if environment is None:
        return condition, values
    return f"{condition} AND environment = ?", [*values, environment]


class _Segment(NamedTuple):
    """A span of time in which a zone keeps its offset."""

    until: int | None
    """When it ends, excluded, in microseconds since 1970 UTC; None for the last one."""
    offset: timedelta


def _expression(key: str, segments: Sequence[_Segment], dialect: Dialect) -> str:
    """Return the SQL of a dimension; periods are cut in the zone's own time."""
    if key not in PERIODS:
        return key
    seconds = _by_segment(segments, lambda offset: str(offset // timedelta(seconds=1)))
    local = dialect.period(key, f"at / 1000000 + {seconds}")
    if key != "hour":
        return local
    # Where clocks are set back, only the offset tells the two hours apart.
    return f"{local} || {_by_segment(segments, _offset_text)}"


def _by_segment(segments: Sequence[_Segment], sql_of: Callable[[timedelta], str]) -> str:
    *earlier, last = segments
    if not earlier:
        return sql_of(last.offset)
    cases = " ".join(f"WHEN at < {s.until} THEN {sql_of(s.offset)}" for s in earlier)
    return f"CASE {cases} ELSE {sql_of(last.offset)} END"


def _offset_text(offset: timedelta) -> str:
    sign = "-" if offset < timedelta() else "+"
    minutes = abs(offset) // timedelta(minutes=1)
    return f"'{sign}{minutes // 60:02}:{minutes % 60:02}'"


def _offsets(store: Reader, condition: str, values: Sequence[Any], zone: tzinfo) -> list[_Segment]:
    """Return the offsets of a zone over the time that the selected calls span."""
    [(first, last)] = store.rows(
        f"SELECT MIN(at), MAX(at) FROM calls WHERE {condition}",  # noqa: S608  # as above
        values,
    )
    if first is None:
        return [_Segment(None, timedelta())]
    return list(_segments(_at(first), _at(last), zone))


def _segments(first: datetime, last: datetime, zone: tzinfo) -> Iterator[_Segment]:
    at, offset = first, _offset(first, zone)
    while at < last:
        after = min(at + _OFFSET_STEP, last)
        if _offset(after, zone) != offset:
            after = _change(at, after, zone)
            yield _Segment(microseconds(after), offset)
            offset = _offset(after, zone)
        at = after
    yield _Segment(None, offset)


def _change(before: datetime, after: datetime, zone: tzinfo) -> datetime:
    """Return the second at which the offset changes between two times."""
    old = _offset(before, zone)
    low, high = before.timestamp() // 1, after.timestamp() // 1 + 1
    while high - low > 1:
        middle = (low + high) // 2
        is_old = _offset(datetime.fromtimestamp(middle, timezone.utc), zone) == old
        low, high = (middle, high) if is_old else (low, middle)
    return datetime.fromtimestamp(high, timezone.utc)


def _offset(at: datetime, zone: tzinfo) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta()


def _at(microseconds_since_1970: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds_since_1970)


def _by_time(group: UsageGroup) -> tuple[Any, ...]:
    return tuple((value is None, value or "") for value in group.key)


def _by_cost(group: UsageGroup) -> tuple[Any, ...]:
    usage = group.usage
    tokens = usage.total_tokens + usage.embedding_tokens
    return -usage.cost_pico_usd, -tokens, -usage.request_count, _by_time(group)
