"""
The pack: the calls of a time of one project, column by column, to be added up quickly.

Calls that are alike in every dimension, in their tags and in the quarter of an hour are one row
of it. Rows of one organisation, user, session and conversation are next to one another, and so
many rows are a part that is stored by itself: what asks for one user reads the parts that have
it. Beside them a pack has forms: the same calls by a few dimensions, in fewer rows. The pack of a
month has forms only.

A pack is true as long as its sums are those of its time to which every call is added as it comes:
what takes calls need not know of packs.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import msgspec

from .rollup import SUM_COLUMNS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Integers = npt.NDArray[np.int64]

__all__ = [
    "COST",
    "HEAD_NAME",
    "NAMED",
    "PACKED_DIMENSIONS",
    "PACK_COLUMNS",
    "PLACES",
    "QUARTER",
    "QUARTERS",
    "RANKING",
    "REMAINDERS",
    "ROWS_A_PART",
    "Block",
    "Column",
    "Head",
    "Names",
    "Part",
    "Places",
    "names_name",
    "part_name",
    "print_of",
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

PACK_COLUMNS: Final = (QUARTERS, *PACKED_DIMENSIONS)
"""What a part has beside sums."""

_PLACE_OF: Final = {name: number for number, name in enumerate(PACK_COLUMNS)}

NAMED: Final[tuple[str, ...]] = ("conversation_id", "session_id")
"""
Those of which nearly every value is another text.

Rows have the prints of the texts, which are compared and put in order much faster than texts; the
texts are read of what is shown. A session is mostly a conversation: they share their texts.
"""

PLACES: Final[dict[str, tuple[str, ...]]] = {
    "places of names": NAMED,
    "places of user_id": ("user_id",),
    "places of org_id": ("org_id",),
}
"""What tells which parts have a value of a dimension: its name, and of which; the fewest calls first."""

ROWS_A_PART: Final = 1_024

HEAD_NAME: Final = ""
"""The name under which the head of a pack is stored, beside its parts."""

COST: Final = ("cost_micro_usd", "cost_rest_pico_usd")
"""The sums that are a cost."""

RANKING: Final = (*COST, "total_tokens", "embedding_tokens", "calls")
"""The sums by which the costliest groups are found."""

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

_FORMAT: Final = 7
_MICRO: Final = 1_000_000
_COST, _REST = map(SUM_COLUMNS.index, COST)
_MONEY: Final = tuple(
    (SUM_COLUMNS.index(f"{name}_micro_usd"), SUM_COLUMNS.index(f"{name}_rest_pico_usd"))
    for name in ("cost", "prompt_cost", "completion_cost")
)
_NOWHERE: Final = memoryview(b"")


class Head(msgspec.Struct, frozen=True, array_like=True):
    """What a pack says of itself."""

    mark: str
    """Of the one who packs: who finds another's has lost its turn."""
    began_at: int
    """When, in microseconds since 1970."""
    rows: int = 0
    proof: tuple[int, ...] = ()
    """`proof_of` its sums; nothing as long as it is being packed."""
    parts: int = 0
    forms: dict[str, int] = {}
    """How many rows each of its forms has, by its name."""


class Column(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The quarters, or the codes of a dimension, row by row."""

    kind: str
    """The type of the numbers, as NumPy writes it; nothing where each row's is its place."""
    numbers: memoryview = _NOWHERE
    texts: tuple[str | None, ...] = ()
    """What the numbers stand for, in a dimension that is not `NAMED`."""

    def array(self, rows: int) -> Any:
        """Return the numbers of so many rows."""
        import numpy

        if not self.kind:
            return numpy.arange(rows)
        return numpy.frombuffer(self.numbers, self.kind)


class Block(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Sums whose numbers are of one type, one column after the other."""

    kind: str
    columns: bytes
    """The numbers of the columns in `SUM_COLUMNS`."""
    numbers: memoryview
    places: memoryview = _NOWHERE
    """The rows whose numbers these are as `<u4`, those of others being 0; of one column."""


class Part(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Some rows of a pack, or a form of it."""

    mark: str
    """The one of the head."""
    rows: int
    columns: tuple[msgspec.Raw, ...]
    """The quarters and `PACKED_DIMENSIONS`, of which few are asked for."""
    blocks: tuple[Block, ...]
    """The sums; one that is nowhere is 0 in every row."""
    prints: memoryview = _NOWHERE
    """Of the texts that the numbers of `NAMED` columns stand for, as `<i8`."""

    def column(self, name: str) -> Column | None:
        """Return a column; None for one that is None, or 0, in every row."""
        return _column.decode(self.columns[_PLACE_OF[name]])


_column: Final[msgspec.msgpack.Decoder[Column | None]] = msgspec.msgpack.Decoder(Column | None)


class Names(msgspec.Struct, frozen=True, array_like=True):
    """The texts of the `NAMED` columns of a part, in the order of its prints."""

    mark: str
    prints: memoryview
    texts: tuple[str | None, ...]


class Places(msgspec.Struct, frozen=True, array_like=True):
    """Which parts of a pack have a value of a dimension."""

    mark: str
    ends: memoryview
    """Of the values' prints the last 32 bits, in their order, as `<u4`."""
    parts: memoryview
    """The number of the part of each, as `<u2`."""


def part_name(number: int) -> str:
    """Return the name under which a part is stored."""
    return f"rows {number}"


def names_name(number: int) -> str:
    """Return the name under which the texts of a part are stored."""
    return f"names {number}"


def print_of(text: str | None) -> int:
    """
    Return a number for a text: 64 bits of its hash; 0 for None.

    Different texts have different ones nearly always, which is to be seen to by comparing texts.
    """
    if text is None:
        return 0
    digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True) or 1


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
