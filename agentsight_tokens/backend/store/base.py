"""What every store does, and how a query of one project is kept to that project."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Final, Protocol

from agentsight_tokens.cycle import Cycle
from agentsight_tokens.usage import UsageRecord

from .dialect import Dialect
from .tally import Tally

__all__ = [
    "DEFAULT_PROJECT_ID",
    "PROJECT_TABLES",
    "ProjectReader",
    "Reader",
    "Store",
    "Transaction",
]

DEFAULT_PROJECT_ID: Final = 1
"""The project `default` of the organisation `default`, which every store has."""

PROJECT_TABLES: Final[tuple[str, ...]] = (
    "alerts",
    "budget_usage",
    "budgets",
    "calls",
    "conversations",
    "cycles",
    "dimension_usage",
    "hourly_usage",
    "model_usage",
    "packed_calls",
    "repricings",
    "webhook_deliveries",
)
"""The tables whose rows belong to a project."""


class Reader(Protocol):
    """Whatever answers queries."""

    @property
    def dialect(self) -> Dialect:
        """How the database's SQL differs from others'."""

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query; `?` stands for a value."""


class Transaction(Protocol):
    """Reads and writes that take place together or not at all."""

    alerts: int
    """How many alerts it gives."""

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a statement; `?` stands for a value."""

    def run(self, statement: str, values: Sequence[object] = ()) -> int:
        """Run a statement; return how many rows it has changed."""

    def add(self, tally: Tally) -> None:
        """Add a tally to the tables of sums."""


class Store(Reader, Protocol):
    """
    Takes each cycle key and each record id of a project once, for ever.

    Safe for threads and processes. Its tables are the same in every database; times are
    microseconds since 1970 UTC. Its own `rows` reads over all projects: what answers a request
    reads through `of_project`.
    """

    on_alerts: Callable[[int], object]
    """Is told how many alerts a transaction of this process has given, once it is committed."""

    @property
    def outages(self) -> tuple[type[Exception], ...]:
        """What is raised while the database cannot be used; it may be tried again."""

    def ingest(self, cycles: Sequence[Cycle], *, project_id: int = DEFAULT_PROJECT_ID) -> None:
        """
        Commit cycles durably, all or none; what is there already changes nothing.

        Raises:
            UnstorableError: For what is in a cycle; nothing has changed.
            Exception: If the database did not take them; nothing has changed.
        """

    def of_project(self, project_id: int) -> ProjectReader:
        """Return what reads one project, and nothing of any other."""

    def transaction(self) -> AbstractContextManager[Transaction]:
        """Return a block that is committed durably when it ends, and undone when it raises."""

    def reprice(
        self,
        records: Iterable[UsageRecord],
        *,
        repriced_at: datetime,
        project_id: int = DEFAULT_PROJECT_ID,
    ) -> int:
        """Give calls the cost of these records, keep the old one beside it; return how many."""

    def expire(self, before: datetime) -> int:
        """
        Forget the calls of all months that end before a time, and the conversations.

        Sums by hour, day and month stay, and so do the ids. Budgets forget the windows that were
        over by then.

        Returns:
            How many calls, as nearly as the database knows.
        """

    def check(self) -> None:
        """
        See whether the store can be used.

        Raises:
            StorageError: If its schema is not the one of this version; the message tells how
                to get there.
            Exception: If the database does not answer.
        """

    def close(self) -> None:
        """Close the connections."""


class ProjectReader:
    """
    Reads one project.

    Every table of a query is replaced by the project's rows in it, so that no query can forget
    to ask for its project.
    """

    def __init__(self, reader: Reader, project_id: int) -> None:
        self._reader = reader
        self.project_id: Final = project_id
        self._tables: Final = "WITH " + ", ".join(
            _of_project(table, reader.dialect.schema, project_id) for table in PROJECT_TABLES
        )

    @property
    def dialect(self) -> Dialect:
        """How the database's SQL differs from others'."""
        return self._reader.dialect

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query of this project; `?` stands for a value."""
        query = statement.lstrip()
        joint = ", " if query[:5].upper() == "WITH " else " "
        return self._reader.rows(
            self._tables + joint + (query[5:] if joint == ", " else query), values
        )


def _of_project(table: str, schema: str, project_id: int) -> str:
    rows = f"SELECT * FROM {schema}{table} WHERE project_id = {int(project_id)}"  # noqa: S608  # our own names
    return f"{table} AS NOT MATERIALIZED ({rows})"
