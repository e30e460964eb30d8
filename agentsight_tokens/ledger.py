"""
The ledger of one process: its calls, its sealed cycles and what is still to be delivered.

The journal is folded into it when somebody reads or a cycle is sealed. A fold commits the
calls together with the position that it reached in the journal, so that each entry is taken
once. Sealing commits durably (`synchronous=FULL`); what was folded before is then durable too.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from threading import RLock
from typing import Any, Final, Literal, NamedTuple

from .calls import (
    CALL_COLUMNS,
    calls_table,
    insert_calls,
    record_values,
    records,
    selection,
    summarise_by_model,
    summary_columns,
)
from .cycle import Cycle, SealedBy, cycle_key
from .journal import read_journal, segments
from .summary import UsageSummary
from .usage import UsageRecord

__all__ = ["LEDGER_FILE", "PARCEL_CALLS", "Ledger", "Parcel", "ParcelState"]

LEDGER_FILE: Final = "ledger.db"
"""The ledger's file within the folder of its process."""
PARCEL_CALLS: Final = 1000
"""How many calls are delivered at once; a larger cycle is delivered in parts."""

ParcelState = Literal["pending", "delivered", "dead"]

_logger: Final = logging.getLogger("agentsight_tokens")
_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS folded (segment TEXT PRIMARY KEY, position INTEGER NOT NULL) STRICT;
{calls_table("number INTEGER PRIMARY KEY", "tracker INTEGER NOT NULL", "sequence INTEGER NOT NULL")};
CREATE INDEX IF NOT EXISTS calls_of_cycle ON calls (sequence, number);
CREATE TABLE IF NOT EXISTS cycles (
  sequence INTEGER PRIMARY KEY, conversation_id TEXT NOT NULL, sealed_by TEXT NOT NULL,
  sealed_at TEXT NOT NULL, environment TEXT) STRICT;
CREATE TABLE IF NOT EXISTS parcels (
  id INTEGER PRIMARY KEY, sequence INTEGER NOT NULL, part TEXT NOT NULL,
  first INTEGER NOT NULL, last INTEGER NOT NULL, destination TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'pending', reason TEXT) STRICT;
