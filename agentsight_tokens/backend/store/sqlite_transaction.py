"""A transaction of the store in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from .rollup import upsert
from .tally import Tally

__all__ = ["SQLiteTransaction"]


class SQLiteTransaction:
    """A transaction that is open; see `Transaction`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a statement."""
        return self._connection.execute(statement, values).fetchall()

    def run(self, statement: str, values: Sequence[object] = ()) -> int:
        """Run a statement; return how many rows it has changed."""
        return self._connection.execute(statement, values).rowcount

    def many(self, statement: str, rows: Iterable[Sequence[object]]) -> int:
        """Run a statement for each of many rows; return how many it has changed."""
        before = self._connection.total_changes
        self._connection.executemany(statement, rows)
        return self._connection.total_changes - before

    def add(self, tally: Tally) -> None:
        """Add a tally to the tables of sums."""
        for additions in tally.additions():
            self.add_to(*additions)

    def add_to(self, table: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Add rows of sums to their table."""
        marks = ", ".join("?" * len(columns))
        self.many(upsert(table, columns, f"VALUES ({marks})"), rows)
