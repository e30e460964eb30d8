"""The catalog: dated rows by model, from the snapshot in the package and what overrides it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Final, Protocol

import msgspec

from .line_table import LineTable
from .rows import Entry, Row, Source

__all__ = ["OLD_AFTER_DAYS", "Catalog", "Overlay", "bundled_table"]


_USER: Final = Source("user", "")


OLD_AFTER_DAYS: Final = 60
"""The age from which reports say how old the prices are."""


class Overlay(Protocol):
    """Prices that come before the snapshot's: a newer map, a file of the user."""

    source: Source

    def find(self, name: str, source: int) -> Entry | None:
        """Return the entry of a name, case aside, with rows of this source."""

    def starting_with(self, prefix: str) -> list[str]:
        """Return the lower-case names that begin so."""

    def __iter__(self) -> Iterator[str]: ...


class Catalog:
    """
    Entries by name, case aside.

    Args:
        table: The snapshot.
        overlays: What comes before it; each one before those that follow.
    """

    def __init__(self, table: LineTable, overlays: Sequence[Overlay] = ()) -> None:
        self._table = table
        self._overlays = tuple(overlays)
        self.sources: Final = (*table.header.sources, *(o.source for o in overlays))
        self._entries: dict[str, Entry] = {}

    @property
    def version(self) -> str:
        """The day of the newest source, as YYYY-MM-DD."""
        return max(self._table.header.version, *(o.source.day for o in self._overlays), "")

    def age_days(self, today: date | None = None) -> int:
        """Return how many days ago the newest source was published."""
        today = today or datetime.now(timezone.utc).date()
        return max((today - date.fromisoformat(self.version)).days, 0)

    def find(self, name: str) -> Entry | None:
        """Return the entry of a name, case aside, aliases followed; None without one."""
        name = name.lower()
        entry = self._entries.get(name)
        if entry is None:
            entry = self._merged(name)
            if entry is not None and entry.alias is not None:
                entry = self.find(entry.alias)
            if entry is not None:
                self._entries[name] = entry
        return entry

    def starting_with(self, prefix: str) -> list[str]:
        """Return the lower-case names that begin so."""
        names = self._table.starting_with(prefix)
        for overlay in self._overlays:
            names += overlay.starting_with(prefix)
        return names

    def __iter__(self) -> Iterator[str]:
        """Iterate over the lower-case names, aliases included."""
        if not self._overlays:
            return iter(self._table)
        names = dict.fromkeys(self._table)
        for overlay in self._overlays:
            names.update(dict.fromkeys(overlay))
        return iter(names)

    def __len__(self) -> int:
        return sum(1 for _ in self) if self._overlays else len(self._table)

    def start(self, row: Row) -> datetime:
        """Return the moment from which a row holds."""
        text = self.source_of(row.first).day if row.since is None else row.since
        day = date.fromisoformat(text) if text else date.min
        return datetime(day.year, day.month, day.day, tzinfo=timezone.utc)

    def row_version(self, row: Row) -> str:
        """Return what names a row for ever: its first day and who said so first."""
        source = self.source_of(row.first)
        day = source.day if row.since is None else row.since
        return f"{day} {source.name}".strip()

    def source_of(self, index: int) -> Source:
        """Return the source of an index; a negative one is the user."""
        return self.sources[index] if index >= 0 else _USER

    def decoded(self, name: str) -> Entry:
        """Return the entry of a name without keeping it, aliases not followed."""
        entry = self._merged(name)
        if entry is None:
            raise KeyError(name)
        return entry

    def row_at(self, entry: Entry, moment: datetime) -> Row:
        """Return the row that holds at a moment; the first one also holds before it began."""
        starts = [self.start(row) for row in entry.rows]
        return entry.rows[max(bisect_right(starts, moment) - 1, 0)]

    def _merged(self, name: str) -> Entry | None:
        entry = self._table.find(name)
        first_source = len(self._table.header.sources)
        for position, overlay in reversed(list(enumerate(self._overlays))):
            newer = overlay.find(name, first_source + position)
            if newer is not None:
                entry = newer if entry is None else self._joined(entry, newer)
        return entry

    def _joined(self, entry: Entry, newer: Entry) -> Entry:
        """Let the rows of a newer entry follow those of an older one."""
        if entry.alias is not None:
            return newer
        begins = self.start(newer.rows[0])
        older = tuple(row for row in entry.rows if self.start(row) < begins)
        if older and older[-1].says_the_same_as(newer.rows[0]):
            older = (*older[:-1], msgspec.structs.replace(older[-1], last=newer.rows[0].last))
            return msgspec.structs.replace(newer, rows=older + newer.rows[1:])
        return msgspec.structs.replace(newer, rows=older + newer.rows)


_FILE: Final = Path(__file__).with_name("data") / "prices.txt"
_bundled: LineTable | None = None


def bundled_table() -> LineTable:
    """Return the snapshot in the package, read once for each process."""
    global _bundled
    if _bundled is None:  # two threads may both read it; either will do
        _bundled = LineTable(_FILE.read_bytes())
    return _bundled
