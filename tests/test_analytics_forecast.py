"""Forecasts and anomalies: what they say, how often they are right, and when they say nothing."""

from __future__ import annotations

import random
from datetime import date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest

from agentsight_tokens import TokenUsage, UsageRecord
from agentsight_tokens.backend.analytics import anomalies, forecast
from agentsight_tokens.backend.analytics.forecast import CONFIDENCE, past_misses, projected, widened
from agentsight_tokens.backend.store import Store
from agentsight_tokens.errors import InvalidQueryError, InvalidScopeError
from tests.analytics_kit import keep
from tests.records import call
from tests.store_kit import postgresql, store

__all__ = ["postgresql", "store"]

UTC = timezone.utc
USD = 10**12
NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
"""A Friday; twelve days of the month are left, this one among them."""


def spent(day: date, usd: float, **facts: object) -> UsageRecord:
    """Return a call that was made at noon of a day."""
    at = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    usage = TokenUsage(input_tokens=round(usd * 1_000))
    return call(1, at=at, cost_pico_usd=round(usd * 10**6) * 10**6, usage=usage, **facts)


def steady(
    days: int, *, weekday: float = 10, weekend: float = 2, **facts: object
) -> list[UsageRecord]:
    """Return a call on each of the days before today."""
    before = [NOW.date() - timedelta(days=n) for n in range(1, days + 1)]
    return [spent(d, weekend if d.weekday() > 4 else weekday, **facts) for d in before]


def test_a_steady_month_goes_on(store: Store) -> None:
    """Weekdays and weekends are each expected to cost what they did, and what is left of today."""
    keep(store, *steady(60))

    found = forecast(store, now=NOW)

    # Half of this Friday, then 2 weekends and 7 weekdays.
    spend = found.spend_pico_usd
    assert spend is not None
    assert spend.expected - spend.so_far == (5 + 4 * 2 + 7 * 10) * USD
    assert spend.low == spend.high == spend.expected
    assert spend.so_far == found.so_far.cost_pico_usd == (14 * 10 + 5 * 2) * USD
    assert found.tokens is not None
    assert found.tokens.expected == spend.expected // USD * 1_000
    assert (found.month, found.days_left) == ("2026-03", 12)
    assert found.ends_at == datetime(2026, 4, 1, tzinfo=UTC)
    assert found.backtest is not None
    assert found.backtest.forecasts == found.backtest.within > 0
    assert found.method == (
        "the mean of each weekday over the last 8 full weeks; an 80 % interval from how much "
        "those weeks differ, and how far off past forecasts were"
    )


@pytest.mark.parametrize(("days", "has"), [(0, 0), (1, 0), (28, 27), (29, 28), (200, 182)])
def test_too_little_history_is_said(store: Store, days: int, has: int) -> None:
    """Fewer than 28 full days, the first one not counted, are refused with both numbers."""
    keep(store, *steady(days))

    found = forecast(store, now=NOW)

    assert (found.history_days, found.needed_days) == (has, 28)
    is_enough = has >= 28
    assert (found.spend_pico_usd is not None) is is_enough
    assert (found.tokens is not None) is is_enough
    if not is_enough:
        assert found.method == (
            f"too little history: a forecast needs 28 full days, and there are {has}"
        )
    assert (found.so_far.request_count > 0) is (days > 0)


def test_a_forecast_is_of_what_is_selected(store: Store) -> None:
    """Filters select, their times do not, and what has no price is told beside."""
    keep(store, *steady(60, model="a"), *steady(60, model="b", weekday=1, weekend=1))
    keep(store, call(1, at=NOW, model="b", cost_pico_usd=None, cost_status="unpriced"))

    found = forecast(store, where={"model": "b", "since": NOW, "until": NOW}, now=NOW)

    assert found.spend_pico_usd is not None
    assert found.spend_pico_usd.expected == 19 * USD + round(11.5 * USD)
    assert found.so_far.unpriced_calls == 1


def test_the_month_is_that_of_the_zone(store: Store) -> None:
    """Where it is already the first, the month has just begun."""
    keep(store, *steady(60))
    late = datetime(2026, 3, 31, 23, tzinfo=UTC)

    found = forecast(store, zone=ZoneInfo("Asia/Tokyo"), now=late)

    assert (found.month, found.days_left) == ("2026-04", 30)
    assert found.ends_at == datetime(2026, 4, 30, 15, tzinfo=UTC)
    assert found.so_far.request_count == 0


