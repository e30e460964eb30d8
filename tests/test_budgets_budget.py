"""Budget, its amounts of money and its periods."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentsight_tokens import Budget, TokenBudgetConfig
from agentsight_tokens.budgets.amounts import decimal_usd, pico_usd
from agentsight_tokens.budgets.budget import Limit
from agentsight_tokens.budgets.periods import calendar_span, duration_seconds, zone_named


def test_limits_are_exact_integers() -> None:
    """Tokens and pico-USD; None is no limit, 0 is one."""
    budget = Budget(
        per_call_cost_limit=0.1,
        session_token_limit=50,
        cost_limit_usd="5.000000000001",
        monthly_token_limit=0,
    )

    assert budget.limits == (
        Limit("call", None, 10**11),
        Limit("session", 50, None),
        Limit("day", None, 5 * 10**12 + 1),
        Limit("month", 0, None),
    )


def test_the_documents_keywords_are_the_budgets() -> None:
    """LangSwarm's configuration is a budget; a flag says what happens at the limit."""
    config = TokenBudgetConfig(daily_token_limit=100000, cost_limit_usd=50.0, enforce_limits=True)

    assert config == Budget(daily_token_limit=100000, cost_limit_usd=50, on_limit="error")
    assert TokenBudgetConfig(enforce_limits=False) == Budget(on_limit="warning")
    assert Budget().is_hard
    assert not Budget(enforce_limits=False).is_hard


def test_a_changed_budget_does_not_contradict_itself() -> None:
    """Whichever of the two words for the same thing is changed, the other follows."""
    budget = Budget(daily_token_limit=5, on_limit="error")

    assert budget.replace(on_limit="warning") == Budget(daily_token_limit=5, on_limit="warning")
    assert budget.replace(enforce_limits=False).on_limit == "warning"
    assert budget.replace(daily_token_limit=6).on_limit == "error"


def test_alerts_are_given_at_the_levels_and_at_the_end() -> None:
    """One level or several, in any order; the end always has one."""
    assert Budget().levels == (0.8, 1.0)
    assert Budget(alert_at=(0.9, 0.5)).levels == (0.5, 0.9, 1.0)
    assert Budget(alert_at=1).levels == (1.0,)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"daily_token_limit": -1}, "daily_token_limit must lie between"),
        ({"daily_token_limit": 1.5}, "whole number of tokens"),
        ({"cost_limit_usd": -0.01}, "cost_limit_usd must be USD"),
        ({"cost_limit_usd": float("nan")}, "cost_limit_usd must be USD"),
        ({"cost_limit_usd": "five"}, "cost_limit_usd must be USD"),
        ({"cost_limit_usd": True}, "cost_limit_usd must be USD"),
        ({"cost_limit_usd": 9_000_001}, "between 0 and 9,000,000"),
        ({"on_limit": "explode"}, "on_limit is 'error' or 'warning'"),
        ({"on_limit": "error", "enforce_limits": False}, "contradict"),
        ({"alert_at": 0}, "alert_at must lie above 0"),
        ({"alert_at": (0.5, 1.1)}, "alert_at must lie above 0"),
        ({"timezone": "Mars/Olympus"}, "no zone of the IANA database"),
        ({"timezone": "../etc/passwd"}, "no zone of the IANA database"),
        ({"rolling_token_limit": 5}, "belong together"),
        ({"rolling_window": "72h"}, "belong together"),
        ({"rolling_cost_limit": 5, "rolling_window": "1M"}, "a month or year has no fixed"),
    ],
)
def test_what_cannot_be_is_refused_at_once(fields: dict[str, object], message: str) -> None:
    """Wrong use raises where it is written, and names the field."""
    with pytest.raises(ValueError, match=f"(?i){message}"):
        Budget(**fields)


@given(st.decimals(0, 9_000_000, places=12))
def test_money_is_never_rounded(amount: Decimal) -> None:
    """Every amount down to a pico-USD comes back as it was."""
    assert Decimal(pico_usd("cost", amount)).scaleb(-12) == amount
    assert decimal_usd("cost", str(amount)) == amount


