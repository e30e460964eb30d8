"""A transaction of the store in SQLite."""

from __future__ import annotations

import functools
import re
import sqlite3
from collections.abc import Sequence
from itertools import chain, compress
from typing import Any, Final

from .rollup import upsert
from .tally import Tally

__all__ = ["SQLiteTransaction"]

_ROWS_AT_ONCE: Final = (64, 8, 1)
"""The largest has fewer values than the 32,766 that one statement can have."""

_MARKS: Final = re.compile(r"(?<=VALUES )\([?, ]+\)")


class SQLiteTransaction:
    """A transaction that is open; see `Transaction`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.alerts = 0

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
        for their turn, which costs more than the rows do. And where a column is empty in all rows,
        the statement says so: to hand a value over costs as much as to store it, and of a call
        most columns are empty.
        """
        columns = list(zip(*rows, strict=True))
        marks = tuple([_mark(column) for column in columns])
        filled = list(compress(columns, [mark == "?" for mark in marks]))
        values = list(chain.from_iterable(zip(*filled, strict=True)))
        before = self._connection.total_changes
        done = 0
        for size in _ROWS_AT_ONCE:
            width = size * len(filled)
            for _ in range((len(rows) - done) // size):
                start = done * len(filled)
                text = _of_rows(statement, marks, size)
                self._connection.execute(text, values[start : start + width])
                done += size
        return self._connection.total_changes - before

    def add(self, tally: Tally) -> None:
        """Add a tally to the tables of sums."""
        for additions in tally.additions():
            self.add_to(*additions)

    def add_to(self, table: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Add rows of sums to their table."""
        self.many(_adding(table, tuple(columns)), rows)


def _mark(column: Sequence[object]) -> str:
    """Return what stands for a column's values: a mark, or the one nothing that they all are."""
    first = column[0]
    if first is None or first == 0:
        return "?" if column.count(first) < len(column) else "NULL" if first is None else "0"
    return "?"


@functools.lru_cache(maxsize=256)
def _of_rows(statement: str, marks: Sequence[str], size: int) -> str:
    row = f"({', '.join(marks)})"
    return _MARKS.sub(lambda _: ", ".join([row] * size), statement)


@functools.lru_cache(maxsize=256)
def _adding(table: str, columns: tuple[str, ...]) -> str:
    marks = ", ".join("?" * len(columns))
    return upsert(table, columns, f"VALUES ({marks})")
