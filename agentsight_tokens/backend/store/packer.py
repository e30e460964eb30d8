"""The packer: puts rows of calls into the parts and the forms of a pack."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from .form import Form, Making
from .pack import (
    COST,
    HEAD_NAME,
    NAMED,
    PACK_COLUMNS,
    PACKED_DIMENSIONS,
    PLACES,
    QUARTERS,
    REMAINDERS,
    ROWS_A_PART,
    Block,
    Column,
    Head,
    Names,
    Part,
    Places,
    names_name,
    part_name,
    print_of,
    proof_of,
    remainders,
)
from .rollup import SUM_COLUMNS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Integers = npt.NDArray[np.int64]

__all__ = ["Packer"]

_SORTED_BY: Final = ("conversation_id", "session_id", "user_id", "org_id")
"""From the last one that counts to the first."""

_MICRO: Final = 1_000_000
_COST, _REST = COST
_MOST_LOOSE: Final = 100_000
"""Rows that are kept as they came where only forms are made of them."""
_SPARSE: Final = 4
"""Of how many numbers one is not 0 where only those are stored that are not."""

_CODES: Final = ("<u1", "<u2", "<u4")
_PLACE: Final = "<u4"
_NUMBERS: Final = ("<i1", "<i2", "<i4", "<i8")


class Packer:
    """Puts rows into a pack."""

    def __init__(self, making: Making) -> None:
        """
        Begin without a row.

        Args:
            making: What the pack is made of.
        """
        self._making = making
        self._quarters: list[Integers] = []
        self._codes: dict[str, list[Integers]] = {name: [] for name in making.dimensions}
        shared: dict[str | None, int] = {}
        self._texts: dict[str, dict[str | None, int]] = {
            name: shared if name in NAMED else {} for name in PACKED_DIMENSIONS
        }
        self._sums: list[list[Integers]] = [[] for _ in SUM_COLUMNS]
        self._folded: dict[Form, _Rows] = {}
        self._loose = 0
        self.rows = 0
        self._totals = [0] * len(SUM_COLUMNS)

    def add(self, quarter: int, rows: Sequence[Sequence[Any]]) -> None:
        """Add rows of the time that begins with a quarter: the dimensions, then `SUM_COLUMNS`."""
        import numpy

        if not rows:
            return
        columns = list(zip(*rows, strict=True))
        self._quarters.append(numpy.full(len(rows), quarter, numpy.int64))
        for name, column in zip(self._codes, columns, strict=False):
            texts = self._texts[name]
            found = [texts.setdefault(text, len(texts)) for text in column]
            self._codes[name].append(numpy.array(found, numpy.int64))
        for number, column in enumerate(columns[len(self._codes) :]):
            self._sums[number].append(numpy.array(column, numpy.int64))
            self._totals[number] += sum(column)
        self.rows += len(rows)
        self._loose += len(rows)
        if self._loose > _MOST_LOOSE and not self._making.has_parts:
            self._fold()

    @property
    def kept(self) -> int:
        """How many rows are in memory."""
        return self._loose + sum(len(rows.quarters) for rows in self._folded.values())

    @property
    def proof(self) -> tuple[int, ...]:
        """What proves that nothing has changed since."""
        return proof_of(self._totals)

    def pack(self, begun: Head) -> dict[str, Any]:
        """
        Return what a pack of at least one row consists of, by the names under which it is stored.

        The rows are gone afterwards.

        Args:
            begun: The head that it has while it is packed.
        """
        mark = begun.mark
        values = {name: _Values(list(texts)) for name, texts in self._texts.items()}
        values.update(dict.fromkeys(NAMED, values[NAMED[0]]))
        found: dict[str, Any] = {}
        rows = self._joined()
        parts = self._parts(rows, values) if self._making.has_parts else []
        for number, part in enumerate(parts):
            found[part_name(number)] = part.stored(values, mark)
            found[names_name(number)] = part.names(values, mark)
        if parts:
            for place, names in PLACES.items():
                found[place] = _places(parts, names, values[names[0]], mark)
        forms = {}
        for form in self._making.forms:
            few = self._with_folded(rows, form)
            if form.gain * len(few.quarters) <= self.rows:
                forms[form.name] = len(few.quarters)
                found[form.name] = few.stored(values, mark)
        head = msgspec.structs.replace(
            begun, rows=self.rows, proof=self.proof, parts=len(parts), forms=forms
        )
        return {HEAD_NAME: head, **found}

    def _joined(self) -> _Rows:
        """Return the loose rows, which are given away."""
        self._loose = 0
        return _Rows(
            _joined(self._quarters),
            {name: _joined(codes) for name, codes in self._codes.items()},
            dict(zip(SUM_COLUMNS, remainders(list(map(_joined, self._sums))), strict=True)),
        )

    def _fold(self) -> None:
        """Keep the loose rows by what the forms have only: a month makes few of these."""
        rows = self._joined()
        for form in self._making.forms:
            self._folded[form] = self._with_folded(rows, form)

    def _with_folded(self, rows: _Rows, form: Form) -> _Rows:
        """Return the rows of a form, with those that were folded before, which are given away."""
        before = self._folded.pop(form, None)
        if before is None:
            return rows.of(form)
        return before.beside(rows.of(form)).of(form) if len(rows.quarters) else before

    def _parts(self, rows: _Rows, values: Mapping[str, _Values]) -> list[_Rows]:
        """Return the rows in the order and the portions in which they are stored."""
        import numpy

        order = numpy.lexsort([values[name].ranks()[rows.codes[name]] for name in _SORTED_BY])
        return [rows.at(order[n : n + ROWS_A_PART]) for n in range(0, self.rows, ROWS_A_PART)]


class _Values:
    """The values of a dimension, of which rows have the numbers."""

    def __init__(self, texts: list[str | None]) -> None:
        self.texts = texts

    @cached_property
    def prints(self) -> Integers:
        """The print of each."""
        import numpy

        return numpy.fromiter(map(print_of, self.texts), numpy.int64, len(self.texts))

    def ranks(self) -> Integers:
        """Return the place of each in their order."""
        import numpy

        in_order = sorted(range(len(self.texts)), key=lambda code: self.texts[code] or "")
        ranks = numpy.empty(len(in_order), numpy.int64)
        ranks[in_order] = numpy.arange(len(in_order))
        return ranks


class _Rows(NamedTuple):
    """Some rows, column by column."""

    quarters: Integers
    codes: Mapping[str, Integers]
    sums: Mapping[str, Integers]
    """With remainders in place of those of `REMAINDERS`."""

    def at(self, which: Integers) -> _Rows:
        """Return the rows at some places."""
        return _Rows(
            self.quarters[which],
            {name: codes[which] for name, codes in self.codes.items()},
            {name: numbers[which] for name, numbers in self.sums.items()},
        )

    def beside(self, others: _Rows) -> _Rows:
        """Return these rows and others of the same columns."""
        import numpy

        return _Rows(
            numpy.concatenate([self.quarters, others.quarters]),
            {
                name: numpy.concatenate([each, others.codes[name]])
                for name, each in self.codes.items()
            },
            {
                name: numpy.concatenate([each, others.sums[name]])
                for name, each in self.sums.items()
            },
        )

    def of(self, form: Form) -> _Rows:
        """Return the rows of a form, which are those of a pack by some dimensions."""
        import numpy

        keys = [self.codes[name] for name in form.dimensions]
        if form.has_quarters:
            keys.append(self.quarters)
        first = which = numpy.zeros(len(self.quarters), numpy.int64)
        for key in keys:
            _, first, which = numpy.unique(
                which * (int(key.max()) + 1) + key, return_index=True, return_inverse=True
            )
        sums = {}
        for name in form.sums:
            sums[name] = numpy.zeros(len(first), numpy.int64)
            for part in (name, *_parts_beyond(name, form)):
                numpy.add.at(sums[name], which, self.sums[part])
        sums[_COST] += sums[_REST] // _MICRO
        sums[_REST] %= _MICRO
        quarters = self.quarters[first] if form.has_quarters else numpy.zeros_like(first)
        return _Rows(quarters, {name: self.codes[name][first] for name in form.dimensions}, sums)

    def stored(self, values: Mapping[str, _Values], mark: str) -> Part:
        """Return the rows as they are stored."""
        import numpy

        columns = {QUARTERS: _column(self.quarters)}
        for name, codes in self.codes.items():
            used, found = numpy.unique(codes, return_inverse=True)
            texts = [values[name].texts[code] for code in used.tolist()]
            if texts == [None]:
                continue
            if name in NAMED:
                numbers = numpy.searchsorted(self._named(), codes)
                is_place = numpy.array_equal(numbers, numpy.arange(len(codes)))
                columns[name] = Column("") if is_place else _column(numbers)
            else:
                columns[name] = _column(found, texts)
        prints = values[NAMED[0]].prints[self._named()]
        return Part(
            mark,
            len(self.quarters),
            tuple(msgspec.Raw(msgspec.msgpack.encode(columns.get(name))) for name in PACK_COLUMNS),
            tuple(_blocks(self.sums)),
            _bytes(prints, "<i8"),
        )

    def names(self, values: Mapping[str, _Values], mark: str) -> Names:
        """Return the texts of `NAMED` columns."""
        texts, prints = values[NAMED[0]].texts, values[NAMED[0]].prints
        used = self._named()
        return Names(
            mark, _bytes(prints[used], "<i8"), tuple(texts[code] for code in used.tolist())
        )

    def _named(self) -> Integers:
        """Return the codes in `NAMED` columns, in their order."""
        import numpy

        nothing = numpy.zeros(0, numpy.int64)
        return numpy.unique(numpy.concatenate([self.codes.get(name, nothing) for name in NAMED]))


def _joined(pieces: list[Integers]) -> Integers:
    """Return pieces as one, and empty their list: there is no room for both."""
    import numpy

    whole = numpy.concatenate(pieces) if pieces else numpy.zeros(0, numpy.int64)
    pieces.clear()
    return whole


def _parts_beyond(name: str, form: Form) -> tuple[str, ...]:
    """Return the sums that a sum is the remainder of and a form does not have."""
    parts = (SUM_COLUMNS[part] for part in REMAINDERS.get(SUM_COLUMNS.index(name), ()))
    return tuple(part for part in parts if part not in form.sums)


def _places(parts: Sequence[_Rows], names: Sequence[str], values: _Values, mark: str) -> Places:
    """Return which parts have a value in one of some columns."""
    import numpy

    ends, numbers = [], []
    for number, part in enumerate(parts):
        used = numpy.unique(numpy.concatenate([part.codes[name] for name in names]))
        ends.append(values.prints[used].astype("<u4"))
        numbers.append(numpy.full(len(used), number, numpy.int64))
    found, in_parts = numpy.concatenate(ends), numpy.concatenate(numbers)
    order = numpy.argsort(found, kind="stable")
    return Places(mark, _bytes(found[order], "<u4"), _bytes(in_parts[order], "<u2"))


def _column(codes: Integers, texts: Iterable[str | None] = ()) -> Column:
    """Return codes in as few bytes as they take."""
    kind = _kind(codes, _CODES)
    return Column(kind, _bytes(codes, kind), tuple(texts))


def _blocks(sums: Mapping[str, Integers]) -> Iterator[Block]:
    """Put sums together that take as few bytes; those that are mostly 0 stay by themselves."""
    import numpy

    dense: dict[str, list[tuple[int, Integers]]] = {}
    for name, numbers in sums.items():
        kind, number = _kind(numbers, _NUMBERS), SUM_COLUMNS.index(name)
        places = numpy.flatnonzero(numbers)
        if _SPARSE * len(places) > len(numbers):
            dense.setdefault(kind, []).append((number, numbers))
        elif len(places):
            yield Block(
                kind, bytes([number]), _bytes(numbers[places], kind), _bytes(places, _PLACE)
            )
    for kind, columns in dense.items():
        numbers = numpy.concatenate([numbers for _, numbers in columns])
        yield Block(kind, bytes(number for number, _ in columns), _bytes(numbers, kind))


def _kind(numbers: Integers, kinds: Sequence[str]) -> str:
    import numpy

    return next(each for each in kinds if numpy.array_equal(numbers.astype(each), numbers))


def _bytes(numbers: Integers, kind: str) -> memoryview:
    return memoryview(numbers.astype(kind).tobytes())
