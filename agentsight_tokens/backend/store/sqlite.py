"""The embedded store: one SQLite file."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import RLock
from typing import Any, Final

from agentsight_tokens.calls import calls_table, insert_calls, microseconds, record_values
from agentsight_tokens.cycle import Cycle

__all__ = ["STORE_FILE", "SQLiteStore"]

STORE_FILE: Final = "store.db"
"""The store's file within the data directory."""

_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS cycles (
  key TEXT PRIMARY KEY, conversation_id TEXT NOT NULL, sealed_by TEXT NOT NULL,
  opened_at INTEGER NOT NULL, sealed_at INTEGER NOT NULL, environment TEXT,
  calls INTEGER NOT NULL) STRICT;
{calls_table("number INTEGER PRIMARY KEY", "cycle_key TEXT NOT NULL", "environment TEXT")};
CREATE INDEX IF NOT EXISTS calls_by_time ON calls (at);
CREATE INDEX IF NOT EXISTS calls_by_conversation ON calls (conversation_id, at);
"""
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
