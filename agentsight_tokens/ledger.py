"""
The ledger of one process: its calls, its sealed cycles and what is still to be delivered.

The journal is folded into it when somebody reads or a cycle is sealed. Sealing commits durably
(`synchronous=FULL`); what was folded before is then durable too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timezone
from typing import Final

import msgspec

from .call_history import CallHistory
from .cycle import SealedBy
from .journal import segments
from .ledger_file import LEDGER_FILE, is_damage, is_full, repairing
from .parcels import PARCEL_CALLS, Parcel, Parcels, ParcelState, Waiting
from .process_note import ProcessNote
from .set_aside import set_aside

__all__ = [
    "LEDGER_FILE",
    "PARCEL_CALLS",
    "Ledger",
    "Parcel",
    "ParcelState",
    "Waiting",
    "is_damage",
    "is_full",
]

SEALED_CYCLES: Final = 500
"""How many cycles are sealed in one transaction, where their number is not the caller's."""
PRUNED_CYCLES: Final = 500
"""How many cycles are forgotten in one transaction."""


_BEYOND_ALL_NUMBERS: Final = 2**63
_LISTED: Final = "(SELECT value FROM json_each(?))"


class Ledger(CallHistory, Parcels):
    """The SQLite file beside a journal; see `LedgerFile` for its arguments."""

    _process_note: ProcessNote | None = None
    sealed_bytes = 0
    """The size of what was sealed here, by this object."""

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def destinations(self) -> tuple[str, ...]:
        """The identities of the destinations that this process delivers to."""
        return self._described().destinations

    def describe(self, destinations: Sequence[str], environment: str | None) -> None:
        """
        Note where the cycles of this process go, for whoever seals them.

        Raises:
            OSError: If the disk does not take it.
        """
        note = ProcessNote(tuple(destinations), environment)
        if not self._in_memory:
            note.write(self._directory)
        self._process_note = note

    @repairing
    def seal(self, *sequences: int, sealed_by: SealedBy) -> int:
        """
        Commit cycles durably, and address them to the destinations of their process.

        Returns:
            How many of them there are; one without calls is none.

        Raises:
            sqlite3.Error: If the disk did not take it; then nothing has changed.
        """
        self.fold()
        with self._transaction(durable=True):
            return self._seal(sequences, sealed_by)

    @repairing
    def seal_the_rest(
        self,
        *,
        sealed_by: SealedBy,
        still_open: Iterable[int] = (),
        breathe: Callable[[], None] = lambda: None,
    ) -> int:
        """
        Seal every cycle that is not, some at a time.

        Args:
            sealed_by: What ended them.
            still_open: Those that are to go on.
            breathe: As in `fold`; it may raise, and then the rest is left.

        Returns:
            How many there were.
        """
        self.fold(breathe)
        rows = self._all(
            f"SELECT DISTINCT sequence FROM calls WHERE sequence NOT IN {_LISTED} "  # noqa: S608  # our own text
            "AND sequence NOT IN (SELECT sequence FROM cycles) ORDER BY sequence",
            _list(still_open),
        )
        for start in range(0, len(rows), SEALED_CYCLES):
            with self._transaction(durable=True):
                self._seal([row[0] for row in rows[start : start + SEALED_CYCLES]], sealed_by)
            breathe()
        return len(rows)

    def is_done(self) -> bool:
        """Tell whether nothing in here is needed any more: all is delivered, nothing was lost."""
        with self.lock:
            before = self.times_made_again
            is_done = not self.is_any("pending", "dead") and not self.lost
            # A ledger that has just been made again knows of nothing yet.
            return is_done and self.times_made_again == before

    @repairing
    def fold_for_good(
        self,
        segment_in_use: str,
        *,
        keep_bytes: int = 0,
        breathe: Callable[[], None] = lambda: None,
    ) -> None:
        """
        Fold durably, and delete the segments that nobody can need any more.

        As long as a segment is there, it can be folded again should the ledger be damaged.

        Args:
            segment_in_use: The segment that the journal writes to.
            keep_bytes: How much of what is not acknowledged is kept for that.
            breathe: As in `fold`.
        """
        self.fold(breathe)
        with self._transaction(durable=True):
            # A commit that writes nothing would not be synced.
            self._note("segment", segment_in_use)
        folded = {name: rest for name, *rest in self._all("SELECT * FROM folded")}
        unacknowledged = self._first_unacknowledged()
        for path in reversed(segments(self._directory)):
            if path.name < segment_in_use:
                position, last, damaged = folded.get(path.name, (-1, 0, 0))
                size = path.stat().st_size
                keep_bytes -= size
                if size <= position and (last < unacknowledged or keep_bytes < 0):
                    if damaged:
                        set_aside(path, f"{damaged} damaged entries")
                    else:
                        path.unlink()

    @repairing
    def prune(self, trackers: Mapping[int, int], before: datetime) -> int:
        """
        Forget what was delivered and no tracker asks for any more, not all at once.

        Args:
            trackers: The trackers that are still there, each with the number of the last call
                that it does not ask for, because it was reset after that.
            before: Only what was sealed before this time is forgotten.

        Returns:
            How many calls were forgotten.
        """
        sequences = self._all(
            "SELECT sequence FROM cycles "  # noqa: S608  # a number
            "WHERE sealed_at < ? AND NOT EXISTS (SELECT 1 FROM parcels "
            "WHERE parcels.sequence = cycles.sequence AND state IN ('pending', 'dead')) "
            "AND NOT EXISTS (SELECT 1 FROM calls JOIN json_each(?) AS living "
            "ON tracker = CAST(living.key AS INTEGER) AND number > living.value "
            "WHERE calls.sequence = cycles.sequence) "
            # The newest call stays, so that no number is given twice.
            "AND sequence != (SELECT sequence FROM calls ORDER BY number DESC LIMIT 1) "
            f"LIMIT {PRUNED_CYCLES}",
            before.isoformat(),
            msgspec.json.encode(trackers).decode(),
        )
        with self._transaction():
            gone = self._connection.executemany("DELETE FROM calls WHERE sequence = ?", sequences)
            self._connection.executemany("DELETE FROM parcels WHERE sequence = ?", sequences)
            self._connection.executemany("DELETE FROM cycles WHERE sequence = ?", sequences)
        return gone.rowcount

    def _described(self) -> ProcessNote:
        # A folder that others look into may get its note later.
        if self._process_note is None or not self._process_note.destinations:
            self._process_note = ProcessNote.read(self._directory)
        return self._process_note

    def _first_unacknowledged(self) -> int:
        """Return the number of the first call that a destination or nobody has yet."""
        found = self._one(
            "SELECT MIN(number) FROM (SELECT MIN(first) AS number FROM parcels "
            "WHERE state = 'pending' UNION ALL SELECT MIN(number) FROM calls "
            "WHERE sequence NOT IN (SELECT sequence FROM cycles))"
        )[0]
        return int(found) if found is not None else _BEYOND_ALL_NUMBERS

    def _seal(self, sequences: Sequence[int], sealed_by: SealedBy) -> int:
        """Seal cycles; return how many there are."""
        cycles = self._all(
            "SELECT sequence, MIN(number), MAX(number), COUNT(*), SUM(size) "  # noqa: S608  # our own text
            f"FROM calls WHERE sequence IN {_LISTED} GROUP BY sequence ORDER BY MIN(number)",
            _list(sequences),
        )
        now = datetime.now(timezone.utc).isoformat()
        environment = self._described().environment
        added = []
        for sequence, first, *rest in cycles:
            is_new = self._connection.execute(
                "INSERT INTO cycles SELECT sequence, conversation_id, ?, ?, ? FROM calls "
                "WHERE number = ? ON CONFLICT (sequence) DO NOTHING",
                (sealed_by, now, environment, first),
            ).rowcount
            if is_new:
                added.append((sequence, first, *rest))
        for destination in self.destinations:
            self._address(added, destination)
        self.sealed_bytes += sum(cycle[-1] for cycle in added)
        return len(cycles)

    def _address(self, cycles: Sequence[tuple[int, int, int, int, int]], destination: str) -> None:
        self._connection.executemany(
            "INSERT INTO parcels (sequence, part, first, last, calls, size, destination) "
            "VALUES (?, '', ?, ?, ?, ?, ?)",
            [(*cycle, destination) for cycle in cycles if cycle[3] <= PARCEL_CALLS],
        )
        for sequence, *_, calls, _ in cycles:
            if calls > PARCEL_CALLS:
                rows = self._all(
                    "SELECT number FROM calls WHERE sequence = ? ORDER BY number", sequence
                )
                numbers = [row[0] for row in rows]
                for start in range(0, calls, PARCEL_CALLS):
                    self._add_part(sequence, numbers[start : start + PARCEL_CALLS], destination)


def _list(numbers: Iterable[int]) -> str:
    """Return the value of `_LISTED`; a statement has no room for any number of numbers."""
    return msgspec.json.encode(list(numbers)).decode()
