"""Gathering: sums of groups from several sources, put together in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from math import prod
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agentsight_tokens.backend.store.pack import COST, NAMED, REMAINDERS, remainders
from agentsight_tokens.backend.store.rollup import SUM_COLUMNS

from .names import PackedNames
from .places import Among
from .sum_rows import SumRows, or_zeros, summed

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Integers = npt.NDArray[np.signedinteger[Any]]

__all__ = ["Gathering", "Group"]

_MICRO: Final = 1_000_000
_SPARSE: Final = 4
"""How many times more groups can be than there are make it quicker to sort those that are."""
_SELECTIVE: Final = 4
"""How many times more rows there are than those asked for make it quicker to pick these out."""
_FEW_SUMS: Final = 8
"""Of so many at most, rows that are next to one another are put together before they are kept."""
_MOST_LOOSE: Final = 16_000_000
"""Numbers, in columns of sums, that are kept as they came."""
_MOST_NUMBERS: Final = 20_000_000
"""In columns of sums of groups, that memory is a place for."""
_MANY_ROWS: Final = 50_000
"""Of which those of the costliest groups are looked for without putting all in order."""
_BUCKETS: Final = 2**19
_MOST_LEFT: Final = 3
"""Micro-USD that are beyond the measure of a row: less than one of each column of rests."""


class Group(NamedTuple):
    """What the calls that have the same key add up to."""

    key: tuple[str | None, ...]
    """One value for each dimension; None where the calls say nothing."""
    sums: tuple[int, ...]
    """`SUM_COLUMNS`."""


class Gathering:
    """
    Groups and their sums, as they come.

    The values of each key are numbered, so that a group is a row of small numbers; those of
    `NAMED` keys have their prints for numbers. Sums are added as packs have them, with remainders
    in place of some.
    """

    def __init__(self, keys: Sequence[str], names: PackedNames) -> None:
        """
        Begin without a group.

        Args:
            keys: The names of the keys.
            names: What tells the texts of prints.
        """
        self.names = names
        self._keys = tuple(keys)
        self._ids: list[dict[str | None, int]] = [{} for _ in keys]
        self._parts: list[SumRows] = []
        self._keys_joined: dict[int, Integers] = {}
        self._sums_joined: dict[int, Integers | None] = {}
        """Columns of all parts, of those that have been asked for."""
        self._kept = 0
        """Numbers in sums that have been put together, one row for each group."""
        self._loose = 0
        """Numbers in sums that came since."""

    def ids(self, key: int, values: Sequence[str | None]) -> Integers:
        """Return the numbers of values of a key; new ones are given the next numbers."""
        import numpy

        if self._keys[key] in NAMED:
            return self.names.prints(values)
        known = self._ids[key]
        new = dict.fromkeys([value for value in values if value not in known])
        known.update(zip(new, count(len(known)), strict=False))
        return numpy.fromiter(map(known.__getitem__, values), numpy.int64, len(values))

    def add(
        self,
        groups: Sequence[Integers],
        sums: Sequence[Integers | None],
        rows: int,
        *,
        has_runs: bool = True,
    ) -> None:
        """
        Add rows.

        Args:
            groups: The numbers of the values of each key, row by row.
            sums: `remainders` of `SUM_COLUMNS`, row by row; None for one of which all is 0.
            rows: How many there are, one at least.
            has_runs: Whether many rows may be of the same group as the one before.
        """
        part = SumRows(groups, sums, rows)
        if self._is_dense(part):
            part = part.together(*self._distinct(part, self._keys))
        elif has_runs and part.numbers <= _FEW_SUMS * rows:
            part = part.with_neighbours_together()
        self._parts.append(part)
        self._keys_joined, self._sums_joined = {}, {}
        self._loose += part.numbers
        if self._loose > _MOST_LOOSE:
            every = range(len(SUM_COLUMNS))
            groups = [self.numbers(key) for key in self._keys]
            whole = SumRows(groups, list(map(self._column, every)), self._rows)
            self._parts = [whole.together(*self._distinct(whole, self._keys))]
            self._keys_joined, self._sums_joined = {}, {}
            self._loose, self._kept = 0, self._parts[0].numbers

    @property
    def is_full(self) -> bool:
        """Whether there are so many groups that memory is no place for them."""
        return self._kept > _MOST_NUMBERS

    def add_rows(self, rows: Sequence[Sequence[Any]], among: Among | None = None) -> None:
        """
        Add rows of a query: the values of the keys, then `SUM_COLUMNS`.

        Args:
            rows: The rows.
            among: Which of them count; all if None.
        """
        import numpy

        if not rows:
            return
        columns = list(zip(*rows, strict=True))
        width = len(self._ids)
        groups = [self.ids(key, columns[key]) for key in range(width)]
        sums = remainders([numpy.array(column, numpy.int64) for column in columns[width:]])
        if among is not None:
            chosen = among.prints.places_in(groups[self._keys.index(among.key)])
            groups, sums = ([each[chosen] for each in columns] for columns in (groups, sums))
            if not len(chosen):
                return
        self.add(groups, sums, len(sums[0]))

    def total(self) -> tuple[int, ...]:
        """Return the sum of all groups."""
        total = [
            sum(int(column.astype("int64").sum()) for column in columns if column is not None)
            for columns in zip(*(part.sums for part in self._parts), strict=True)
        ] or [0] * len(SUM_COLUMNS)
        for number, parts in REMAINDERS.items():
            total[number] += sum(total[part] for part in parts)
        return tuple(total)

    def groups(self, by: Sequence[str], limit: int | None = None) -> list[Group]:
        """
        Return the groups in no order.

        Args:
            by: Some of the keys.
            limit: How many are asked for: those that cost the most, and as much.

        Raises:
            UntoldError: If packs do not tell the names.
        """
        import numpy

        if not self._parts:  # of no calls there is a sum, too, as in SQL
            return [] if by else [Group((), (0,) * len(SUM_COLUMNS))]
        if limit is not None and len(by) == 1 and by[0] in NAMED:
            leading = self.leading(by[0], COST, limit)
            if leading is not self:
                return leading.groups(by, limit)
        which, first = self.distinct(by)
        chosen = numpy.arange(len(first))
        if limit is not None and limit < len(first):
            micro, rest = (self.summed(name, which, len(first)) for name in COST)
            cost = micro + rest // _MICRO
            chosen = numpy.flatnonzero(cost >= numpy.partition(cost, -limit)[-limit])
        values = [self.texts(key, self.numbers(key)[first[chosen]]) for key in by]
        names: Iterable[tuple[str | None, ...]] = (
            zip(*values, strict=True) if values else [()] * len(chosen)
        )
        source, count = self, len(first)
        is_chosen = numpy.zeros(count, bool)
        is_chosen[chosen] = True
        rows = numpy.flatnonzero(is_chosen[which])
        if _SELECTIVE * len(rows) < len(which):
            which, count = numpy.searchsorted(chosen, which[rows]), len(chosen)
            source, chosen = self._of_rows(rows), numpy.arange(count)
        columns = source.all_summed(which, count)
        sums = zip(*(column[chosen].tolist() for column in columns), strict=True)
        return [Group(key, row) for key, row in zip(names, sums, strict=True)]

    def costliest(self, limit: int, columns: Sequence[str]) -> Integers:
        """
        Return in their order the prints of the groups of one key that cost the most, and as much.

        Args:
            limit: How many there are to be at least.
            columns: `COST`, or `RANKING` to tell those apart that cost the same.
        """
        import numpy

        [key] = self._keys
        source = self.leading(key, COST, limit)
        which, first = source.distinct([key])
        prints = source.numbers(key)[first]
        if limit >= len(first):
            return numpy.sort(prints)
        micro, rest, *others = (source.summed(name, which, len(first)) for name in columns)
        measures = [micro + rest // _MICRO, rest % _MICRO]
        if others:
            tokens, embedded, calls = others
            measures += [tokens + embedded, calls]
        last = numpy.lexsort(measures[::-1])[-limit]
        is_ahead, is_level = numpy.zeros(len(first), bool), numpy.ones(len(first), bool)
        for measure in measures:
            is_ahead |= is_level & (measure > measure[last])
            is_level &= measure == measure[last]
        return numpy.sort(prints[is_ahead | is_level])

    def leading(self, key: str, columns: Sequence[str], limit: int) -> Gathering:
        """
        Return the rows among which are all of those that have the most of something.

        Each row is put into a bucket by the last bits of its print, and with it all of its
        value's. No value has more than its bucket, and so many have as much as the largest rows.

        Args:
            key: One of `NAMED`.
            columns: The sum, or the micro-USD and the rest of a cost.
            limit: How many values there are to be at least.
        """
        import numpy

        if self._rows < max(_MANY_ROWS, 2 * _SELECTIVE * limit):
            return self
        place, wanted = self._keys.index(key), _SELECTIVE * limit
        most, measures, prints = numpy.zeros(_BUCKETS, numpy.int64), [], []
        # Part by part: what is made of one stays in the cache of the processor.
        for part in self._parts:
            measure = part.measure(columns)
            if measure.min() < 0:
                return self
            # What is left of each number that was divided adds up, too.
            numpy.add.at(most, _buckets(part.groups[place]), measure + _MOST_LEFT)
            largest = _largest(measure, wanted)
            measures.append(measure[largest])
            prints.append(part.groups[place][largest])
        measure = numpy.concatenate(measures)
        largest = _largest(measure, wanted)
        if len(numpy.unique(numpy.concatenate(prints)[largest])) < limit:
            return self
        is_ahead = most >= measure[largest].min()
        chosen = [numpy.flatnonzero(is_ahead[_buckets(part.groups[place])]) for part in self._parts]
        is_all = sum(map(len, chosen)) == self._rows
        return self if is_all else self._of_rows_of_parts(chosen)

    def distinct(self, by: Sequence[str]) -> tuple[Integers, Integers]:
        """Return of each row the number of its group by some keys, and of each group a row."""
        return self._distinct(
            SumRows([self.numbers(key) for key in self._keys], [], self._rows), by
        )

    def texts(self, key: str, numbers: Integers) -> list[str | None]:
        """
        Return values of a key, of which rows have the numbers.

        Raises:
            UntoldError: If packs do not tell.
        """
        if key in NAMED:
            return self.names.texts(numbers)
        known = self.values(key)
        return [known[number] for number in numbers.tolist()]

    def values(self, key: str) -> list[str | None]:
        """Return the values of a key that is not `NAMED`, of which rows have the numbers."""
        return list(self._ids[self._keys.index(key)])

    def numbers(self, key: str) -> Integers:
        """Return the numbers of a key's values, row by row."""
        import numpy

        place = self._keys.index(key)
        if place not in self._keys_joined:
            each = [part.groups[place] for part in self._parts] or [numpy.zeros(0, numpy.int64)]
            self._keys_joined[place] = each[0] if len(each) == 1 else numpy.concatenate(each)
        return self._keys_joined[place]

    def summed(self, name: str, which: Integers, groups: int) -> Integers:
        """
        Return a sum for each group.

        Args:
            name: One of `SUM_COLUMNS`.
            which: The group of each row.
            groups: How many there are.
        """
        number = SUM_COLUMNS.index(name)
        found = self._summed(number, which, groups)
        for part in REMAINDERS.get(number, ()):
            found += self._summed(part, which, groups)
        return found

    def all_summed(self, which: Integers, groups: int) -> list[Integers]:
        """Return all of `SUM_COLUMNS` for each group; see `summed`."""
        found = [self._summed(number, which, groups) for number in range(len(SUM_COLUMNS))]
        for number, parts in REMAINDERS.items():
            for part in parts:
                found[number] += found[part]
        return found

    def _summed(self, number: int, which: Integers, groups: int) -> Integers:
        """Return the sum of a column, as it was added, for each group."""
        import numpy

        column = self._column(number)
        if column is None:
            return numpy.zeros(groups, numpy.int64)
        return summed(column, which, groups)

    @property
    def _rows(self) -> int:
        return sum(part.rows for part in self._parts)

    def _column(self, number: int) -> Integers | None:
        """Return a column of sums as it was added; None if all of it is 0."""
        import numpy

        if number not in self._sums_joined:
            each = [part.sums[number] for part in self._parts]
            if all(column is None for column in each):
                self._sums_joined[number] = None
            elif len(each) == 1:
                self._sums_joined[number] = each[0]
            else:
                rows = [part.rows for part in self._parts]
                self._sums_joined[number] = numpy.concatenate(list(map(or_zeros, each, rows)))
        return self._sums_joined[number]

    def _of_rows(self, rows: Integers) -> Gathering:
        """Return another one of some rows, which are in their order."""
        import numpy

        ends = numpy.cumsum([part.rows for part in self._parts])
        each = numpy.split(rows, numpy.searchsorted(rows, ends[:-1]))
        return self._of_rows_of_parts(
            some - (end - part.rows)
            for part, end, some in zip(self._parts, ends, each, strict=True)
        )

    def _of_rows_of_parts(self, rows: Iterable[Integers]) -> Gathering:
        """Return another one of some rows of each part."""
        found = Gathering(self._keys, self.names)
        found._ids = self._ids
        found._parts = [
            part.picked(some) for part, some in zip(self._parts, rows, strict=True) if len(some)
        ]
        return found

    def _is_dense(self, part: SumRows) -> bool:
        """Return whether there cannot be many more groups than rows, so that none are sorted."""
        sizes = map(len, self._ids)
        return not set(self._keys) & set(NAMED) and prod(sizes) <= _SPARSE * part.rows

    def _distinct(self, part: SumRows, by: Sequence[str]) -> tuple[Integers, Integers]:
        import numpy

        joint, size = numpy.zeros(part.rows, numpy.int64), 1
        for key in by:
            number = self._keys.index(key)
            numbers, values = part.groups[number], len(self._ids[number])
            if key in NAMED:
                found, first, numbers = numpy.unique(
                    numbers, return_index=True, return_inverse=True
                )
                if len(by) == 1:
                    return numbers, first
                values = len(found)
            joint = joint * values + numbers
            size *= values
        if size > _SPARSE * len(joint):
            _, rows, which = numpy.unique(joint, return_index=True, return_inverse=True)
            return which, rows
        row_of = numpy.full(size, -1, numpy.int64)
        row_of[joint] = numpy.arange(len(joint))
        is_there = row_of >= 0
        return (numpy.cumsum(is_there) - 1)[joint], row_of[is_there]


def _buckets(prints: Integers) -> Integers:
    return prints & (_BUCKETS - 1)


def _largest(numbers: Integers, count: int) -> Integers:
    """Return where the largest numbers are; all if there are no more."""
    import numpy

    if count >= len(numbers):
        return numpy.arange(len(numbers))
    return numpy.argpartition(numbers, -count)[-count:]
