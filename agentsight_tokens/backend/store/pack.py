"""
The pack: the calls of a day or an hour of one project, column by column, to be added up quickly.

Calls that are alike in every dimension, in their tags and in the quarter of an hour are one row
of it. Each column is stored by itself, so that a query reads the few that it asks for; sums that
are mostly the sum of others only tell the difference. A pack is true as long as its sums are those
of its time to which every call is added as it comes: what takes calls need not know of packs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from .rollup import SUM_COLUMNS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Integers = npt.NDArray[np.int64]

__all__ = [
    "HEAD_NAME",
    "LEAN",
    "LEAN_DIMENSIONS",
    "PACKED_DIMENSIONS",
    "QUARTER",
    "QUARTERS",
    "REMAINDERS",
    "Column",
    "Head",
    "Packer",
    "proof_of",
    "remainders",
]

QUARTER: Final = 900_000_000
"""Microseconds of a quarter of an hour: the offset of every zone is of whole ones."""

QUARTERS: Final = "quarter"
"""The column of the quarter in which a call ended, counted from the beginning of the pack."""

PACKED_DIMENSIONS: Final[tuple[str, ...]] = (
    "conversation_id",
    "session_id",
    "user_id",
    "org_id",
    "agent",
    "feature",
    "tags",
    "model",
    "provider",
    "operation",
    "status",
    "source",
    "handler",
    "tool_name",
    "service_tier",
    "environment",
)
"""The columns of calls by which a pack can be filtered and grouped; `tags` is their JSON."""

LEAN_DIMENSIONS: Final[tuple[str, ...]] = (
    "agent",
    "feature",
    *PACKED_DIMENSIONS[PACKED_DIMENSIONS.index("tags") + 1 :],
)
"""Those of few values: a day has few rows of them, which is the lean form of its pack."""

LEAN: Final = "lean "
"""What the names of columns in the lean form begin with."""

HEAD_NAME: Final = ""
"""The name under which the head of a pack is stored, beside its columns."""

REMAINDERS: Final = {
    SUM_COLUMNS.index(name): tuple(map(SUM_COLUMNS.index, parts))
    for name, parts in {
        "total_tokens": ("input_tokens", "output_tokens"),
        "cost_micro_usd": ("prompt_cost_micro_usd", "completion_cost_micro_usd"),
        "cost_rest_pico_usd": ("prompt_cost_rest_pico_usd", "completion_cost_rest_pico_usd"),
    }.items()
}
"""
The sums of which a pack has what others are not: mostly nothing.

Money is carried from one half to the other, so that both are nothing where the whole is.
"""

_FORMAT: Final = 3
_LEAN: Final = 4
"""How many times fewer rows are worth a lean form."""
_MICRO: Final = 1_000_000
_COST, _REST = (SUM_COLUMNS.index(name) for name in ("cost_micro_usd", "cost_rest_pico_usd"))
_SPARSE: Final = 4
"""Of how many numbers one is not 0 where only those are stored that are not."""

_CODES: Final = ("<u1", "<u2", "<u4")
_PLACE: Final = "<u4"
_NUMBERS: Final = ("<i1", "<i2", "<i4", "<i8")
_MONEY: Final = tuple(
    (SUM_COLUMNS.index(f"{name}_micro_usd"), SUM_COLUMNS.index(f"{name}_rest_pico_usd"))
    for name in ("cost", "prompt_cost", "completion_cost")
)


class Head(msgspec.Struct, frozen=True, array_like=True):
    """What a pack says of itself."""

    mark: str
    """Of the one who packs: who finds another's has lost its turn."""
    began_at: int
    """When, in microseconds since 1970."""
    rows: int = 0
    proof: tuple[int, ...] = ()
    """`proof_of` its sums; nothing as long as it is being packed."""
    lean_rows: int = 0
    """Of the lean form; 0 without one."""


_NOWHERE: Final = memoryview(b"")


class Column(msgspec.Struct, frozen=True, array_like=True):
    """A column of a pack; one that is not there is 0, or None, in every row."""

    kind: str
    """The type of the numbers, as NumPy writes it."""
    numbers: memoryview
    texts: tuple[str | None, ...] = ()
    """What the numbers stand for, in a dimension."""
    places: memoryview = _NOWHERE
    """Where the numbers are that are not 0, if only those are here."""

    def array(self, rows: int) -> Any:
        """Return the numbers of so many rows."""
        import numpy

        numbers = numpy.frombuffer(self.numbers, dtype=self.kind)
        if len(numbers) == rows:
            return numbers
        found = numpy.zeros(rows, self.kind)
        found[numpy.frombuffer(self.places, dtype=_PLACE)] = numbers
        return found


