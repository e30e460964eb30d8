"""Gathering: sums of groups from several sources, put together in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agentsight_tokens.backend.store.pack import REMAINDERS, remainders
from agentsight_tokens.backend.store.rollup import SUM_COLUMNS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Integers = npt.NDArray[np.signedinteger[Any]]

__all__ = ["Gathering", "Group"]

_COST: Final = ("cost_micro_usd", "cost_rest_pico_usd")
_MICRO: Final = 1_000_000
_EXACT: Final = 2**53
"""Below this, sums of whole numbers are exact in floating point."""
_SPARSE: Final = 4
"""How many times more groups can be than there are make it quicker to sort those that are."""
_SELECTIVE: Final = 4
"""How many times more rows there are than those asked for make it quicker to pick these out."""
_MANY: Final = 1_000
_SAMPLE: Final = 8
"""Of how many values one that is known tells that others are."""
_SAMPLE_ROWS: Final = 1_000
_MOST_ROWS: Final = 1_000_000
"""That are kept as they came."""
_MOST_GROUPS: Final = 1_000_000


class Group(NamedTuple):
    """What the calls that have the same key add up to."""

    key: tuple[str | None, ...]
    """One value for each dimension; None where the calls say nothing."""
    sums: tuple[int, ...]
    """`SUM_COLUMNS`."""


class _Part(NamedTuple):
    """Rows that came together."""

    groups: Sequence[Integers]
    """The number of the value of each key, row by row."""
    sums: Sequence[Integers | None]
    """`remainders` of `SUM_COLUMNS`; one is None where all of it is 0."""


class Gathering:
    """
    Groups and their sums, as they come.

    The values of each key are numbered, so that a group is a row of small numbers. Sums are added
    as packs have them, with remainders in place of some.
    """

    def __init__(self, keys: Sequence[str]) -> None:
        """
        Begin without a group.

        Args:
            keys: The names of the keys.
        """
        self._keys = tuple(keys)
        self._ids: list[dict[str | None, int]] = [{} for _ in keys]
        self._sizes = [0] * len(self._ids)
        """How many numbers each key's values have been given."""
        self._parts: list[_Part] = []
        self._rows = 0
        self._summed_rows = 0
        """Those that have been put together, one for each group."""

    def ids(self, key: int, values: Sequence[str | None]) -> Integers:
        """Return the numbers of values of a key; new ones are given the next numbers."""
        import numpy

        known, first = self._ids[key], self._sizes[key]
        # Not of the first ones, which may go on from the pack before.
        sample = values[len(values) // _SAMPLE :: len(values) // _SAMPLE + 1]
        if len(values) > _MANY and not any(value in known for value in sample):
            # Most are new: one that is not leaves a number that nothing has.
            self._sizes[key] += len(values)
            return numpy.fromiter(
                map(known.setdefault, values, count(first)), numpy.int64, len(values)
            )
        new = dict.fromkeys([value for value in values if value not in known])
        known.update(zip(new, count(first), strict=False))
        self._sizes[key] += len(new)
        return numpy.fromiter(map(known.__getitem__, values), numpy.int64, len(values))

    def add(self, groups: Sequence[Integers], sums: Sequence[Integers | None]) -> None:
        """
        Add rows.

        Args:
            groups: The numbers of the values of each key, row by row.
            sums: `remainders` of `SUM_COLUMNS`, row by row; None for one of which all is 0. The
                first is not.
        """
        self._parts.append(_Part(groups, sums))
        self._rows += _length(self._parts[-1])
        if self._rows - self._summed_rows > _MOST_ROWS:
            which, first = self.distinct(self._keys)
            whole = self._whole()
            sums = [
                None if column is None else _summed(column, which, len(first))
                for column in whole.sums
            ]
            self._parts = [_Part([numbers[first] for numbers in whole.groups], sums)]
            self._rows = self._summed_rows = len(first)

    @property
    def is_full(self) -> bool:
        """Whether there are so many groups that memory is no place for them."""
        return self._summed_rows > _MOST_GROUPS or any(
            len(known) > _MOST_GROUPS for known in self._ids
        )

    def add_rows(self, rows: Sequence[Sequence[Any]]) -> None:
        """Add rows of a query: the values of the keys, then `SUM_COLUMNS`."""
        import numpy

        if not rows:
            return
        columns = list(zip(*rows, strict=True))
        width = len(self._ids)
        groups = [self.ids(key, columns[key]) for key in range(width)]
        sums = [numpy.array(column, numpy.int64) for column in columns[width:]]
        self.add(groups, remainders(sums))

    def total(self) -> tuple[int, ...]:
        """Return the sum of all groups."""
        columns = self._whole().sums
        total = [0 if each is None else int(each.sum(dtype="int64")) for each in columns]
        for number, parts in REMAINDERS.items():
            total[number] += sum(total[part] for part in parts)
        return tuple(total)

    def groups(self, by: Sequence[str], limit: int | None = None) -> list[Group]:
        """
        Return the groups in no order.

        Args:
            by: Some of the keys.
            limit: How many are asked for: those that cost the most, and as much.
        """
        import numpy

        if not self._parts:
            return []
        which, first = self.distinct(by)
        chosen = numpy.arange(len(first))
        if limit is not None and limit < len(first):
            micro, rest = (self.summed(name, which, len(first)) for name in _COST)
            cost = micro + rest // _MICRO
            chosen = numpy.flatnonzero(cost >= numpy.partition(cost, -limit)[-limit])
        values = [
            list(map(self.names(key).__getitem__, self.numbers(key)[first[chosen]].tolist()))
            for key in by
        ]
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

    def distinct(self, by: Iterable[str]) -> tuple[Integers, Integers]:
        """Return of each row the number of its group by some keys, and of each group a row."""
        import numpy

        joint, size = numpy.zeros(self._rows, numpy.int64), 1
        for key in by:
            values = self._sizes[self._keys.index(key)]
            joint = joint * values + self.numbers(key)
            size *= values
        if size > _SPARSE * len(joint):
            _, rows, which = numpy.unique(joint, return_index=True, return_inverse=True)
            return which, rows
        row_of = numpy.full(size, -1, numpy.int64)
        row_of[joint] = numpy.arange(len(joint))
        is_there = row_of >= 0
        return (numpy.cumsum(is_there) - 1)[joint], row_of[is_there]

    def names(self, key: str) -> list[str | None]:
        """Return the values of a key, of which rows have the numbers."""
        number = self._keys.index(key)
        names: list[str | None] = [None] * self._sizes[number]
        for name, place in self._ids[number].items():
            names[place] = name
        return names

    def numbers(self, key: str) -> Integers:
        """Return the numbers of a key's values, row by row."""
        return self._whole().groups[self._keys.index(key)]

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

        column = self._whole().sums[number]
        if column is None:
            return numpy.zeros(groups, numpy.int64)
        return _summed(column, which, groups)

    def _whole(self) -> _Part:
        """Return all rows, which are one part from then on."""
        import numpy

        if len(self._parts) != 1:
            groups = [
                numpy.concatenate(
                    [numpy.zeros(0, numpy.int64), *(part.groups[key] for part in self._parts)]
                )
                for key in range(len(self._ids))
            ]
            lengths = list(map(_length, self._parts))
            sums: list[Integers | None] = []
            for number in range(len(SUM_COLUMNS)):
                columns = [part.sums[number] for part in self._parts]
                if all(column is None for column in columns):
                    sums.append(None)
                else:
                    sums.append(numpy.concatenate(list(map(_or_zeros, columns, lengths))))
            self._parts = [_Part(groups, sums)]
        return self._parts[0]

    def _of_rows(self, rows: Integers) -> Gathering:
        """Return another one of some rows."""
        found = Gathering(self._keys)
        found._ids, found._sizes = self._ids, self._sizes
        whole = self._whole()
        sums = [None if column is None else column[rows] for column in whole.sums]
        found.add([numbers[rows] for numbers in whole.groups], sums)
        return found


def _length(part: _Part) -> int:
    calls = part.sums[0]
    return 0 if calls is None else len(calls)


def _or_zeros(column: Integers | None, length: int) -> Integers:
    import numpy

    return numpy.zeros(length, numpy.int8) if column is None else column


def _is_rising(numbers: Integers) -> bool:
    return bool((numbers[1:] >= numbers[:-1]).all())


def _summed(column: Integers, which: Integers, groups: int) -> Integers:
    import numpy

    largest = 2 ** (8 * column.itemsize - 1)
    if largest * len(column) >= _EXACT:
        largest = max(-int(column.min()), int(column.max()))
    if _is_rising(which[:_SAMPLE_ROWS]) and _is_rising(which):  # as packs follow one another
        firsts = numpy.searchsorted(which, numpy.arange(groups))
        return numpy.add.reduceat(column, firsts, dtype=numpy.int64)
    if largest * len(column) < _EXACT:
        return numpy.bincount(which, column, groups).astype(numpy.int64)
    sums = numpy.zeros(groups, numpy.int64)
    numpy.add.at(sums, which, column.astype(numpy.int64))
    return sums