SERIES = {
    "steady": lambda random, day: 100 + random.gauss(0, 10),
    "with weekends": lambda random, day: (120 if day % 7 < 5 else 30) * random.gauss(1, 0.15),
    "bursts": lambda random, day: 100 * random.lognormvariate(0, 0.5),
}


@pytest.mark.parametrize("weeks", [4, 8])
@pytest.mark.parametrize("length", [3, 14, 30])
@pytest.mark.parametrize("name", SERIES)
def test_the_interval_holds_what_it_says(name: str, length: int, weeks: int) -> None:
    """Over many series whose days to come are like those before, about 80 % end within."""
    source = random.Random(f"{name} {length} {weeks}")
    value = SERIES[name]
    rounds = 1_000
    within = 0
    for _ in range(rounds):
        days = [max(value(source, day), 0.0) for day in range(7 * weeks + length)]
        expected, low, high = projected(days[: 7 * weeks], [1.0] * length)
        assert 0 <= low <= expected <= high
        within += low <= sum(days[7 * weeks :]) <= high

    assert within / rounds == pytest.approx(CONFIDENCE, abs=0.06)


GROWING = {
    "2.5 times in four months": 1.0079,
    "a third a season": 1.003,
    "falling": 0.995,
    "steady": 1.0,
}


@pytest.mark.parametrize("length", [3, 14, 30])
@pytest.mark.parametrize("name", GROWING)
def test_what_was_missed_widens_the_interval(name: str, length: int) -> None:
    """Where a program grows or shrinks, about 80 % still end within, or more."""
    source = random.Random(f"{name} {length}")
    days = 126
    within = 0
    for _ in range(100):
        value = [
            (120 if day % 7 < 5 else 30) * GROWING[name] ** day * source.gauss(1, 0.15)
            for day in range(days + length)
        ]
        history = value[:days]
        span = projected(history, [1.0] * length)
        expected, low, high = widened(span, past_misses(history, length))
        assert low <= span[1] <= expected <= span[2] <= high
        within += low <= sum(value[days:]) <= high

    assert within / 100 >= CONFIDENCE - 0.1


