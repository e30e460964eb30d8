"""Sums from packs: what the calls would have to be read for, of days and hours that are packed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from functools import lru_cache
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agentsight_tokens.backend.store import Reader
from agentsight_tokens.backend.store.pack import (
    LEAN_DIMENSIONS,
    QUARTER,
    QUARTERS,
    REMAINDERS,
    Column,
)
from agentsight_tokens.backend.store.packs import Pack, columns_of
from agentsight_tokens.backend.store.rollup import SUM_COLUMNS

from .dimensions import PERIODS
from .gathering import Gathering
from .plan import Query, Range
from .zones import Segment, offset_text

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Integers = npt.NDArray[np.signedinteger[Any]]

__all__ = ["gather"]

_ROWS_AT_ONCE: Final = 200_000
"""Of packs, that are in memory together."""

_DAY_SECONDS: Final = 86_400
_HOUR_SECONDS: Final = 3_600
_MICRO: Final = 1_000_000


def gather(
    reader: Reader, query: Query, span: Range, packs: Sequence[Pack], gathering: Gathering
) -> list[Range] | None:
    """
    Add up what packs know of a time; return the times that they do not, or None if it is too much.

    Args:
        reader: A project.
        query: What is asked for; no text of its filter is empty.
        span: The time.
        packs: That are true, in the order of time.
        gathering: Where it is added up.
    """
    keys = (key for key in query.keys if key not in PERIODS)
    parts = (REMAINDERS.get(SUM_COLUMNS.index(name), ()) for name in query.columns)
    sums = [*query.columns, *(SUM_COLUMNS[part] for part in chain.from_iterable(parts))]
    names = list(dict.fromkeys([QUARTERS, *keys, *query.filters, SUM_COLUMNS[0], *sums]))
    left, since = [], span.since
    for part in _parts([_leanest(query, pack, span) for pack in packs]):
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
        if gathering.is_full:
            return None
    if since is None or span.until is None or since < span.until:
        left.append(Range(since, span.until))
    return left


def _parts(packs: Sequence[Pack]) -> Iterator[list[Pack]]:
    """Cut packs into so many as are in memory together, of one period and form each."""
    for _, group in groupby(packs, key=lambda pack: (pack.period, pack.is_lean)):
        part: list[Pack] = []
        rows = 0
        for pack in group:
            if part and rows + pack.rows > _ROWS_AT_ONCE:
                yield part
                part, rows = [], 0
            part.append(pack)
            rows += pack.rows
        yield part


def _leanest(query: Query, pack: Pack, span: Range) -> Pack:
    """Return a pack in its lean form if that has all that is asked for."""
    is_cut = (span.since or pack.start) > pack.start or (span.until or pack.end) < pack.end
    names = {*query.keys, *query.filters} - set(PERIODS)
    if not pack.lean_rows or is_cut or not names <= set(LEAN_DIMENSIONS):
        return pack
    for key in set(query.keys) & set(PERIODS):
        if key == "hour" or len(set(_labels(query.segments, key, pack))) > 1:
            return pack
    return pack.lean


def _add(
    query: Query, pack: Pack, columns: Mapping[str, Column], span: Range, gathering: Gathering
) -> None:
    """Add the rows of a pack that are in a span and that the filter selects."""
    import numpy

    chosen = _chosen(query, pack, columns)
    quarters = columns[QUARTERS].array(pack.rows) if QUARTERS in columns else chosen * 0
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
            ids = gathering.ids(number, _labels(query.segments, key, pack))[quarters[picked]]
        elif key in columns:
            ids = _ids_of(columns[key], columns[key].array(pack.rows)[picked], number, gathering)
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
        chosen &= _selected(name, columns[name], value, pack.rows)
    return chosen


def _ids_of(column: Column, codes: Integers, number: int, gathering: Gathering) -> Integers:
    """Return the numbers of the texts that some codes stand for."""
    import numpy

    texts = column.texts
    used = numpy.bincount(codes, minlength=len(texts)).astype(bool)
    if used.all():
        return gathering.ids(number, texts)[codes]
    found = numpy.flatnonzero(used)
    ids = numpy.zeros(len(texts), numpy.int64)
    ids[found] = gathering.ids(number, [texts[code] for code in found.tolist()])
    return ids[codes]


def _labels(segments: Sequence[Segment], key: str, pack: Pack) -> list[str]:
    """Return the name of the period in which each quarter of a pack begins."""
    unit = _HOUR_SECONDS if key == "hour" else _DAY_SECONDS
    names: list[str] = []
    for until, offset in segments:
        first = pack.start + len(names) * QUARTER
        end = pack.end if until is None else min(until, pack.end)
        seconds = offset // timedelta(seconds=1)
        while first < end:
            number, rest = divmod(first // _MICRO + seconds, unit)
            quarters = min((unit - rest) * _MICRO, end - first) // QUARTER
            names += [_label(key, number, offset)] * quarters
            first += quarters * QUARTER
    return names


def _selected(name: str, column: Column, value: Any, rows: int) -> npt.NDArray[np.bool_]:
    """Return of each row whether its value of a dimension is selected."""
    import numpy

    codes: Integers = column.array(rows)
    if name != "tags":
        code = column.texts.index(value) if value in column.texts else -1
        is_selected: npt.NDArray[np.bool_] = codes == code
        return is_selected
    tags = {value} if isinstance(value, str) else set(value)
    has_tags = [
        text is not None and tags <= set(msgspec.json.decode(text, type=list[str]))
        for text in column.texts
    ]
    selected: npt.NDArray[np.bool_] = numpy.array(has_tags, bool)
    return selected[codes]


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
