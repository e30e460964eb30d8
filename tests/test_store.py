"""The embedded store."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from agentsight_tokens import Cycle, Scope
from agentsight_tokens.backend.budgets import Budgets, NewBudget
from agentsight_tokens.backend.store import SQLiteStore
from agentsight_tokens.backend.store.rollup import HOURLY_KEY, ROLLUPS
from agentsight_tokens.calls import SUMMARY_COLUMNS, calls_table, insert_calls, record_values
from agentsight_tokens.destinations.embedded import EmbeddedDestination
from agentsight_tokens.errors import (
    DeliveryRefusedError,
    DestinationError,
    DestinationUnavailableError,
    StorageError,
    UnstorableError,
)
from tests.records import AT, call
from tests.sums_kit import added_up, kept


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    with SQLiteStore(tmp_path / "deep" / "store.db") as store:
        yield store


def cycle(key: str, *numbers: int) -> Cycle:
    records = [call(number, id=f"{key}-{number}") for number in numbers]
    return Cycle.of(records, key=key, conversation_id="c", sealed_by="send", sealed_at=AT)


def total(store: SQLiteStore) -> int:
    return store.rows("SELECT COALESCE(SUM(input_tokens), 0) FROM calls")[0][0]


def test_a_failure_leaves_no_half(store: SQLiteStore) -> None:
    """A delivery is stored whole or not at all."""
    bad = call(1, id=None)
    broken = Cycle.of([bad], key="b", conversation_id="c", sealed_by="send", sealed_at=AT)
    with pytest.raises(UnstorableError):
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


def test_the_embedded_destination_refuses_what_no_store_can_hold(tmp_path: Path) -> None:
    """A number beyond 64 bits is refused for ever, and does not hold up what comes after it."""
    destination = EmbeddedDestination(lambda: SQLiteStore(tmp_path / "store.db"))
    record = call(1, cost_pico_usd=2**64)
    with pytest.raises(DeliveryRefusedError, match="too large"):
        destination.deliver(
            [Cycle.of([record], key="a", conversation_id="c", sealed_by="send", sealed_at=AT)]
        )
    destination.close()


OLD_SCHEMA = (
    "CREATE TABLE cycles (key TEXT PRIMARY KEY, conversation_id TEXT NOT NULL, "
    "sealed_by TEXT NOT NULL, opened_at INTEGER NOT NULL, sealed_at INTEGER NOT NULL, "
    "environment TEXT, calls INTEGER NOT NULL) STRICT",
    calls_table("number INTEGER PRIMARY KEY", "cycle_key TEXT NOT NULL", "environment TEXT"),
    "CREATE TABLE repricings (call_id TEXT NOT NULL, repriced_at INTEGER NOT NULL, "
    "cost_pico_usd INTEGER, prompt_cost_pico_usd INTEGER, completion_cost_pico_usd INTEGER, "
    "cost_status TEXT, price_key TEXT, price_version TEXT) STRICT",
    "CREATE INDEX repricings_by_call ON repricings (call_id)",
    "CREATE INDEX calls_by_time ON calls (at)",
    "CREATE INDEX calls_by_conversation ON calls (conversation_id, at)",
)


def test_a_file_of_before_projects_is_taken_over(tmp_path: Path) -> None:
    """Its calls are the default project's, and are known if they come again."""
    old = sqlite3.connect(tmp_path / "store.db")
    for statement in OLD_SCHEMA:
        old.execute(statement)
    whole = cycle("a", 1, 2)
    old.execute("INSERT INTO cycles VALUES ('a', 'c', 'send', 1, 2, NULL, 2)")
    for record in whole.records:
        old.execute(insert_calls("cycle_key", "environment"), ("a", None, *record_values(record)))
    old.execute("INSERT INTO repricings VALUES ('a-1', 1, 1, 1, 1, 'priced', 'k', 'v')")
    old.commit()
    old.close()

    with SQLiteStore(tmp_path / "store.db") as store:
        store.ingest([whole, cycle("b", 4)])

        assert total(store) == 7
        assert store.rows("SELECT project_id, calls FROM cycles") == [(1, 2), (1, 1)]
        assert store.rows("SELECT project_id, call_id FROM repricings") == [(1, "a-1")]
        for table in ROLLUPS:
            assert kept(store, table) == added_up(store, table)


