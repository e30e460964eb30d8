"""Packs are made of what is over, and are used as long as they are true."""

from __future__ import annotations

import random
import sqlite3
import time
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy
import pytest

from agentsight_tokens import Scope, TokenUsage, UsageRecord
from agentsight_tokens.backend.accounts import Accounts
from agentsight_tokens.backend.analytics import (
    CONVERSATION_ORDERS,
    ConversationOrder,
    UsageReport,
    conversations,
    usage_by,
    usage_over_time,
)
from agentsight_tokens.backend.analytics.gathering import Gathering
from agentsight_tokens.backend.analytics.names import PackedNames
from agentsight_tokens.backend.analytics.places import Prints
from agentsight_tokens.backend.store import Reader, SQLiteStore, Store
from agentsight_tokens.backend.store.base import ProjectReader
from agentsight_tokens.backend.store.packing import Packing, Span, pack, pack_all, spans_due
from agentsight_tokens.backend.store.packs import true_packs
from agentsight_tokens.backend.store.rollup import DAY, HOUR, SUM_COLUMNS
from agentsight_tokens.calls import microseconds
from tests.analytics_kit import keep
from tests.packs_kit import DAY_1, UTC, Watched, WithoutPacks, interrupted, packs_of, read
from tests.records import call
from tests.store_kit import postgresql, store

__all__ = ["postgresql", "store"]

NOW = datetime(2026, 4, 2, 10, 20, tzinfo=UTC)
TWO_DAYS = {"since": DAY_1, "until": DAY_1 + timedelta(days=2)}
ALL_PACKS = [("month", -29), ("day", 0), ("day", 1), ("hour", 3), ("hour", 3), ("hour", 3)]
"""Those of the fixture `packed`."""


def calls_of(day: datetime, count: int = 3, **facts: object) -> list[UsageRecord]:
    """Return calls of one user and two features, some hours apart."""
    return [
        call(
            id=f"{day:%d}-{number}",
            at=day + timedelta(hours=number, minutes=7),
            scope=Scope(conversation_id=f"c{number}", user_id="u", feature="fg"[number % 2]),
            **facts,
        )
        for number in range(count)
    ]


@pytest.fixture
def packed(store: Store) -> Store:
    """Two days with packs, their month, and three hours of a third day."""
    for number in (0, 1, 3):
        keep(store, *calls_of(DAY_1 + timedelta(days=number)))
    assert pack_all(store, NOW, fewest=1) == 6
    return store


def calls_by_feature(reader: Any, **where: Any) -> dict[str | None, int]:
    report = usage_by(reader, ["feature"], where={"user_id": "u", **where})
    return {key[0]: usage.request_count for key, usage in report.groups}


def test_packs_answer_for_calls(packed: Store) -> None:
    """Days that are over and hours of the day that is not; only the rest is read."""
    assert packs_of(packed) == ALL_PACKS
    reader = Watched(packed)
    found = calls_by_feature(reader, since=DAY_1, until=DAY_1 + timedelta(days=2))

    assert found == {"f": 4, "g": 2}
    assert reader.readings == 0
    assert calls_by_feature(packed.of_project(1)) == {"f": 6, "g": 3}


