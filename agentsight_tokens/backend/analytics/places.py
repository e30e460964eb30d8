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
    _Numbers = npt.NDArray[np.integer[Any]]

__all__ = ["Among", "is_among", "parts_with", "places_of", "together"]

_PACKS_AT_ONCE: Final = 400
"""Whose places are in memory together."""


class Among(NamedTuple):
    """Values of a conversation or a session that select calls."""

    key: str
    """One of `NAMED`."""
    prints: Integers
    """In their order."""


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


def parts_with(places: Mapping[Pack, Places], prints: Integers) -> dict[Pack, list[int]]:
    """Return the numbers of the parts that may have some values, by their prints."""
    import numpy

    wanted = numpy.unique(prints.astype("<u4"))
    found = {}
    for pack, each in places.items():
        ends = numpy.frombuffer(each.ends, "<u4")
        parts = numpy.frombuffer(each.parts, "<u2")[_places(ends, wanted)]
        found[pack] = sorted(set(parts.tolist()))
    return found


def is_among(prints: _Numbers, wanted: _Numbers) -> npt.NDArray[np.bool_]:
    """Return of each print whether it is among others, which are in their order."""
    import numpy

    if not len(wanted):
        return numpy.zeros(len(prints), bool)
    places = numpy.minimum(numpy.searchsorted(wanted, prints), len(wanted) - 1)
    found: npt.NDArray[np.bool_] = wanted[places] == prints
    return found


def _places(ends: _Numbers, wanted: _Numbers) -> _Numbers:
    """Return where numbers in their order are one of others, of which there may be more or fewer."""
    import numpy

    if len(wanted) > len(ends):
        return numpy.flatnonzero(is_among(ends, wanted))
    first, last = (numpy.searchsorted(ends, wanted, side) for side in ("left", "right"))
    if len(wanted) == 1:
        return numpy.arange(first[0], last[0])
    some = numpy.flatnonzero(first < last).tolist()
    return numpy.array([n for each in some for n in range(first[each], last[each])], numpy.int64)