CREATE INDEX IF NOT EXISTS parcels_by_state ON parcels (state, destination, id);
"""
_INSERT: Final = insert_calls("tracker", "sequence")
_COLUMNS: Final = ", ".join(CALL_COLUMNS)


class Parcel(NamedTuple):
    """A cycle, or a part of one, on its way to one destination."""

    id: int
    cycle: Cycle


class Ledger:
    """The SQLite file beside a journal. Safe to use from several threads and processes."""

    def __init__(self, directory: Path, journal_id: str) -> None:
        self._directory = directory
        self.journal_id = journal_id
        self._lock = RLock()
        self.damaged = 0
        """Journal lines that could not be read; each was reported when it was met."""
        self._connection = sqlite3.connect(
            directory / LEDGER_FILE, timeout=30, isolation_level=None, check_same_thread=False
        )
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")
        self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fold(self) -> None:
        """Take over what the journal has got since the last fold."""
        with self._lock:
            for path in segments(self._directory):
                row = self._one("SELECT position FROM folded WHERE segment = ?", path.name)
                position = row[0] if row else 0
                if path.stat().st_size > position:
                    self._fold_segment(path, position)

    def fold_for_good(self, segment_in_use: str) -> None:
        """Fold durably, and delete the segments that were folded whole."""
        with self._lock:
            self.fold()
            with self._transaction(durable=True):
                # A commit that writes nothing would not be synced.
                self._connection.execute(
                    "INSERT OR REPLACE INTO meta VALUES ('segment', ?)", (segment_in_use,)
                )
            done = dict(self._all("SELECT segment, position FROM folded"))
            for path in segments(self._directory):
                if path.name < segment_in_use and path.stat().st_size <= done.get(path.name, -1):
                    path.unlink()

    def seal(self, sequence: int, *, sealed_by: SealedBy) -> bool:
        """
        Commit a cycle durably, and address it to the destinations of its process.

        Returns:
            Whether there is such a cycle; one without calls is none.

        Raises:
            sqlite3.Error: If the disk did not take it; then nothing has changed.
        """
        with self._lock:
            self.fold()
            with self._transaction(durable=True):
                return self._seal(sequence, sealed_by)

    def seal_the_rest(self, *, sealed_by: SealedBy) -> int:
        """Seal every open cycle; return how many there were."""
        with self._lock:
            self.fold()
            unsealed = self._all(
                "SELECT DISTINCT sequence FROM calls "
                "WHERE sequence NOT IN (SELECT sequence FROM cycles)"
            )
            with self._transaction(durable=True):
                for (sequence,) in unsealed:
                    self._seal(sequence, sealed_by)
            return len(unsealed)

    def describe(self, destinations: Sequence[str], environment: str | None) -> None:
        """Note where the cycles of this process go, for whoever seals them."""
        with self._lock, self._transaction():
            self._connection.executemany(
                "INSERT OR REPLACE INTO meta VALUES (?, ?)",
                [("destinations", "\n".join(destinations)), ("environment", environment or "")],
            )

    @property
    def destinations(self) -> tuple[str, ...]:
        """The identities of the destinations that this process delivers to."""
        return tuple(self._noted("destinations").split())

    def pending(self, destination: str | None = None) -> int:
        """Return how many parcels wait, for one destination or for any."""
        with self._lock:
            row = self._one(
                "SELECT COUNT(*) FROM parcels WHERE state = 'pending' "
                "AND destination = COALESCE(?, destination)",
                destination,
            )
        return int(row[0])

    def dead(self) -> int:
        """Return how many parcels a destination has refused."""
        with self._lock:
            return int(self._one("SELECT COUNT(*) FROM parcels WHERE state = 'dead'")[0])

    def state_of(self, sequence: int) -> tuple[ParcelState, str | None]:
        """Return what has become of a cycle, at all its destinations, and why."""
        with self._lock:
            states = dict(
                self._all(
                    "SELECT state, MAX(reason) FROM parcels WHERE sequence = ? GROUP BY 1", sequence
                )
            )
        for state in ("dead", "pending"):
            if state in states:
                return state, states[state]
        return "delivered", None

    def parcels(self, destination: str, *, limit: int = 100) -> list[Parcel]:
        """Return the oldest parcels for a destination, together at most 5,000 calls."""
        with self._lock:
            rows = self._all(
                "SELECT p.id, p.part, p.first, p.last, c.* FROM parcels p "
                "JOIN cycles c USING (sequence) "
                "WHERE p.state = 'pending' AND p.destination = ? ORDER BY p.id LIMIT ?",
                destination,
                limit,
            )
            found: list[Parcel] = []
            calls = 0
            for row in rows:
                parcel = self._parcel(row)
                found.append(parcel)
                calls += parcel.cycle.calls
                if calls >= 5 * PARCEL_CALLS:
                    break
        return found

    def mark(
        self, parcels: Sequence[int], state: ParcelState, *, reason: str | None = None
    ) -> None:
        """Note what has become of parcels."""
        with self._lock, self._transaction():
            self._connection.executemany(
                "UPDATE parcels SET state = ?, reason = ? WHERE id = ?",
                [(state, reason, parcel) for parcel in parcels],
            )

    def split(self, parcel: int) -> bool:
        """Halve a parcel, to find the call that a destination refuses; False if it is one."""
        with self._lock, self._transaction():
            sequence, first, last, destination = self._one(
                "SELECT sequence, first, last, destination FROM parcels WHERE id = ?", parcel
            )
            numbers = [
                row[0]
                for row in self._all(
                    "SELECT number FROM calls WHERE sequence = ? AND number BETWEEN ? AND ? "
                    "ORDER BY number",
                    sequence,
                    first,
                    last,
                )
            ]
            if len(numbers) < 2:
                return False
            half = len(numbers) // 2
            self._connection.execute("DELETE FROM parcels WHERE id = ?", (parcel,))
            for part in (numbers[:half], numbers[half:]):
                self._add_parcel(sequence, part, destination, is_whole=False)
            return True

    def summary(
        self, where: Mapping[str, Any], tracker: int | None = None, after: int = 0
    ) -> UsageSummary:
        """
        Add up the calls that a filter selects.

        Args:
            where: The filter, as `calls.selection` takes it.
            tracker: The number of the tracker that recorded them; all when not given.
            after: The number of a call; only later ones are taken.
        """
        condition, values = self._selection(where, tracker, after)
        with self._lock:
            self.fold()
            return summarise_by_model(
                self._connection.execute(
                    f"SELECT model, {summary_columns()} FROM calls WHERE {condition} GROUP BY 1",  # noqa: S608
                    values,
                )
            )

    def history(
        self, where: Mapping[str, Any], tracker: int | None = None, after: int = 0
    ) -> list[UsageRecord]:
        """Return the calls that a filter selects, oldest first; arguments as `summary`."""
        condition, values = self._selection(where, tracker, after)
        with self._lock:
            self.fold()
            return list(
                records(
                    self._connection.execute(
                        f"SELECT {_COLUMNS} FROM calls WHERE {condition} ORDER BY number",  # noqa: S608
                        values,
                    )
                )
            )

    def newest(self, where: Mapping[str, Any], tracker: int, after: int) -> UsageRecord | None:
        """Return the newest call that a filter selects; arguments as `summary`."""
        condition, values = self._selection(where, tracker, after)
        with self._lock:
            self.fold()
            rows = self._connection.execute(
                f"SELECT {_COLUMNS} FROM calls WHERE {condition} ORDER BY number DESC LIMIT 1",  # noqa: S608
                values,
            )
            return next(records(rows), None)

    def last_number(self) -> int:
        """Return the number of the newest call."""
        with self._lock:
            self.fold()
            return int(self._one("SELECT COALESCE(MAX(number), 0) FROM calls")[0])

    @staticmethod
    def _selection(
        where: Mapping[str, Any], tracker: int | None, after: int
    ) -> tuple[str, list[Any]]:
        condition, values = selection(where)
        if tracker is not None:
            condition, values = f"{condition} AND tracker = ?", [*values, tracker]
        return f"{condition} AND number > ?", [*values, after]

    def _fold_segment(self, path: Path, position: int) -> None:
        rows = []
        for entry in read_journal(path, position):
            position = entry.end
            if entry.record is None:
                self.damaged += 1
                _logger.error("%s: a damaged entry before byte %d was passed", path, position)
            else:
                rows.append((entry.tracker, entry.sequence, *record_values(entry.record)))
        with self._transaction():
            self._connection.executemany(_INSERT, rows)
            self._connection.execute(
                "INSERT OR REPLACE INTO folded VALUES (?, ?)", (path.name, position)
            )

    def _seal(self, sequence: int, sealed_by: SealedBy) -> bool:
        numbers = [
            row[0]
            for row in self._all(
                "SELECT number FROM calls WHERE sequence = ? ORDER BY number", sequence
            )
        ]
        if not numbers:
            return False
        now = datetime.now(timezone.utc).isoformat()
        added = self._connection.execute(
            "INSERT OR IGNORE INTO cycles "
            "SELECT sequence, conversation_id, ?, ?, ? FROM calls WHERE number = ?",
            (sealed_by, now, self._noted("environment") or None, numbers[0]),
        )
        if added.rowcount:
            for destination in self.destinations:
                for start in range(0, len(numbers), PARCEL_CALLS):
                    part = numbers[start : start + PARCEL_CALLS]
                    self._add_parcel(
                        sequence, part, destination, is_whole=len(part) == len(numbers)
                    )
        return True

    def _add_parcel(
        self, sequence: int, numbers: Sequence[int], destination: str, *, is_whole: bool
    ) -> None:
        part = "" if is_whole else f"{numbers[0]}-{numbers[-1]}"
        self._connection.execute(
            "INSERT INTO parcels (sequence, part, first, last, destination) VALUES (?, ?, ?, ?, ?)",
            (sequence, part, numbers[0], numbers[-1], destination),
        )

    def _parcel(self, row: Sequence[Any]) -> Parcel:
        id, part, first, last, sequence, conversation_id, sealed_by, sealed_at, environment = row
        calls = records(
            self._connection.execute(
                f"SELECT {_COLUMNS} FROM calls WHERE sequence = ? AND number BETWEEN ? AND ? "  # noqa: S608
                "ORDER BY number",
                (sequence, first, last),
            )
        )
        return Parcel(
            id,
            Cycle.of(
                list(calls),
                key=cycle_key(self.journal_id, conversation_id, sequence, part),
                conversation_id=conversation_id,
                sealed_by=sealed_by,
                sealed_at=datetime.fromisoformat(sealed_at),
                environment=environment,
            ),
        )

    @contextlib.contextmanager
    def _transaction(self, *, durable: bool = False) -> Iterator[None]:
        if durable:
            self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise
        finally:
            if durable:
                self._connection.execute("PRAGMA synchronous=NORMAL")

    def _noted(self, name: str) -> str:
        with self._lock:
            row = self._one("SELECT value FROM meta WHERE name = ?", name)
        return str(row[0]) if row else ""

    def _all(self, statement: str, *values: object) -> list[Any]:
        return self._connection.execute(statement, values).fetchall()

    def _one(self, statement: str, *values: object) -> Any:
        return self._connection.execute(statement, values).fetchone()
