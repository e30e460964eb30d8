"""The embedded store."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentsight_tokens import Cycle
from agentsight_tokens.backend.store import SQLiteStore
from agentsight_tokens.destinations.embedded import EmbeddedDestination
from agentsight_tokens.errors import DestinationError, DestinationUnavailableError
from tests.records import AT, call


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    with SQLiteStore(tmp_path / "deep" / "store.db") as store:
        yield store


def cycle(key: str, *numbers: int) -> Cycle:
    records = [call(number, id=f"{key}-{number}") for number in numbers]
    return Cycle.of(records, key=key, conversation_id="c", sealed_by="send", sealed_at=AT)


def total(store: SQLiteStore) -> int:
    return store.rows("SELECT COALESCE(SUM(input_tokens), 0) FROM calls")[0][0]


def test_a_cycle_is_stored_once(store: SQLiteStore) -> None:
    """The same key again, in one delivery or two, changes nothing."""
    store.ingest([cycle("a", 1, 2), cycle("a", 1, 2)])
    store.ingest([cycle("a", 1, 2), cycle("b", 4)])

    assert total(store) == 7
    assert store.rows("SELECT COUNT(*) FROM cycles") == [(2,)]


def test_a_record_is_stored_once_under_any_key(store: SQLiteStore) -> None:
    """A call that comes again in another cycle is known by its id."""
    whole = cycle("a", 1, 2)
    store.ingest([whole])
    half = Cycle.of(
        whole.records[:1], key="a:1-1", conversation_id="c", sealed_by="send", sealed_at=AT
    )
    store.ingest([half])

    assert total(store) == 3


def test_a_failure_leaves_no_half(store: SQLiteStore) -> None:
    """A delivery is stored whole or not at all."""
    bad = call(1, id=None)
    broken = Cycle.of([bad], key="b", conversation_id="c", sealed_by="send", sealed_at=AT)
    with pytest.raises(sqlite3.Error):
        store.ingest([cycle("a", 1), Cycle(**{**_fields(broken), "conversation_id": None})])

    assert total(store) == 0


def _fields(cycle: Cycle) -> dict[str, object]:
    return {name: getattr(cycle, name) for name in Cycle.__struct_fields__}


def test_the_embedded_destination_reports_its_failures(tmp_path: Path) -> None:
    """A store that cannot be opened is unavailable, and the check says so."""
    (tmp_path / "file").write_text("")
    destination = EmbeddedDestination(lambda: SQLiteStore(tmp_path / "file" / "store.db"))

    with pytest.raises(DestinationUnavailableError):
        destination.deliver([cycle("a", 1)])
    with pytest.raises(DestinationError):
        destination.check()
    destination.close()


def test_the_embedded_destination_delivers(tmp_path: Path) -> None:
    """Cycles are stored, and the check passes."""
    destination = EmbeddedDestination(lambda: SQLiteStore(tmp_path / "store.db"))
    destination.check()
    (outcome,) = destination.deliver([cycle("a", 1)])
    destination.close()

    assert outcome.is_accepted
