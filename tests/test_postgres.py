"""What is PostgreSQL's own: its version, its partitions, its limits and its outages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from hypothesis import given
from hypothesis import strategies as st

from agentsight_tokens import Cycle, Scope
from agentsight_tokens.backend.analytics import newest_calls, usage_by
from agentsight_tokens.backend.store.cycle_row import CYCLE_COLUMNS
from agentsight_tokens.backend.store.partitions import partition_of
from agentsight_tokens.backend.store.postgres import PostgreSQLStore
from agentsight_tokens.backend.store.retention import months_ago
from agentsight_tokens.backend.store.rollup import (
    CONVERSATION_FACTS,
    CONVERSATION_KEY,
    DIMENSION_KEY,
    HOURLY_KEY,
    MODEL_KEY,
    ROLLUPS,
    SUM_COLUMNS,
    TIMING_COLUMNS,
)
from agentsight_tokens.backend.store.upgrading import HEAD, upgrade
from agentsight_tokens.calls import CALL_COLUMNS, microseconds
from agentsight_tokens.errors import StorageError, UnstorableError
from tests.postgres_kit import PostgreSQL
from tests.records import AT, call
from tests.server_kit import cycle
from tests.store_kit import postgresql
from tests.sums_kit import kept, spans
from tests.test_stores import NOT_UNIFORM

__all__ = ["postgresql"]

UTC = timezone.utc


@pytest.fixture
def store(postgresql: PostgreSQL) -> Iterator[PostgreSQLStore]:
    with PostgreSQLStore(postgresql.database()) as store:
        yield store


def of(*records: object, key: str = "k") -> Cycle:
    return Cycle.of(records, key=key, conversation_id="c", sealed_by="send", sealed_at=AT)  # type: ignore[arg-type]


def partitions(store: PostgreSQLStore) -> list[str]:
    rows = store.rows(
        "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid "
        "WHERE inhparent = 'calls'::regclass ORDER BY 1"
    )
    return [name for (name,) in rows]


def test_the_last_step_is_the_head() -> None:
    """The program needs what the last migration makes."""
    config = Config()
    config.set_main_option("script_location", "agentsight_tokens.backend.store:migrations")

    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_the_tables_have_the_programs_columns(store: PostgreSQLStore) -> None:
    """The migrations say in full what the program's lists say."""

    def columns(table: str) -> set[str]:
        rows = store.rows(
            "SELECT column_name FROM information_schema.columns WHERE table_name = ?", (table,)
        )
        return {name for (name,) in rows}

    assert columns("calls") == {"project_id", "cycle_key", "environment", *CALL_COLUMNS}
    assert columns("cycles") == {"project_id", *CYCLE_COLUMNS}
    assert columns("hourly_usage") == {*HOURLY_KEY, *SUM_COLUMNS}
    assert columns("model_usage") == {*MODEL_KEY, *SUM_COLUMNS}
    assert columns("dimension_usage") == {*DIMENSION_KEY, *SUM_COLUMNS}
    facts = {"first_at", "last_at", *CONVERSATION_FACTS}
    assert columns("conversations") == {*CONVERSATION_KEY, *facts, *SUM_COLUMNS}


BUDGET_TABLES = ("budgets", "budget_versions", "budget_usage", "alerts", "webhook_deliveries")


def test_every_key_has_the_distribution_column(store: PostgreSQLStore) -> None:
    """A unique index without it cannot be distributed."""
    rows = store.rows(
        "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public' "
        "AND indexdef LIKE 'CREATE UNIQUE%' AND tablename IN "
        "('calls', 'record_ids', 'cycles', 'hourly_usage', 'model_usage', 'dimension_usage', "
        "'conversations', 'packed_calls', "
        f"'repricings', {', '.join(repr(name) for name in BUDGET_TABLES)})"
    )

    assert len(rows) == 14
    assert all("(project_id" in definition for _, definition in rows)


