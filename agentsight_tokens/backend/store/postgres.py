"""The store in PostgreSQL 14 or newer, for as many servers as one likes."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from operator import itemgetter
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
from .call_row import ROW_COLUMNS, CallRow, call_rows
from .copying import COPY_OPTIONS, copied
from .cycle_row import CYCLE_COLUMNS, cycle_values
from .dialect import POSTGRESQL
from .group_commit import Batch, GroupCommit, batch_of, tally_of
from .partitions import Partition, ensure, expire, partition_of
from .repricing import reprice
from .rollup import CONVERSATION_FACTS, HOUR, HOURLY_KEY, upsert
from .tally import Additions, Tally
from .upgrading import HEAD, VERSION_QUERY

__all__ = ["PostgreSQLStore"]

_CallKey = tuple[int, str]
"""The project and the id of a call."""

_key_of: Final = itemgetter(*map(ROW_COLUMNS.index, ("project_id", "id")))
_AT: Final = ROW_COLUMNS.index("at")
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
_COMMITS_AT_ONCE: Final = 2
"""While the database works at one, the next one is brought to it."""


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
        self.on_alerts: Callable[[int], object] = int
        self._partitions: set[Partition] = set()
        self._commits = GroupCommit(self._commit, at_once=_COMMITS_AT_ONCE)
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
        calls = call_rows(project_id, cycles)
        try:
            lines = list(map(copied, calls))
        except (OverflowError, UnicodeError) as error:
            raise UnstorableError(str(error)) from error
        self._commits.submit(batch_of(project_id, cycles, calls, lines))

    def of_project(self, project_id: int) -> ProjectReader:
        """Return what reads one project, and nothing of any other."""
        return ProjectReader(self, project_id)

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        # Bytes that came as text would be twice as many, and slow to read.
        with self._pool.connection() as connection:
            return connection.execute(_translated(statement), values, binary=True).fetchall()

    @contextlib.contextmanager
    def transaction(self) -> Iterator[PostgreSQLTransaction]:
        """Return a block that is committed durably when it ends, and undone when it raises."""
        with self._pool.connection() as connection, connection.transaction():
            connection.execute("SET LOCAL statement_timeout = 0")
            transaction = PostgreSQLTransaction(connection)
            yield transaction
        if transaction.alerts:
            self.on_alerts(transaction.alerts)

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
        cycles = [
            (batch.project_id, *cycle_values(cycle)) for batch in batches for cycle in batch.cycles
        ]
        if not cycles:
            return
        calls: dict[_CallKey, tuple[CallRow, bytes]] = {}
        for batch in batches:
            for call in zip(batch.calls, batch.lines, strict=True):
                calls.setdefault(_key_of(call[0]), call)  # of the same id, the first one counts
        try:
            try:
                self._insert(batches, cycles, calls)
            except errors.CheckViolation:  # a partition is gone that was there
                self._partitions.clear()
                self._insert(batches, cycles, calls)
        except _UNSTORABLE as error:
            raise UnstorableError(str(error)) from error

    def _insert(
        self,
        batches: Sequence[Batch],
        cycles: Sequence[tuple[Any, ...]],
        calls: Mapping[_CallKey, tuple[CallRow, bytes]],
    ) -> None:
        ids = [(*key, row[_AT]) for key, (row, _) in calls.items()]
        self._make_partitions(at for *_, at in ids)
        with self._pool.connection() as connection, connection.transaction():
            transaction = PostgreSQLTransaction(connection)
            counted = self._counting.begin(transaction, {project_id for project_id, *_ in cycles})
            cursor = connection.cursor()
            cursor.execute(_TAKE_CYCLES, arrays(cycles))
            if not calls:
                return
            new = cursor.execute(_TAKE_IDS, arrays(ids)).fetchall()
            taken = calls.values() if len(new) == len(calls) else [calls[key] for key in new]
            with cursor.copy(_COPY) as copy:
                copy.write(b"".join([line for _, line in taken]))
                # While the database takes the calls in, they are added up.
                tally = tally_of(
                    batches,
                    [row for row, _ in taken],
                    step=HOUR if counted is None else counted.step,
                )
                additions = list(tally.additions())
            transaction.add_all(additions)
            if counted is not None:
                counted.add(tally.groups)
                counted.write(datetime.now(timezone.utc))
        if transaction.alerts:
            self.on_alerts(transaction.alerts)

    def _make_partitions(self, times: Iterable[int]) -> None:
        days = {at // _DAY for at in times}
        missing = {partition_of(day * _DAY) for day in days} - self._partitions
        if missing:
            with self.transaction() as transaction:
                ensure(transaction, missing)
            self._partitions |= missing


class PostgreSQLTransaction:
    """A transaction that is open; see `Transaction`."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection
        self.alerts = 0

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a statement."""
        return self._connection.execute(_translated(statement), values).fetchall()

    def run(self, statement: str, values: Sequence[object] = ()) -> int:
        """Run a statement; return how many rows it has changed."""
        return self._connection.execute(_translated(statement), values).rowcount

    def add(self, tally: Tally) -> None:
        """Add a tally to the tables of sums."""
        self.add_all(tally.additions())

    def add_all(self, found: Iterable[Additions]) -> None:
        """Add what a tally adds to each table of sums."""
        for additions in found:
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
