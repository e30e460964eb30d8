"""A transaction of the store in SQLite."""

from __future__ import annotations

import functools
import re
import sqlite3
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

from .rollup import upsert
from .tally import Tally

__all__ = ["SQLiteTransaction"]

_ROWS_AT_ONCE: Final = 50
"""Their values are fewer than the 32,766 that one statement can have."""

_MARKS: Final = re.compile(r"(?<=VALUES )\([?, ]+\)")


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

    def many(self, statement: str, rows: Sequence[Sequence[object]]) -> int:
        """
        Run `INSERT ... VALUES (?, ...) ...` for each of many rows; return how many it has changed.

        Many rows at a time: between one statement and the next all other threads of Python fight
        for their turn, which costs more than the rows do.
        """
        before = self._connection.total_changes
        whole = len(rows) - len(rows) % _ROWS_AT_ONCE
        for first in range(0, whole, _ROWS_AT_ONCE):
            values = list(chain.from_iterable(rows[first : first + _ROWS_AT_ONCE]))
            self._connection.execute(_of_many_rows(statement), values)
        self._connection.executemany(statement, rows[whole:])
        return self._connection.total_changes - before

    def add(self, tally: Tally) -> None:
        """Add a tally to the tables of sums."""
        for additions in tally.additions():
            self.add_to(*additions)

    def add_to(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Add rows of sums to their table."""
        marks = ", ".join("?" * len(columns))
        self.many(upsert(table, columns, f"VALUES ({marks})"), rows)


@functools.lru_cache(maxsize=256)
def _of_many_rows(statement: str) -> str:
    return _MARKS.sub(lambda marks: ", ".join([marks[0]] * _ROWS_AT_ONCE), statement)
