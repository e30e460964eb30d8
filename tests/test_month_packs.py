"""Packs of months have users by one other dimension, and answer for whole months."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta, tzinfo
from threading import Event
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest

from agentsight_tokens import Scope, UsageRecord
from agentsight_tokens.backend.analytics import UsageReport, usage_by, usage_over_time
from agentsight_tokens.backend.store import Store
from agentsight_tokens.backend.store.base import ProjectReader
from agentsight_tokens.backend.store.packing import Packing, pack_all, spans_due
from tests.analytics_kit import keep
from tests.packs_kit import UTC, Watched, WithoutPacks, interrupted, packs_of, read
from tests.records import call
from tests.store_kit import postgresql, store

__all__ = ["postgresql", "store"]

MARCH, APRIL, MAY = (datetime(2026, month, 1, tzinfo=UTC) for month in (3, 4, 5))
END = MAY + timedelta(days=1, hours=10)
BY_ENVIRONMENT = {"users by environment"}


def calls_of_months() -> list[UsageRecord]:
    """Return calls of March, April and the first of May, of which each hour has others."""
    chance = random.Random(13)
    return [
        call(
            id=f"m{number}",
            at=MARCH + timedelta(hours=number, minutes=chance.randrange(60)),
            scope=Scope(
                user_id=chance.choice([None, "u1", "u2", "u3"]),
                org_id=chance.choice(["o1", "o2"]),
                feature=chance.choice([None, "f", "g"]),
                session_id=f"s{number // 9}",
            ),
            model=chance.choice("ab"),
            cost_pico_usd=chance.choice([None, 3_500_000]),
        )
        for number in range(62 * 24 + 9)
    ]


@pytest.fixture
def months(store: Store) -> Store:
    """Two months with packs, a day and hours of a third."""
    keep(store, *calls_of_months(), environment="production")
    assert pack_all(store, END, fewest=1) == 2 + 62 + 9
    return store


def asked_both(
    store: Store, by: Sequence[str], where: dict[str, Any], zone: tzinfo = UTC
) -> tuple[Watched, UsageReport]:
    """Return who has asked, and the answer, which is the one of the calls."""
    reader = Watched(store)
    found = usage_by(reader, by, where=where, zone=zone)
    assert found == usage_by(WithoutPacks(store, 1), by, where=where, zone=zone)
    return reader, found


@pytest.mark.parametrize(
    ("by", "where", "zone", "names"),
    [
        (["user"], {"feature": "f"}, UTC, {"users by feature", "rows 0"}),
        (["user"], {"environment": "production", "until": MAY}, UTC, BY_ENVIRONMENT),
        (
            ["user", "month"],
            {"tool_name": "t", "until": END},
            UTC,
            {"users by tool_name", "rows 0"},
        ),
        (
            ["user"],
            {"environment": "production", "until": END},
            UTC,
            {*BY_ENVIRONMENT, "users", "rows 0"},
        ),
        (["year", "environment"], {"user_id": "u1", "until": MAY}, UTC, BY_ENVIRONMENT),
        (["user", "feature"], {"since": MARCH, "until": MAY}, UTC, {"users by feature"}),
        (["org"], {"user_id": "u2", "since": APRIL, "until": MAY}, UTC, {"users by org_id"}),
        (
            ["user"],
            {"model": "a", "since": MARCH + timedelta(hours=25), "until": MAY},
            UTC,
            {"users by model", "rows 0"},
        ),
        (
            ["user"],
            {"model": "a", "since": MARCH, "until": APRIL - timedelta(hours=1)},
            UTC,
            {"rows 0"},
        ),
        (["user", "week"], {"model": "a", "until": MAY}, UTC, {"rows 0"}),
        (["user", "month"], {"model": "a", "until": MAY}, ZoneInfo("Asia/Kathmandu"), {"rows 0"}),
        (
            ["user", "year"],
            {"model": "a", "until": MAY},
            ZoneInfo("Asia/Kathmandu"),
            {"users by model"},
        ),
        (["user", "model", "feature"], {"until": MAY}, UTC, {"rows 0"}),
    ],
)
def test_users_are_read_by_the_month(
    months: Store, by: list[str], where: dict[str, Any], zone: tzinfo, names: set[str]
) -> None:
    """By one other dimension; what is beyond whole months, and what cuts one, by the day."""
    reader, _ = asked_both(months, by, where, zone)

    assert read(reader) - {"places of user_id"} == names


@pytest.mark.parametrize("zone", [UTC, ZoneInfo("Asia/Kathmandu"), ZoneInfo("America/New_York")])
def test_users_over_time_are_read_by_the_month(months: Store, zone: tzinfo) -> None:
    """And the time by itself, where they are more than are drawn."""
    where = {"environment": "production", "since": MARCH, "until": MAY}
    reader = Watched(months)
    found = [
        usage_over_time(each, ("week", "user"), where=where, zone=zone, limit=99, most=3)
        for each in (reader, WithoutPacks(months, 1))
    ]

    assert found[0][0] == found[1][0]
    assert [usage.cost_pico_usd for _, usage in found[0][1].groups] == [
        usage.cost_pico_usd for _, usage in found[1][1].groups
    ]
    assert len(found[0][0].groups) == 4
    assert read(reader) & {"users by environment", "places of user_id"} == BY_ENVIRONMENT
    assert reader.readings == 0


def test_a_call_that_comes_late_makes_its_month_untrue(months: Store) -> None:
    """The other days are read in its place, until it is packed again after its day."""
    late = call(id="late", at=MARCH + timedelta(days=3), scope=Scope(user_id="u9", feature="f"))
    keep(months, late, environment="production")
    where = {"feature": "f"}
    reader, found = asked_both(months, ["user"], where)

    assert read(reader) == {"users by feature", "rows 0"}
    assert found.total.request_count == 1 + sum(
        each.scope.feature == "f" for each in calls_of_months()
    )
    assert [span.period for span in spans_due(months, END, fewest=1)] == ["day", "month"]
    assert pack_all(months, END, fewest=1) == 2
    reader, _ = asked_both(months, ["user"], {**where, "until": MAY})
    assert read(reader) == {"users by feature"}


def test_calls_that_cost_something_else_take_their_month_along(months: Store) -> None:
    """Also where its sums are the same as before."""
    first, second = [each for each in calls_of_months() if each.cost_pico_usd is not None][:2]
    costs = [(first, 3_499_999), (second, 3_500_001)]
    swapped = [msgspec.structs.replace(each, cost_pico_usd=cost) for each, cost in costs]
    assert months.reprice(swapped, repriced_at=END) == 2

    assert ("month", -29) not in packs_of(months)
    assert ("month", 2) in packs_of(months)
    asked_both(months, ["user"], {"environment": "production"})


def test_months_that_expire_take_their_packs_along(months: Store) -> None:
    """And no others."""
    months.expire(APRIL)

    assert [each for each in packs_of(months) if each[0] == "month"] == [("month", 2)]
    reader, _ = asked_both(months, ["user"], {"feature": "f", "until": MAY})
    assert read(reader) == {"users by feature"}


def test_a_month_that_is_dropped_as_it_is_read_is_made_up_for(months: Store) -> None:
    """By its calls."""

    class Dropping(ProjectReader):
        def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
            if "'users by" in statement:
                with months.transaction() as transaction:
                    transaction.run("DELETE FROM packed_calls WHERE period = 'month'")
            return super().rows(statement, values)

    found = usage_by(Dropping(months, 1), ["user"], where={"feature": "f"})

    assert found == usage_by(WithoutPacks(months, 1), ["user"], where={"feature": "f"})


def test_a_month_of_too_many_rows_is_not_packed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are in memory until it is; its days answer, and it is tried once."""
    monkeypatch.setattr("agentsight_tokens.backend.store.packing._MOST_ROWS", 300)
    records = [
        msgspec.structs.replace(each, id=f"{each.id} {number}")
        for each in calls_of_months()[: 31 * 24]
        for number in range(9)
    ]
    keep(store, *records, environment="production")
    readings: list[int] = []
    packing = Packing(interrupted(store, lambda: readings.append(1)))

    packing._pack_all(Event())
    [(heads,)] = store.rows("SELECT COUNT(*) FROM packed_calls WHERE name = ''")
    of_first = len(readings)
    packing._pack_all(Event())

    assert heads == len(packs_of(store)) == 31
    assert "month" not in {period for period, _ in packs_of(store)}
    assert len(readings) == of_first + 1  # of when the oldest call was
    asked_both(store, ["user"], {"environment": "production"})


@pytest.mark.parametrize(("features", "is_packed"), [(2, True), (20, False)])
def test_a_month_is_packed_whole_or_not_at_all(
    store: Store, monkeypatch: pytest.MonkeyPatch, features: int, is_packed: bool
) -> None:
    """Rows that are folded make room; a day that has more than there is room for is too much."""
    monkeypatch.setattr("agentsight_tokens.backend.store.packing._MOST_ROWS", 26)
    monkeypatch.setattr("agentsight_tokens.backend.store.packer._MOST_LOOSE", 25)
    days = [call(id=f"{day}", at=MARCH + timedelta(days=day)) for day in range(26)]
    last = [
        call(id=f"last {n}", at=MARCH + timedelta(days=26), scope=Scope(feature=f"f{n}"))
        for n in range(features)
    ]
    keep(store, *days, *last)

    pack_all(store, END, fewest=1)

    assert ("month" in {period for period, _ in packs_of(store)}) == is_packed
    whole = usage_by(WithoutPacks(store, 1), ["user", "feature"])
    assert usage_by(store.of_project(1), ["user", "feature"]) == whole
