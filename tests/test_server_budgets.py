"""Budgets on the server: counted with the calls, in every store."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentsight_tokens import Scope, TokenUsage, UsageRecord
from agentsight_tokens.backend.app import create_app
from agentsight_tokens.backend.budgets import BudgetChange, Budgets, NewBudget
from agentsight_tokens.backend.metrics import Metrics
from agentsight_tokens.backend.store import SQLiteStore, Store
from agentsight_tokens.backend.store.budget_window import window_named
from agentsight_tokens.errors import InvalidBudgetError
from tests.records import AT, call
from tests.server_budget_kit import (
    cycle_of,
    expected_alerts,
    expected_usage,
    stored_alerts,
    stored_usage,
)
from tests.server_kit import ask
from tests.store_kit import postgresql, store

__all__ = ["postgresql", "store"]

UTC = timezone.utc


def budgets_at(store: Store, now: datetime = AT) -> Budgets:
    return Budgets(store, now=lambda: now)


def levels_given(budgets: Budgets) -> list[float]:
    """Return the levels of the alerts that were given, in their order."""
    return [alert.level for alert in reversed(budgets.alerts(1).alerts)]


def test_calls_count_in_the_budgets_they_meet(store: Store) -> None:
    """Once each, of whoever caused them, tokens and cost; what nobody knows stands apart."""
    budgets = budgets_at(store)
    all_calls = budgets.create(1, NewBudget(name="all", window="day", token_limit=1000))
    each = budgets.create(
        1, NewBudget(name="each", scope="user", window="day", cost_limit_usd=Decimal("1e-9"))
    )
    ann = budgets.create(
        1, NewBudget(name="ann", scope="user", value="ann", window="day", token_limit=10)
    )
    records = [
        call(1, scope=Scope(user_id="ann")),
        call(2, scope=Scope(user_id="bob"), cost_pico_usd=None),
        call(3, usage=TokenUsage(embedding_tokens=5)),
        call(4, usage=TokenUsage(), cost_pico_usd=None, unreported_reason="cancelled"),
    ]

    store.ingest([cycle_of(*records, key="a")])
    store.ingest([cycle_of(*records, key="a"), cycle_of(*records, key="b")])

    assert stored_usage(store, all_calls) == expected_usage(all_calls, [(r, None) for r in records])
    [total] = budgets.status(1, all_calls.id).keys
    assert (total.used_tokens, total.tokens_left, total.fraction) == (14, 986, 0.014)
    assert (total.calls, total.unreported_calls, total.unpriced_calls) == (4, 1, 1)
    by_user = budgets.status(1, each.id)
    assert [(k.key, k.used_cost_usd) for k in by_user.keys] == [
        ("ann", Decimal("7E-12")),
        ("bob", Decimal(0)),
    ]
    assert by_user.key_count == 2
    assert [k.used_tokens for k in budgets.status(1, ann.id).keys] == [3]


def test_a_level_gives_one_alert_in_a_window(store: Store) -> None:
    """However many calls come after, and however many levels one call passes."""
    budgets = budgets_at(store)
    budgets.create(1, NewBudget(name="day", window="day", token_limit=60))

    given = []
    for number in (9, 1, 5, 20, 1):
        store.ingest([cycle_of(call(number), key=f"k{number}")])
        given.append(levels_given(budgets))

    assert given == [[], [0.5], [0.5], [0.5, 0.8, 1.0], [0.5, 0.8, 1.0]]
    last = budgets.alerts(1).alerts[0]
    assert (last.used, last.limit, last.unit) == (105, 60, "tokens")
    assert last.message == "budget of all calls at 100%: used 105 tokens of 60 tokens per day"
    store.ingest([cycle_of(call(40, at=AT + timedelta(days=1)), key="tomorrow")])
    assert levels_given(budgets) == [0.5, 0.8, 1.0] * 2


def test_the_metrics_count_each_alert_once(store: Store) -> None:
    """Those that calls give and those that a budget gives when it is made; no others."""
    metrics = Metrics()
    app = create_app(store, metrics=metrics)
    budgets = budgets_at(store)
    counted = []

    def count() -> None:
        lines = ask(app, "GET", "/metrics").body.decode().splitlines()
        [line] = [line for line in lines if line.startswith("agentsight_alerts_total ")]
        counted.append(float(line.split()[1]))

    count()
    budgets.create(1, NewBudget(name="day", window="day", token_limit=60))
    for number in (9, 1, 5, 20, 1):
        store.ingest([cycle_of(call(number), key=f"k{number}")])
        count()
    budgets.create(1, NewBudget(name="again", window="day", token_limit=60))
    count()
    with pytest.raises(ZeroDivisionError), store.transaction() as transaction:
        transaction.alerts += 1
        _ = 1 / 0
    count()

    assert counted == [0, 0, 1, 1, 3, 3, 6, 6]


def test_what_is_stored_counts_from_the_first_moment(store: Store) -> None:
    """Of the current window; what was over before does not count, also when it comes late."""
    before, within = (
        call(10, at=AT - timedelta(days=1), scope=Scope(agent="a")),
        call(20, scope=Scope(agent="a")),
    )
    store.ingest([cycle_of(before, within, key="a")])
    budgets = budgets_at(store)

    budget = budgets.create(
        1, NewBudget(name="b", scope="agent", value="a", window="day", token_limit=100)
    )

    assert levels_given(budgets) == [0.5]
    late = call(7, at=AT - timedelta(days=1), scope=Scope(agent="a"))
    store.ingest([cycle_of(late, key="b")])
    assert stored_usage(store, budget) == expected_usage(budget, [(within, None)])
    assert [k.used_tokens for k in budgets.status(1, budget.id).keys] == [60]


def test_a_budget_of_all_time_counts_everything(store: Store) -> None:
    """Also what was stored years ago."""
    store.ingest([cycle_of(call(10, at=datetime(2021, 1, 1, tzinfo=UTC)), call(1), key="a")])
    budgets = budgets_at(store)

    budget = budgets.create(1, NewBudget(name="ever", window="total", token_limit=60))
    store.ingest([cycle_of(call(2), key="b")])

    [total] = budgets.status(1, budget.id).keys
    assert (total.used_tokens, total.projection) == (39, None)
    assert levels_given(budgets) == [0.5]
    assert budgets.status(1, budget.id).resets_at is None


def test_a_changed_limit_holds_at_once(store: Store) -> None:
    """What was used stays, and the levels that it has reached now give their alerts."""
    budgets = budgets_at(store)
    budget = budgets.create(1, NewBudget(name="b", window="month", token_limit=1000))
    store.ingest([cycle_of(call(10), key="a")])

    changed = budgets.change(1, budget.id, BudgetChange(token_limit=40, name="c"))

    assert changed == budgets.get(1, budget.id)
    assert (changed.name, changed.token_limit, changed.scope) == ("c", 40, "global")
    assert levels_given(budgets) == [0.5]
    store.ingest([cycle_of(call(1), key="b")])
    assert levels_given(budgets) == [0.5, 0.8]
    assert budgets.change(1, "none", BudgetChange(name="x")) is None


def test_a_disabled_budget_counts_and_is_silent(store: Store) -> None:
    """Enabled again, it tells what it has come to."""
    budgets = budgets_at(store)
    budget = budgets.create(1, NewBudget(name="b", window="day", token_limit=30, enabled=False))
    store.ingest([cycle_of(call(10), key="a")])

    assert levels_given(budgets) == []
    budgets.change(1, budget.id, BudgetChange(enabled=True))

    assert levels_given(budgets) == [0.5, 0.8, 1.0]


def test_a_deleted_budget_leaves_its_alerts(store: Store) -> None:
    """And nothing else; what nobody was told of yet is told no more."""
    budgets = budgets_at(store)
    url = "https://example.com/hook"
    budget = budgets.create(
        1, NewBudget(name="b", window="day", token_limit=1, webhook_urls=(url,))
    )
    store.ingest([cycle_of(call(10), key="a")])

    assert budgets.delete(1, budget.id)

    assert budgets.list(1) == ()
    assert budgets.status(1, budget.id) is None
    assert not budgets.delete(1, budget.id)
    assert store.rows("SELECT COUNT(*) FROM budget_usage") == [(0,)]
    assert {d.state for a in budgets.alerts(1).alerts for d in a.deliveries} == {"cancelled"}
    store.ingest([cycle_of(call(11), key="b")])
    assert levels_given(budgets) == [0.5, 0.8, 1.0]


def test_another_cost_moves_the_windows(store: Store) -> None:
    """Repricing changes what is used; an alert that was given stays, one that is due is given."""
    budgets = budgets_at(store)
    budget = budgets.create(
        1, NewBudget(name="b", window="day", cost_limit_usd=Decimal("1e-10"), levels=(1.0,))
    )
    records = [call(10, id="x"), call(1, id="y", cost_pico_usd=None)]
    store.ingest([cycle_of(*records, key="a")])
    assert budgets.status(1, budget.id).keys[0].unpriced_calls == 1

    dearer = [msgspec.structs.replace(r, cost_pico_usd=90) for r in records]
    assert store.reprice(dearer, repriced_at=AT) == 2

    [total] = budgets.status(1, budget.id).keys
    assert (total.used_cost_usd, total.unpriced_calls, total.calls) == (Decimal("1.8e-10"), 0, 2)
    assert levels_given(budgets) == [1.0]
    assert store.reprice(records, repriced_at=AT) == 2
    [total] = budgets.status(1, budget.id).keys
    assert (total.used_cost_usd, total.unpriced_calls, total.used_tokens) == (
        Decimal("7e-11"),
        1,
        33,
    )
    assert levels_given(budgets) == [1.0]


def test_a_sum_beyond_64_bits_is_kept(store: Store) -> None:
    """Of pico-USD: nine million dollars are not the end."""
    budgets = budgets_at(store)
    budget = budgets.create(1, NewBudget(name="b", window="day", cost_limit_usd=Decimal(9_000_000)))
    costs = [8 * 10**18 + 1, 8 * 10**18 + 999_999]

    store.ingest([cycle_of(*(call(i, cost_pico_usd=c) for i, c in enumerate(costs)), key="a")])

    [total] = budgets.status(1, budget.id).keys
    assert total.used_cost_usd == Decimal(sum(costs)).scaleb(-12)
    assert budgets.alerts(1).alerts[0].used == Decimal(sum(costs)).scaleb(-12)


def test_projects_have_their_own_budgets(store: Store) -> None:
    """One commit of several projects counts for each its own calls."""
    budgets = budgets_at(store)
    mine, other = (
        budgets.create(id, NewBudget(name="b", window="day", token_limit=100)) for id in (1, 2)
    )

    store.ingest([cycle_of(call(1), key="a")], project_id=1)
    store.ingest([cycle_of(call(2), key="a")], project_id=2)
    store.ingest([cycle_of(call(3), key="a")], project_id=3)

    assert [k.used_tokens for k in budgets.status(1, mine.id).keys] == [3]
    assert [k.used_tokens for k in budgets.status(2, other.id).keys] == [6]
    assert budgets.get(1, other.id) is None
    assert budgets.change(1, other.id, BudgetChange(name="x")) is None
    assert not budgets.delete(1, other.id)


def test_alerts_come_in_pages(store: Store) -> None:
    """The newest first, each once."""
    budgets = budgets_at(store)
    one = budgets.create(1, NewBudget(name="b", scope="conversation", window="day", token_limit=1))
    budgets.create(1, NewBudget(name="c", window="day", token_limit=1))
    store.ingest([cycle_of(*(call(i + 1, conversation=f"c{i}") for i in range(5)), key="a")])

    seen, cursor = [], None
    while True:
        page = budgets.alerts(1, limit=4, cursor=cursor)
        seen += page.alerts
        cursor = page.next_cursor
        if cursor is None:
            break

    assert len(seen) == len({alert.id for alert in seen}) == 18
    assert [a.at for a in seen] == sorted((a.at for a in seen), reverse=True)
    assert len(budgets.alerts(1, budget_id=one.id).alerts) == 15
    with pytest.raises(InvalidBudgetError, match="cursor 'nonsense'"):
        budgets.alerts(1, cursor="nonsense")


def test_a_budget_made_while_calls_come_misses_none(store: Store) -> None:
    """What was there and what comes add up, whenever the budget is made."""
    budgets = budgets_at(store)
    records = [[call(i + 1, id=f"{t}-{i}") for i in range(40)] for t in range(3)]
    made: list[Any] = []
    begin = threading.Barrier(4)

    def send(thread: int) -> None:
        begin.wait()
        for record in records[thread]:
            store.ingest([cycle_of(record, key=record.id)])

    def make() -> None:
        begin.wait()
        new = NewBudget(name="b", window="day", token_limit=1000)
        made.extend(budgets.create(1, new) for _ in range(6))

    with ThreadPoolExecutor(4) as threads:
        for done in [*(threads.submit(send, t) for t in range(3)), threads.submit(make)]:
            done.result()

    expected = sum(r.usage.total_tokens for of_thread in records for r in of_thread)
    for budget in made:
        [total] = budgets.status(1, budget.id).keys
        assert (total.used_tokens, total.calls) == (expected, 120)
    assert levels_given(budgets).count(1.0) == 6


ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu")
WINDOWS = ("hour", "day", "week", "month", "total", "rolling 24h", "rolling 90m", "rolling 7d")
EDGES = (
    datetime(2026, 3, 29, 0, 59, 59, 999999, tzinfo=UTC),  # Berlin's clocks go on
    datetime(2026, 10, 25, 0, 30, tzinfo=UTC),  # and back
    datetime(2026, 11, 1, 5, 59, 59, tzinfo=UTC),  # New York's
    datetime(2026, 4, 4, 15, 15, tzinfo=UTC),  # Lord Howe's, by half an hour
    datetime(2026, 2, 28, 23, 59, 59, 999999, tzinfo=UTC),  # a month ends
    datetime(2026, 12, 31, 18, 15, tzinfo=UTC),  # and a year, in Kathmandu
)
SLIDING = tuple(
    (timedelta(seconds=span.seconds), timedelta(seconds=span.slice_seconds))
    for span in map(window_named, WINDOWS[-3:])
)
USERS = (None, "", "ann", "bob")


@st.composite
def records(draw: st.DrawFn, around: datetime) -> UsageRecord:
    shift = draw(
        st.one_of(
            st.integers(-1, 1).map(lambda n: timedelta(microseconds=n)),
            st.integers(-8 * 96, 8 * 96).map(lambda n: timedelta(minutes=15 * n)),
            st.integers(-10_000, 10_000).map(lambda n: timedelta(seconds=n)),
            # The lengths of windows that slide, and a slice more.
            st.builds(
                lambda length, slices, sign: sign * (length[0] + slices * length[1]),
                st.sampled_from(SLIDING),
                st.integers(-1, 2),
                st.sampled_from((-1, 1)),
            ),
        )
    )
    return call(
        draw(st.integers(0, 60)),
        id=draw(st.integers(0, 30).map(str)),
        at=around + shift,
        scope=Scope(user_id=draw(st.sampled_from(USERS)), conversation_id="c"),
        model=draw(st.sampled_from(("m", "n", None))),
        cost_pico_usd=draw(st.sampled_from((None, 0, 1, 999_999, 10**6, 10**15 + 7))),
    )


@st.composite
def histories(draw: st.DrawFn) -> tuple[datetime, list[NewBudget], list[list[UsageRecord]]]:
    around = draw(st.sampled_from(EDGES))
    new = st.builds(
        NewBudget,
        name=st.just("b"),
        scope=st.sampled_from(("global", "user", "model", "environment", "conversation")),
        window=st.sampled_from(WINDOWS),
        timezone=st.sampled_from(ZONES),
        token_limit=st.sampled_from((0, 50, 301)),
        cost_limit_usd=st.sampled_from((None, Decimal("0.001"), Decimal("0.0000015"))),
        levels=st.sampled_from(((0.5, 0.8, 1.0), (0.333333, 1.5))),
    )
    batches = st.lists(st.lists(records(around), min_size=1, max_size=6), max_size=8)
    return around, draw(st.lists(new, min_size=1, max_size=4)), draw(batches)


def check(store: Store, history: tuple[datetime, list[NewBudget], list[list[UsageRecord]]]) -> None:
    """Ingest a history, a part of it before the budgets are made, and reckon."""
    around, new, batches = history
    budgets = budgets_at(store, around)
    stored: dict[str, tuple[UsageRecord, str | None]] = {}

    def ingest(number: int, batch: list[UsageRecord]) -> None:
        environment = "prod" if number % 2 else None
        once = {record.id: record for record in reversed(batch)}
        cycle = cycle_of(*once.values(), key=f"k{number}", environment=environment)
        for record in once.values():
            stored.setdefault(record.id, (record, environment))
        store.ingest([cycle])
        store.ingest([cycle])

    before = len(batches) // 3
    for number, batch in enumerate(batches[:before]):
        ingest(number, batch)
    made = [budgets.create(1, each) for each in new]
    for number, batch in enumerate(batches[before:], before):
        ingest(number, batch)

    now = int(around.timestamp())
    for budget in made:
        usage = expected_usage(budget, stored.values())
        assert stored_usage(store, budget) == usage
        since = window_named(budget.window, budget.timezone).stored_start(now)
        assert stored_alerts(store, budget) == expected_alerts(budget, usage, since=since)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(histories())
def test_sums_and_alerts_are_those_of_the_plainest_reckoning(
    history: tuple[datetime, list[NewBudget], list[list[UsageRecord]]],
) -> None:
    """Whatever comes, twice, late or at the edge of a window, in any zone."""
    with SQLiteStore(Path(":memory:")) as store:
        check(store, history)


@pytest.mark.parametrize("is_late", [False, True])
@pytest.mark.parametrize(("hours", "levels"), [(24, [0.5, 1.0]), (24.5, [0.5])])
def test_a_sliding_window_ends_with_its_oldest_slice(
    hours: float, levels: list[float], is_late: bool
) -> None:
    """A slice counts until it has left as a whole, whichever call comes first."""
    start = AT.replace(hour=0, minute=29, second=59)
    calls = [call(20, at=start), call(20, at=start + timedelta(hours=hours))]
    with SQLiteStore(Path(":memory:")) as store:
        budgets = budgets_at(store, start)
        new = NewBudget(name="b", window="rolling 24h", token_limit=120, levels=(0.5, 1.0))
        budgets.create(1, new)

        for record in reversed(calls) if is_late else calls:
            store.ingest([cycle_of(record, key=record.id)])

        assert sorted({*levels_given(budgets)}) == levels


@pytest.mark.parametrize("change", [{}, {"scope": "user"}])
@pytest.mark.parametrize("window", WINDOWS)
def test_the_same_in_every_store(store: Store, window: str, change: dict[str, Any]) -> None:
    """The reckoning of one history, in each window."""
    around = EDGES[1]
    new = NewBudget(
        name="b",
        window=window,
        timezone="Europe/Berlin",
        token_limit=300,
        cost_limit_usd=Decimal("0.0000015"),
        **change,
    )
    batches = [
        [
            call(
                7 * i + j,
                id=f"{i}-{j}",
                at=around + timedelta(minutes=47 * (i - 6) * (j + 1)),
                scope=Scope(user_id=USERS[(i + j) % 4], conversation_id="c"),
                cost_pico_usd=(999_999, None, 3)[j % 3],
            )
            for j in range(4)
        ]
        for i in range(12)
    ]

    check(store, (around, [new], batches))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"token_limit": None}, "needs a token_limit, a cost_limit_usd, or both"),
        ({"token_limit": -1}, "token_limit must lie between 0 and"),
        ({"cost_limit_usd": Decimal("-0.01")}, "cost_limit_usd must be USD between 0"),
        ({"cost_limit_usd": Decimal("NaN")}, "cost_limit_usd must be USD between 0"),
        ({"cost_limit_usd": Decimal("1e9")}, "cost_limit_usd must be USD between 0"),
        ({"timezone": "Mars/Base"}, "'Mars/Base' is no zone of the IANA database"),
        ({"timezone": "../etc/passwd"}, "no zone of the IANA database"),
        ({"window": "fortnight"}, "window 'fortnight' is not known; known are hour, day"),
        ({"window": "rolling 1M"}, "duration '1M' is not known"),
        ({"window": "rolling 30s"}, "must be between 60 seconds and 366 days long"),
        ({"window": "rolling 400d"}, "must be between 60 seconds and 366 days long"),
        ({"levels": (0.0,)}, "a level is a part of the limit above 0"),
        ({"levels": (80.0,)}, "0.8 for 80 %: 80.0 is none"),
        ({"levels": (float("nan"),)}, "nan is none"),
        ({"levels": (1 / 3,)}, "with six decimals at most"),
        ({"levels": tuple(i / 100 for i in range(1, 12))}, "at most 10 levels, not 11"),
        ({"name": " "}, "name must have 1 to 200 printable characters"),
        ({"value": "ann"}, "a budget of all calls has the value"),
        ({"scope": "planet"}, "scope 'planet' is not known"),
        ({"scope": "user", "value": "a\0"}, "value must have 1 to 1000 printable"),
        ({"webhook_urls": ("ftp://x",)}, "a webhook's address begins with https://"),
        ({"webhook_urls": ("http://u:p@x/",)}, "has no user in it"),
        ({"webhook_urls": ("http:///x",)}, "and a host"),
        ({"webhook_urls": ("http://x:99999/",)}, "is none"),
        ({"webhook_urls": ("http://x/a b",)}, "plain characters"),
        ({"webhook_urls": ("http://x/",) * 6}, "at most 5 webhooks, not 6"),
        ({"webhook_secret": ""}, "webhook_secret must have 1 to 500"),
    ],
)
def test_what_no_budget_can_be_is_refused(fields: dict[str, Any], message: str) -> None:
    """With the value, the limit and the way out; and nothing is made."""
    with SQLiteStore(Path(":memory:")) as store:
        budgets = budgets_at(store)

        with pytest.raises(InvalidBudgetError, match=message.replace("(", r"\(")):
            budgets.create(1, NewBudget(**{"name": "b", "token_limit": 1, **fields}))

        assert budgets.list(1) == ()


def test_a_project_has_a_hundred_budgets_at_most(tmp_path: Path) -> None:
    """Each costs the ingest something."""
    with SQLiteStore(tmp_path / "store.db") as store:
        budgets = budgets_at(store)
        for number in range(100):
            budgets.create(1, NewBudget(name=str(number), token_limit=1))

        with pytest.raises(InvalidBudgetError, match="at most 100 budgets"):
            budgets.create(1, NewBudget(name="b", token_limit=1))


def test_a_burn_down_ends_at_what_is_used(store: Store) -> None:
    """In steps of each window, in its zone; a key is asked for where there are several."""
    now = AT.replace(day=20)
    budgets = budgets_at(store, now)
    records = [
        call(n, id=str(n), at=now - timedelta(hours=5 * n), scope=Scope(user_id="ann"))
        for n in range(1, 60)
    ]
    store.ingest([cycle_of(*records, key="a")])
    for window in WINDOWS:
        budget = budgets.create(
            1,
            NewBudget(
                name="b",
                scope="user",
                window=window,
                timezone="Asia/Kathmandu",
                token_limit=10**6,
                cost_limit_usd=Decimal(1),
            ),
        )
        status = budgets.status(1, budget.id)

        found = budgets.burn_down(1, budget.id, key="ann")

        used = [(k.used_tokens, k.used_cost_usd) for k in status.keys] or [(0, 0)]
        assert [(found.points[-1].used_tokens, found.points[-1].used_cost_usd)] == used
        assert found.points[-1].at == now
        assert [p.at for p in found.points] == sorted({p.at for p in found.points})
        assert found.starts_at == status.starts_at
        if not window.startswith("rolling"):
            tokens = [p.used_tokens for p in found.points]
            assert tokens == sorted(tokens)
        if window == "month":
            assert len(found.points) == 14
            assert found.points[1].used_tokens == 3 * sum(range(55, 60))
            assert found.projection is not None
            assert found.projection.tokens > tokens[-1]
        with pytest.raises(InvalidBudgetError, match="say the key of one"):
            budgets.burn_down(1, budget.id)
    everybody = budgets.create(1, NewBudget(name="b", window="day", token_limit=1))
    assert budgets.burn_down(1, everybody.id).key == "*"
    with pytest.raises(InvalidBudgetError, match="no key 'ann'"):
        budgets.burn_down(1, everybody.id, key="ann")
    assert budgets.burn_down(1, "none") is None


def test_what_has_expired_counts_for_a_new_budget(store: Store) -> None:
    """As far as the store has its sums."""
    old = call(5, at=datetime(2025, 3, 1, tzinfo=UTC), scope=Scope(user_id="ann"))
    store.ingest([cycle_of(old, call(1, scope=Scope(user_id="ann")), key="a")])
    store.expire(AT)
    budgets = budgets_at(store)

    for scope in ("global", "user", "model"):
        budget = budgets.create(1, NewBudget(name="b", scope=scope, window="total", token_limit=9))  # type: ignore[arg-type]

        assert [k.used_tokens for k in budgets.status(1, budget.id).keys] == [18]


@pytest.mark.parametrize("window", ["hour", "day", "week", "month", "total", "rolling 7d"])
def test_retention_leaves_the_windows_that_run(store: Store, window: str) -> None:
    """Those that were over are forgotten, and what comes late does not begin them anew."""
    march = datetime(2026, 3, 1, tzinfo=UTC)
    budgets = budgets_at(store, datetime(2026, 1, 10, tzinfo=UTC))
    budget = budgets.create(1, NewBudget(name="b", window=window, token_limit=100, levels=(1.0,)))
    early, feb, mar = (
        call(30, at=at)
        for at in (
            datetime(2026, 1, 12, tzinfo=UTC),
            datetime(2026, 2, 27, tzinfo=UTC),
            datetime(2026, 3, 2, tzinfo=UTC),
        )
    )
    store.ingest([cycle_of(early, feb, mar, key="a")])

    store.expire(march)
    store.ingest([cycle_of(call(40, at=early.at), key="b")])

    left = {"total": 3 * 90 + 120, "week": 2 * 90, "rolling 7d": 2 * 90}.get(window, 90)
    assert sum(tokens for tokens, _, _ in stored_usage(store, budget).values()) == left
    assert len(levels_given(budgets)) == {"total": 1, "rolling 7d": 1}.get(window, 0)
    if window == "rolling 7d":
        status = budgets.status(1, budget.id, mar.at)
        assert [k.used_tokens for k in status.keys] == [180]


def test_a_linear_projection_is_told_when_there_is_enough() -> None:
    """Not in the first twentieth of a window; and when the limit will be reached."""
    start = AT.replace(hour=0, minute=0, second=0, microsecond=0)
    with SQLiteStore(Path(":memory:")) as store:
        budgets = budgets_at(store, start)
        budget = budgets.create(1, NewBudget(name="b", window="day", token_limit=1000))
        store.ingest([cycle_of(call(100, at=start + timedelta(minutes=1)), key="a")])

        early, later, last = (
            budgets.status(1, budget.id, start + timedelta(hours=hours)).keys[0].projection
            for hours in (1, 6, 12)
        )

        assert early is None
        assert (later.tokens, later.exhausted_at) == (1200, start + timedelta(hours=20))
        assert (last.tokens, last.exhausted_at) == (600, None)
