"""The store in one SQLite file: the embedded one, and the server's by default."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timezone
from operator import itemgetter
from pathlib import Path
from queue import Empty, LifoQueue
from threading import RLock
from typing import Any, Final

import msgspec

from agentsight_tokens.calls import insert_calls, microseconds
from agentsight_tokens.cycle import Cycle
from agentsight_tokens.errors import UnstorableError
from agentsight_tokens.forks import ForkGuard
from agentsight_tokens.usage import UsageRecord
from agentsight_tokens.write_ahead import write_ahead

from .base import DEFAULT_PROJECT_ID, ProjectReader
from .budget_counting import PROJECTS_WITH_BUDGETS, Counting, forget_windows
from .call_row import ROW_COLUMNS, CallRow, call_rows
from .cycle_row import cycle_values
from .dialect import SQLITE
from .group_commit import Batch, GroupCommit, batch_of, tally_of
from .repricing import reprice
from .rollup import HOUR
from .sqlite_schema import CALL_KEY, prepare
from .sqlite_transaction import SQLiteTransaction

__all__ = ["STORE_FILE", "SQLiteStore"]

STORE_FILE: Final = "store.db"
"""The store's file within the data directory."""

_INSERT_CALL: Final = insert_calls("project_id", "cycle_key", "environment", unique=CALL_KEY)
_INSERT_CYCLE: Final = (
    "INSERT INTO cycles VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (project_id, key) DO NOTHING"
)
_key_of: Final = itemgetter(*map(ROW_COLUMNS.index, CALL_KEY))
_EXPIRED: Final = (
    "SELECT project_id, id FROM expired_records WHERE (project_id, id) IN "
    "(SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?))"
)
_PAGES_IN_THE_LOG: Final = 4_000
"""16 MB: a page of the sums that each commit changes is moved to its place once for many."""

_UNSTORABLE: Final = (
    sqlite3.DataError,
    sqlite3.IntegrityError,
    sqlite3.InterfaceError,
    OverflowError,
    TypeError,
    ValueError,
)
_MEMORY: Final = Path(":memory:")
_BUSY_SECONDS: Final = 30.0
"""How long a statement waits for another process."""


