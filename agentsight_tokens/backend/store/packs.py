"""The packs of a project: which there are, and which of them are true."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from .base import Reader, Transaction
from .pack import HEAD_NAME, LEAN, Column, Head, proof_of
from .rollup import DAY, HOUR, HOURLY_DIMENSION, SUM_COLUMNS

__all__ = [
    "DROP",
    "LENGTHS",
    "Pack",
    "PackPeriod",
    "columns_of",
    "drop_packs",
    "heads_of",
    "proofs_of",
    "true_packs",
]

PackPeriod = Literal["day", "hour"]

LENGTHS: Final[Mapping[PackPeriod, int]] = {"day": DAY, "hour": HOUR}
"""In microseconds."""

DROP: Final = "DELETE FROM packed_calls WHERE project_id = ? AND period = ? AND start = ?"
"""The statement that drops a pack."""

_head: Final = msgspec.msgpack.Decoder(Head)
_column: Final = msgspec.msgpack.Decoder(Column)
_PROVEN: Final = ", ".join(f"CAST(SUM({name}) AS BIGINT)" for name in SUM_COLUMNS[:11])


class Pack(NamedTuple):
    """A pack that is true, and which time it is of."""

    period: PackPeriod
    start: int
    rows: int
    lean_rows: int = 0
    is_lean: bool = False
    """Whether it is read in its lean form."""

    @property
    def lean(self) -> Pack:
        """The same in its lean form."""
        return self._replace(rows=self.lean_rows, is_lean=True)

    @property
    def end(self) -> int:
        """When its time ends, excluded."""
        return self.start + LENGTHS[self.period]


def true_packs(reader: Reader, since: int | None, until: int | None) -> list[Pack]:
    """
    Return the packs of a time that are true, in its order, of which no two overlap.

    Args:
        reader: A project.
        since: Whose last moments may lie in a pack's time; from the first one if None.
        until: Excluded; to the last one if None.
    """
    first = None if since is None else since - since % DAY
    heads = {key: head for key, head in heads_of(reader, first, until).items() if head.proof}
    found: list[Pack] = []
    for period in LENGTHS:
        starts = [start for each, start in heads if each == period]
        if not starts:
            continue
        proofs = proofs_of(reader, period, min(starts), max(starts) + 1)
        days = {pack.start for pack in found}
        for start in starts:
            head = heads[period, start]
            if head.proof == proofs.get(start) and start - start % DAY not in days:
                found.append(Pack(period, start, head.rows, head.lean_rows))
    return sorted(found, key=lambda pack: pack.start)


def heads_of(
    reader: Reader, since: int | None = None, until: int | None = None
) -> dict[tuple[PackPeriod, int], Head]:
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


def proofs_of(
    reader: Reader, period: PackPeriod, since: int, until: int
) -> dict[int, tuple[int, ...]]:
    """Return what the sums prove of each day or hour that begins in a time."""
    rows = reader.rows(
        f"SELECT start, {_PROVEN} FROM dimension_usage "  # noqa: S608  # our own names
        f"WHERE dimension = '{HOURLY_DIMENSION}' AND period = ? AND start >= ? AND start < ? "
        "GROUP BY start",
        (period, since, until),
    )
    return {start: proof_of(sums) for start, *sums in rows}


def columns_of(
    reader: Reader, packs: Sequence[Pack], names: Sequence[str]
) -> dict[int, dict[str, Column]]:
    """
    Return columns of packs, by the start of each.

    One that is no longer there has none; one that has been made anew is as true.

    Args:
        reader: The project.
        packs: Of one period and form, one after the other.
        names: The columns.
    """
    form = LEAN if packs[0].is_lean else ""
    rows = reader.rows(
        "SELECT start, name, data FROM packed_calls "  # noqa: S608  # our own names
        f"WHERE period = ? AND start >= ? AND start <= ? AND name IN ({', '.join('?' * len(names))})",
        (packs[0].period, packs[0].start, packs[-1].start, *(form + name for name in names)),
    )
    found: dict[int, dict[str, Column]] = {pack.start: {} for pack in packs}
    for start, name, data in rows:
        if start in found:
            found[start][name[len(form) :]] = _column.decode(data)
    return {start: columns for start, columns in found.items() if columns}


def drop_packs(transaction: Transaction, project_id: int, times: set[int]) -> None:
    """
    Drop the packs of calls that are changed.

    Args:
        transaction: That changes them.
        project_id: Whose they are.
        times: When they ended.
    """
    for period, length in LENGTHS.items():
        for start in sorted({at - at % length for at in times}):
            transaction.run(DROP, (project_id, period, start))
