"""The stores that the contract suites run against."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agentsight_tokens.backend.store import SQLiteStore, Store


@pytest.fixture(params=["sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """An empty store of each kind."""
    with SQLiteStore(tmp_path / "store.db") as store:
        yield store