def test_a_trend_goes_on() -> None:
    """Weeks that rise along a line are expected to rise on, and a line is sure."""
    history = [10.0 + day // 7 for day in range(56)]

    assert projected(history, [1.0] * 7) == pytest.approx((7 * 18.0,) * 3)
    assert projected(history, [1.0] * 14) == pytest.approx((7 * 18.0 + 7 * 19.0,) * 3)
    assert projected(history[::-1], [1.0] * 7) == pytest.approx((7 * 9.0,) * 3)


def test_nothing_is_expected_below_nothing() -> None:
    """What falls to nothing stays there."""
    history = [max(56.0 - day // 7 * 8, 0.0) for day in range(56)]

    assert projected(history, [1.0] * 30)[:2] == (0.0, 0.0)


def test_a_growing_store_says_its_trend(store: Store) -> None:
    """The method names the trend that it goes on with."""
    keep(
        store,
        *(
            spent(NOW.date() - timedelta(days=n), 1 + (56 - n) // 7, id=f"r{n}")
            for n in range(1, 57)
        ),
    )

    found = forecast(store, now=NOW)

    assert found.method.startswith(
        "the mean of each weekday over the last 7 full weeks, +20.0% a week as these went; "
    )


def test_the_forecast_is_not_biased() -> None:
    """Over many series the expected sum is the sum that comes."""
    source = random.Random(1)
    value = SERIES["with weekends"]
    errors = []
    for _ in range(500):
        days = [value(source, day) for day in range(56 + 20)]
        errors.append(projected(days[:56], [1.0] * 20)[0] / sum(days[56:]) - 1)

    assert sum(errors) / len(errors) == pytest.approx(0, abs=0.01)


def test_a_burst_is_an_anomaly(store: Store) -> None:
    """A day that cost far more comes with what it cost, what was expected and the range."""
    burst = NOW.date() - timedelta(days=3)
    keep(store, *steady(70), spent(burst, 90, model="new"))

    found = anomalies(store, now=NOW)

    [anomaly] = found.found
    assert anomaly.day == str(burst) == "2026-03-17"
    assert anomaly.value is None
    assert anomaly.observed_pico_usd == anomaly.usage.cost_pico_usd == 100 * USD
    assert anomaly.expected_pico_usd == 10 * USD
    # Nothing ever differed, so that 5 % of a typical day are granted as spread.
    assert (anomaly.low_pico_usd, anomaly.high_pico_usd) == (8 * USD, 12 * USD)
    assert anomaly.deviations == pytest.approx(180)
    assert (found.since, found.until) == ("2026-02-19", "2026-03-20")
    assert found.judged_days == 30


def test_a_day_that_cost_nothing_is_an_anomaly(store: Store) -> None:
    """Too little is one as well, but not of today, which is not over."""
    silent = NOW.date() - timedelta(days=2)
    keep(store, *(each for each in steady(70) if each.at.date() != silent))

    [anomaly] = anomalies(store, now=NOW).found

    assert (anomaly.day, anomaly.observed_pico_usd) == (str(silent), 0)
    assert anomaly.deviations == pytest.approx(-20)
    assert anomaly.usage.request_count == 0


def test_today_can_cost_too_much_already(store: Store) -> None:
    """Today is judged for what it has cost so far."""
    keep(store, *steady(70), spent(NOW.date(), 13))

    [anomaly] = anomalies(store, now=NOW).found

    assert anomaly.day == str(NOW.date())


@pytest.mark.parametrize("days", [0, 5, 28, 35, 70])
def test_flat_and_short_series_have_none(store: Store, days: int) -> None:
    """Days that are all alike are no anomalies, and without four weeks before none is judged."""
    keep(store, *steady(days, weekday=3, weekend=3))

    found = anomalies(store, now=NOW)

    assert found.found == ()
    # 28 days before a day, of which the first is there: with 35 days before today, 8 are judged.
    assert found.judged_days == {0: 0, 5: 0, 28: 1, 35: 8, 70: 30}[days]
    assert found.needed_days == 28


def test_noise_has_few(store: Store) -> None:
    """Of days that vary as days do, next to none are called anomalous."""
    source = random.Random(7)
    days = [NOW.date() - timedelta(days=n) for n in range(1, 300)]
    keep(store, *(spent(d, (20 if d.weekday() < 5 else 4) * source.gauss(1, 0.2)) for d in days))

    since = NOW - timedelta(days=200)
    found = anomalies(store, where={"since": since}, now=NOW)

    assert found.judged_days == 201
    assert len(found.found) <= 2


def test_values_are_judged_by_themselves(store: Store) -> None:
    """What drowns in the sum of all is seen where each value is judged by itself."""
    day = NOW.date() - timedelta(days=4)
    keep(store, *steady(70, weekday=1000, weekend=1000, model="big"))
    keep(store, *steady(70, weekday=1, weekend=1, model="small"), spent(day, 9, model="small"))

    assert anomalies(store, now=NOW).found == ()
    found = anomalies(store, by="model", now=NOW)

    [anomaly] = found.found
    assert (found.by, anomaly.value, anomaly.day) == ("model", "small", str(day))
    assert found.judged_days == 60
    earlier = {"until": datetime(day.year, day.month, day.day, tzinfo=UTC)}
    assert anomalies(store, by="model", where=earlier, now=NOW).found == ()
    assert anomalies(store, where={"model": "small"}, now=NOW).found[0].day == str(day)


def test_what_cannot_be_judged(store: Store) -> None:
    """Periods are no values, and a span has its bound."""
    with pytest.raises(InvalidQueryError, match="'week' is a period"):
        anomalies(store, by="week", now=NOW)
    with pytest.raises(InvalidScopeError, match="'colour' is nothing to group by"):
        anomalies(store, by="colour", now=NOW)
    with pytest.raises(InvalidQueryError, match=r"2,271 days, and at most 366 are judged"):
        anomalies(store, where={"since": datetime(2020, 1, 1, tzinfo=UTC)}, now=NOW)
