"""The embedded store: one SQLite file."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from threading import RLock
from typing import Any, Final

from agentsight_tokens.calls import calls_table, insert_calls, microseconds, record_values
from agentsight_tokens.cycle import Cycle
from agentsight_tokens.usage import UsageRecord

__all__ = ["STORE_FILE", "SQLiteStore"]

STORE_FILE: Final = "store.db"
"""The store's file within the data directory."""

_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS cycles (
  key TEXT PRIMARY KEY, conversation_id TEXT NOT NULL, sealed_by TEXT NOT NULL,
  opened_at INTEGER NOT NULL, sealed_at INTEGER NOT NULL, environment TEXT,
  calls INTEGER NOT NULL) STRICT;
{calls_table("number INTEGER PRIMARY KEY", "cycle_key TEXT NOT NULL", "environment TEXT")};
CREATE TABLE IF NOT EXISTS repricings (
  call_id TEXT NOT NULL, repriced_at INTEGER NOT NULL, cost_pico_usd INTEGER,
  prompt_cost_pico_usd INTEGER, completion_cost_pico_usd INTEGER, cost_status TEXT,
  price_key TEXT, price_version TEXT) STRICT;
CREATE INDEX IF NOT EXISTS repricings_by_call ON repricings (call_id);
CREATE INDEX IF NOT EXISTS calls_by_time ON calls (at);
CREATE INDEX IF NOT EXISTS calls_by_conversation ON calls (conversation_id, at);
"""
_COST_COLUMNS: Final = (
    "cost_pico_usd",
    "prompt_cost_pico_usd",
    "completion_cost_pico_usd",
    "cost_status",
    "price_key",
    "price_version",
)
_INSERT_CALL: Final = insert_calls("cycle_key", "environment")
_INSERT_CYCLE: Final = (
    "INSERT INTO cycles VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING"
)


class SQLiteStore:
    """Takes each cycle key and each record id once, for ever. Safe for threads and processes."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = RLock()
        self._connection = sqlite3.connect(
            path, timeout=30, isolation_level=None, check_same_thread=False
        )
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=FULL")
        self._connection.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()

    def __enter__(self) -> SQLiteStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ingest(self, cycles: Sequence[Cycle]) -> None:
        """
        Commit cycles durably; those that are there already change nothing.

        Raises:
            sqlite3.Error: If the disk did not take them; then nothing has changed.
        """
        # A record counts by its own id: a cycle that is known may hold one that is not, where
        # a call that was refused once is accepted now.
        with self._lock, self._transaction():
            self._connection.executemany(_INSERT_CYCLE, map(_cycle_values, cycles))
            self._connection.executemany(
                _INSERT_CALL,
                (
                    (cycle.key, cycle.environment, *record_values(record))
                    for cycle in cycles
                    for record in cycle.records
                ),
            )

    def reprice(self, records: Iterable[UsageRecord], *, repriced_at: datetime) -> int:
        """
        Give calls the cost of these records, and keep what they cost before beside it.

        Returns:
            How many calls have changed.
        """
        changed = 0
        columns = ", ".join(_COST_COLUMNS)
        assignments = ", ".join(f"{name} = ?" for name in _COST_COLUMNS)
        with self._lock, self._transaction():
            for record in records:
                self._connection.execute(
                    f"INSERT INTO repricings SELECT id, ?, {columns} FROM calls WHERE id = ?",  # noqa: S608  # our own names
                    (microseconds(repriced_at), record.id),
                )
                changed += self._connection.execute(
                    f"UPDATE calls SET {assignments} WHERE id = ?",  # noqa: S608  # our own names
                    (*(getattr(record, name) for name in _COST_COLUMNS), record.id),
                ).rowcount
        return changed

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self._lock:
            return self._connection.execute(statement, values).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise


def _cycle_values(cycle: Cycle) -> tuple[Any, ...]:
    return (
        cycle.key,
        cycle.conversation_id,
        cycle.sealed_by,
        microseconds(cycle.opened_at),
        microseconds(cycle.sealed_at),
        cycle.environment,
        cycle.calls,
    )
