"""The packs of a project: which there are, and which of them are true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from .base import Reader, Transaction
from .pack import HEAD_NAME, Head, Names, Part, Places, proof_of
from .rollup import HOURLY_DIMENSION, SUM_COLUMNS
from .unit import UNITS, Unit, begin_of, end_of

__all__ = [
    "DROP",
    "Pack",
    "drop_packs",
    "heads_of",
    "proofs_of",
    "stored",
    "true_packs",
]

DROP: Final = "DELETE FROM packed_calls WHERE project_id = ? AND period = ? AND start = ?"
"""The statement that drops a pack."""

_Stored = TypeVar("_Stored", Names, Part, Places)

_head: Final = msgspec.msgpack.Decoder(Head)
_PROVEN: Final = ", ".join(f"CAST(SUM({name}) AS BIGINT)" for name in SUM_COLUMNS[:11])


@dataclass(frozen=True, eq=False, slots=True)
class Pack:
    """A pack that is true, and which time it is of."""

    period: Unit
    start: int
    head: Head

    @property
    def end(self) -> int:
        """When its time ends, excluded."""
        return end_of(self.period, self.start)


def true_packs(reader: Reader, since: int | None, until: int | None) -> list[Pack]:
    """
    Return the packs that are true, in the order of time; of those that begin at once the longest first.

    Args:
        reader: A project.
        since: The packs of its day and of later times; from the first one if None.
        until: When they begin at the latest, excluded; to the last one if None.
    """
    first = None if since is None else begin_of("day", since)
    heads = {key: head for key, head in heads_of(reader, first, until).items() if head.proof}
    found: list[Pack] = []
    for unit in UNITS:
        starts = [start for each, start in heads if each == unit]
        if starts:
            proofs = proofs_of(reader, unit, min(starts), max(starts) + 1)
            packs = [Pack(unit, start, heads[unit, start]) for start in starts]
            found += [pack for pack in packs if pack.head.proof == proofs.get(pack.start)]
    return sorted(found, key=lambda pack: pack.start)


def heads_of(
    reader: Reader, since: int | None = None, until: int | None = None
) -> dict[tuple[Unit, int], Head]:
    """Return the heads of the packs that begin in a time, by their period and start."""
    conditions, values = [f"name = '{HEAD_NAME}'"], []
    for sign, bound in ((">=", since), ("<", until)):
        if bound is not None:
            conditions.append(f"start {sign} ?")
            values.append(bound)
    rows = reader.rows(
        f"SELECT period, start, data FROM packed_calls WHERE {' AND '.join(conditions)}",  # noqa: S608  # our own names
        values,
    )
    return {(period, start): _head.decode(data) for period, start, data in rows}


def proofs_of(reader: Reader, period: Unit, since: int, until: int) -> dict[int, tuple[int, ...]]:
    """Return what the sums prove of each unit that begins in a time."""
    rows = reader.rows(
        f"SELECT start, {_PROVEN} FROM dimension_usage "  # noqa: S608  # our own names
        f"WHERE dimension = '{HOURLY_DIMENSION}' AND period = ? AND start >= ? AND start < ? "
        "GROUP BY start",
        (period, since, until),
    )
    return {start: proof_of(sums) for start, *sums in rows}


def stored(
    reader: Reader, kind: type[_Stored], names: Mapping[Pack, Sequence[str]]
) -> dict[Pack, list[_Stored]]:
    """
    Return what is stored of packs, in the order of its names.

    A pack of which not all is there, or which has been made anew, is left out.

    Args:
        reader: The project.
        kind: What is stored under these names.
        names: The names, by packs of one period.
    """
    # Thousands of parameters would take longer than what they name.
    wanted = [f"({pack.start}, '{name}')" for pack, each in names.items() for name in each]
    if not wanted:
        return {pack: [] for pack in names}
    rows = reader.rows(
        "SELECT start, name, data FROM packed_calls WHERE period = ? "  # noqa: S608  # our own names
        f"AND (start, name) IN (VALUES {', '.join(wanted)})",
        [next(iter(names)).period],
    )
    decoder = msgspec.msgpack.Decoder(kind)
    known = {(start, name): decoder.decode(data) for start, name, data in rows}
    found: dict[Pack, list[_Stored]] = {}
    for pack, each in names.items():
        parts = [known[pack.start, name] for name in each if (pack.start, name) in known]
        if len(parts) == len(each) and {part.mark for part in parts} <= {pack.head.mark}:
            found[pack] = parts
    return found


def drop_packs(transaction: Transaction, project_id: int, times: set[int]) -> None:
    """
    Drop the packs of calls that are changed.

    Args:
        transaction: That changes them.
        project_id: Whose they are.
        times: When they ended.
    """
    for unit in UNITS:
        for start in sorted({begin_of(unit, at) for at in times}):
            transaction.run(DROP, (project_id, unit, start))