def test_an_upgrade_is_done_once(postgresql: PostgreSQL) -> None:
    """A database without tables is refused with the way out; with them, nothing changes."""
    url = postgresql.empty_database()
    with PostgreSQLStore(url) as store:
        with pytest.raises(StorageError, match="db upgrade"):
            store.check()
        upgrade(url)
        store.check()
        store.ingest([cycle("a", 1)])
        upgrade(url)
        assert usage_by(store, ()).total.request_count == 1


def test_an_upgrade_adds_up_what_is_there(store: PostgreSQLStore) -> None:
    """The sums are the same as those that are kept from the first call on."""
    records = [call(n, **facts) for n, facts in enumerate(NOT_UNIFORM, start=1)]
    store.ingest([of(*records), of(call(1), key="e")])
    tables = {table: kept(store, table) for table in ROLLUPS}
    known = spans(store)
    with store.transaction() as transaction:
        traces = ("span_traces", "span_responses", "held_totals")
        sums = ("model_usage", "dimension_usage", "conversations", "packed_calls")
        for name in (*sums, *traces, *BUDGET_TABLES):
            transaction.run(f"DROP TABLE {name}")
        for name in TIMING_COLUMNS:
            transaction.run(f"ALTER TABLE hourly_usage DROP COLUMN {name}")
        transaction.run("UPDATE alembic_version SET version_num = '0001'")

    upgrade(store._pool.conninfo)

    assert {table: kept(store, table) for table in ROLLUPS} == tables
    assert spans(store) == known


@pytest.mark.parametrize(("version", "way"), [("0000", "db upgrade"), ("9999", "newer")])
def test_another_version_is_refused(store: PostgreSQLStore, version: str, way: str) -> None:
    """Neither what is behind nor what is ahead is written to."""
    with store.transaction() as transaction:
        transaction.run("UPDATE alembic_version SET version_num = ?", (version,))

    with pytest.raises(StorageError, match=way):
        store.check()


def test_calls_lie_in_the_partition_of_their_month(store: PostgreSQLStore) -> None:
    """It is made with its first call; times that are wrong by decades share one."""
    times = [AT, AT + timedelta(days=40), datetime(1971, 1, 1, tzinfo=UTC)]
    times.append(datetime(2500, 1, 1, tzinfo=UTC))
    store.ingest([of(*(call(n, at=at) for n, at in enumerate(times, start=1)))])

    assert partitions(store) == ["calls_2026_01", "calls_2026_02", "calls_after", "calls_before"]


@given(st.datetimes(timezones=st.just(UTC)))
def test_partitions_hold_their_times(at: datetime) -> None:
    """Every time lies in its partition, which ends where the next one begins."""
    partition = partition_of(microseconds(at))

    assert partition.since is None or partition.since <= microseconds(at)
    if partition.until is not None:
        assert microseconds(at) < partition.until
        assert partition_of(partition.until).since == partition.until


def test_expiry_drops_partitions(store: PostgreSQLStore) -> None:
    """Another process that knows the partition makes it again when a call comes late."""
    store.ingest([of(call(1), call(2, at=AT + timedelta(days=40)))])
    with PostgreSQLStore(store._pool.conninfo) as other:
        assert other.expire(datetime(2026, 2, 1, tzinfo=UTC)) == 1
        assert partitions(store) == ["calls_2026_02"]
    store.ingest([of(call(4), key="late")])

    assert [record.input_tokens for record in newest_calls(store)] == [2, 4]


@pytest.mark.parametrize(
    "record",
    [call(1, model="a\0b"), call(1, model=os.urandom(6000).hex(), id=os.urandom(6000).hex())],
    ids=["null", "long"],
)
def test_what_postgresql_cannot_hold_is_refused(store: PostgreSQLStore, record: object) -> None:
    """It is no outage: the client must not send it again for ever."""
    with pytest.raises(UnstorableError):
        store.ingest([of(record)])


