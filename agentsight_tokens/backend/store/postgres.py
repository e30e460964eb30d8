"""The store in PostgreSQL 14 or newer, for as many servers as one likes."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Final

import psycopg
from psycopg import errors
from psycopg_pool import ConnectionPool

from agentsight_tokens.cycle import Cycle
from agentsight_tokens.errors import StorageError, UnstorableError
from agentsight_tokens.usage import UsageRecord

from .arrays import arrays
from .base import DEFAULT_PROJECT_ID, ProjectReader
from .budget_counting import PROJECTS_WITH_BUDGETS, Counting, forget_windows
from .copying import COPY_OPTIONS, copied
from .cycle_row import CYCLE_COLUMNS, cycle_values
from .dialect import POSTGRESQL
from .group_commit import Batch, GroupCommit
from .incoming import ROW_COLUMNS, IncomingCall, incoming_calls
from .partitions import Partition, ensure, expire, partition_of
from .repricing import reprice
from .rollup import CONVERSATION_FACTS, HOURLY_KEY, upsert
from .tally import Tally
from .upgrading import HEAD, VERSION_QUERY

__all__ = ["PostgreSQLStore"]

_Connection = psycopg.Connection[tuple[Any, ...]]

_DAY: Final = 86_400_000_000
"""Microseconds; a partition is of whole days."""
_COPY: Final = f"COPY calls ({', '.join(ROW_COLUMNS)}) FROM STDIN WITH ({COPY_OPTIONS})"
# In the order of the key: transactions that bring the same rows wait for one another, and never
# in a circle.
_TAKE_IDS: Final = (
    "INSERT INTO record_ids (project_id, id, at) "
    "SELECT * FROM unnest(%s::bigint[], %s::text[], %s::bigint[]) AS incoming (project_id, id) "
    "ORDER BY project_id, id ON CONFLICT (project_id, id) DO NOTHING RETURNING project_id, id"
)
_CYCLE_ARRAYS: Final = [
    f"%s::{'bigint' if name in {'opened_at', 'sealed_at', 'calls'} else 'text'}[]"
    for name in CYCLE_COLUMNS
]
_TAKE_CYCLES: Final = (
    f"INSERT INTO cycles (project_id, {', '.join(CYCLE_COLUMNS)}) "  # noqa: S608  # our own names
    f"SELECT * FROM unnest(%s::bigint[], {', '.join(_CYCLE_ARRAYS)}) "
    "AS cycle (project_id, key) ORDER BY project_id, key ON CONFLICT (project_id, key) DO NOTHING"
)
_TEXTS: Final = frozenset(
    (
        *HOURLY_KEY[2:],
        *("dimension", "period", "value"),
        *("conversation_id", *CONVERSATION_FACTS),
    )
)
"""The columns of the tables of sums that are no numbers."""

_UNSTORABLE: Final = (
    psycopg.DataError,
    psycopg.IntegrityError,
    errors.ProgramLimitExceeded,  # a text that is too long for an index
    OverflowError,
    UnicodeError,
)
_SECONDS_FOR_A_CONNECTION: Final = 10.0


class PostgreSQLStore:
    """A store that servers on many machines share; see `Store`."""

    dialect: Final = POSTGRESQL
    outages: Final = (psycopg.OperationalError, psycopg.InterfaceError)

    def __init__(
        self, database_url: str, *, connections: int = 8, longest_seconds: float = 60.0
    ) -> None:
        """
        Connect to a database.

        Args:
            database_url: `postgresql://user:password@host:port/database`.
            connections: How many connections to have at most.
            longest_seconds: After which a query is given up; a transaction never is.
        """
        self._partitions: set[Partition] = set()
        self._commits = GroupCommit(self._commit)
        self._counting = Counting(POSTGRESQL)
        self._pool: ConnectionPool[_Connection] = ConnectionPool(
            database_url,
            min_size=1,
            max_size=connections,
            timeout=_SECONDS_FOR_A_CONNECTION,
            kwargs={"autocommit": True, "application_name": "agentsight-tokens"},
            configure=_bounding(longest_seconds),
            check=ConnectionPool.check_connection,
            open=True,
        )

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def __enter__(self) -> PostgreSQLStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ingest(self, cycles: Sequence[Cycle], *, project_id: int = DEFAULT_PROJECT_ID) -> None:
        """
        Commit cycles durably; those that are there already change nothing.

        Raises:
            UnstorableError: For what is in a cycle; nothing has changed.
            psycopg.Error: If the database did not take them, or did not say so.
        """
        calls = incoming_calls(project_id, cycles, written=copied)
        self._commits.submit(Batch(project_id, cycles, calls))

    def of_project(self, project_id: int) -> ProjectReader:
        """Return what reads one project, and nothing of any other."""
        return ProjectReader(self, project_id)

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        with self._pool.connection() as connection:
            return connection.execute(_translated(statement), values).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[PostgreSQLTransaction]:
        """Return a block that is committed durably when it ends, and undone when it raises."""
        with self._pool.connection() as connection, connection.transaction():
            connection.execute("SET LOCAL statement_timeout = 0")
            yield PostgreSQLTransaction(connection)

    def reprice(
        self,
        records: Iterable[UsageRecord],
        *,
        repriced_at: datetime,
        project_id: int = DEFAULT_PROJECT_ID,
    ) -> int:
        """Give calls the cost of these records, keep the old one beside it; return how many."""
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
        """Drop the partitions of all months that end before a time; see `Store.expire`."""
        for (project_id,) in self.rows(PROJECTS_WITH_BUDGETS):
            with self.transaction() as transaction:
                forget_windows(transaction, POSTGRESQL, project_id, before)
        with self.transaction() as transaction:
            return expire(transaction, before)

    def check(self) -> None:
        """
        See whether the database answers, and has the tables of this version.

        Raises:
            StorageError: If it has others; the message tells the way out.
        """
        try:
            [(version,)] = self.rows(VERSION_QUERY)
        except errors.UndefinedTable:
            version = None
        if version == HEAD:
            return
        if version is None or version < HEAD:
            state = "has no tables" if version is None else f"is of version {version}"
            raise StorageError(f"the database {state}: run `agentsight-tokens db upgrade`")
        raise StorageError(
            f"the database is of version {version} and this program knows {HEAD}: "
            "install the newer agentsight-tokens"
        )

    def _commit(self, batches: Sequence[Batch]) -> None:
        cycles = [(id, *cycle_values(cycle)) for id, cycles, _ in batches for cycle in cycles]
        if not cycles:
            return
        calls: dict[tuple[int, str], IncomingCall] = {}
        for batch in batches:
            for call in batch.calls:  # of the same id, the first one counts
                calls.setdefault((batch.project_id, call.record.id), call)
        try:
            try:
                self._insert(cycles, calls)
            except errors.CheckViolation:  # a partition is gone that was there
                self._partitions.clear()
                self._insert(cycles, calls)
        except _UNSTORABLE as error:
            raise UnstorableError(str(error)) from error

    def _insert(
        self,
        cycles: Sequence[tuple[Any, ...]],
        calls: Mapping[tuple[int, str], IncomingCall],
    ) -> None:
        self._make_partitions(calls.values())
        with self._pool.connection() as connection, connection.transaction():
            transaction = PostgreSQLTransaction(connection)
            counted = self._counting.begin(transaction, {project_id for project_id, *_ in cycles})
            cursor = connection.cursor()
            cursor.execute(_TAKE_CYCLES, arrays(cycles))
            if not calls:
                return
            ids = [(*key, call.entry.at) for key, call in calls.items()]
            new = cursor.execute(_TAKE_IDS, arrays(ids)).fetchall()
            taken = calls.values() if len(new) == len(calls) else [calls[key] for key in new]
            tally = Tally()
            with cursor.copy(_COPY) as copy:
                copy.write(b"".join([call.row for call in taken]))
            for call in taken:
                tally.add(call.entry)
                if counted is not None:
                    counted.add(call.entry.group[0], call.cycle.environment, call.record)
            transaction.add(tally)
            if counted is not None:
                counted.write(datetime.now(timezone.utc))

    def _make_partitions(self, calls: Iterable[IncomingCall]) -> None:
        days = {call.entry.at // _DAY for call in calls}
        missing = {partition_of(day * _DAY) for day in days} - self._partitions
        if missing:
            with self.transaction() as transaction:
                ensure(transaction, missing)
            self._partitions |= missing


class PostgreSQLTransaction:
    """A transaction that is open; see `Transaction`."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a statement."""
        return self._connection.execute(_translated(statement), values).fetchall()

    def run(self, statement: str, values: Sequence[object] = ()) -> int:
        """Run a statement; return how many rows it has changed."""
        return self._connection.execute(_translated(statement), values).rowcount

    def add(self, tally: Tally) -> None:
        """Add a tally to the tables of sums."""
        for additions in tally.additions():
            if additions.rows:
                statement = _adding(additions.table, additions.columns)
                self._connection.execute(statement, arrays(additions.rows))


@functools.lru_cache(maxsize=256)
def _adding(table: str, columns: tuple[str, ...]) -> bytes:
    kinds = [f"%s::{'text' if name in _TEXTS else 'bigint'}[]" for name in columns]
    source = f"SELECT * FROM unnest({', '.join(kinds)})"  # noqa: S608  # our own names
    return upsert(table, columns, source).encode()


def _bounding(seconds: float) -> Callable[[_Connection], None]:
    def bound(connection: _Connection) -> None:
        connection.execute(
            # No query is so long that what compiling it costs comes back.
            "SELECT set_config('statement_timeout', %s, false), set_config('jit', 'off', false)",
            (f"{seconds * 1000:.0f}ms",),
        )

    return bound


@functools.lru_cache(maxsize=1024)
def _translated(statement: str) -> bytes:
    """Return a statement as the driver takes it."""
    return statement.replace("%", "%%").replace("?", "%s").encode()
