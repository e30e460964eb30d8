"""What every store promises."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import pytest

from agentsight_tokens import Cycle, Scope, TokenUsage, UsageRecord
from agentsight_tokens.backend.accounts import Accounts
from agentsight_tokens.backend.analytics import newest_calls, usage_by
from agentsight_tokens.backend.store import Reader, Store
from agentsight_tokens.backend.store.base import PROJECT_TABLES
from agentsight_tokens.backend.store.rollup import ROLLUPS
from agentsight_tokens.errors import UnstorableError
from tests.records import AT, call
from tests.server_kit import cycle
from tests.store_kit import postgresql, store
from tests.sums_kit import added_up, kept, spans

__all__ = ["postgresql", "store"]

UTC = timezone.utc


def total(reader: Reader) -> int:
    return usage_by(reader, ()).total.input_tokens


def of(*records: UsageRecord, key: str = "k", environment: str | None = None) -> Cycle:
    return Cycle.of(
        records,
        key=key,
        conversation_id="c",
        sealed_by="send",
        sealed_at=AT,
        environment=environment,
    )


def test_the_first_project_was_made_with_the_store(store: Store) -> None:
    """It says when, as those do that are added."""
    now = datetime.now(timezone.utc)

    [project] = Accounts(store).projects()
    [(organisation,)] = store.rows("SELECT created_at FROM organisations")

    assert now - timedelta(days=1) < project.created_at <= now
    assert organisation == pytest.approx(project.created_at.timestamp() * 1_000_000, abs=2_000_000)


def test_calls_of_no_conversation_are_stored(store: Store) -> None:
    """Also when there are no others among them, so that no conversation has sums."""
    store.ingest([of(call(2, scope=Scope(user_id="u")))])

    assert total(store) == 2
    assert store.rows("SELECT COUNT(*) FROM conversations") == [(0,)]


def test_a_cycle_is_stored_once(store: Store) -> None:
    """The same key again, in one delivery or two, changes nothing."""
    store.ingest([cycle("a", 1, 2), cycle("a", 1, 2)])
    store.ingest([cycle("a", 1, 2), cycle("b", 4)])

    assert total(store) == 7
    assert store.rows("SELECT COUNT(*) FROM cycles") == [(2,)]


def test_a_record_is_stored_once_under_any_key(store: Store) -> None:
    """A call that comes again in another cycle, or another month, is known by its id."""
    whole = cycle("a", 1, 2)
    store.ingest([whole])
    store.ingest([of(whole.records[0], key="a:1-1")])
    later = whole.records[1].at + timedelta(days=90)
    store.ingest([of(call(2, id="a-2", at=later), key="later")])

    assert total(store) == 3


def test_a_record_that_was_missing_is_stored_with_a_known_cycle(store: Store) -> None:
    """A record counts by its own id, not by its cycle's key."""
    whole = cycle("a", 1, 2)
    store.ingest([of(whole.records[0], key="a")])
    store.ingest([whole])

    assert total(store) == 3


def test_nothing_is_ingested(store: Store) -> None:
    """No cycles are no trouble."""
    store.ingest([])

    assert total(store) == 0


def test_records_come_back_as_they_were(store: Store) -> None:
    """Every field, texts of any script and the extremes of numbers."""
    record = call(
        1,
        usage=TokenUsage(input_tokens=10**15, output_tokens=1, reasoning_tokens=1),
        model="模型\t\\N\n🙂'\"",
        provider="",
        cost_pico_usd=2**63 - 1,
        duration_seconds=0.1,
        time_to_first_token_seconds=1e-9,
        unreported_reason="x",
        at=datetime(1, 1, 1, tzinfo=UTC),
    )
    last = call(2, at=datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC))
    store.ingest([of(record, last)])

    assert newest_calls(store) == [last, record]


@pytest.mark.parametrize("number", [1, 7, 8, 71, 137])
def test_many_records_come_back_as_they_were(store: Store, number: int) -> None:
    """However many come at once, and whichever columns are empty in all or in some of them."""
    facts: list[dict[str, object]] = [
        {"tool_name": "search", "duration_seconds": 0.0},
        {"usage": TokenUsage(), "duration_seconds": 2.0},
        {"cost_pico_usd": 0, "error_type": "", "scope": Scope(conversation_id="d", tags=("t",))},
    ]
    records = [call(n, **facts[n % 3], provider="p") for n in range(number)]
    store.ingest([of(*records)])

    assert newest_calls(store, limit=200) == records[::-1]


