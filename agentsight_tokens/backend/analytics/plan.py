"""
The plan of a query for sums: which tables answer it, and for which time.

The tables of sums hold whole hours, days or months; what a time range has beyond these is added
up from the calls, so that every range is exact. What no table of sums knows, the calls answer.
Calls that have expired are in whole hours, days and months only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from agentsight_tokens.backend.store import Reader
from agentsight_tokens.backend.store.pack import QUARTER
from agentsight_tokens.backend.store.rollup import (
    DAY,
    HOUR,
    HOURLY_DIMENSION,
    HOURLY_KEY,
    ROLLED_DIMENSIONS,
    SUM_COLUMNS,
    sums_of_calls,
)
from agentsight_tokens.backend.store.unit import UNITS, Unit, begin_of, end_of
from agentsight_tokens.calls import microseconds

from .dimensions import PERIODS
from .filters import condition_of, holds_nul
from .zones import Segment, expression

__all__ = ["Part", "Piece", "Query", "Range", "can_be_packed", "part_of", "pieces_of"]

_HOURLY_TABLE: Final = "hourly_usage"
_HOURLY: Final = frozenset(HOURLY_KEY[2:])

_QUARTER: Final = timedelta(minutes=15)


class Part(NamedTuple):
    """A query whose rows are the values of the keys, then `SUM_COLUMNS`."""

    statement: str
    values: list[Any]


class Query(NamedTuple):
    """What is asked for."""

    keys: tuple[str, ...]
    """Columns of calls, and periods."""
    where: Mapping[str, Any]
    """The filter, as `usage_by` takes it; it is a valid one."""
    segments: Sequence[Segment]
    """The offsets of the zone in which periods begin."""
    columns: Sequence[str] = SUM_COLUMNS
    """The sums that are asked for; the others may be 0."""

    @property
    def filters(self) -> dict[str, Any]:
        """What the filter says beside its times."""
        asked = self.where.items()
        return {k: v for k, v in asked if v is not None and k not in {"since", "until"}}

    @property
    def is_by_time(self) -> bool:
        """Whether a period is among the keys."""
        return bool(set(self.keys) & set(PERIODS))


class _Draft(NamedTuple):
    """A query in the making."""

    table: str
    keys: list[str]
    sums: Sequence[str]
    """The SQL of `SUM_COLUMNS`."""
    conditions: list[str]
    values: list[Any]

    def statement(self, columns: Sequence[str]) -> str:
        """Return the query for some of the sums."""
        sums = dict(zip(SUM_COLUMNS, self.sums, strict=True))
        selected = [f"{key} AS key_{i}" for i, key in enumerate(self.keys)]
        selected += [f"{sums[name]} AS {name}" for name in columns]
        where = " AND ".join(self.conditions) or "1 = 1"
        numbers = ", ".join(str(i + 1) for i in range(len(self.keys)))
        groups = f" GROUP BY {numbers}" if numbers else ""
        return f"SELECT {', '.join(selected)} FROM {self.table} WHERE {where}{groups}"  # noqa: S608  # our own names


class Range(NamedTuple):
    """A span of time in microseconds since 1970; None is for ever."""

    since: int | None
    until: int | None


class _Level(NamedTuple):
    """A table of sums over whole units of time."""

    unit: Unit
    table: str
    time: str
    """The column that tells when the unit begins."""
    column: Callable[[str], str]
    """The column that holds a dimension's values."""
    conditions: tuple[str, ...] = ()


class Piece(NamedTuple):
    """A span of time that one table answers."""

    level: _Level | None
    """The table of sums; None for the calls."""
    span: Range


def pieces_of(reader: Reader, query: Query) -> list[Piece]:
    """Return the pieces of time whose rows together are what was asked for."""
    since, until = query.where.get("since"), query.where.get("until")
    if since is not None and until is not None and since >= until:
        return []
    span = Range(
        None if since is None else microseconds(since), _end(reader, until) if until else None
    )
    return list(_pieces(span, _levels(query.keys, query.filters, query.segments)))


def part_of(
    reader: Reader,
    query: Query,
    piece: Piece,
    columns: Sequence[str] = SUM_COLUMNS,
    among: str | None = None,
) -> Part:
    """
    Return the query of a piece; a key may be in several.

    Args:
        reader: Where the calls are.
        query: What is asked for.
        piece: One of its pieces.
        columns: The sums that are asked for, of `SUM_COLUMNS`.
        among: The query of the values of the first key that count, an empty text for None.
    """
    level, span = piece
    if level is None:
        draft = _of_calls(reader, query, span)
    else:
        draft = _of_sums(reader, query, span, level)
    if among is not None:
        [key, *_] = query.keys
        name = f"COALESCE({key}, '')" if level is None else level.column(key)
        draft.conditions.append(f"{name} IN ({among})")
    return Part(draft.statement(columns), draft.values)


