"""The stores that the contract suites run against."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agentsight_tokens.backend.store import SQLiteStore, Store
from tests.postgres_kit import PostgreSQL


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """A PostgreSQL that runs as long as the tests do."""
    with closing(PostgreSQL()) as running:
        yield running


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store of each kind."""
    if request.param == "sqlite":
        with SQLiteStore(tmp_path / "store.db") as sqlite:
            yield sqlite
        return
    from agentsight_tokens.backend.store.postgres import PostgreSQLStore

    running: PostgreSQL = request.getfixturevalue("postgresql")
    with PostgreSQLStore(running.database()) as postgres:
        yield postgres
