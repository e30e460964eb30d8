"""Gathering: sums of groups from several sources, put together in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agentsight_tokens.backend.store.rollup import SUM_COLUMNS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Integers = npt.NDArray[np.int64]

__all__ = ["Gathering", "Group"]

_COST, _REST = (SUM_COLUMNS.index(name) for name in ("cost_micro_usd", "cost_rest_pico_usd"))
_MICRO: Final = 1_000_000
_EXACT: Final = 2**53
"""Below this, sums of whole numbers are exact in floating point."""
_SPARSE: Final = 4
"""How many times more groups can be than there are make it quicker to sort those that are."""


class Group(NamedTuple):
    """What the calls that have the same key add up to."""

    key: tuple[str | None, ...]
    """One value for each dimension; None where the calls say nothing."""
    sums: tuple[int, ...]
    """`SUM_COLUMNS`."""


class Gathering:
    """
    Groups and their sums, as they come.

    The values of each key are numbered, so that a group is a row of small numbers.
    """

    def __init__(self, width: int) -> None:
        """
        Begin without a group.

        Args:
            width: How many keys there are.
        """
        self._ids: list[dict[str | None, int]] = [{} for _ in range(width)]
        self._groups: list[Integers] = []
        self._sums: list[Integers] = []

    def ids(self, key: int, values: Iterable[str | None]) -> Integers:
        """Return the numbers of values of a key; new ones are given the next numbers."""
        import numpy

        known = self._ids[key]
        return numpy.array([known.setdefault(value, len(known)) for value in values], numpy.int64)

    def add(self, groups: Integers, sums: Integers) -> None:
        """
        Add sums.

        Args:
            groups: The numbers of a group's values, a row for each key.
            sums: A row for each of `SUM_COLUMNS`; groups may come several times.
        """
        groups, which = self._distinct(groups)
        self._groups.append(groups)
        self._sums.append(_summed(sums, which, groups.shape[1]))

    def add_rows(self, rows: Sequence[Sequence[Any]]) -> None:
        """Add rows of a query: the values of the keys, then `SUM_COLUMNS`."""
        import numpy

        if not rows:
            return
        columns = list(zip(*rows, strict=True))
        width = len(self._ids)
        groups = numpy.zeros((width, len(rows)), numpy.int64)
        for key in range(width):
            groups[key] = self.ids(key, columns[key])
        self.add(groups, numpy.array(columns[width:], numpy.int64))

    def total(self) -> tuple[int, ...]:
        """Return the sum of all groups."""
        total = [0] * len(SUM_COLUMNS)
        for sums in self._sums:
            total = [a + b for a, b in zip(total, sums.sum(axis=1).tolist(), strict=True)]
        return tuple(total)

    def groups(self, limit: int | None) -> list[Group]:
        """Return the groups in no order; with a limit those that cost the most, and as much."""
        import numpy

        if not self._groups:
            return []
        groups, which = self._distinct(numpy.concatenate(self._groups, axis=1))
        sums = numpy.concatenate(self._sums, axis=1)
        count = groups.shape[1]
        if limit is not None and limit < count:
            micro, rest = _summed(sums[[_COST, _REST]], which, count)
            cost = micro + rest // _MICRO
            chosen = cost >= numpy.partition(cost, count - limit)[count - limit]
            groups, sums = groups[:, chosen], sums[:, chosen[which]]
            which = (numpy.cumsum(chosen) - 1)[which[chosen[which]]]
            count = groups.shape[1]
        keys: Iterable[tuple[str | None, ...]] = [()] * count
        if self._ids:
            named = [
                map(list(known).__getitem__, numbers.tolist())
                for known, numbers in zip(self._ids, groups, strict=True)
            ]
            keys = zip(*named, strict=True)
        found = _summed(sums, which, count).T.tolist()
        return [Group(key, tuple(row)) for key, row in zip(keys, found, strict=True)]

    def _distinct(self, groups: Integers) -> tuple[Integers, Integers]:
        """Return the groups that are different, and which of them each one is."""
        import numpy

        joint, size = numpy.zeros(groups.shape[1], numpy.int64), 1
        for known, numbers in zip(self._ids, groups, strict=True):
            joint = joint * len(known) + numbers
            size *= len(known)
        if size > _SPARSE * len(joint):
            _, first, which = numpy.unique(joint, return_index=True, return_inverse=True)
            return groups[:, first], which
        first = numpy.full(size, -1, numpy.int64)
        first[joint] = numpy.arange(len(joint))
        present = first >= 0
        return groups[:, first[present]], (numpy.cumsum(present) - 1)[joint]


def _summed(columns: Integers, which: Integers, count: int) -> Integers:
    """
    Return the sums of groups.

    Args:
        columns: The numbers, a row for each column.
        which: The group of each.
        count: How many groups there are.
    """
    import numpy

    sums = numpy.zeros((len(columns), count), numpy.int64)
    for found, numbers in zip(sums, columns, strict=True):
        largest = max(-int(numbers.min()), int(numbers.max()))
        if largest * len(numbers) >= _EXACT:
            numpy.add.at(found, which, numbers)
        elif largest:
            found[:] = numpy.bincount(which, numbers, count)
    return sums
