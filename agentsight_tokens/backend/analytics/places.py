"""Places: which parts of packs have the values that are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from agentsight_tokens.backend.store import Reader
from agentsight_tokens.backend.store.pack import Places
from agentsight_tokens.backend.store.packs import Pack, stored

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Integers = npt.NDArray[np.int64]
    Numbers = npt.NDArray[np.integer[Any]]

__all__ = ["Among", "Prints", "parts_with", "places_of", "together"]

_LAST_BITS: Final = 2**18 - 1
"""Of a print, by which most others are told from it at once."""

_PACKS_AT_ONCE: Final = 400
"""Whose places are in memory together."""


class Prints:
    """Prints that are looked for among many others."""

    def __init__(self, prints: Integers) -> None:
        """
        Take the prints.

        Args:
            prints: As many as may be, in any order.
        """
        import numpy

        self._whole = numpy.unique(prints)
        self._ends = numpy.unique(self._whole.astype("<u4"))
        self._is_one = numpy.zeros(_LAST_BITS + 1, bool)
        self._is_one[self._whole & _LAST_BITS] = True

    def places_in(self, prints: Numbers) -> Numbers:
        """Return where these are in prints, or in their last 32 bits as `<u4`."""
        import numpy

        known = self._ends if prints.dtype == numpy.uint32 else self._whole
        maybe = numpy.flatnonzero(self._is_one[prints & _LAST_BITS])
        found = prints[maybe]
        if not len(found):
            return maybe
        places = numpy.minimum(numpy.searchsorted(known, found), len(known) - 1)
        is_one: npt.NDArray[np.bool_] = known[places] == found
        return maybe[is_one]


class Among(NamedTuple):
    """Values of a conversation or a session that select calls."""

    key: str
    """One of `NAMED`."""
    prints: Prints


def together(packs: Sequence[Pack], most: int = _PACKS_AT_ONCE) -> Iterator[list[Pack]]:
    """Cut packs into so many as are looked at together, of one period each."""
    for _, group in groupby(packs, key=lambda pack: pack.period):
        of_period = list(group)
        yield from (of_period[n : n + most] for n in range(0, len(of_period), most))


def places_of(reader: Reader, packs: Sequence[Pack], place: str) -> dict[Pack, Places]:
    """
    Return the places of packs; none of one that is gone.

    Args:
        reader: The project.
        packs: Of one period.
        place: Of `PLACES`.
    """
    found = stored(reader, Places, {pack: [place] for pack in packs})
    return {pack: places for pack, [places] in found.items()}


def parts_with(places: Mapping[Pack, Places], prints: Prints) -> dict[Pack, list[int]]:
    """Return the numbers of the parts that may have some values, by their prints."""
    import numpy

    found = {}
    for pack, each in places.items():
        ends = numpy.frombuffer(each.ends, "<u4")
        parts = numpy.frombuffer(each.parts, "<u2")[prints.places_in(ends)]
        found[pack] = sorted(set(parts.tolist()))
    return found
