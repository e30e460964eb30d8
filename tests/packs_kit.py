"""What the tests of packs share: readers that are watched, and stores that are disturbed."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any

from agentsight_tokens.backend.store import Store
from agentsight_tokens.backend.store.base import ProjectReader
from agentsight_tokens.backend.store.packs import true_packs
from agentsight_tokens.backend.store.rollup import DAY
from agentsight_tokens.calls import microseconds

UTC = timezone.utc
DAY_1 = datetime(2026, 3, 30, tzinfo=UTC)


def packs_of(store: Store, project_id: int = 1) -> list[tuple[str, int]]:
    """Return the packs that are true, and the day of each."""
    packs = true_packs(store.of_project(project_id), None, None)
    return [(each.period, (each.start - microseconds(DAY_1)) // DAY) for each in packs]


class Watched(ProjectReader):
    """A reader of a project that does something before it reads calls, and remembers that."""

    def __init__(self, store: Store, before: Callable[[], object] = lambda: None) -> None:
        super().__init__(store, 1)
        self._before = before
        self.readings = 0
        self.statements: list[str] = []

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        self.statements.append(statement)
        if " FROM calls" in statement:
            self.readings += 1
            self._before()
        return super().rows(statement, values)


class WithoutPacks(ProjectReader):
    """A reader for whom there is no pack."""

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        return [] if "FROM packed_calls" in statement else super().rows(statement, values)


class Interrupted:
    """A store in which something happens while calls are read to be packed."""

    def __init__(self, store: Store, meanwhile: Callable[[], object]) -> None:
        self._store = store
        self._meanwhile = meanwhile
        self.dialect = store.dialect
        self.rows = store.rows
        self.transaction = store.transaction

    def of_project(self, _: int) -> ProjectReader:
        return Watched(self._store, self._meanwhile)


def interrupted(store: Store, meanwhile: Callable[[], object]) -> Any:
    return Interrupted(store, meanwhile)


def read(reader: Watched) -> set[str]:
    """Return the names of what was read of packs."""
    names = re.compile(r"'((?:lean|orgs|timed|costs|ranked|users|rows|places)\b[^']*)'")
    return {name for statement in reader.statements for name in names.findall(statement)}
