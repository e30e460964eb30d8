"""
Packing: the calls of each day and each month that is over become packs, and so do today's hours.

A pack is made of a reading of the calls outside of any transaction, so that nobody who brings
calls waits. What changes calls later makes the pack untrue by the sums that it changes with them,
or deletes it, and it is made again. Few calls are quick to read as they are.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from threading import Event
from typing import Any, Final, NamedTuple

import msgspec

from agentsight_tokens.calls import microseconds

from .base import Reader, Store, Transaction
from .form import MAKINGS
from .pack import HEAD_NAME, QUARTER, Head
from .packer import Packer
from .packs import DROP, heads_of, proofs_of
from .repeating import Repeating
from .rollup import DAY, sums_of_calls
from .unit import Unit, begin_of, end_of

__all__ = ["FEWEST_CALLS", "Packing", "Span", "pack", "pack_all", "spans_due"]

_logger: Final = logging.getLogger("agentsight_tokens.server")

FEWEST_CALLS: Final = 200
"""That are worth a pack."""

_MOST_ROWS: Final = 500_000
"""
That are packed at once, because that takes memory.

Of a day that has more calls each hour is packed; a month whose forms have more is not packed.
"""

_LATE: Final = timedelta(minutes=5)
"""A time is over when what comes late has mostly come."""
_LOST: Final = timedelta(minutes=10)
"""Who has not finished a pack by then never will."""
_EVERY_SECONDS: Final = 60.0
_PAUSES: Final = 4
"""How much longer than it works a thread waits, for others to get the processor."""

_SPAN: Final = "project_id = ? AND period = ? AND start = ?"
_HEAD: Final = f"SELECT data FROM packed_calls WHERE {_SPAN} AND name = '{HEAD_NAME}'"  # noqa: S608  # our own names
_DROP_HOURS: Final = (
    "DELETE FROM packed_calls WHERE project_id = ? AND period = 'hour' AND start >= ? AND start < ?"
)
_INSERT: Final = (
    "INSERT INTO packed_calls (project_id, period, start, name, data) VALUES (?, ?, ?, ?, ?)"
)


class Span(NamedTuple):
    """A time that can be packed."""

    project_id: int
    period: Unit
    start: int
    proof: tuple[int, ...]
    """What the sums of this time prove."""

    @property
    def key(self) -> tuple[int, Unit, int]:
        """What names it in the table of packs."""
        return self.project_id, self.period, self.start


class Packing(Repeating):
    """A thread that packs what is over, now and again and again."""

    def __init__(self, store: Store) -> None:
        super().__init__(
            store,
            self._pack_all,
            name="packing",
            every_seconds=_EVERY_SECONDS,
            on_outage="calls are not packed",
        )
        self._tried: dict[tuple[int, Unit, int], tuple[int, ...]] = {}

    def _pack_all(self, is_over: Event) -> None:
        packs = 0
        for span in spans_due(self._store, datetime.now(timezone.utc)):
            # Of a month that has expired, calls that come late are not all that its sums have:
            # no pack of it will ever be true.
            if self._tried.get(span.key) == span.proof:
                continue
            began = time.monotonic()
            packs += pack(self._store, span)
            self._tried[span.key] = span.proof
            if is_over.wait(_PAUSES * (time.monotonic() - began)):
                break
        if packs:
            _logger.info("packing", extra={"facts": {"packs": packs}})


def pack_all(store: Store, now: datetime, *, fewest: int = FEWEST_CALLS) -> int:
    """Pack what `spans_due` returns; return how many packs were made."""
    return sum(pack(store, span) for span in spans_due(store, now, fewest=fewest))


def spans_due(store: Store, now: datetime, *, fewest: int = FEWEST_CALLS) -> Iterator[Span]:
    """
    Return what is over and has no true pack; of each project the latest first.

    Args:
        store: Where the calls are.
        now: The time.
        fewest: The calls that are worth a pack.
    """
    over, lost = microseconds(now - _LATE), microseconds(now - _LOST)
    for (project_id,) in store.rows("SELECT id FROM projects ORDER BY id"):
        reader = store.of_project(project_id)
        [(oldest,)] = reader.rows("SELECT MIN(at) FROM calls")
        if oldest is None:
            continue
        heads = heads_of(reader)
        for unit, start, proof in _times_over(reader, oldest, over):
            head = heads.get((unit, start))
            if proof[1] < fewest or (head is not None and head.proof == proof):
                continue
            if head is None or head.proof or head.began_at < lost:
                yield Span(project_id, unit, start, proof)


def _times_over(
    reader: Reader, oldest: int, over: int
) -> Iterator[tuple[Unit, int, tuple[int, ...]]]:
    """
    Yield what can be packed, the latest first: hours of the day that is not over, days, months.

    Args:
        reader: A project.
        oldest: When its first call ended.
        over: What was before is over.
    """

    def times(unit: Unit, first: int, end: int) -> Iterator[tuple[int, tuple[int, ...]]]:
        yield from sorted(proofs_of(reader, unit, first, end).items(), reverse=True)

    def hours(first: int, end: int) -> Iterator[tuple[Unit, int, tuple[int, ...]]]:
        for start, proof in times("hour", first, end):
            if proof[1] <= _MOST_ROWS:
                yield "hour", start, proof

    since, today = begin_of("day", oldest), begin_of("day", over)
    yield from hours(max(today, since), begin_of("hour", over))
    for day, proof in times("day", since, today):
        if proof[1] <= _MOST_ROWS:
            yield "day", day, proof
        else:
            yield from hours(day, day + DAY)
    for month, proof in times("month", begin_of("month", oldest), begin_of("month", over)):
        yield "month", month, proof


def pack(store: Store, span: Span) -> bool:
    """
    Pack the calls of a time; return whether it is packed.

    It is not where calls of it were changed meanwhile, somebody else has begun to pack them, or they
    make too many rows.
    """
    begun = Head(mark=uuid.uuid4().hex, began_at=time.time_ns() // 1000)
    with store.transaction() as transaction:
        # Whoever changes calls drops their packs: those who have begun before are waited for, and
        # those who begin now drop this head.
        if store.dialect.turn_of_packing:
            transaction.run(store.dialect.turn_of_packing)
        _write(transaction, span, {HEAD_NAME: begun})
    packer = _packer(store.of_project(span.project_id), span)
    parts = packer.pack(begun) if packer is not None and packer.rows else {}
    with store.transaction() as transaction:
        found = transaction.rows(_HEAD, span.key)
        if not found or msgspec.msgpack.decode(found[0][0], type=Head).mark != begun.mark:
            return False
        if not parts:
            transaction.run(DROP, span.key)
            return False
        _write(transaction, span, parts)
        if span.period == "day":
            transaction.run(_DROP_HOURS, (span.project_id, span.start, span.start + DAY))
    return True


def _packer(reader: Reader, span: Span) -> Packer | None:
    """Return a packer with the rows of a time; None if they are too many."""
    making = MAKINGS[span.period]
    packer = Packer(making)
    names = ", ".join(f"NULLIF({name}, '')" for name in making.dimensions)
    numbers = ", ".join(str(number + 1) for number in range(len(making.dimensions)))
    # A little at a time: what has not been packed yet takes much memory.
    for since in range(span.start, end_of(span.period, span.start), making.step):
        room = _MOST_ROWS - packer.kept
        rows = reader.rows(
            f"SELECT {names}, {', '.join(sums_of_calls(reader.dialect))} FROM calls "  # noqa: S608  # our own names
            f"WHERE at >= ? AND at < ? GROUP BY {numbers} LIMIT ?",
            (since, since + making.step, room + 1),
        )
        if len(rows) > room:
            return None
        packer.add((since - span.start) // QUARTER, rows)
    return packer


def _write(transaction: Transaction, span: Span, parts: Mapping[str, Any]) -> None:
    transaction.run(DROP, span.key)
    for name, part in parts.items():
        transaction.run(_INSERT, (*span.key, name, msgspec.msgpack.encode(part)))