class Packer:
    """Puts rows into a pack."""

    def __init__(self) -> None:
        self._quarters: list[Integers] = []
        self._codes: list[list[Integers]] = [[] for _ in PACKED_DIMENSIONS]
        self._texts: list[dict[str | None, int]] = [{} for _ in PACKED_DIMENSIONS]
        self._sums: list[list[Integers]] = [[] for _ in SUM_COLUMNS]
        self.rows = 0
        self._totals = [0] * len(SUM_COLUMNS)

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        """Add rows: the quarter, `PACKED_DIMENSIONS`, `SUM_COLUMNS`."""
        import numpy

        if not rows:
            return
        quarters, *columns = zip(*rows, strict=True)
        self._quarters.append(numpy.array(quarters, numpy.int64))
        for codes, texts, column in zip(self._codes, self._texts, columns, strict=False):
            found = [texts.setdefault(text, len(texts)) for text in column]
            codes.append(numpy.array(found, numpy.int64))
        for number, column in enumerate(columns[len(PACKED_DIMENSIONS) :]):
            self._sums[number].append(numpy.array(column, numpy.int64))
            self._totals[number] += sum(column)
        self.rows += len(rows)

    @property
    def proof(self) -> tuple[int, ...]:
        """What proves that nothing has changed since."""
        return proof_of(self._totals)

    def columns(self) -> Mapping[str, Column]:
        """Return the columns that say anything."""
        import numpy

        found = {QUARTERS: _column(numpy.concatenate(self._quarters))}
        for name, codes, texts in zip(PACKED_DIMENSIONS, self._codes, self._texts, strict=True):
            if texts.keys() != {None}:
                found[name] = _column(numpy.concatenate(codes), texts)
        sums = remainders([numpy.concatenate(parts) for parts in self._sums])
        for name, numbers in zip(SUM_COLUMNS, sums, strict=True):
            if numbers.any():
                found[name] = _column(numbers)
        return found

    def lean_columns(self) -> tuple[int, Mapping[str, Column]]:
        """Return how many rows the lean form has, and its columns; none if it were not much less."""
        import numpy

        first = which = numpy.zeros(self.rows, numpy.int64)
        all_codes = dict(zip(PACKED_DIMENSIONS, map(numpy.concatenate, self._codes), strict=True))
        for name in LEAN_DIMENSIONS:
            joint = which * (int(all_codes[name].max()) + 1) + all_codes[name]
            _, first, which = numpy.unique(joint, return_index=True, return_inverse=True)
        if len(first) * _LEAN > self.rows:
            return 0, {}
        found = {}
        for name in LEAN_DIMENSIONS:
            texts = self._texts[PACKED_DIMENSIONS.index(name)]
            if texts.keys() != {None}:
                found[LEAN + name] = _column(all_codes[name][first], texts)
        sums = remainders([numpy.concatenate(parts) for parts in self._sums])
        for name, numbers in zip(SUM_COLUMNS, sums, strict=True):
            added = numpy.zeros(len(first), numpy.int64)
            numpy.add.at(added, which, numbers)
            if added.any():
                found[LEAN + name] = _column(added)
        return len(first), found


def proof_of(sums: Sequence[int]) -> tuple[int, ...]:
    """
    Return of `SUM_COLUMNS` what changes whenever calls do: their number and their costs.

    The first number is the version of what packs are made of: those of an older one prove nothing.
    A cost is put together of its halves, since these depend on who has added them up.
    """
    return (_FORMAT, sums[0], *(sums[high] * _MICRO + sums[low] for high, low in _MONEY))


def remainders(sums: Sequence[Integers]) -> list[Integers]:
    """Return `SUM_COLUMNS` with the remainders in place of the sums of `REMAINDERS`."""
    found = list(sums)
    for number, parts in REMAINDERS.items():
        found[number] = sums[number] - sum(sums[part] for part in parts)
    found[_COST], found[_REST] = found[_COST] + found[_REST] // _MICRO, found[_REST] % _MICRO
    return found


def _column(numbers: Integers, texts: Iterable[str | None] = ()) -> Column:
    """Return numbers in as few bytes as they take."""
    import numpy

    kinds = _CODES if texts else _NUMBERS
    kind = next(each for each in kinds if numpy.array_equal(numbers.astype(each), numbers))
    if texts or _SPARSE * numpy.count_nonzero(numbers) > len(numbers):
        return Column(kind, memoryview(numbers.astype(kind).tobytes()), tuple(texts))
    places = numpy.flatnonzero(numbers)
    return Column(
        kind,
        memoryview(numbers[places].astype(kind).tobytes()),
        places=memoryview(places.astype(_PLACE).tobytes()),
    )