class SQLiteStore:
    """A store in a file that threads and processes of one machine share; see `Store`."""

    dialect: Final = SQLITE
    outages: Final = (sqlite3.DatabaseError, OSError)

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self.on_alerts: Callable[[int], object] = int
        self._lock = RLock()
        self._commits = GroupCommit(self._commit)
        self._counting = Counting(SQLITE)
        self._readers: LifoQueue[sqlite3.Connection] = LifoQueue()
        self._fork_guard = ForkGuard(self._lock)
        with self._lock:
            self._connection = self._connect()
            try:
                write_ahead(self._connection, seconds=_BUSY_SECONDS)
                self._connection.execute("PRAGMA synchronous=FULL")
                self._connection.execute(f"PRAGMA wal_autocheckpoint={_PAGES_IN_THE_LOG}")
                prepare(self._connection)
            except BaseException:
                self._connection.close()
                raise

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._connection.close()
        with contextlib.suppress(Empty):
            while True:
                self._readers.get_nowait().close()

    def __enter__(self) -> SQLiteStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ingest(self, cycles: Sequence[Cycle], *, project_id: int = DEFAULT_PROJECT_ID) -> None:
        """
        Commit cycles durably; those that are there already change nothing.

        Raises:
            UnstorableError: For what is in a cycle; nothing has changed.
            sqlite3.Error: If the disk did not take them; nothing has changed.
        """
        self._commits.submit(batch_of(project_id, cycles, call_rows(project_id, cycles)))

    def of_project(self, project_id: int) -> ProjectReader:
        """Return what reads one project, and nothing of any other."""
        return ProjectReader(self, project_id)

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query; writers do not hold it up."""
        if self._path == _MEMORY:
            with self._lock:
                return self._connection.execute(statement, values).fetchall()
        try:
            reader = self._readers.get_nowait()
        except Empty:
            reader = self._connect()
            reader.execute("PRAGMA query_only=ON")
        try:
            return reader.execute(statement, values).fetchall()
        finally:
            self._readers.put(reader)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[SQLiteTransaction]:
        """Return a block that is committed durably when it ends, and undone when it raises."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                transaction = SQLiteTransaction(self._connection)
                yield transaction
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
        if transaction.alerts:
            self.on_alerts(transaction.alerts)

    def reprice(
        self,
        records: Iterable[UsageRecord],
        *,
        repriced_at: datetime,
        project_id: int = DEFAULT_PROJECT_ID,
    ) -> int:
        """
        Give calls the cost of these records, and keep what they cost before beside it.

        Returns:
            How many calls have changed.
        """
        with self.transaction() as transaction:
            counted = self._counting.begin(transaction, [project_id])
            return reprice(
                transaction,
                records,
                repriced_at=repriced_at,
                project_id=project_id,
                counted=counted,
            )

    def expire(self, before: datetime) -> int:
        """Forget the calls of all months that end before a time; see `Store.expire`."""
        utc = before.astimezone(timezone.utc)
        first = microseconds(datetime(utc.year, utc.month, 1, tzinfo=timezone.utc))
        with self.transaction() as transaction:
            transaction.run(
                "INSERT INTO expired_records SELECT project_id, id FROM calls WHERE at < ? "
                "ON CONFLICT DO NOTHING",
                (first,),
            )
            transaction.run("DELETE FROM conversations WHERE last_at < ?", (first,))
            transaction.run("DELETE FROM packed_calls WHERE start < ?", (first,))
            for (project_id,) in transaction.rows(PROJECTS_WITH_BUDGETS):
                forget_windows(transaction, SQLITE, project_id, utc)
            return transaction.run("DELETE FROM calls WHERE at < ?", (first,))

    def check(self) -> None:
        """See whether the store can be used; the file has had its tables since it was opened."""
        self.rows("SELECT 1 FROM calls LIMIT 1")

    def _commit(self, batches: Sequence[Batch]) -> None:
        # A record counts by its own id: a cycle that is known may hold one that is not, where
        # a call that was refused once is accepted now.
        try:
            with self.transaction() as transaction:
                counted = self._counting.begin(transaction, {batch.project_id for batch in batches})
                tally = tally_of(
                    batches,
                    self._insert(transaction, batches),
                    step=HOUR if counted is None else counted.step,
                )
                transaction.add(tally)
                if counted is not None:
                    counted.add(tally.groups)
                    counted.write(datetime.now(timezone.utc))
        except _UNSTORABLE as error:
            raise UnstorableError(str(error)) from error

    def _insert(
        self, transaction: SQLiteTransaction, batches: Sequence[Batch]
    ) -> Sequence[CallRow]:
        """Insert batches; return the calls that were not there."""
        rows = self._without_expired(transaction, [row for batch in batches for row in batch.calls])
        cycles = [
            (batch.project_id, *cycle_values(cycle)) for batch in batches for cycle in batch.cycles
        ]
        [(last,)] = transaction.rows("SELECT COALESCE(MAX(number), 0) FROM calls")
        transaction.many(_INSERT_CYCLE, cycles)
        if transaction.many(_INSERT_CALL, rows) == len(rows):
            return rows
        by_key = {_key_of(row): row for row in reversed(rows)}
        new = transaction.rows("SELECT project_id, id FROM calls WHERE number > ?", (last,))
        return [by_key[key] for key in new]

    def _without_expired(
        self, transaction: SQLiteTransaction, rows: Sequence[CallRow]
    ) -> Sequence[CallRow]:
        """Return the calls that the store has not forgotten: those were counted once."""
        if not transaction.rows("SELECT 1 FROM expired_records LIMIT 1"):
            return rows
        keys = msgspec.json.encode([_key_of(row) for row in rows]).decode()
        found = set(transaction.rows(_EXPIRED, (keys,)))
        return [row for row in rows if _key_of(row) not in found] if found else rows

    def _connect(self) -> sqlite3.Connection:
        return sqlite3.connect(
            self._path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