@given(st.integers(0, 10**15 - 1))
def test_floats_mean_what_they_print_as(tenths: int) -> None:
    """The faster way for floats is as exact as the slow one."""
    amount = tenths / 10**12

    assert abs(pico_usd("cost", amount) - round(decimal_usd("cost", amount) * 10**12)) <= (
        0 if tenths < 10**14 else 1
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("72h", 259_200),
        ("90m", 5400),
        ("1.5h", 5400),
        ("7d", 604_800),
        ("2w", 1_209_600),
        (" 30 s ", 30),
        (3600, 3600),
        (timedelta(minutes=90), 5400),
    ],
)
def test_durations_are_exact(text: object, seconds: int) -> None:
    """Whole seconds, in any unit of a fixed length."""
    assert duration_seconds(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["1M", "1mo", "1y", "72", "h", "-1h", "1h30m", "0s", 0, -5, 0.5, True, float("inf"), ""],
)
def test_unknown_durations_are_refused(text: object) -> None:
    """What has no fixed length, or is none, is refused and not guessed."""
    with pytest.raises(ValueError, match="duration"):
        duration_seconds(text)


def hours(zone: str, start: datetime, count: int) -> list[float]:
    """Return the lengths of the days from a moment on, in hours."""
    found = []
    moment = start.timestamp()
    for _ in range(count):
        span = calendar_span("day", moment, zone_named(zone))
        found.append((span.end - span.start) / 3600)
        moment = span.end
    return found


@pytest.mark.parametrize(
    ("zone", "day", "length"),
    [
        ("Europe/Berlin", (2026, 3, 29), 23),
        ("Europe/Berlin", (2026, 10, 25), 25),
        ("Australia/Lord_Howe", (2026, 4, 5), 24.5),
        ("Africa/Cairo", (2026, 4, 24), 23),  # midnight does not exist
        ("America/Havana", (2026, 11, 1), 25),  # midnight comes twice
        ("UTC", (2026, 3, 29), 24),
    ],
)
def test_a_day_is_as_long_as_its_calendar_says(
    zone: str, day: tuple[int, int, int], length: float
) -> None:
    """Where the clocks change, one day is shorter or longer, and it is one day."""
    noon = datetime(*day, 12, tzinfo=zone_named(zone))

    assert hours(zone, noon, 2) == [length, 24]


@pytest.mark.parametrize(
    "zone",
    [
        "UTC",
        "Europe/Berlin",
        "Asia/Kolkata",
        "Asia/Kathmandu",
        "Australia/Lord_Howe",
        "America/Havana",
        "Africa/Cairo",
        "Atlantic/Azores",
    ],
)
@given(
    moment=st.integers(1_735_689_600, 1_830_297_600),
    period=st.sampled_from(["hour", "day", "month"]),
)
def test_windows_follow_one_another_without_a_gap(zone: str, moment: int, period: str) -> None:
    """Every moment lies in one window, and the next begins where it ends."""
    span = calendar_span(period, moment, zone_named(zone))
    following = calendar_span(period, span.end, zone_named(zone))

    assert span.start <= moment < span.end == following.start
    assert calendar_span(period, span.start, zone_named(zone)) == span
    assert calendar_span(period, span.end - 1, zone_named(zone)) == span


def test_a_month_ends_with_its_last_day() -> None:
    """31, 28 or 29 days, and the year's end."""
    starts = []
    moment = datetime(2027, 12, 15, tzinfo=timezone.utc).timestamp()
    for _ in range(4):
        span = calendar_span("month", moment, timezone.utc)
        starts.append(datetime.fromtimestamp(span.start, timezone.utc).strftime("%Y-%m-%d"))
        moment = span.end

    assert starts == ["2027-12-01", "2028-01-01", "2028-02-01", "2028-03-01"]


def test_an_hour_that_comes_twice_is_two_hours() -> None:
    """In Berlin 02:30 comes twice on one night in October; each has a window of its own."""
    berlin = zone_named("Europe/Berlin")
    first = datetime(2026, 10, 25, 2, 30, tzinfo=berlin)
    second = first.replace(fold=1)

    spans = [calendar_span("hour", at.timestamp(), berlin) for at in (first, second)]

    assert spans[0].end == spans[1].start
