"""Periods of calendars, and trends over them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentsight_tokens.backend.analytics import PERIODS, trend
from agentsight_tokens.backend.analytics.periods import periods_between
from agentsight_tokens.backend.store import Store
from agentsight_tokens.errors import InvalidQueryError
from tests.analytics_kit import keep
from tests.records import call
from tests.store_kit import postgresql, store

__all__ = ["postgresql", "store"]

UTC = timezone.utc
BERLIN = ZoneInfo("Europe/Berlin")
ZONES = ["America/St_Johns", "Asia/Kathmandu", "Australia/Lord_Howe", "Europe/Berlin", "UTC"]


def at(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc]


@settings(max_examples=60, deadline=None)
@given(
    zone=st.sampled_from(ZONES).map(ZoneInfo),
    period=st.sampled_from(PERIODS),
    since=st.integers(946_684_800, 2_000_000_000).map(lambda s: datetime.fromtimestamp(s, UTC)),
    hours=st.integers(1, 60),
)
def test_periods_are_the_calendar_cut_up(
    zone: ZoneInfo, period: str, since: datetime, hours: int
) -> None:
    """One begins where the other ends, each has its name once, and they cover the span."""
    until = since + timedelta(hours=hours if period == "hour" else 40 * hours)

    found = periods_between(period, since, until, zone)  # type: ignore[arg-type]

    assert all(one.ends_at == other.begins_at for one, other in pairwise(found))
    assert len({each.name for each in found}) == len(found)
    assert found[0].begins_at <= since < found[0].ends_at or period == "hour"
    assert found[-1].begins_at < until <= found[-1].ends_at


def test_a_day_may_have_23_or_25_hours() -> None:
    """Days begin at the zone's midnights, and the hour that comes twice is two."""
    spring = periods_between("day", at(2026, 3, 29), at(2026, 3, 30), BERLIN)
    autumn = periods_between("hour", at(2026, 10, 25), at(2026, 10, 25, 3), BERLIN)

    assert [each.name for each in spring] == ["2026-03-29", "2026-03-30"]
    assert spring[0].ends_at - spring[0].begins_at == timedelta(hours=23)
    assert [each.name for each in autumn] == [
        "2026-10-25T02:00+02:00",
        "2026-10-25T02:00+01:00",
        "2026-10-25T03:00+01:00",
    ]


def test_an_hour_may_be_short() -> None:
    """Where clocks are set forward by half an hour, an hour of their dial has thirty minutes."""
    hours = periods_between(
        "hour", at(2026, 10, 3, 14, 30), at(2026, 10, 3, 17), ZoneInfo("Australia/Lord_Howe")
    )

    assert [(each.name[11:], each.ends_at - each.begins_at) for each in hours] == [
        ("01:00+10:30", timedelta(hours=1)),
        ("02:00+11:00", timedelta(minutes=30)),
        ("03:00+11:00", timedelta(hours=1)),
    ]


@pytest.mark.parametrize(
    ("period", "points", "first"),
    [
        ("hour", 24, "2026-01-09T13:00+00:00"),
        ("day", 30, "2025-12-12"),
        ("week", 12, "2025-10-20"),
        ("month", 12, "2025-02"),
        ("year", 5, "2022"),
    ],
)
def test_without_a_time_the_last_periods_are_shown(
    store: Store, period: str, points: int, first: str
) -> None:
    """Each period of the last day, month, quarter, year or years, the present one too."""
    found = trend(store, period=period, now=at(2026, 1, 10, 12, 30))

    assert len(found.points) == points
    assert found.points[0].name == first
    assert found.until == at(2026, 1, 10, 13)
    assert found.total.request_count == 0
    assert (found.cost_change, found.calls_change, found.direction) == (None, None, None)


def test_empty_periods_are_zero(store: Store) -> None:
    """A trend has a point for each day, and its points add up to the total."""
    keep(
        store,
        call(1, at=at(2026, 1, 1, 23, 30)),  # the 2nd in Berlin
        call(2, at=at(2026, 1, 4, 12)),
        call(4, at=at(2026, 1, 5, 12), cost_pico_usd=None, cost_status="unpriced"),
    )

    found = trend(
        store,
        where={"since": at(2025, 12, 31, 23), "until": at(2026, 1, 5, 23)},
        zone=BERLIN,
    )

    assert [(point.name, point.usage.input_tokens) for point in found.points] == [
        ("2026-01-01", 0),
        ("2026-01-02", 1),
        ("2026-01-03", 0),
        ("2026-01-04", 2),
        ("2026-01-05", 4),
    ]
    assert found.points[0].begins_at == at(2025, 12, 31, 23)
    assert found.total.input_tokens == 7
    assert found.total.unpriced_calls == 1


@pytest.mark.parametrize(
    ("now", "direction", "change"),
    [(30, "up", 2.0), (10, "flat", 0.0), (5, "down", -0.5), (0, "down", -1.0)],
)
def test_the_span_before_is_compared(store: Store, now: int, direction: str, change: float) -> None:
    """The growth is that from the span of the same length before."""
    keep(
        store,
        call(1, at=at(2026, 1, 2), cost_pico_usd=10**9),  # before the span before
        call(1, at=at(2026, 1, 3), cost_pico_usd=10),
        call(1, at=at(2026, 1, 8), cost_pico_usd=now),
        call(1, at=at(2026, 1, 9), cost_pico_usd=0),
    )

    found = trend(store, where={"since": at(2026, 1, 8), "until": at(2026, 1, 13)})

    assert found.before_since == at(2026, 1, 3)
    assert found.before.cost_pico_usd == 10
    assert (found.direction, found.cost_change) == (direction, change)
    assert (found.calls_change, found.tokens_change) == (1.0, 1.0)


def test_the_span_before_follows_the_calendar(store: Store) -> None:
    """Whole months are compared with as many months, days with days of the zone's clocks."""
    month = {"since": at(2026, 3, 1), "until": at(2026, 4, 1)}
    assert trend(store, where=month, period="month").before_since == at(2026, 2, 1)
    year = {"since": at(2024, 1, 1), "until": at(2025, 1, 1)}
    assert trend(store, where=year, period="month").before_since == at(2023, 1, 1)

    spring = {"since": at(2026, 3, 29, 22), "until": at(2026, 3, 30, 22)}
    assert trend(store, where=spring, zone=BERLIN).before_since == at(2026, 3, 28, 23)
    assert trend(store, where=spring, zone=BERLIN, period="hour").before_since == at(
        2026, 3, 28, 22
    )
    middle = {"since": at(2026, 3, 10), "until": at(2026, 3, 20)}
    assert trend(store, where=middle, period="month").before_since == at(2026, 2, 28)


def test_what_cannot_be_asked(store: Store) -> None:
    """The message says what is known, and how much is answered."""
    with pytest.raises(InvalidQueryError, match="'minute' is no period; known are hour, day"):
        trend(store, period="minute")
    with pytest.raises(InvalidQueryError, match=r"since 2026.* is not before until 2025"):
        trend(store, where={"since": at(2026, 1, 1), "until": at(2025, 1, 1)})
    with pytest.raises(InvalidQueryError, match=r"26,\d+ hours, and at most 2,000 are answered"):
        trend(store, where={"since": at(2023, 1, 1), "until": at(2026, 1, 1)}, period="hour")
