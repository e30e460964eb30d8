"""
The calls of one process, as its ledger keeps them: folded from the journal, summed and listed.

A fold commits the calls together with the position that it reached in the journal, so that
each entry is taken once.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final

from .calls import (
    CALL_COLUMNS,
    group_statement,
    grouped,
    insert_calls,
    record_values,
    records,
    selection,
    summarise_by_model,
    summary_columns,
)
from .journal import HELD_LIMIT, JournalEntry, read_journal, read_lines, segments
from .ledger_file import LedgerFile, repairing
from .summary import UsageSummary
from .usage import UsageRecord

__all__ = ["CallHistory"]

FOLD_CALLS: Final = 100
"""How many calls a fold takes over in one transaction."""

_logger: Final = logging.getLogger("agentsight_tokens")
_INSERT: Final = insert_calls("tracker", "sequence", "size")
_COLUMNS: Final = ", ".join(CALL_COLUMNS)


class CallHistory(LedgerFile):
    """The calls of one process."""

    held: Callable[[], Iterable[bytes]] = staticmethod(tuple)
    """Returns the entries that the journal holds in memory."""
    take_held: Callable[[int], list[bytes]] = staticmethod(lambda limit: [])
    """Takes entries out of the memory of the journal, while the ledger is in memory too."""

    @property
    def damaged(self) -> int:
        """Journal lines that could not be read; each was reported when it was met."""
        with self.lock:
            return int(self._one("SELECT COALESCE(SUM(damaged), 0) FROM folded")[0])

    @property
    def lost(self) -> int:
        """Calls that neither the disk nor the memory could hold."""
        return int(self._noted("lost") or 0)

    @repairing
    def note_lost(self, calls: int) -> None:
        """Keep the number of calls that were lost, for whoever asks later."""
        with self._transaction():
            self._note("lost", calls)

    @repairing
    def fold(self, breathe: Callable[[], None] = lambda: None) -> None:
        """
        Take over what the journal has got since the last fold.

        Args:
            breathe: Called now and then, so that other threads get their turn.
        """
        if self._in_memory:
            self._fold_held()
            return
        for path in segments(self._directory):
            row = self._one("SELECT position FROM folded WHERE segment = ?", path.name)
            position = row[0] if row else 0
            if path.stat().st_size > position:
                self._fold_segment(path, position, breathe)

    @repairing
    def damaged_segments(self) -> dict[str, str]:
        """Return what is wrong with segments that nobody writes to any more, by their name."""
        folded = {name: rest for name, *rest in self._all("SELECT * FROM folded")}
        found = {}
        for path in segments(self._directory):
            position, _, damaged = folded.get(path.name, (0, 0, 0))
            tail = path.stat().st_size - position
            if damaged or tail > 0:
                found[path.name] = f"{damaged} damaged entries, {max(tail, 0)} bytes of a torn one"
        return found

    @repairing
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
        return summarise_by_model(
            self._select(
                f"SELECT model, {summary_columns()} FROM calls WHERE {condition} GROUP BY 1",  # noqa: S608
                values,
            )
        )

    @repairing
    def groups(
        self, dimensions: Sequence[str], where: Mapping[str, Any], tracker: int, after: int
    ) -> dict[str | tuple[str | None, ...] | None, UsageSummary]:
        """
        Add up the calls that a filter selects, by group.

        Args:
            dimensions: As `calls.group_statement` takes them.
            where: This and the others as in `summary`.
            tracker: The number of the tracker.
            after: The number of a call.
        """
        condition, values = self._selection(where, tracker, after)
        rows = self._select(group_statement(dimensions, condition), values)
        return grouped(rows, len(dimensions))

    @repairing
    def history(
        self, where: Mapping[str, Any], tracker: int | None = None, after: int = 0
    ) -> list[UsageRecord]:
        """Return the calls that a filter selects, oldest first; arguments as `summary`."""
        condition, values = self._selection(where, tracker, after)
        statement = f"SELECT {_COLUMNS} FROM calls WHERE {condition} ORDER BY number"  # noqa: S608
        return list(records(self._select(statement, values)))

    @repairing
    def newest(self, where: Mapping[str, Any], tracker: int, after: int) -> UsageRecord | None:
        """Return the newest call that a filter selects; arguments as `summary`."""
        condition, values = self._selection(where, tracker, after)
        statement = f"SELECT {_COLUMNS} FROM calls WHERE {condition} ORDER BY number DESC LIMIT 1"  # noqa: S608
        return next(records(self._select(statement, values)), None)

    @repairing
    def last_number(self) -> int:
        """Return the number of the newest call."""
        return int(self._select("SELECT COALESCE(MAX(number), 0) FROM calls", ())[0][0])

    @staticmethod
    def _selection(
        where: Mapping[str, Any], tracker: int | None, after: int
    ) -> tuple[str, list[Any]]:
        condition, values = selection(where)
        if tracker is not None:
            condition, values = f"{condition} AND tracker = ?", [*values, tracker]
        return f"{condition} AND number > ?", [*values, after]

    def _select(self, statement: str, values: Sequence[object]) -> list[Any]:
        """Return rows of all calls, also where the disk does not take a fold."""
        try:
            self.fold()
        except sqlite3.OperationalError:
            return self._select_from_copy(statement, values)
        if not self._in_memory and self.held():
            return self._select_from_copy(statement, values)
        return self._connection.execute(statement, values).fetchall()

    def _select_from_copy(self, statement: str, values: Sequence[object]) -> list[Any]:
        with contextlib.closing(sqlite3.connect(":memory:")) as copy:
            self._connection.backup(copy)
            folded = dict(self._all("SELECT segment, position FROM folded"))
            for path in segments(self._directory):
                copy.executemany(_INSERT, _rows(read_journal(path, folded.get(path.name, 0))))
            copy.executemany(_INSERT, _rows(read_lines(self.held())))
            return copy.execute(statement, values).fetchall()

    def _fold_segment(self, path: Path, position: int, breathe: Callable[[], None]) -> None:
        entries = read_journal(path, position)
        damaged = 0
        while chunk := list(islice(entries, FOLD_CALLS)):
            unread = sum(entry.record is None for entry in chunk)
            with self._transaction():
                self._insert(chunk)
                self._connection.execute(
                    "INSERT INTO folded SELECT ?, ?, COALESCE(MAX(number), 0), ? FROM calls "
                    "WHERE true ON CONFLICT DO UPDATE SET position = excluded.position, "
                    "last = excluded.last, damaged = damaged + excluded.damaged",
                    (path.name, chunk[-1].end, unread),
                )
            damaged += unread
            breathe()
        if damaged:
            _logger.error("%s: %d damaged entries were passed; the file is kept", path, damaged)

    def _fold_held(self) -> None:
        room = HELD_LIMIT - self._one("SELECT COUNT(*) FROM calls")[0]
        lines = self.take_held(room)
        if lines:
            with self._transaction():
                self._insert(read_lines(lines))

    def _insert(self, entries: Iterable[JournalEntry]) -> None:
        self._connection.executemany(_INSERT, _rows(entries))


def _rows(entries: Iterable[JournalEntry]) -> Iterator[tuple[Any, ...]]:
    for entry in entries:
        if entry.record is not None:
            yield (entry.tracker, entry.sequence, entry.size, *record_values(entry.record))
