"""Periods in a time zone: how its offsets change, and the SQL that cuts its hours and days."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Final, NamedTuple

from agentsight_tokens.backend.store import Reader
from agentsight_tokens.backend.store.dialect import Dialect
from agentsight_tokens.backend.store.rollup import DAY, HOURLY_DIMENSION
from agentsight_tokens.calls import microseconds

from .dimensions import PERIODS

__all__ = ["Segment", "expression", "offset_text", "offsets"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SECONDS_TO_1970: Final = 62_135_596_800
"""From the beginning of the year 1."""

_OFFSET_STEP: Final = timedelta(days=6)
"""No zone of the tz database (2026) changes its offset twice in so short a time."""


class Segment(NamedTuple):
    """A span of time in which a zone keeps its offset."""

    until: int | None
    """When it ends, excluded, in microseconds since 1970 UTC; None for the last one."""
    offset: timedelta


def expression(key: str, segments: Sequence[Segment], dialect: Dialect, *, time: str = "at") -> str:
    """
    Return the SQL of a dimension; periods are cut in the zone's own time.

    Args:
        key: A column, or one of `PERIODS`.
        segments: The zone's offsets.
        dialect: The database's SQL.
        time: The column of the time, in microseconds since 1970 UTC.
    """
    if key not in PERIODS:
        return f"NULLIF({key}, '')"  # a name that is empty names nothing
    seconds = _by_segment(time, segments, lambda offset: str(offset // timedelta(seconds=1)))
    # Counted from the year 1: a division of what is negative would round up.
    local = dialect.period(
        key, f"({time} + {_SECONDS_TO_1970}000000) / 1000000 - {_SECONDS_TO_1970} + {seconds}"
    )
    if key != "hour":
        return local
    # Where clocks are set back, only the offset tells the two hours apart.
    return f"{local} || {_by_segment(time, segments, _quoted_offset)}"


def _by_segment(time: str, segments: Sequence[Segment], sql_of: Callable[[timedelta], str]) -> str:
    *earlier, last = segments
    if not earlier:
        return sql_of(last.offset)
    cases = " ".join(f"WHEN {time} < {s.until} THEN {sql_of(s.offset)}" for s in earlier)
    return f"CASE {cases} ELSE {sql_of(last.offset)} END"


def offset_text(offset: timedelta) -> str:
    """Return an offset as it ends the name of an hour."""
    sign = "-" if offset < timedelta() else "+"
    minutes = abs(offset) // timedelta(minutes=1)
    return f"{sign}{minutes // 60:02}:{minutes % 60:02}"


def _quoted_offset(offset: timedelta) -> str:
    return f"'{offset_text(offset)}'"


def offsets(
    reader: Reader, since: datetime | None, until: datetime | None, zone: tzinfo
) -> list[Segment]:
    """
    Return the offsets of a zone over a time.

    Args:
        reader: Where the calls are.
        since: When the time begins; with the first call if None.
        until: When it ends; with the last call if None.
        zone: The zone.
    """
    if zone is timezone.utc:
        return [Segment(None, timedelta())]
    days = f"FROM dimension_usage WHERE dimension = '{HOURLY_DIMENSION}' AND period = 'day'"
    [(first, last)] = reader.rows(
        f"SELECT (SELECT MIN(start) {days}), (SELECT MAX(start) {days})"  # our own names
    )
    if first is None:
        return [Segment(None, timedelta())]
    begins, ends = _at(first), _at(last + DAY - 1)
    since, until = max(since or begins, begins), min(until or ends, ends)
    return list(_segments(since, max(since, until), zone))


def _segments(first: datetime, last: datetime, zone: tzinfo) -> Iterator[Segment]:
    at, offset = first, _offset(first, zone)
    while at < last:
        after = min(at + _OFFSET_STEP, last)
        if _offset(after, zone) != offset:
            after = _change(at, after, zone)
            yield Segment(microseconds(after), offset)
            offset = _offset(after, zone)
        at = after
    yield Segment(None, offset)


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