def test_a_file_of_before_sums_by_dimension_is_taken_over(tmp_path: Path) -> None:
    """What is there is added up; the sums by hour of calls that have expired stay."""
    timed = call(2, duration_seconds=1.5, scope=Scope(conversation_id="c", user_id="u"))
    untimed = call(1, at=AT + timedelta(hours=5))
    with SQLiteStore(tmp_path / "store.db") as store:
        for key, record in {"a": timed, "b": untimed}.items():
            store.ingest(
                [Cycle.of([record], key=key, conversation_id="c", sealed_by="send", sealed_at=AT)]
            )
    # As the version before has left it.
    old = sqlite3.connect(tmp_path / "store.db")
    sums = ", ".join(f"{name} INTEGER NOT NULL" for name in SUMMARY_COLUMNS)
    columns = ", ".join((*HOURLY_KEY, *SUMMARY_COLUMNS))
    for statement in (
        "ALTER TABLE hourly_usage RENAME TO whole",
        "CREATE TABLE hourly_usage (project_id INTEGER NOT NULL, hour INTEGER NOT NULL, "
        f"model TEXT NOT NULL, provider TEXT NOT NULL, environment TEXT NOT NULL, {sums}, "
        f"PRIMARY KEY ({', '.join(HOURLY_KEY)})) STRICT, WITHOUT ROWID",
        f"INSERT INTO hourly_usage SELECT {columns} FROM whole",
        f"INSERT INTO hourly_usage ({columns}) SELECT 1, 0, '', '', '', "
        f"{', '.join('5' for _ in SUMMARY_COLUMNS)}",
        "DROP TABLE whole",
        "DROP TABLE dimension_usage",
        "DROP TABLE model_usage",
        "DROP TABLE conversations",
        "PRAGMA user_version = 1",
    ):
        old.execute(statement)
    old.commit()
    old.close()

    with SQLiteStore(tmp_path / "store.db") as store:
        for table in ("dimension_usage", "conversations"):
            assert kept(store, table) == added_up(store, table)
            assert kept(store, table)
        expired = {(1, 0, "", "", ""): kept(store, "hourly_usage")[1, 0, "", "", ""]}
        assert expired[1, 0, "", "", ""][0] == 5
        by_model = kept(store, "model_usage")
        of_months = {(1, "month", 0, "", "", ""), (1, "day", 0, "", "", "")}
        assert by_model.keys() == added_up(store, "model_usage").keys() | of_months
        assert by_model[1, "month", 0, "", "", ""][0] == 5
        assert kept(store, "hourly_usage") == added_up(store, "hourly_usage") | expired


def test_a_file_of_before_budgets_is_taken_over(tmp_path: Path) -> None:
    """It gets their tables, and what is added up already is not added again."""
    with SQLiteStore(tmp_path / "store.db") as store:
        cycle = Cycle.of([call(1)], key="a", conversation_id="c", sealed_by="send", sealed_at=AT)
        store.ingest([cycle])
    old = sqlite3.connect(tmp_path / "store.db")
    for table in ("budgets", "budget_versions", "budget_usage", "alerts", "webhook_deliveries"):
        old.execute(f"DROP TABLE {table}")
    old.execute("PRAGMA user_version = 2")
    old.commit()
    old.close()

    with SQLiteStore(tmp_path / "store.db") as store:
        for table in ("hourly_usage", "dimension_usage", "conversations"):
            assert kept(store, table) == added_up(store, table)
        new = NewBudget(name="b", window="total", token_limit=1)
        budget = Budgets(store).create(1, new)
        assert Budgets(store).status(1, budget.id).keys[0].used_tokens == 3


def test_sums_of_the_third_version_are_not_added_up_again(tmp_path: Path) -> None:
    """They were all there; only the tables of traces are new."""
    with SQLiteStore(tmp_path / "store.db") as store:
        store.ingest([cycle("a", 1, 2)])
        before = {table: kept(store, table) for table in ROLLUPS}
    old = sqlite3.connect(tmp_path / "store.db")
    for statement in (
        "DROP TABLE span_traces",
        "DROP TABLE span_responses",
        "DROP TABLE held_totals",
        "PRAGMA user_version = 3",
    ):
        old.execute(statement)
    old.close()

    with SQLiteStore(tmp_path / "store.db") as store:
        assert {table: kept(store, table) for table in ROLLUPS} == before
        assert store.rows("SELECT * FROM span_traces, held_totals") == []


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    """What this version does not know, it does not change."""
    newer = sqlite3.connect(tmp_path / "store.db")
    newer.execute("PRAGMA user_version = 99")
    newer.close()

    with pytest.raises(StorageError, match="newer"):
        SQLiteStore(tmp_path / "store.db")