@pytest.mark.parametrize(
    "text",
    [
        "null",
        '"',
        "\\",
        "\\.",
        "\n\\.\n",
        "\\n",
        "\r",
        "\x01\t\x7f\x85",
        '"\\"\n,"',
        "é🙂\u2028",
        ",",
    ],
)
def test_texts_come_back_from_a_copy(store: PostgreSQLStore, text: str) -> None:
    """Whatever COPY or JSON would take for a sign of its own, also where tags are such texts."""
    scope = Scope(user_id="u", tags=(text,))
    records = [call(1, model=text, scope=scope), call(2, model="m", price_key=text)]
    store.ingest([of(*records)])

    assert newest_calls(store) == records[::-1]


def test_a_restart_costs_nothing(postgresql: PostgreSQL) -> None:
    """While it is away the store says so; afterwards it goes on by itself."""
    with PostgreSQLStore(postgresql.database()) as store:
        store._pool.timeout = 0.2
        store.ingest([cycle("a", 1)])
        postgresql.stop("immediate")
        with pytest.raises(store.outages):
            store.ingest([cycle("b", 2)])
        postgresql.start()
        store._pool.timeout = 30
        store.ingest([cycle("b", 2)])

        assert usage_by(store, ()).total.input_tokens == 3


def test_a_query_is_given_up(postgresql: PostgreSQL) -> None:
    """Nobody waits for one for ever; what changes the database takes the time that it needs."""
    with PostgreSQLStore(postgresql.database(), longest_seconds=0.2) as store:
        with pytest.raises(store.outages, match="timeout"):
            store.rows("SELECT pg_sleep(5)")
        with store.transaction() as transaction:
            transaction.rows("SELECT pg_sleep(0.4)")


def test_months_ago() -> None:
    """The months that are kept are whole ones, over the year's end."""
    now = datetime(2026, 1, 31, 23, tzinfo=UTC)

    assert months_ago(now, 0) == datetime(2026, 1, 1, tzinfo=UTC)
    assert months_ago(now, 13) == datetime(2024, 12, 1, tzinfo=UTC)


def test_plain_postgresql_cannot_be_distributed(store: PostgreSQLStore) -> None:
    """It is told what is missing."""
    from agentsight_tokens.backend.store.distribution import distribute

    with pytest.raises(StorageError, match="citus"), store.transaction() as transaction:
        distribute(transaction)


CITUS = os.environ.get("AGENTSIGHT_TEST_CITUS_DSN")
"""The address of a database on a Citus coordinator in which tables may be made and dropped."""


@pytest.mark.services
@pytest.mark.skipif(CITUS is None, reason="AGENTSIGHT_TEST_CITUS_DSN names no Citus coordinator")
def test_a_distributed_store_keeps_its_promises() -> None:
    """Tables are shared out once; calls are stored once, summed and found by project."""
    from agentsight_tokens.backend.store.distribution import DISTRIBUTED, REFERENCE, distribute

    assert CITUS is not None
    with psycopg.connect(CITUS, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
        connection.execute("CREATE EXTENSION IF NOT EXISTS citus")
    upgrade(CITUS)
    with PostgreSQLStore(CITUS) as store:
        with store.transaction() as transaction:
            assert distribute(transaction) == [*REFERENCE, *DISTRIBUTED]
        with store.transaction() as transaction:
            assert distribute(transaction) == []
        for project_id in (1, 2, 3):
            store.ingest([cycle("a", 1, 2)], project_id=project_id)
            store.ingest([cycle("a", 1, 2), cycle("b", 4)], project_id=project_id)
            assert usage_by(store.of_project(project_id), ()).total.input_tokens == 7
        assert store.rows("SELECT SUM(calls) FROM hourly_usage") == [(9,)]
        assert store.expire(datetime(2026, 2, 1, tzinfo=UTC)) == 9
