"""
Parcels: cycles, or parts of large ones, on their way from one process to one destination.

A parcel is pending until the destination has accepted it (delivered) or refused it for ever
(dead). What is dead can be sent once more, or dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, Literal, NamedTuple

import msgspec

from .calls import CALL_COLUMNS, records
from .cycle import Cycle, cycle_key
from .ledger_file import LedgerFile, repairing

__all__ = ["PARCEL_CALLS", "Parcel", "ParcelState", "Parcels", "Waiting"]

PARCEL_CALLS: Final = 1000
"""How many calls are delivered at once; a larger cycle is delivered in parts."""
KEPT_AT_ONCE: Final = 100

ParcelState = Literal["pending", "delivered", "dead", "dropped"]

_OF_CYCLE: Final = (
    "p.id, p.part, p.destination, p.reason, "
    "c.sequence, c.conversation_id, c.sealed_by, c.sealed_at, c.environment"
)
_OF_CYCLE_WIDTH: Final = 9
_OF_CALLS: Final = ", ".join(f"k.{name}" for name in CALL_COLUMNS)


class Parcel(NamedTuple):
    """A cycle, or a part of one, on its way to one destination."""

    id: int
    cycle: Cycle
    destination: str
    reason: str | None
    """Why it was refused, if it was."""


class Waiting(NamedTuple):
    """How much of a process is in one state, for one destination."""

    destination: str
    state: ParcelState
    parcels: int
    calls: int
    size: int
    """The bytes of their records as JSON."""
    oldest_at: datetime
    """When the oldest of them was sealed."""


class Parcels(LedgerFile):
    """The parcels of one process, as its ledger keeps them."""

    @repairing
    def pending(self, destination: str | None = None) -> int:
        """Return how many parcels wait, for one destination or for the one most wait for."""
        statement = "SELECT COUNT(*) FROM parcels WHERE state = 'pending'"
        if destination is None:
            return max(
                (row[0] for row in self._all(f"{statement} GROUP BY destination")), default=0
            )
        return int(self._one(f"{statement} AND destination = ?", destination)[0])

    @repairing
    def last_pending(self, destination: str) -> int:
        """Return the id of the newest parcel that waits for a destination; 0 if none does."""
        statement = "SELECT MAX(id) FROM parcels WHERE state = 'pending' AND destination = ?"
        return self._one(statement, destination)[0] or 0

    @repairing
    def has_pending(self, destination: str, until: int) -> bool:
        """Tell whether a parcel up to an id, or what it was split into, waits."""
        statement = (
            "SELECT EXISTS (SELECT 1 FROM parcels WHERE state = 'pending' AND destination = ? "
            "AND COALESCE(whole, id) <= ?)"
        )
        return bool(self._one(statement, destination, until)[0])

    @repairing
    def is_any(self, *states: ParcelState) -> bool:
        """Tell whether any parcel is in one of some states."""
        return any(
            self._one(f"SELECT EXISTS (SELECT 1 FROM parcels WHERE state = '{state}')")[0]  # noqa: S608  # our own names
            for state in states
        )

    @repairing
    def dead(self) -> int:
        """Return how many parcels a destination has refused."""
        return int(self._one("SELECT COUNT(*) FROM parcels WHERE state = 'dead'")[0])

    @repairing
    def pending_bytes(self) -> Mapping[str, int]:
        """Return the size of what waits, by destination."""
        statement = "SELECT destination, SUM(size) FROM parcels WHERE state = 'pending' GROUP BY 1"
        return dict(self._all(statement))

    @repairing
    def waiting(self) -> list[Waiting]:
        """Return what is pending and what is dead, by destination."""
        return [
            Waiting(destination, state, parcels, calls, size, datetime.fromisoformat(sealed_at))
            for destination, state, parcels, calls, size, sealed_at in self._all(
                "SELECT destination, state, COUNT(*), SUM(calls), SUM(size), MIN(sealed_at) "
                "FROM parcels JOIN cycles USING (sequence) WHERE state IN ('pending', 'dead') "
                "GROUP BY 1, 2 ORDER BY 1, 2 DESC"
            )
        ]

    @repairing
    def state_of(self, sequence: int) -> tuple[ParcelState, str | None]:
        """Return what has become of a cycle, at all its destinations, and why."""
        states = dict(
            self._all(
                "SELECT state, MAX(reason) FROM parcels WHERE sequence = ? GROUP BY 1", sequence
            )
        )
        for state in ("dead", "dropped", "pending"):
            if state in states:
                return "pending" if state == "pending" else "dead", states[state]
        # Without a parcel it is not sealed.
        return "delivered" if states else "pending", None

    @repairing
    def parcels(
        self,
        destination: str,
        *,
        after: int = 0,
        calls: int = PARCEL_CALLS,
        breathe: Callable[[], None] = lambda: None,
    ) -> list[Parcel]:
        """
        Return the oldest parcels that wait for a destination.

        Args:
            destination: The destination's identity.
            after: The id of a parcel; only later ones are taken.
            calls: How many calls they may have together; the first parcel always comes.
            breathe: Called now and then, so that other threads get their turn.
        """
        found = self._waiting_for(destination, after, calls)
        if not found:
            return []
        parcels = self._read(
            "p.state = 'pending' AND p.destination = ? AND p.id BETWEEN ? AND ?",
            (destination, found[0], found[-1]),
            breathe,
        )
        missing = sorted(set(found) - {parcel.id for parcel in parcels})
        if missing:  # only a damaged file has a parcel without calls
            self.mark(missing, "dead", reason="its calls are not in the ledger any more")
        return parcels

    @repairing
    def kept(self, state: ParcelState, *, after: int = 0) -> list[Parcel]:
        """Return the next parcels of a state by their ids, some at a time; at the end none."""
        found = self._all(
            "SELECT id FROM parcels WHERE state = ? AND id > ? ORDER BY id LIMIT ?",
            *(state, after, KEPT_AT_ONCE),
        )
        if not found:
            return []
        condition = "p.state = ? AND p.id BETWEEN ? AND ?"
        return self._read(condition, (state, found[0][0], found[-1][0]), lambda: None)

    @repairing
    def decide(self, parcels: Sequence[int], state: Literal["pending", "dropped"]) -> int:
        """Deliver once more what was refused, or drop it; return how many parcels still were."""
        with self._transaction():
            return self._connection.executemany(
                "UPDATE parcels SET state = ?, reason = NULL WHERE id = ? AND state = 'dead'",
                [(state, parcel) for parcel in parcels],
            ).rowcount

    @repairing
    def mark(
        self, parcels: Sequence[int], state: ParcelState, *, reason: str | None = None
    ) -> None:
        """Note what has become of parcels."""
        with self._transaction():
            self._connection.execute(
                "UPDATE parcels SET state = ?, reason = ? "
                "WHERE id IN (SELECT value FROM json_each(?))",
                (state, reason, msgspec.json.encode(parcels).decode()),
            )

    @repairing
    def readdress(self, old: str, new: str) -> int:
        """Let what waits for one destination wait for another; return how many parcels."""
        with self._transaction():
            return self._connection.execute(
                "UPDATE parcels SET destination = ? WHERE state = 'pending' AND destination = ?",
                (new, old),
            ).rowcount

    @repairing
    def expire(self, destination: str, before: datetime, *, reason: str) -> int:
        """Set aside what was sealed before a time and still waits; return how many parcels."""
        condition = (
            "state = 'pending' AND destination = ? "
            "AND sequence IN (SELECT sequence FROM cycles WHERE sealed_at < ?)"
        )
        values = (destination, before.isoformat())
        # Mostly there is none, and then nothing need be locked.
        if not self._all(f"SELECT 1 FROM parcels WHERE {condition} LIMIT 1", *values):  # noqa: S608
            return 0
        with self._transaction():
            return self._connection.execute(
                f"UPDATE parcels SET state = 'dead', reason = ? WHERE {condition}",  # noqa: S608
                (reason, *values),
            ).rowcount

    @repairing
    def split(self, parcel: int) -> bool:
        """Halve a parcel, to find the call that a destination refuses; False if it is one."""
        with self._transaction():
            sequence, numbers, destination = self._contents(parcel)
            if len(numbers) < 2:
                return False
            [whole] = self._one("SELECT COALESCE(whole, id) FROM parcels WHERE id = ?", parcel)
            half = len(numbers) // 2
            self._connection.execute("DELETE FROM parcels WHERE id = ?", (parcel,))
            for part in (numbers[:half], numbers[half:]):
                self._add_part(sequence, part, destination, whole=whole)
            return True

    @repairing
    def refuse_calls(self, parcel: int, reasons: Mapping[str, str]) -> int:
        """
        Note that a parcel was accepted but for some of its calls, which are set aside.

        Args:
            parcel: The parcel.
            reasons: Why each was refused, by the id of its record.

        Returns:
            How many of them the parcel has; if none, nothing is noted.
        """
        with self._transaction():
            sequence, numbers, destination = self._contents(parcel)
            ids = self._all(
                "SELECT id, number FROM calls WHERE sequence = ? AND number BETWEEN ? AND ?",
                sequence,
                numbers[0],
                numbers[-1],
            )
            refused = [(number, reasons[id]) for id, number in ids if id in reasons]
            if refused:
                self._connection.execute(
                    "UPDATE parcels SET state = 'delivered' WHERE id = ?", (parcel,)
                )
            for number, reason in refused:
                self._add_part(sequence, [number], destination, reason=reason)
        return len(refused)

    def _waiting_for(self, destination: str, after: int, calls: int) -> list[int]:
        found: list[int] = []
        for parcel, its_calls in self._connection.execute(
            "SELECT id, calls FROM parcels "
            "WHERE state = 'pending' AND destination = ? AND id > ? ORDER BY id LIMIT ?",
            (destination, after, calls),
        ):
            calls -= its_calls
            if found and calls < 0:
                break
            found.append(parcel)
        return found

    def _read(
        self, condition: str, values: tuple[object, ...], breathe: Callable[[], None]
    ) -> list[Parcel]:
        rows = self._connection.execute(
            f"SELECT {_OF_CYCLE}, {_OF_CALLS} "  # noqa: S608  # our own names
            "FROM parcels p JOIN cycles c USING (sequence) "
            "JOIN calls k ON k.sequence = p.sequence AND k.number BETWEEN p.first AND p.last "
            f"WHERE {condition} ORDER BY p.id, k.number",
            values,
        )
        found = []
        for _, group in groupby(rows, key=itemgetter(0)):
            found.append(self._parcel(list(group)))
            breathe()
        return found

    def _parcel(self, rows: list[Any]) -> Parcel:
        id, part, destination, reason, sequence, conversation_id, by, at, environment = rows[0][
            :_OF_CYCLE_WIDTH
        ]
        cycle = Cycle.of(
            list(records(row[_OF_CYCLE_WIDTH:] for row in rows)),
            key=cycle_key(self.journal_id, conversation_id, sequence, part),
            conversation_id=conversation_id,
            sealed_by=by,
            sealed_at=datetime.fromisoformat(at),
            environment=environment,
        )
        return Parcel(id, cycle, destination, reason)

    def _contents(self, parcel: int) -> tuple[int, list[int], str]:
        sequence, first, last, destination = self._one(
            "SELECT sequence, first, last, destination FROM parcels WHERE id = ?", parcel
        )
        rows = self._all(
            "SELECT number FROM calls WHERE sequence = ? AND number BETWEEN ? AND ? "
            "ORDER BY number",
            sequence,
            first,
            last,
        )
        return sequence, [row[0] for row in rows], destination

    def _add_part(
        self,
        sequence: int,
        numbers: Sequence[int],
        destination: str,
        *,
        whole: int | None = None,
        reason: str | None = None,
    ) -> None:
        first, last = numbers[0], numbers[-1]
        state = "pending" if reason is None else "dead"
        self._connection.execute(
            "INSERT INTO parcels (sequence, part, first, last, calls, size, destination, state, "
            "reason, whole) SELECT ?, ?, ?, ?, COUNT(*), SUM(size), ?, ?, ?, ? FROM calls "
            "WHERE sequence = ? AND number BETWEEN ? AND ?",
            (
                *(sequence, f"{first}-{last}", first, last, destination, state, reason, whole),
                *(sequence, first, last),
            ),
        )
