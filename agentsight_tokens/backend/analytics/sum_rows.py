"""Rows of sums that came together, column by column."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agentsight_tokens.backend.store.pack import COST, REMAINDERS
from agentsight_tokens.backend.store.rollup import SUM_COLUMNS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Integers = npt.NDArray[np.signedinteger[Any]]

__all__ = ["SumRows", "or_zeros", "summed"]

_MICRO: Final = 1_000_000
_EXACT: Final = 2**53
"""Below this, sums of whole numbers are exact in floating point."""
_WORTH: Final = 2
"""How many times fewer rows are worth putting some together."""


class SumRows(NamedTuple):
    """Some rows, each a group by some keys and its sums."""

    groups: Sequence[Integers]
    """The number of the value of each key, row by row."""
    sums: Sequence[Integers | None]
    """`remainders` of `SUM_COLUMNS`; one is None where all of it is 0."""
    rows: int

    @property
    def numbers(self) -> int:
        """How many numbers the sums are."""
        return self.rows * sum(column is not None for column in self.sums)

    def picked(self, which: Integers) -> SumRows:
        """Return some of the rows."""
        sums = [None if column is None else column[which] for column in self.sums]
        return SumRows([numbers[which] for numbers in self.groups], sums, len(which))

    def together(self, which: Integers, first: Integers) -> SumRows:
        """
        Return one row for each group, if they are much fewer; else these.

        Args:
            which: The group of each row.
            first: A row of each group.
        """
        groups = len(first)
        if _WORTH * groups > self.rows:
            return self
        sums = [None if column is None else summed(column, which, groups) for column in self.sums]
        return SumRows([numbers[first] for numbers in self.groups], sums, groups)

    def with_neighbours_together(self) -> SumRows:
        """Return rows of which those next to one another are one if they are of one group."""
        import numpy

        is_first = numpy.zeros(self.rows, bool)
        is_first[0] = True
        for numbers in self.groups:
            is_first[1:] |= numbers[1:] != numbers[:-1]
        return self.together(numpy.cumsum(is_first) - 1, numpy.flatnonzero(is_first))

    def measure(self, columns: Sequence[str]) -> Integers:
        """Return the whole sum of some columns, one of which may be the rests of `COST`, by row."""
        import numpy

        found = numpy.zeros(self.rows, numpy.int64)
        for name in columns:
            number = SUM_COLUMNS.index(name)
            for column in (self.sums[each] for each in (number, *REMAINDERS.get(number, ()))):
                if column is not None:
                    found += column // _MICRO if name == COST[1] else column
        return found


def or_zeros(column: Integers | None, length: int) -> Integers:
    """Return a column of sums; one of zeros if it is None."""
    import numpy

    return numpy.zeros(length, numpy.int8) if column is None else column


def summed(column: Integers, which: Integers, groups: int) -> Integers:
    """
    Return the sum of each group.

    Args:
        column: Numbers, row by row.
        which: The group of each row.
        groups: How many there are.
    """
    import numpy

    largest = 2 ** (8 * column.itemsize - 1)
    if largest * len(column) >= _EXACT:
        largest = max(-int(column.min()), int(column.max()))
    if largest * len(column) < _EXACT:
        return numpy.bincount(which, column, groups).astype(numpy.int64)
    sums = numpy.zeros(groups, numpy.int64)
    numpy.add.at(sums, which, column.astype(numpy.int64))
    return sums
