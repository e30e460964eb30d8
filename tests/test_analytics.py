"""Queries over a store."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentsight_tokens import Scope, TokenUsage, UsageSummary
from agentsight_tokens.backend.accounts import Accounts
from agentsight_tokens.backend.analytics import DIMENSIONS, PERIODS, newest_calls, usage_by
from agentsight_tokens.backend.store import Reader, Store
from agentsight_tokens.errors import InvalidScopeError
from agentsight_tokens.ids import time_ordered_id
from agentsight_tokens.usage import MAX_COUNT, USAGE_FIELDS
from tests.analytics_kit import keep
from tests.records import AT, call
from tests.store_kit import postgresql, store

__all__ = ["postgresql", "store"]

UTC = timezone.utc


def tokens(store: Reader, *by: str, zone: tzinfo = UTC) -> dict[object, int]:
    """Return the input tokens of each group."""
    report = usage_by(store, by, zone=zone)
    return {key[0] if len(key) == 1 else key: usage.input_tokens for key, usage in report.groups}


def test_groups_hold_every_counter(store: Store) -> None:
    """A group adds up all counters, the costs and what is not known."""
    usage = TokenUsage(**{name: i + 10 for i, name in enumerate(USAGE_FIELDS)})
    keep(
        store,
        call(1, usage=usage),
        call(2, usage=usage, cost_pico_usd=None, cost_status="unpriced"),
        call(3, usage=TokenUsage(), unreported_reason="provider_silent", cost_pico_usd=None),
        call(4, usage=usage, source="estimated", conversation="d"),
    )

    report = usage_by(store, ["conversation"])

    both = usage + usage
    group = UsageSummary(
        **{name: getattr(both, name) for name in USAGE_FIELDS},
        request_count=3,
        cost_pico_usd=7,
        unpriced_calls=1,
        unpriced_tokens=usage.total_tokens + usage.embedding_tokens,
        unreported_calls=1,
    )
    assert report.by == ("conversation_id",)
    assert dict(report.groups)[("c",)] == group
    assert report.total.request_count == 4
    assert report.total.estimated_calls == 1
    assert report.total.cost == Decimal("0.000000000035")


def test_the_costliest_come_first(store: Store) -> None:
    """Without a period, groups come by cost, then by tokens, then by name."""
    keep(
        store,
        call(1, conversation="b", cost_pico_usd=None),
        call(1, conversation="a", cost_pico_usd=None),
        call(9, conversation="c", cost_pico_usd=None),
        call(1, conversation="d", cost_pico_usd=1),
    )

    assert [key for key, _ in usage_by(store, ["conversation"]).groups] == [
        ("d",),
        ("c",),
        ("a",),
        ("b",),
    ]


@pytest.mark.parametrize("name", DIMENSIONS)
def test_every_dimension_groups(store: Store, name: str) -> None:
    """Each dimension is known by its name and by its key."""
    keep(store, call(3))

    assert tokens(store, name) == tokens(store, DIMENSIONS[name])
    assert list(tokens(store, name).values()) == [3]


def test_several_dimensions(store: Store) -> None:
    """Several dimensions group by all of them; one that is named twice counts once."""
    keep(store, call(1, model="a"), call(2, model="b"), call(4, model="a", conversation="d"))

    assert tokens(store, "conversation", "model", "conversation_id") == {
        ("d", "a"): 4,
        ("c", "b"): 2,
        ("c", "a"): 1,
    }


def test_what_calls_do_not_say_is_a_group(store: Store) -> None:
    """Calls without a value are added up too."""
    keep(store, call(1, model=None), call(2))

    assert tokens(store, "model") == {"gpt-4o": 2, None: 1}


def test_without_a_dimension_everything_is_one_group(store: Store) -> None:
    """No dimension gives the sum of all, also of nothing."""
    assert usage_by(store, ()).total.request_count == 0
    keep(store, call(1), call(2))

    assert usage_by(store, ()).groups[0].usage.input_tokens == 3


def test_an_empty_store_has_no_groups(store: Store) -> None:
    """Nothing is no group, whatever the dimension."""
    for by in (["conversation"], ["day"], ["hour", "user"]):
        report = usage_by(store, by)
        assert report.groups == ()
        assert report.total == UsageSummary()


def test_environments_select(store: Store) -> None:
    """The environment of the cycle is a filter and a dimension."""
    keep(store, call(1), environment="production")
    keep(store, call(2))

    assert tokens(store, "environment") == {"production": 1, None: 2}
    found = usage_by(store, ["model"], where={"environment": "production"})
    assert found.total.input_tokens == 1


def test_filters_select(store: Store) -> None:
    """Scope, tags and times select calls; the end of a time is not included."""
    keep(
        store,
        call(1, scope=Scope(conversation_id="c", user_id="ana", tags=("x", "y"))),
        call(2, scope=Scope(conversation_id="c", user_id="ben", tags=("x",))),
    )

    def found(**where: object) -> int:
        return usage_by(store, ["user"], where=where).total.input_tokens

    assert found(user_id="ana") == 1
    assert found(tags=["x"]) == 3
    assert found(tags=["x", "y"]) == 1
    assert found(since=AT + timedelta(seconds=2)) == 2
    assert found(until=AT + timedelta(seconds=2)) == 1


def test_unknown_names_are_refused(store: Store) -> None:
    """The message names what is known."""
    with pytest.raises(InvalidScopeError, match="'colour' is nothing to group by; known are conv"):
        usage_by(store, ["colour"])
    with pytest.raises(InvalidScopeError, match="'colour' is no filter"):
        usage_by(store, ["model"], where={"colour": "red"})


def test_sums_go_beyond_64_bits(store: Store) -> None:
    """Costs whose sum does not fit an SQL integer are exact."""
    largest = 2**63 - 1
    keep(store, *(call(n, cost_pico_usd=largest) for n in range(4)))

    assert usage_by(store, ["model"]).total.cost_pico_usd == 4 * largest


def test_counts_of_the_largest_calls_add_up(store: Store) -> None:
    """A thousand calls of the largest count that is accepted fit."""
    usage = TokenUsage(input_tokens=MAX_COUNT)
    keep(store, *(call(n, usage=usage) for n in range(1000)))

    assert tokens(store, "model") == {"gpt-4o": 1000 * MAX_COUNT}


def test_periods_in_utc(store: Store) -> None:
    """Hours, days, weeks, months and years are cut at their beginnings."""
    keep(
        store,
        call(1, at=datetime(2025, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
        call(2, at=datetime(2026, 1, 1, tzinfo=UTC)),
        call(4, at=datetime(2026, 1, 5, tzinfo=UTC)),  # a Monday
    )

    assert tokens(store, "hour") == {
        "2025-12-31T23:00+00:00": 1,
        "2026-01-01T00:00+00:00": 2,
        "2026-01-05T00:00+00:00": 4,
    }
    assert tokens(store, "day") == {"2025-12-31": 1, "2026-01-01": 2, "2026-01-05": 4}
    assert tokens(store, "week") == {"2025-12-29": 3, "2026-01-05": 4}
    assert tokens(store, "month") == {"2025-12": 1, "2026-01": 6}
    assert tokens(store, "year") == {"2025": 1, "2026": 6}


def test_periods_come_in_the_order_of_time(store: Store) -> None:
    """With a period, groups come by time and not by cost; what has no name comes last."""
    keep(
        store,
        call(3, at=AT, model=None),
        call(2, at=AT, model="b"),
        call(1, at=AT - timedelta(days=1)),
    )

    assert list(tokens(store, "day", "model")) == [
        ("2026-01-01", "gpt-4o"),
        ("2026-01-02", "b"),
        ("2026-01-02", None),
    ]


def test_hours_where_clocks_are_set_back(store: Store) -> None:
    """The hour that comes twice is two hours, told apart by their offsets."""
    start = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    keep(store, *(call(n + 1, at=start + timedelta(hours=n)) for n in range(3)))

    assert tokens(store, "hour", zone=ZoneInfo("Europe/Berlin")) == {
        "2026-10-25T02:00+02:00": 1,
        "2026-10-25T02:00+01:00": 2,
        "2026-10-25T03:00+01:00": 3,
    }


ZONES = [
    "America/Noronha",
    "America/St_Johns",
    "Africa/Casablanca",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Europe/Berlin",
    "Pacific/Apia",
    "UTC",
]


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None
)
@given(
    zone=st.sampled_from(ZONES),
    moments=st.lists(
        st.integers(788_918_400, 2_114_380_800).map(lambda at: datetime.fromtimestamp(at, UTC)),
        min_size=1,
        max_size=20,
    ),
)
def test_every_call_is_in_the_period_of_its_local_time(
    store: Store, zone: str, moments: list[datetime]
) -> None:
    """Whatever a zone's clocks did, SQL cuts hours and days as the tz database says."""
    local = [at.astimezone(ZoneInfo(zone)) for at in moments]
    project = Accounts(store).project(time_ordered_id()).id
    keep(store, *(call(1, at=at) for at in moments), project_id=project)
    of_project = store.of_project(project)

    days = tokens(of_project, "day", zone=ZoneInfo(zone))
    hours = tokens(of_project, "hour", zone=ZoneInfo(zone))
    weeks = tokens(of_project, "week", zone=ZoneInfo(zone))

    assert set(days) == {f"{at:%Y-%m-%d}" for at in local}
    assert set(hours) == {f"{at:%Y-%m-%dT%H:00}{at.isoformat()[-6:]}" for at in local}
    assert set(weeks) == {str((at - timedelta(days=at.weekday())).date()) for at in local}
    assert sum(days.values()) == sum(hours.values()) == len(moments)


def test_the_newest_calls_come_first(store: Store) -> None:
    """Calls come back as they were stored, the newest first, as many as asked for."""
    calls = [call(n, scope=Scope(conversation_id="c", tags=("x",))) for n in range(1, 5)]
    keep(store, *calls[2:], *calls[:2])

    assert newest_calls(store, limit=3) == [calls[3], calls[2], calls[1]]
    assert len(newest_calls(store)) == 4
    assert newest_calls(store, where={"until": calls[1].at}) == calls[:1]


def test_periods_are_dimensions() -> None:
    """A period is found under its own name."""
    assert all(DIMENSIONS[period] == period for period in PERIODS)
