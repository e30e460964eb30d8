"""A batch: rows of several packs next to one another, column by column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from datetime import date, timedelta
from functools import lru_cache
from itertools import accumulate, chain, pairwise
from typing import TYPE_CHECKING, Any, Final

import msgspec

from agentsight_tokens.backend.store.form import Form
from agentsight_tokens.backend.store.pack import (
    NAMED,
    QUARTER,
    QUARTERS,
    REMAINDERS,
    Column,
    Part,
    print_of,
)
from agentsight_tokens.backend.store.packs import Pack
from agentsight_tokens.backend.store.rollup import SUM_COLUMNS

from .dimensions import PERIODS
from .gathering import Gathering
from .places import Among
from .plan import Query, Range
from .zones import Segment, offset_text

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Integers = npt.NDArray[np.signedinteger[Any]]
    _Which = slice | list[int]

__all__ = ["Batch", "labels", "within"]

_DAY_SECONDS: Final = 86_400
_HOUR_SECONDS: Final = 3_600
_MICRO: Final = 1_000_000


class Batch:
    """Parts of packs, all of one period and form, whose rows are next to one another."""

    def __init__(
        self,
        query: Query,
        span: Range,
        form: Form | None,
        parts: Mapping[Pack, Sequence[Part]],
        among: Among | None,
    ) -> None:
        import numpy

        self.packs = list(parts)
        self._query = query
        self._span = span
        self._form = form
        self._among = among
        self._parts = [part for each in parts.values() for part in each]
        self._lengths = numpy.array([part.rows for part in self._parts], numpy.int64)
        self._rows = int(self._lengths.sum())
        self._parts_of = [len(each) for each in parts.values()]
        self._columns: dict[str, list[Column | None]] = {}

    def add_to(self, gathering: Gathering) -> None:
        """Add the rows that are selected."""
        import numpy

        if not self._rows:
            return
        chosen = self._chosen()
        # Where all are chosen nothing need be picked out.
        picked: slice | Integers = slice(0, self._rows)
        if chosen is not None and not chosen.all():
            picked = numpy.flatnonzero(chosen)
            if not len(picked):
                return
        groups = [
            self._periods(number, key, gathering)[picked]
            if key in PERIODS
            else self._ids(number, key, picked, gathering)
            for number, key in enumerate(self._query.keys)
        ]
        rows = self._rows if isinstance(picked, slice) else len(picked)
        sums = self._sums(self._of_parts(picked), rows)
        # A form has one row of each.
        gathering.add(groups, sums, rows, has_runs=self._form is None)

    def _of_parts(self, picked: slice | Integers) -> list[tuple[Part, slice, slice | Integers]]:
        """Return the parts that have some rows: their places among these, and in the part."""
        import numpy

        ends = numpy.cumsum(self._lengths).tolist()
        begins = [0, *ends[:-1]]
        if isinstance(picked, slice):
            return [
                (part, slice(begin, end), slice(0, part.rows))
                for part, begin, end in zip(self._parts, begins, ends, strict=True)
            ]
        cuts = numpy.searchsorted(picked, [0, *ends]).tolist()
        found: list[tuple[Part, slice, slice | Integers]] = []
        for part, begin, (first, end) in zip(self._parts, begins, pairwise(cuts), strict=True):
            if first == end:
                continue
            rows = picked[first:end] - begin
            # Those of one user, organisation or session follow one another.
            is_run = rows[-1] - rows[0] + 1 == end - first
            run = slice(int(rows[0]), int(rows[-1]) + 1)
            found.append((part, slice(first, end), run if is_run else rows))
        return found

    def _sums(
        self, parts: Sequence[tuple[Part, slice, slice | Integers]], rows: int
    ) -> list[Integers | None]:
        """Return `SUM_COLUMNS` of some rows; None for one that is not asked for, or all 0."""
        import numpy

        asked = _with_parts(tuple(self._query.columns))
        kinds = {block.kind for part, _, _ in parts for block in part.blocks}
        found = numpy.zeros((len(asked), rows), "<i8" if "<i8" in kinds else "<i4")
        placed: dict[bytes, tuple[_Which, _Which]] = {}
        for part, to, picked in parts:
            for block in part.blocks:
                if block.columns not in placed:
                    placed[block.columns] = _placed(block.columns, asked)
                which, into = placed[block.columns]
                numbers = numpy.frombuffer(block.numbers, block.kind)
                if block.places:
                    whole = numpy.zeros(part.rows, block.kind)
                    whole[numpy.frombuffer(block.places, "<u4")] = numbers
                    numbers = whole
                found[into, to] = numbers.reshape(-1, part.rows)[which][:, picked]
        there = set(chain.from_iterable(placed))
        return [
            found[asked.index(number)] if number in there and number in asked else None
            for number in range(len(SUM_COLUMNS))
        ]

    def _column(self, name: str) -> list[Column | None]:
        """Return a column, part by part."""
        if name not in self._columns:
            self._columns[name] = [part.column(name) for part in self._parts]
        return self._columns[name]

    def _codes(self, name: str) -> Integers:
        """Return the numbers of a column, row by row, 0 where a part does not have it."""
        import numpy

        columns = self._column(name)
        found: Integers = numpy.concatenate(
            [
                numpy.zeros(part.rows, numpy.uint8) if column is None else column.array(part.rows)
                for part, column in zip(self._parts, columns, strict=True)
            ]
        )
        return found

    def _each(self, numbers: Sequence[int]) -> Integers:
        """Return a number of each part, row by row."""
        import numpy

        return numpy.repeat(numpy.array(numbers, numpy.int64), self._lengths)

    def _each_pack(self, numbers: Sequence[int]) -> Integers:
        """Return a number of each pack, row by row."""
        import numpy

        return self._each(numpy.repeat(numbers, self._parts_of).tolist())

    def _chosen(self) -> npt.NDArray[np.bool_] | None:
        """Return of each row whether it is selected; None if all are."""
        import numpy

        found = [self._selected(name, value) for name, value in self._query.filters.items()]
        if self._among is not None:
            is_one = numpy.zeros(self._rows, bool)
            is_one[self._among.prints.places_in(self._prints(self._among.key))] = True
            found.append(is_one)
        spans = [within(pack, self._span) for pack in self.packs]
        begins = [pack.start for pack in self.packs]
        if spans != [(pack.start, pack.end) for pack in self.packs]:
            first, end = (
                self._each_pack(
                    [
                        (span[side] - start) // QUARTER
                        for span, start in zip(spans, begins, strict=True)
                    ]
                )
                for side in (0, 1)
            )
            quarters = self._codes(QUARTERS)
            found.append((quarters >= first) & (quarters < end))
        if not found:
            return None
        chosen: npt.NDArray[np.bool_] = numpy.logical_and.reduce(found)
        return chosen

    def _selected(self, name: str, value: Any) -> npt.NDArray[np.bool_]:
        """Return of each row whether its value of a dimension is selected."""
        import numpy

        found: npt.NDArray[np.bool_]
        if name in NAMED:
            found = self._prints(name) == print_of(value)
            return found
        texts = self._texts(name)
        if name != "tags":
            wanted = [each.index(value) if value in each else -1 for each in texts]
            found = self._codes(name) == self._each(wanted)
            return found
        tags = {value} if isinstance(value, str) else set(value)
        has_tags = [
            text is not None and tags <= set(msgspec.json.decode(text, type=list[str]))
            for text in chain.from_iterable(texts)
        ]
        found = numpy.array(has_tags, bool)[self._codes(name) + self._each(_begins(texts))]
        return found

    def _texts(self, name: str) -> list[tuple[str | None, ...]]:
        """Return what the codes of a column stand for, part by part."""
        return [(None,) if column is None else column.texts for column in self._column(name)]

    def _prints(self, name: str) -> Integers:
        """Return the print of the value of one of `NAMED`, row by row."""
        import numpy

        columns = self._column(name)
        prints = [
            numpy.zeros(1, "<i8") if column is None else numpy.frombuffer(part.prints, "<i8")
            for part, column in zip(self._parts, columns, strict=True)
        ]
        found: Integers
        if all(column is not None and not column.kind for column in columns):
            each = zip(self._parts, prints, strict=True)
            found = numpy.concatenate([some[: part.rows] for part, some in each])
        else:
            codes = self._codes(name) + self._each(_begins(prints))
            found = numpy.concatenate(prints)[codes]
        return found

    def _ids(self, number: int, key: str, picked: Any, gathering: Gathering) -> Integers:
        """Return the number of the value of a key in the gathering, row by row."""
        import numpy

        found: Integers
        if key in NAMED:
            found = self._prints(key)[picked]
            return found
        of_parts = self._texts(key)
        texts = list(chain.from_iterable(of_parts))
        codes = (self._codes(key) + self._each(_begins(of_parts)))[picked]
        used = numpy.flatnonzero(numpy.bincount(codes, minlength=len(texts)))
        ids = numpy.zeros(len(texts), numpy.int64)
        ids[used] = gathering.ids(number, [texts[code] for code in used.tolist()])
        found = ids[codes]
        return found

    def _periods(self, number: int, key: str, gathering: Gathering) -> Integers:
        """Return the number of the period in the gathering, row by row."""
        names = [labels(self._query.segments, key, pack) for pack in self.packs]
        if self._form is not None and not self._form.has_quarters:
            return self._each_pack(gathering.ids(number, [each[0] for each in names]).tolist())
        ids = gathering.ids(number, list(chain.from_iterable(names)))
        found: Integers = ids[self._codes(QUARTERS) + self._each_pack(_begins(names))]
        return found


@lru_cache(maxsize=64)
def _with_parts(columns: tuple[str, ...]) -> tuple[int, ...]:
    """Return the numbers of sums, and of those that have what `REMAINDERS` have not."""
    numbers = list(map(SUM_COLUMNS.index, columns))
    parts = chain.from_iterable(REMAINDERS.get(number, ()) for number in numbers)
    return tuple(sorted({*numbers, *parts}))


def _placed(columns: bytes, asked: tuple[int, ...]) -> tuple[_Which, _Which]:
    """Return which of some columns are asked for, and the place of each among those that are."""
    which = [n for n, column in enumerate(columns) if column in asked]
    return _slice(which), _slice([asked.index(columns[n]) for n in which])


def _slice(places: list[int]) -> _Which:
    """Return places as a slice, if they follow one another: what it selects is not copied."""
    first = places[0] if places else 0
    is_one = places == list(range(first, first + len(places)))
    return slice(first, first + len(places)) if is_one else places


def _begins(lists: Sequence[Sized]) -> list[int]:
    """Return where each of some lists begins when they are one."""
    return list(accumulate(map(len, lists[:-1]), initial=0)) if lists else []


def within(pack: Pack, span: Range) -> tuple[int, int]:
    """Return the whole quarters of a pack in a span: the first one, and where the last one ends."""
    first = pack.start if span.since is None else max(span.since, pack.start)
    end = pack.end if span.until is None else min(span.until, pack.end)
    return first + -first % QUARTER, end - end % QUARTER


def labels(segments: Sequence[Segment], key: str, pack: Pack) -> list[str]:
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
