"""Sums from packs: what the calls would have to be read for, of days and hours that are packed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from functools import lru_cache
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agentsight_tokens.backend.store import Reader
from agentsight_tokens.backend.store.pack import QUARTER, QUARTERS, REMAINDERS, Column
from agentsight_tokens.backend.store.packs import Pack, columns_of
from agentsight_tokens.backend.store.rollup import SUM_COLUMNS

from .dimensions import PERIODS
from .gathering import Gathering
from .plan import Query, Range
from .zones import offset_text

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Integers = npt.NDArray[np.signedinteger[Any]]

__all__ = ["gather"]

_ROWS_AT_ONCE: Final = 200_000
"""Of packs, that are in memory together."""

_QUARTER: Final = timedelta(minutes=15)
_DAY_SECONDS: Final = 86_400
_HOUR_SECONDS: Final = 3_600
_MICRO: Final = 1_000_000


def gather(
    reader: Reader, query: Query, span: Range, packs: Sequence[Pack], gathering: Gathering
) -> list[Range]:
    """
    Add up what packs know of a time; return the times that they do not.

    Args:
        reader: A project.
        query: What is asked for; no text of its filter is empty.
        span: The time.
        packs: That are true, in the order of time.
        gathering: Where it is added up.
    """
    if any(s.offset % _QUARTER or (s.until or 0) % QUARTER for s in query.segments):
        return [span]
    keys = (key for key in query.keys if key not in PERIODS)
    parts = (REMAINDERS.get(SUM_COLUMNS.index(name), ()) for name in query.columns)
    sums = [*query.columns, *(SUM_COLUMNS[part] for part in chain.from_iterable(parts))]
    names = list(dict.fromkeys([QUARTERS, *keys, *query.filters, SUM_COLUMNS[0], *sums]))
    left, since = [], span.since
    for part in _parts(packs):
        found = columns_of(reader, part, names)
        for pack in part:
            if pack.start not in found:  # it was dropped just now
                continue
            first = pack.start if since is None else max(since, pack.start)
            end = pack.end if span.until is None else min(span.until, pack.end)
            first, end = first + -first % QUARTER, end - end % QUARTER
            if first >= end:
                continue
            _add(query, pack, found[pack.start], Range(first, end), gathering)
            if since is None or since < first:
                left.append(Range(since, first))
            since = end
    if since is None or span.until is None or since < span.until:
        left.append(Range(since, span.until))
    return left


def _parts(packs: Sequence[Pack]) -> Iterator[list[Pack]]:
    """Cut packs into so many as are in memory together, of one period each."""
    for _, group in groupby(packs, key=lambda pack: pack.period):
        part: list[Pack] = []
        rows = 0
        for pack in group:
            if part and rows + pack.rows > _ROWS_AT_ONCE:
                yield part
                part, rows = [], 0
            part.append(pack)
            rows += pack.rows
        yield part


def _add(
    query: Query, pack: Pack, columns: Mapping[str, Column], span: Range, gathering: Gathering
) -> None:
    """Add the rows of a pack that are in a span and that the filter selects."""
    import numpy

    quarters = columns[QUARTERS].array(pack.rows)
    chosen = _chosen(query, pack, columns)
    if span != (pack.start, pack.end):
        first, end = ((bound or 0) - pack.start for bound in span)
        chosen &= (quarters >= first // QUARTER) & (quarters < end // QUARTER)
    rows = numpy.flatnonzero(chosen)
    if not len(rows):
        return
    # Where all are chosen nothing need be picked out.
    picked = slice(None) if len(rows) == len(quarters) else rows
    groups = []
    for number, key in enumerate(query.keys):
        if key in PERIODS:
            ids = _ids_of_quarters(query, number, pack, gathering)[quarters[picked]]
        elif key in columns:
            known = gathering.ids(number, columns[key].texts)
            ids = known[columns[key].array(pack.rows)[picked]]
        else:
            ids = numpy.full(len(rows), gathering.ids(number, [None])[0])
        groups.append(ids)
    gathering.add(
        groups,
        [
            columns[name].array(pack.rows)[picked] if name in columns else None
            for name in SUM_COLUMNS
        ],
    )


def _chosen(query: Query, pack: Pack, columns: Mapping[str, Column]) -> npt.NDArray[np.bool_]:
    """Return of each row of a pack whether the filter selects it."""
    import numpy

    chosen = numpy.ones(pack.rows, bool)
    for name, value in query.filters.items():
        if name not in columns:
            return numpy.zeros(pack.rows, bool)
        chosen &= _selected(name, columns[name], value)[columns[name].array(pack.rows)]
    return chosen


def _ids_of_quarters(query: Query, number: int, pack: Pack, gathering: Gathering) -> Integers:
    """Return the number of the period in which each quarter of a pack begins."""
    import numpy

    key = query.keys[number]
    unit = _HOUR_SECONDS if key == "hour" else _DAY_SECONDS
    parts = []
    first = pack.start
    for until, offset in query.segments:
        end = pack.end if until is None else min(until, pack.end)
        if first < end:
            local = numpy.arange(first // _MICRO, end // _MICRO, QUARTER // _MICRO)
            periods = (local + offset // timedelta(seconds=1)) // unit
            named = range(int(periods[0]), int(periods[-1]) + 1)
            ids = gathering.ids(number, [_label(key, each, offset) for each in named])
            parts.append(ids[periods - periods[0]])
            first = end
    return numpy.concatenate(parts)


def _selected(name: str, column: Column, value: Any) -> npt.NDArray[np.bool_]:
    """Return for each text of a dimension whether a filter selects it."""
    import numpy

    if name != "tags":
        return numpy.array([text == value for text in column.texts], bool)
    tags = {value} if isinstance(value, str) else set(value)
    return numpy.array(
        [
            text is not None and tags <= set(msgspec.json.decode(text, type=list[str]))
            for text in column.texts
        ],
        bool,
    )


def _label(key: str, number: int, offset: timedelta) -> str:
    """Return the name of a local hour or of the period of a local day, counted from 1970."""
    if key == "hour":
        day, hour = divmod(number, 24)
        return f"{_day('day', day)}T{hour:02}:00{offset_text(offset)}"
    return _day(key, number)


@lru_cache(maxsize=4096)
def _day(key: str, number: int) -> str:
    """Return the name of the period in which a day lies, counted from 1970."""
    day = date(1970, 1, 1) + timedelta(days=number)
    if key == "week":
        return f"{day - timedelta(days=day.weekday())}"
    return f"{day}"[: {"day": 10, "month": 7, "year": 4}[key]]