@pytest.mark.parametrize(
    "fields",
    [{"cost_pico_usd": 2**63}, {"cost_pico_usd": -(2**63) - 1}],
)
def test_what_cannot_be_held_leaves_nothing(store: Store, fields: dict[str, object]) -> None:
    """A delivery is stored whole or not at all, and the store goes on."""
    with pytest.raises(UnstorableError):
        store.ingest([cycle("a", 1), of(call(1, **fields))])
    assert (total(store), store.rows("SELECT COUNT(*) FROM cycles")) == (0, [(0,)])
    store.ingest([cycle("a", 1)])

    assert total(store) == 1


def test_projects_are_kept_apart(store: Store) -> None:
    """What one project has taken, another one can, and neither sees the other's."""
    other = Accounts(store).project("other").id
    store.ingest([cycle("a", 1, 2)])
    store.ingest([cycle("a", 1, 2, 4)], project_id=other)

    assert (total(store.of_project(1)), total(store.of_project(other))) == (3, 7)
    assert total(store.of_project(other + 1)) == 0
    for table in PROJECT_TABLES:
        for statement in (
            f"SELECT DISTINCT project_id FROM {table}",
            f"WITH x AS (SELECT * FROM {table}) SELECT DISTINCT project_id FROM x",
        ):
            assert store.of_project(other).rows(statement) in ([(other,)], [])


NOT_UNIFORM: list[dict[str, object]] = [
    {},
    {"model": None, "cost_pico_usd": None, "cost_status": "unpriced"},
    {"provider": "openai", "unreported_reason": "broken", "cost_pico_usd": None},
    {"at": AT + timedelta(hours=1), "source": "estimated", "tool_name": "search"},
    {"cost_pico_usd": 2**62, "prompt_cost_pico_usd": 2**61, "handler": "langchain"},
    {"duration_seconds": 1.2345678, "time_to_first_token_seconds": 0.0000019},
    {"duration_seconds": 1e300, "time_to_first_token_seconds": -1.0, "status": "error"},
    {"at": datetime(1969, 12, 31, 23, 30, tzinfo=UTC), "scope": Scope()},
    {"at": datetime(2024, 2, 29, tzinfo=UTC), "scope": Scope(conversation_id="c", agent="a")},
    {"scope": Scope(conversation_id="d", user_id="u", org_id="o", feature="f")},
    {"scope": Scope(conversation_id="d", user_id="v"), "service_tier": "flex"},
]


@pytest.mark.parametrize("table", ROLLUPS)
def test_sums_are_those_of_the_calls(store: Store, table: str) -> None:
    """Whatever comes, twice or in parts, the sums are of what is stored."""
    calls = [call(n, **facts) for n, facts in enumerate(NOT_UNIFORM, start=1)]
    store.ingest([of(*calls), of(*calls[:2], key="again"), of(call(6), key="e", environment="e")])
    store.ingest([of(*calls[1:], key="and again"), of(call(7), key="new")])
    store.ingest([of(call(8), key="other")], project_id=Accounts(store).project("other").id)

    for reader in (store, store.of_project(1)):
        assert kept(reader, table) == added_up(reader, table)
        assert kept(reader, table)


def test_a_conversation_knows_what_its_latest_call_said(store: Store) -> None:
    """In whatever order its calls come; what a call does not say, another one has."""

    def said(minutes: int, **facts: str) -> UsageRecord:
        scope = Scope(conversation_id="c", **facts)
        return call(1, at=AT + timedelta(minutes=minutes), scope=scope)

    store.ingest([of(said(5, user_id="u5", agent="a5"), said(4, user_id="u4", feature="f4"))])
    store.ingest([of(said(9, agent="a9"), key="later", environment="e")])
    store.ingest([of(said(1, agent="a1", org_id="o1", feature="f1"), key="earlier")])

    [found] = spans(store)
    assert found[:2] == (1, "c")
    assert found[3] - found[2] == 8 * 60_000_000
    assert found[4:] == (None, "u5", "o1", "a9", "f4", "e")


