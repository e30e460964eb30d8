"""Names: the texts of conversations and sessions, of which packs have prints and texts apart."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Final

from agentsight_tokens.backend.store import Reader
from agentsight_tokens.backend.store.pack import PLACES, Names, Places, names_name, print_of
from agentsight_tokens.backend.store.packs import Pack, stored

from .places import Prints, parts_with, places_of, together

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Integers = npt.NDArray[np.int64]

__all__ = ["PackedNames", "UntoldError"]

_PARTS_AT_ONCE: Final = 500
"""Whose texts are in memory together."""

_NAMES: Final = next(iter(PLACES))


class UntoldError(Exception):
    """Packs do not tell: one is gone, or two texts have one print."""


class PackedNames:
    """The texts of prints, as far as anybody asks."""

    def __init__(self, reader: Reader, packs: Sequence[Pack]) -> None:
        """
        Begin with no text.

        Args:
            reader: A project.
            packs: That have the prints, in the order of time.
        """
        self._reader = reader
        self._packs = packs
        self._places: dict[Pack, Places] = {}
        self._texts: dict[int, str | None] = {0: None}

    def prints(self, texts: Iterable[str | None]) -> Integers:
        """Return the prints of texts, which are known from then on."""
        import numpy

        found = []
        for text in texts:
            number = print_of(text)
            self._learn(number, text)
            found.append(number)
        return numpy.array(found, numpy.int64)

    def texts(self, prints: Integers) -> list[str | None]:
        """
        Return the texts of prints.

        Raises:
            UntoldError: If packs do not tell.
        """
        wanted = Prints(prints)
        for packs in together(self._packs):
            parts = self.parts_with(packs, wanted)
            if len(parts) < len(packs):
                raise UntoldError
            found = [(pack, number) for pack, numbers in parts.items() for number in numbers]
            for n in range(0, len(found), _PARTS_AT_ONCE):
                self._read(found[n : n + _PARTS_AT_ONCE], wanted)
        return [self._texts[number] for number in prints.tolist()]

    def parts_with(self, packs: Sequence[Pack], prints: Prints) -> dict[Pack, list[int]]:
        """Return the numbers of the parts that may have some prints; none of a pack that is gone."""
        missing = [pack for pack in packs if pack not in self._places]
        self._places.update(places_of(self._reader, missing, _NAMES))
        return parts_with({p: self._places[p] for p in packs if p in self._places}, prints)

    def check(self, text: str) -> None:
        """
        See whether packs have no other text of the same print.

        Raises:
            UntoldError: If they do, or do not tell.
        """
        self.texts(self.prints([text]))

    def _read(self, parts: Sequence[tuple[Pack, int]], wanted: Prints) -> None:
        """Learn the texts of some prints in parts of packs of one period."""
        import numpy

        names: dict[Pack, list[str]] = {}
        for pack, number in parts:
            names.setdefault(pack, []).append(names_name(number))
        found = stored(self._reader, Names, names)
        if len(found) < len(names):
            raise UntoldError
        for each in chain.from_iterable(found.values()):
            prints = numpy.frombuffer(each.prints, "<i8")
            for place in wanted.places_in(prints).tolist():
                self._learn(int(prints[place]), each.texts[place])

    def _learn(self, number: int, text: str | None) -> None:
        if self._texts.setdefault(number, text) != text:
            raise UntoldError