def test_calls_are_read_where_numpy_is_not(packed: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the server's extra, as a report of its store may be made."""
    monkeypatch.setattr("agentsight_tokens.backend.analytics.sums._HAS_NUMPY", False)
    reader = Watched(packed)

    assert calls_by_feature(reader) == {"f": 6, "g": 3}
    assert reader.readings > 0


def test_a_pack_is_cut_by_quarters(packed: Store) -> None:
    """What is asked of the middle of one comes from it, and the minutes beside from the calls."""
    since, until = DAY_1 + timedelta(minutes=8), DAY_1 + timedelta(days=1, hours=1, minutes=7)

    assert calls_by_feature(packed.of_project(1), since=since, until=until) == {"g": 1, "f": 2}
    last = DAY_1 + timedelta(days=1, minutes=-4)
    assert calls_by_feature(packed.of_project(1), since=last) == {"f": 4, "g": 2}


def test_a_call_that_comes_late_counts(packed: Store) -> None:
    """Its day is read until it is packed again; one that comes twice changes nothing."""
    late = call(id="late", at=DAY_1 + timedelta(hours=5), scope=Scope(user_id="u", feature="f"))
    keep(packed, late)

    assert calls_by_feature(packed.of_project(1)) == {"f": 7, "g": 3}
    assert ("day", 0) not in packs_of(packed)
    keep(packed, *calls_of(DAY_1 + timedelta(days=1)))
    assert pack_all(packed, NOW, fewest=1) == 2
    assert packs_of(packed)[:3] == [("month", -29), ("day", 0), ("day", 1)]
    assert calls_by_feature(packed.of_project(1)) == {"f": 7, "g": 3}


def test_a_day_takes_the_place_of_its_hours(packed: Store) -> None:
    """When it is over."""
    assert pack_all(packed, NOW + timedelta(days=1), fewest=1) == 1

    assert packs_of(packed) == [("month", -29), ("day", 0), ("day", 1), ("day", 3)]
    [(hours,)] = packed.rows("SELECT COUNT(*) FROM packed_calls WHERE period = 'hour'")
    assert hours == 0


def test_calls_that_cost_something_else_are_packed_anew(packed: Store) -> None:
    """Also where the sums of their day are the same as before."""
    first, second, _ = calls_of(DAY_1)
    swapped = calls_of(DAY_1, cost_pico_usd=7)[:1]
    packed.reprice(swapped, repriced_at=NOW)
    costs = [record.cost_pico_usd for record in (first, second)]
    report = usage_by(
        packed.of_project(1),
        ["feature"],
        where={"user_id": "u", "until": DAY_1 + timedelta(days=1)},
    )
    found = {key[0]: usage.cost_pico_usd for key, usage in report.groups}

    assert packs_of(packed)[0] == ("day", 1)
    assert found == {"f": 7 + (costs[0] or 0), "g": costs[1]}


def test_a_month_that_expires_takes_its_packs_along(packed: Store) -> None:
    """And a call of it that comes afterwards is all that can be told of it."""
    packed.expire(datetime(2026, 4, 1, tzinfo=UTC))
    assert packs_of(packed) == [("hour", 3)] * 3
    assert calls_by_feature(packed.of_project(1)) == {"f": 2, "g": 1}

    keep(packed, call(id="new", at=DAY_1, scope=Scope(user_id="u", feature="h")))

    assert calls_by_feature(packed.of_project(1)) == {"f": 2, "g": 1, "h": 1}
    # A day has no calls any more, another one and the month fewer than their sums have.
    assert [pack(packed, span) for span in spans_due(packed, NOW, fewest=1)] == [False, True, True]
    assert packs_of(packed) == [("hour", 3)] * 3
    assert calls_by_feature(packed.of_project(1)) == {"f": 2, "g": 1, "h": 1}


def test_projects_have_packs_of_their_own(packed: Store) -> None:
    """What one has is not in the other's sums; over both, the calls are read."""
    other = Accounts(packed).project("other").id
    keep(packed, *calls_of(DAY_1, 5), project_id=other)
    assert calls_by_feature(packed.of_project(other)) == {"f": 3, "g": 2}
    assert pack_all(packed, NOW, fewest=1) == 2

    assert packs_of(packed, other) == [("month", -29), ("day", 0)]
    assert calls_by_feature(packed.of_project(other)) == {"f": 3, "g": 2}
    assert calls_by_feature(packed.of_project(1)) == {"f": 6, "g": 3}
    assert calls_by_feature(packed) == {"f": 9, "g": 5}


def pages_of_conversations(reader: Reader, order: ConversationOrder, **where: object) -> list[Any]:
    """Return the conversations of all pages of four."""
    found: list[Any] = []
    cursor = None
    while not found or cursor is not None:
        page = conversations(reader, where=where, order=order, limit=4, cursor=cursor)
        found += [page.rows]
        cursor = page.next_cursor
    return found


@pytest.mark.parametrize("order", CONVERSATION_ORDERS)
def test_conversations_that_lead_are_found_in_packs(store: Store, order: ConversationOrder) -> None:
    """Whatever they have in common, each page is the one that the calls make."""
    chance = random.Random(5)
    keep(
        store,
        *(
            call(
                id=str(number),
                at=DAY_1 + timedelta(minutes=chance.choice([7, 25]) + 60 * chance.randrange(50)),
                scope=Scope(
                    conversation_id=chance.choice([None, "", *(f"c{n}" for n in range(30))]),
                    feature=chance.choice("fg"),
                ),
                cost_pico_usd=chance.choice([None, 0, 2_000_000, 2_999_999]),
                usage=TokenUsage(input_tokens=chance.choice([5, 500])),
            )
            for number in range(90)
        ),
    )
    filters: list[dict[str, object]] = [
        {"feature": "f"},
        {"feature": "g", "until": DAY_1 + timedelta(days=1, hours=9, minutes=10)},
        {"feature": "h"},
        {"feature": "f", "since": DAY_1 + timedelta(hours=3, minutes=7)},
    ]
    expected = [pages_of_conversations(store.of_project(1), order, **each) for each in filters]

    assert pack_all(store, NOW, fewest=1) > 1
    found = [pages_of_conversations(store.of_project(1), order, **each) for each in filters]

    assert found == expected
    assert len(found[0]) > 5


def test_no_calls_have_a_sum_in_packs_too(packed: Store) -> None:
    """As the calls answer it: what is grouped by nothing is one group."""
    where = {"feature": "f", "agent": "nobody", "since": DAY_1, "until": DAY_1 + timedelta(days=1)}
    reader = Watched(packed)
    found = usage_by(reader, [], where=where)
    with packed.transaction() as transaction:
        transaction.run("DELETE FROM packed_calls")

    assert found == usage_by(packed.of_project(1), [], where=where)
    assert [key for key, _ in found.groups] == [()]
    assert reader.readings == 0


def test_packs_say_nothing_of_an_empty_text(packed: Store) -> None:
    """Which is told from no text in the calls alone."""
    keep(packed, call(id="empty", at=DAY_1, scope=Scope(user_id="", feature="f")))

    assert calls_by_feature(packed.of_project(1), user_id="") == {"f": 1}


@pytest.mark.parametrize(
    ("by", "zone", "form"),
    [
        (["model"], UTC, "lean"),
        (["day", "model"], UTC, "lean"),
        (["week", "model"], ZoneInfo("Asia/Kathmandu"), "lean"),
        (["day", "feature"], ZoneInfo("Asia/Kathmandu"), "rows 0"),
        (["hour", "feature"], UTC, "rows 0"),
        (["user"], UTC, "rows 0"),
        (["agent", "month"], ZoneInfo("Asia/Kathmandu"), "lean"),
    ],
)
def test_a_day_is_read_in_its_lean_form(
    store: Store, by: list[str], zone: tzinfo, form: str
) -> None:
    """Where that has all that is asked for, and the sums are the same."""
    chance = random.Random(3)
    records = [
        call(
            id=str(number),
            at=DAY_1 + timedelta(minutes=chance.randrange(3 * 1440)),
            scope=Scope(user_id=f"u{number}", feature=chance.choice([None, "f", "g"])),
            model=chance.choice(["a", "b"]),
            cost_pico_usd=chance.choice([None, 3_500_000]),
        )
        for number in range(300)
    ]
    keep(store, *records, environment="production")
    queries = [
        {"feature": "f"},
        {"feature": "g", "environment": "production"},
        {"feature": "f", "since": DAY_1 + timedelta(hours=5, minutes=3)},
        {"tags": ["none"]},
        {"feature": "none"},
    ]

    def reports(reader: Reader) -> list[UsageReport]:
        return [usage_by(reader, by, where=where, zone=zone) for where in queries]

    expected = reports(store.of_project(1))
    assert pack_all(store, NOW, fewest=1) == 4
    reader = Watched(store)

    assert reports(reader) == expected
    assert read(reader) == ({form, "rows 0"} if form == "lean" else {form})


def test_an_organisation_is_read_in_a_form_of_its_own(store: Store) -> None:
    """What its overview shows, and what is drawn of its users; who they are is read in rows."""
    records = [
        call(
            id=str(number),
            at=DAY_1 + timedelta(minutes=5 * number),
            scope=Scope(org_id=f"o{number % 3}", user_id=f"u{number % 7}"),
            model="ab"[number % 2],
        )
        for number in range(288)
    ]
    keep(store, *records, call(id="later", at=NOW))
    where = {"org_id": "o1", "since": DAY_1}
    expected = [
        usage_by(store.of_project(1), by, where=where) for by in (["day", "model"], ["user"])
    ]
    assert pack_all(store, NOW, fewest=1) == 2
    overview, users, drawn = (Watched(store) for _ in range(3))

    assert usage_by(overview, ["day", "model"], where=where) == expected[0]
    assert usage_by(users, ["user"], where=where) == expected[1]
    usage_over_time(drawn, ("week", "user"), where={"org_id": "o1"}, zone=UTC, limit=9, most=9)
    assert read(overview) == {"places of org_id", "orgs"}
    assert read(users) == {"places of org_id", "rows 0"}
    assert read(drawn) == {"users by org_id", "places of org_id", "ranked users"}


def test_few_calls_are_not_packed(store: Store) -> None:
    """They are quick to read; neither is a day that is not over, nor one that has no calls."""
    keep(store, *calls_of(DAY_1))

    assert list(spans_due(store, NOW)) == []
    assert list(spans_due(store, DAY_1 + timedelta(minutes=64), fewest=1)) == []
    assert [span.period for span in spans_due(store, DAY_1 + timedelta(minutes=65), fewest=1)] == [
        "hour"
    ]


def test_a_day_of_too_many_calls_is_packed_by_the_hour(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has not been packed yet is in memory; an hour that has too many is read as it is."""
    monkeypatch.setattr("agentsight_tokens.backend.store.packing._MOST_ROWS", 4)
    second = DAY_1 + timedelta(days=1)
    times = [*range(3), *[100 + n for n in range(5)], *[1380 + n for n in range(3)]]
    records = [
        call(id=f"{number}", at=second + timedelta(minutes=number), scope=Scope(feature="f"))
        for number in times
    ]
    keep(store, *calls_of(DAY_1, 2), *records)
    spans = list(spans_due(store, NOW, fewest=1))

    assert [(span.period, span.start - microseconds(DAY_1)) for span in spans] == [
        *(("hour", DAY + hour * HOUR) for hour in (23, 0)),
        ("day", 0),
        ("month", -29 * DAY),
    ]
    where = {"since": second, "feature": "f", "until": second + timedelta(days=1)}
    expected = usage_by(store.of_project(1), ["hour"], where=where)
    assert pack_all(store, NOW, fewest=1) == 4
    assert list(spans_due(store, NOW, fewest=1)) == []
    reader = Watched(store)
    assert usage_by(reader, ["hour"], where=where) == expected
    assert expected.total.request_count == 11
    assert "rows 0" in read(reader)


def span_of(store: Store, period: str) -> Span:
    """Return the latest day or month that is due."""
    return next(span for span in spans_due(store, NOW, fewest=1) if span.period == period)


@pytest.mark.parametrize("period", ["day", "month"])
def test_calls_that_change_while_they_are_packed_are_not(store: Store, period: str) -> None:
    """The costs that were read are not those of the calls any more."""
    keep(store, *calls_of(DAY_1))
    span = span_of(store, period)
    changed = calls_of(DAY_1, cost_pico_usd=7)

    assert not pack(interrupted(store, lambda: store.reprice(changed, repriced_at=NOW)), span)
    assert packs_of(store) == []
    assert pack_all(store, NOW, fewest=1) == 2
    total = usage_by(store.of_project(1), [], where={"feature": "f"}).total
    assert total.cost_pico_usd == 14


def test_calls_that_come_while_others_are_packed_count(store: Store) -> None:
    """Where their hour was read already, the pack is not true."""
    keep(store, *calls_of(DAY_1))
    span = span_of(store, "day")
    late = call(id="late", at=DAY_1, scope=Scope(user_id="u", feature="f"))
    readings = iter(range(96))

    def meanwhile() -> None:
        if next(readings) == 1:
            keep(store, late)

    assert pack(interrupted(store, meanwhile), span)
    assert packs_of(store) == []
    assert calls_by_feature(store.of_project(1)) == {"f": 3, "g": 1}


@pytest.mark.parametrize(("period", "day"), [("day", 0), ("month", -29)])
def test_one_of_two_who_pack_the_same_gives_way(store: Store, period: str, day: int) -> None:
    """To the one who began later; who begins as one is at it leaves it to that one."""
    keep(store, *calls_of(DAY_1))
    span = span_of(store, period)
    seen = []

    def meanwhile() -> None:
        if not seen:
            seen.append([each.period for each in spans_due(store, NOW, fewest=1)])
            assert pack(store, span)

    assert not pack(interrupted(store, meanwhile), span)
    assert seen == [["month" if period == "day" else "day"]]
    assert packs_of(store) == [(period, day)]
    assert calls_by_feature(store.of_project(1)) == {"f": 2, "g": 1}


def test_a_pack_that_is_dropped_as_it_is_read_is_made_up_for(packed: Store) -> None:
    """By its calls."""

    class Dropping(ProjectReader):
        def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
            if "'rows 0'" in statement:
                with packed.transaction() as transaction:
                    transaction.run(
                        "DELETE FROM packed_calls WHERE start < ?", (microseconds(DAY_1) + DAY,)
                    )
            return super().rows(statement, values)

    assert calls_by_feature(Dropping(packed, 1)) == {"f": 6, "g": 3}


def test_the_server_packs_by_itself(store: Store) -> None:
    """Days that are over, from its start on."""
    # Yesterday is not over in the first minutes of a day.
    day = datetime.now(UTC).replace(hour=0, minute=0) - timedelta(days=2)
    records = [
        call(id=str(number), at=day + timedelta(minutes=number), scope=Scope(user_id="u"))
        for number in range(200)
    ]
    keep(store, *records)
    packing = Packing(store)
    packing.start()
    until = time.monotonic() + 20
    while not true_packs(store.of_project(1), None, None) and time.monotonic() < until:
        packing._is_over.wait(0.01)
    packing.stop()

    [found] = true_packs(store.of_project(1), None, None)
    assert (found.period, found.head.rows) == ("day", 14)


def test_numbers_are_exact(tmp_path: Path) -> None:
    """Also those that are beyond what floating point can tell apart, and negative ones."""
    with SQLiteStore(tmp_path / "store.db") as store:
        keep(
            store,
            *(
                call(
                    id=str(n),
                    at=DAY_1,
                    scope=Scope(user_id="u", feature=f"{n}"),
                    cost_pico_usd=cost,
                    usage=TokenUsage(input_tokens=2**60 + n),
                )
                for n, cost in enumerate([2**62 + 1, 2**61 + 1, 2**62 + 3, 1])
            ),
        )
        assert pack_all(store, NOW, fewest=1) == 2
        reader = Watched(store)
        where = {"user_id": "u", "status": "ok", **TWO_DAYS}
        total = usage_by(reader, [], where=where).total

    assert "rows 0" in read(reader)
    assert total.cost_pico_usd == 2**63 + 2**61 + 6
    assert total.input_tokens == 2**62 + 6


def test_many_rows_are_put_together_on_the_way(
    packed: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As soon as they are too many to be kept as they came."""
    monkeypatch.setattr("agentsight_tokens.backend.analytics.gathering._MOST_LOOSE", 500_000)
    found = Gathering(["day", "user_id"], PackedNames(packed.of_project(1), []))
    users = [f"u{number}" for number in range(400_000)]
    for day in range(3):
        days = numpy.full(len(users), found.ids(0, [f"{day}"])[0])
        calls = numpy.ones(len(users), numpy.int8)
        sums = [calls, *[None] * (len(SUM_COLUMNS) - 1)]
        found.add([days, found.ids(1, users)], sums, len(users))

    by_user = found.groups(["user_id"])
    assert found.total()[0] == 1_200_000
    assert {group.sums[0] for group in by_user} == {3}
    assert len(by_user) == 400_000
    assert len(found.groups(["user_id"], 2)) == 400_000  # all cost the same
    assert not found.is_full
    monkeypatch.setattr("agentsight_tokens.backend.analytics.gathering._MOST_NUMBERS", 700_000)
    assert found.is_full


def test_more_groups_than_memory_takes_are_left_to_the_database(
    packed: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if there were no packs."""
    for most in ("_MOST_LOOSE", "_MOST_NUMBERS"):
        monkeypatch.setattr(f"agentsight_tokens.backend.analytics.gathering.{most}", 1)
    reader = Watched(packed)

    assert calls_by_feature(reader) == {"f": 6, "g": 3}
    assert reader.readings > 0
    where = {"user_id": "u"}
    steps = usage_over_time(reader, ("day", "feature"), where=where, zone=UTC, limit=9, most=9)
    assert [len(report.groups) for report in steps] == [2, 6]


def test_a_file_of_the_version_before_gets_the_table(tmp_path: Path) -> None:
    """And its calls are packed as those of any."""
    path = tmp_path / "store.db"
    with SQLiteStore(path) as store:
        keep(store, *calls_of(DAY_1))
    with closing(sqlite3.connect(path)) as file:
        file.execute("DROP TABLE packed_calls")
        file.execute("PRAGMA user_version = 6")
        file.commit()

    with SQLiteStore(path) as store:
        assert pack_all(store, NOW, fewest=1) == 2
        assert calls_by_feature(store.of_project(1)) == {"f": 2, "g": 1}


def test_a_pack_of_an_older_version_is_made_anew(packed: Store) -> None:
    """Whatever its head was made of; calls are read meanwhile."""
    older = msgspec.msgpack.encode(["mark", 1, 3, [3, 3, 0, 0, 0], 0])
    with packed.transaction() as transaction:
        transaction.run("UPDATE packed_calls SET data = ? WHERE name = ''", (older,))

    assert packs_of(packed) == []
    assert calls_by_feature(packed.of_project(1)) == {"f": 6, "g": 3}
    assert pack_all(packed, NOW, fewest=1) == 6
    assert packs_of(packed) == ALL_PACKS


@pytest.fixture
def crowded(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Two days with packs of several parts, in which many users have a session each, or two."""
    monkeypatch.setattr("agentsight_tokens.backend.store.packer.ROWS_A_PART", 8)
    chance = random.Random(11)
    records = [
        call(
            id=str(number),
            at=DAY_1 + timedelta(minutes=chance.randrange(2 * 1440)),
            scope=Scope(
                conversation_id=f"c{number // 3}",
                session_id=f"s{number // 6}",
                user_id=f"u{number // 6 % 23}",
                org_id=f"o{number // 6 % 5}",
            ),
            cost_pico_usd=chance.choice([None, 1_999_999, 2_000_001]),
        )
        for number in range(300)
    ]
    keep(store, *records, call(id="later", at=NOW), environment="production")
    assert pack_all(store, NOW, fewest=1) == 3
    return store


@pytest.mark.parametrize(
    ("name", "value", "places"),
    [
        ("user_id", "u7", "places of user_id"),
        ("org_id", "o2", "places of org_id"),
        ("session_id", "s31", "places of names"),
        ("conversation_id", "c40", "places of names"),
    ],
)
def test_a_filter_reads_the_parts_that_have_its_value(
    crowded: Store, name: str, value: str, places: str
) -> None:
    """And no others, of which a pack has many."""
    reader = Watched(crowded)
    where = {name: value, **TWO_DAYS}
    found = usage_by(reader, ["agent"], where=where).total.request_count
    parts = read(reader) - {places}
    everything = Watched(crowded)
    usage_by(everything, ["user", "agent"], where=TWO_DAYS)

    assert found == crowded.rows(f"SELECT COUNT(*) FROM calls WHERE {name} = ?", (value,))[0][0]
    assert places in read(reader)
    assert 0 < 2 * len(parts) < len(read(everything))
    assert reader.readings == everything.readings == 0


@pytest.mark.parametrize("limit", [1, 7, 40, 99])
@pytest.mark.parametrize(
    ("where", "most_rows", "places"),
    [
        ({}, 700_000, {"costs", "places of names"}),
        ({"user_id": "u3"}, 700_000, {"places of user_id", "places of names"}),
        ({"status": "ok"}, 700_000, {"places of names"}),
        ({"status": "ok"}, 0, {"places of names"}),
        ({"environment": "production"}, 0, {"costs", "places of names"}),
    ],
)
def test_the_costliest_sessions_are_found_by_what_ranks_all(
    crowded: Store,
    monkeypatch: pytest.MonkeyPatch,
    limit: int,
    where: dict[str, Any],
    most_rows: int,
    places: set[str],
) -> None:
    """Only what is theirs is then read, unless few are selected; and nothing of calls."""
    monkeypatch.setattr("agentsight_tokens.backend.analytics.sums._MOST_ROWS", most_rows)
    where = {**where, **TWO_DAYS}
    reader = Watched(crowded)
    found = usage_by(reader, ["session"], where=where, limit=limit)
    with crowded.transaction() as transaction:
        transaction.run("DELETE FROM packed_calls")
    whole = usage_by(crowded.of_project(1), ["session"], where=where)

    assert found.groups == whole.groups[:limit]
    assert found.total == whole.total
    assert {name for name in read(reader) if not name.startswith("rows")} == places
    assert reader.readings == 0


@pytest.mark.parametrize(("thinner", "is_form"), [(0, False), (2, True)])
def test_the_form_or_the_parts_are_read_whichever_have_less(
    crowded: Store, monkeypatch: pytest.MonkeyPatch, thinner: int, is_form: bool
) -> None:
    """To rank an organisation's sessions; a small one is in few parts, and a form has all of them."""
    monkeypatch.setattr("agentsight_tokens.backend.analytics.sums._MOST_ROWS", 0)
    monkeypatch.setattr("agentsight_tokens.backend.analytics.packed._THINNER", thinner)
    reader = Watched(crowded)
    where = {"org_id": "o2", **TWO_DAYS}
    found = usage_by(reader, ["session"], where=where, limit=3)
    whole = usage_by(WithoutPacks(crowded, 1), ["session"], where=where)

    assert (found.groups, found.total) == (whole.groups[:3], whole.total)
    assert ("costs" in read(reader)) == is_form
    assert {"places of org_id", "places of names"} < read(reader)
    assert reader.readings == 0


@pytest.mark.parametrize("by", [["user"], ["session"], ["day", "model"]])
def test_what_is_read_in_many_steps_is_the_same(
    crowded: Store, monkeypatch: pytest.MonkeyPatch, by: list[str]
) -> None:
    """The next step is read while the one before is added up."""
    reader = crowded.of_project(1)
    expected = usage_by(reader, by, where={"status": "ok", **TWO_DAYS}, limit=9)
    monkeypatch.setattr("agentsight_tokens.backend.analytics.packed._ROWS_AT_ONCE", 1)

    assert usage_by(reader, by, where={"status": "ok", **TWO_DAYS}, limit=9) == expected


def test_sessions_that_cost_the_same_are_told_apart_by_calls(
    crowded: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where they are more than are worth to be looked at."""
    monkeypatch.setattr("agentsight_tokens.backend.analytics.sums._MOST_LEVEL", -9)
    reader = Watched(crowded)

    assert len(usage_by(reader, ["session"], where=TWO_DAYS, limit=3).groups) == 3
    assert reader.readings > 0


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "Europe/Berlin"])
def test_a_zone_reads_a_day_by_quarters(store: Store, zone: str) -> None:
    """Also one of whole hours, whose sums are in a table that is long; and what it cuts is read."""
    records = [
        call(
            id=str(number),
            at=DAY_1 + timedelta(hours=number % 36, minutes=number % 20),
            scope=Scope(user_id=f"u{number}"),
            model="ab"[number % 2],
        )
        for number in range(720)
    ]
    keep(store, *records, call(id="later", at=NOW))
    where = {"since": DAY_1 + timedelta(minutes=7), "until": DAY_1 + timedelta(days=2)}

    def reports(reader: Reader) -> list[UsageReport]:
        keys = (["day", "model"], ["hour"], ["month", "environment"])
        return [usage_by(reader, by, where=where, zone=ZoneInfo(zone)) for by in keys]

    expected = reports(store.of_project(1))
    assert pack_all(store, NOW, fewest=1) == 3
    reader = Watched(store)

    assert reports(reader) == expected
    assert read(reader) == {"timed"}


def test_the_largest_are_not_looked_for_where_sums_can_shrink(packed: Store) -> None:
    """A cost below nothing takes from what the costliest row tells."""
    rows = 60_000
    found = Gathering(["session_id"], PackedNames(packed.of_project(1), []))
    costs = numpy.ones(rows, numpy.int64)
    costs[7] = -1
    number = SUM_COLUMNS.index("cost_micro_usd")
    sums = [costs if n == number else None for n in range(len(SUM_COLUMNS))]
    found.add([numpy.arange(rows) + 1], sums, rows)

    assert found.leading("session_id", ["cost_micro_usd"], 5) is found
    costs[:] = 0
    assert found.leading("session_id", ["cost_micro_usd"], 5) is found
    costs[3:7] = 100
    few = found.leading("session_id", ["cost_micro_usd"], 1)
    assert few.numbers("session_id").tolist() == [4, 5, 6, 7]


def test_the_costliest_are_found_without_putting_all_in_order(packed: Store) -> None:
    """Each with all of its rows."""
    names = [f"s{number}" for number in range(60_000)]
    found = Gathering(["session_id"], PackedNames(packed.of_project(1), []))
    costs = numpy.arange(len(names))
    number = SUM_COLUMNS.index("cost_micro_usd")
    sums = [costs if n == number else None for n in range(len(SUM_COLUMNS))]
    for _ in range(2):
        found.add([found.ids(0, names)], sums, len(names))

    groups = sorted(found.groups(["session_id"], 2), key=lambda group: group.sums[number])
    assert [(group.key, group.sums[number]) for group in groups] == [
        (("s59998",), 2 * 59_998),
        (("s59999",), 2 * 59_999),
    ]


def test_what_is_added_after_a_look_counts(packed: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it makes so many rows that they are put together."""
    monkeypatch.setattr("agentsight_tokens.backend.analytics.gathering._MOST_LOOSE", 5)
    found = Gathering(["session_id"], PackedNames(packed.of_project(1), []))
    for number in range(4):
        sums = [numpy.ones(2, numpy.int32), *[None] * (len(SUM_COLUMNS) - 1)]
        found.add([numpy.array([1, 2 + number])], sums, 2)
        assert len(found.numbers("session_id")) <= 2 * number + 2

    assert found.total()[0] == 8
    which, first = found.distinct(["session_id"])
    assert sorted(found.summed("calls", which, len(first)).tolist()) == [1, 1, 1, 1, 4]


def test_among_nothing_is_nothing() -> None:
    """Such as the costliest of no sessions."""
    assert not len(Prints(numpy.arange(0)).places_in(numpy.arange(3)))


@pytest.mark.parametrize("by", [["session"], ["session", "day"], ["conversation"]])
def test_texts_of_one_print_are_told_apart(
    store: Store, monkeypatch: pytest.MonkeyPatch, by: list[str]
) -> None:
    """By the calls, which are read then."""
    for module in ("store.packer", "analytics.packed", "analytics.batch", "analytics.names"):
        monkeypatch.setattr(f"agentsight_tokens.backend.{module}.print_of", lambda text: 7)
    records = [
        call(
            id=str(number),
            at=DAY_1 + timedelta(days=number),
            scope=Scope(conversation_id=f"c{number}", session_id=f"s{number}", user_id="u"),
        )
        for number in range(2)
    ]
    keep(store, *records)
    assert pack_all(store, NOW, fewest=1) == 3
    reader = Watched(store)

    for limit in (None, 5):
        found = usage_by(reader, by, where={"user_id": "u"}, limit=limit)
        assert [usage.request_count for _, usage in found.groups] == [1, 1]
    assert reader.readings > 0
    assert usage_by(reader, [], where={"session_id": "s1"}).total.request_count == 1
    page = conversations(reader, where={"user_id": "u", "status": "ok"}, order="costliest")
    assert {each.conversation_id for each in page.rows} == {"c0", "c1"}


def test_conversations_that_are_level_are_looked_for_in_calls(
    crowded: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where they are more than are worth to be looked at."""
    where = {"status": "ok", **TWO_DAYS}
    expected = pages_of_conversations(crowded.of_project(1), "costliest", **where)
    monkeypatch.setattr("agentsight_tokens.backend.analytics.leading._MOST", 0)

    assert pages_of_conversations(crowded.of_project(1), "costliest", **where) == expected


@pytest.mark.parametrize(
    "what", ["rows 0", "places of names", "places of user_id", "names 0", "costs", "ranked"]
)
@pytest.mark.parametrize("is_made_anew", [True, False])
def test_packs_that_go_between_two_readings_are_made_up_for(
    crowded: Store, what: str, is_made_anew: bool
) -> None:
    """A part of another making proves nothing, for it may have been cut elsewhere."""

    def drop() -> None:
        with crowded.transaction() as transaction:
            transaction.run("DELETE FROM packed_calls")
        if is_made_anew:
            pack_all(crowded, NOW, fewest=1)

    class Dropping(ProjectReader):
        def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
            if f"'{what}'" in statement:
                drop()
            return super().rows(statement, values)

    reader = Dropping(crowded, 1)
    queries: list[tuple[list[str], dict[str, Any], int | None]] = [
        (["session"], {"org_id": "o1"}, 3),
        (["session"], {}, 3),
        (["session"], {}, None),
        (["day"], {"user_id": "u3"}, None),
        (["day"], {"session_id": "s3"}, None),
    ]
    found = [usage_by(reader, by, where=where, limit=limit) for by, where, limit in queries]
    with crowded.transaction() as transaction:
        transaction.run("DELETE FROM packed_calls")

    assert found == [
        usage_by(crowded.of_project(1), by, where=where, limit=limit)
        for by, where, limit in queries
    ]