def test_what_calls_said_in_turn_is_told_by_the_latest(store: Store) -> None:
    """Calls that are alike are summed together, and none of them makes the others any later."""
    features = ["", "f1", "f2", "", "f1", ""]
    store.ingest(
        [
            of(
                *(
                    call(1, at=AT + timedelta(minutes=m), scope=Scope(conversation_id="c", **said))
                    for m, said in enumerate({"feature": name} if name else {} for name in features)
                )
            )
        ]
    )

    [found] = spans(store)
    assert found[3] - found[2] == 5 * 60_000_000
    assert found[8] == "f1"


def test_sums_by_hour_begin_before_1970(store: Store) -> None:
    """An hour begins before what is in it."""
    store.ingest([of(call(1, at=datetime(1969, 12, 31, 23, 30, tzinfo=UTC)))])

    assert store.rows("SELECT hour FROM hourly_usage") == [(-3_600_000_000,)]


def test_repricing_keeps_the_old_cost(store: Store) -> None:
    """The sums follow; the call of another project, and one that is not there, stay."""
    record = call(1, id="x")
    other = Accounts(store).project("other").id
    store.ingest([of(record, call(2))])
    store.ingest([of(record)], project_id=other)
    new = call(1, id="x", cost_pico_usd=100, price_key="p")

    assert store.reprice([new, call(9)], repriced_at=AT) == 1

    assert store.of_project(1).rows("SELECT call_id, cost_pico_usd FROM repricings") == [("x", 7)]
    assert usage_by(store.of_project(1), ()).total.cost_pico_usd == 100 + 14
    assert usage_by(store.of_project(other), ()).total.cost_pico_usd == 7
    for table in ROLLUPS:
        assert kept(store, table) == added_up(store, table)


def test_what_has_expired_is_not_counted_again(store: Store) -> None:
    """Calls and conversations of past months go; sums and ids stay for ever."""
    january = datetime(2026, 1, 31, 23, tzinfo=UTC)
    old, new = call(1, at=january), call(2, at=january + timedelta(hours=1))
    gone = call(8, at=january, conversation="d")
    store.ingest([of(old, new), of(gone, key="gone")])

    assert store.expire(datetime(2026, 1, 31, 23, 59, tzinfo=UTC)) == 0
    assert store.expire(datetime(2026, 2, 28, tzinfo=UTC)) == 2
    store.ingest([of(old, new, gone, call(4, at=january), key="again")])

    assert sorted(r.input_tokens for r in newest_calls(store)) == [2, 4]
    assert store.rows("SELECT SUM(calls) FROM hourly_usage") == [(4,)]
    assert store.rows("SELECT conversation_id, calls FROM conversations") == [("c", 3)]


def test_threads_ingest_side_by_side(store: Store) -> None:
    """The same cycles from several threads at once are stored once, and summed once."""
    cycles = [cycle(f"k{i}", *range(1, 8)) for i in range(20)]

    def deliver(offset: int) -> None:
        for i in range(0, 20, 2):
            store.ingest([cycles[(i + offset) % 20], cycles[(i + offset + 1) % 20]])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(deliver, range(8)))

    assert total(store) == 20 * 28
    for table in ROLLUPS:
        assert kept(store, table) == added_up(store, table)


def test_a_transaction_is_undone_when_it_raises(store: Store) -> None:
    """Nothing of it stays."""
    with pytest.raises(LookupError), store.transaction() as transaction:
        assert transaction.run("DELETE FROM projects WHERE id = ?", (1,)) == 1
        raise LookupError

    assert store.rows("SELECT id FROM projects") == [(1,)]


def test_the_store_is_checked(store: Store) -> None:
    """A store that works passes."""
    store.check()


def test_signs_in_statements_are_no_trouble(store: Store) -> None:
    """A percent sign in a statement is one."""
    assert store.rows("SELECT 5 % 3, 'a%' WHERE 'ab' LIKE 'a%' AND 1 = ?", (1,)) == [(2, "a%")]