def can_be_packed(query: Query, piece: Piece) -> bool:
    """
    Return whether packs are worth asking about a piece.

    What is asked of less than a day the calls answer as quickly, and only they tell an empty text
    from none. A table of sums is quicker unless it has a row for each hour and more.
    """
    level, (since, until) = piece
    texts = query.filters.values()
    if (level is not None and level.table != _HOURLY_TABLE) or "" in texts or holds_nul(texts):
        return False
    if any(s.offset % _QUARTER or (s.until or 0) % QUARTER for s in query.segments):
        return False  # of a zone as there was none for decades
    return since is None or until is None or until - since >= DAY


def _end(reader: Reader, until: datetime) -> int | None:
    """Return the end of a range, or None if no call is as late: the last hours are whole then."""
    end = microseconds(until)
    [(newest,)] = reader.rows(
        "SELECT MAX(start) FROM dimension_usage "  # noqa: S608  # our own names
        f"WHERE dimension = '{HOURLY_DIMENSION}' AND period = 'hour'"
    )
    if newest is None or newest + HOUR <= end:
        return None
    if newest > end or reader.rows("SELECT 1 FROM calls WHERE at >= ? LIMIT 1", [end]):
        return end
    return None


def _levels(
    keys: Sequence[str], asked: Mapping[str, Any], segments: Sequence[Segment]
) -> list[_Level]:
    """Return the tables that know all that is asked for, those of long units first."""
    names = {*keys, *asked} - set(PERIODS)
    if "" in asked.values():  # it is not told from what is not said
        return []
    if holds_nul(asked.values()):
        return []
    dimension = next(iter(names), HOURLY_DIMENSION)
    levels: list[_Level] = []
    if len(names) <= 1 and dimension in ROLLED_DIMENSIONS:
        units = UNITS if dimension == HOURLY_DIMENSION else UNITS[:2]
        levels += [_of_dimension(dimension, unit) for unit in units]
    if names <= _HOURLY and len(names) > 1:
        levels += [_of_models(unit) for unit in UNITS[:2]]
    if names <= _HOURLY and dimension != HOURLY_DIMENSION:
        levels.append(_Level("hour", _HOURLY_TABLE, "hour", lambda name: name))
    longest = _longest(set(keys) & set(PERIODS), segments)
    if longest is None:
        return []
    return [level for level in levels if UNITS.index(level.unit) >= UNITS.index(longest)]


def _of_dimension(dimension: str, unit: Unit) -> _Level:
    conditions = (f"dimension = '{dimension}'", f"period = '{unit}'")
    return _Level(unit, "dimension_usage", "start", lambda _: "value", conditions)


def _of_models(unit: Unit) -> _Level:
    return _Level(unit, "model_usage", "start", lambda name: name, (f"period = '{unit}'",))


def _longest(periods: set[str], segments: Sequence[Segment]) -> Unit | None:
    """Return the longest unit of which no period cuts one in two; None if even hours are cut."""
    if not periods:
        return "month"
    if any(s.offset % timedelta(hours=1) or (s.until or 0) % HOUR for s in segments):
        return None
    if "hour" in periods or any(segment.offset for segment in segments):
        return "hour"
    return "month" if periods <= {"month", "year"} else "day"


def _pieces(span: Range, levels: Sequence[_Level]) -> Iterator[Piece]:
    """Cut a range into whole units, the longest that there are, and what lies beyond them."""
    if span.since is not None and span.until is not None and span.since >= span.until:
        return
    if not levels:
        yield Piece(None, span)
        return
    level, *shorter = levels
    inner = Range(
        None if span.since is None else _ceiling(level.unit, span.since),
        None if span.until is None else begin_of(level.unit, span.until),
    )
    if inner.since is not None and inner.until is not None and inner.since >= inner.until:
        yield from _pieces(span, shorter)
        return
    yield Piece(level, inner)
    if span.since is not None:
        yield from _pieces(Range(span.since, inner.since), shorter)
    if span.until is not None:
        yield from _pieces(Range(inner.until, span.until), shorter)


def _ceiling(unit: Unit, at: int) -> int:
    begin = begin_of(unit, at)
    return at if begin == at else end_of(unit, begin)


def _of_sums(reader: Reader, query: Query, span: Range, level: _Level) -> _Draft:
    conditions, values = list(level.conditions), []
    for name, value in query.filters.items():
        conditions.append(f"{level.column(name)} = ?")
        values.append(value)
    _bound(conditions, values, span, level.time)
    columns = [
        expression(
            key if key in PERIODS else level.column(key),
            query.segments,
            reader.dialect,
            time=level.time,
        )
        for key in query.keys
    ]
    sums = [f"CAST(COALESCE(SUM({name}), 0) AS BIGINT)" for name in SUM_COLUMNS]
    return _Draft(level.table, columns, sums, conditions, values)


def _of_calls(reader: Reader, query: Query, span: Range) -> _Draft:
    condition, values = condition_of(reader, query.filters)
    conditions = [condition]
    _bound(conditions, values, span, "at")
    columns = [expression(key, query.segments, reader.dialect) for key in query.keys]
    return _Draft("calls", columns, sums_of_calls(reader.dialect), conditions, values)


def _bound(conditions: list[str], values: list[Any], span: Range, time: str) -> None:
    for sign, bound in ((">=", span.since), ("<", span.until)):
        if bound is not None:
            conditions.append(f"{time} {sign} ?")
            values.append(bound)
