"""Forecasts: what a month will have used when it ends, with an interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta, timezone, tzinfo
from math import ceil, sqrt
from typing import Any, Final, NamedTuple

from agentsight_tokens.backend.store import Reader
from agentsight_tokens.summary import UsageSummary

from .daily import days_between, usage_of_days
from .periods import midnight, moved

__all__ = [
    "CONFIDENCE",
    "Backtest",
    "Forecast",
    "Miss",
    "Projection",
    "forecast",
    "past_misses",
    "projected",
    "widened",
]

CONFIDENCE: Final = 0.8
"""How often the interval holds what comes, if the days to come are like those before."""

_FEWEST_WEEKS: Final = 4
_MOST_WEEKS: Final = 8
_HISTORY_DAYS: Final = 182
_MICRO: Final = 1_000_000
_QUANTILES: Final = {2: 1.886, 3: 1.638, 4: 1.533, 5: 1.476, 6: 1.440, 7: 1.415}
"""The 90th percentile of Student's t by its degrees of freedom: a fifth lies outside of +-."""
_NO_CHANCE: Final = {2: 6.965, 3: 4.541, 4: 3.747, 5: 3.365, 6: 3.143}
"""The same for the 99th: one in fifty series without a trend seems to have one."""
_METHOD: Final = (
    "the mean of each weekday over the last {weeks} full weeks{trend}; an 80 % interval from how "
    "much those weeks differ, and how far off past forecasts were"
)
_FEWEST_MISSES: Final = 28
_ROUNDING: Final = 1e-9
_TREND: Final = ", {sign}{slope:.1%} a week as these went"


class Projection(NamedTuple):
    """What a quantity is now and will be at the month's end."""

    so_far: int
    expected: int
    low: int
    high: int
    """Nine of ten months end above `low`, nine of ten below `high`, if nothing changes."""


class Backtest(NamedTuple):
    """How the same method would have done on the days before."""

    forecasts: int
    """How many forecasts over as many days could be made; 0 where history is too short."""
    within: int
    """In how many the spend came to lie in the interval, before past errors widened it."""


class Miss(NamedTuple):
    """A forecast of the past, and what came."""

    is_within: bool
    by: float
    expected: float


class Forecast(NamedTuple):
    """What a month will have cost and used, or why that cannot be said."""

    month: str
    ends_at: datetime
    so_far: UsageSummary
    """Of this month; what is unpriced or unreported is in no forecast."""
    spend_pico_usd: Projection | None
    """In 10^-12 USD, to the micro-USD; None where there is too little history."""
    tokens: Projection | None
    """Total and embedded tokens."""
    days_left: int
    """Today is one of them."""
    history_days: int
    """Full days since the day after the first call, 182 at most."""
    needed_days: int
    method: str
    """How it was made, or what is lacking."""
    backtest: Backtest | None


def forecast(
    reader: Reader,
    *,
    where: Mapping[str, Any] | None = None,
    zone: tzinfo = timezone.utc,
    now: datetime | None = None,
) -> Forecast:
    """
    Return what this month will have cost and used when it ends.

    Args:
        reader: Where the calls are.
        where: The filter, as `usage_by` takes it; its times do not count.
        zone: The time zone of the days and the month.
        now: The present, aware.

    Raises:
        InvalidScopeError: For an unknown filter.
    """
    now = now or datetime.now(timezone.utc)
    today = now.astimezone(zone).date()
    ends_at = moved("month", now, zone, 1)
    last = (ends_at - timedelta.resolution).astimezone(zone).date()
    days = usage_of_days(reader, where or {}, zone, today - timedelta(days=_HISTORY_DAYS), today)
    so_far = UsageSummary.merged(
        usage for day, usage in days.items() if day >= today.replace(day=1)
    )
    before = _full_days(days, today)
    left = (last - today).days + 1
    needed = 7 * _FEWEST_WEEKS
    weeks = min(len(before) // 7, _MOST_WEEKS)
    result = Forecast(
        month=f"{today:%Y-%m}",
        ends_at=ends_at,
        so_far=so_far,
        spend_pico_usd=None,
        tokens=None,
        days_left=left,
        history_days=len(before),
        needed_days=needed,
        method=f"too little history: a forecast needs {needed} full days, and there are "
        f"{len(before)}",
        backtest=None,
    )
    if weeks < _FEWEST_WEEKS:
        return result
    gone = (now - midnight(today, zone)) / timedelta(days=1)
    spent = [days.get(day, UsageSummary()).cost_pico_usd for day in before]
    used = [_tokens(days.get(day, UsageSummary())) for day in before]
    parts = [max(1 - gone, 0.0), *[1.0] * (left - 1)]
    misses = past_misses(spent, left)
    spend = widened(projected(spent, parts), misses)
    tokens = widened(projected(used, parts), past_misses(used, left))
    return result._replace(
        spend_pico_usd=_from(so_far.cost_pico_usd, spend, _MICRO),
        tokens=_from(_tokens(so_far), tokens, 1),
        method=_method(spent),
        backtest=Backtest(len(misses), sum(miss.is_within for miss in misses)),
    )


class _Past(NamedTuple):
    """What full weeks have been like."""

    weeks: int
    mean: list[float]
    """Of each weekday; the first is that of the day after the history."""
    deviation: float
    """The standard deviation of a week's sum, from its trend if it has one."""
    slope: float
    """By how much a week surpasses the one before, as a part of the mean week."""
    slope_deviation: float
    quantile: float


def _past(history: Sequence[float]) -> _Past:
    weeks = min(len(history) // 7, _MOST_WEEKS)
    recent = history[-7 * weeks :]
    mean = [sum(recent[day::7]) / weeks for day in range(7)]
    week = sum(mean)
    apart = [sum(recent[7 * n : 7 * n + 7]) - week for n in range(weeks)]
    places = [n - (weeks - 1) / 2 for n in range(weeks)]
    spread = sum(place * place for place in places)
    rise = sum(place * each for place, each in zip(places, apart, strict=True)) / spread
    free = weeks - 2
    rest = sum((each - rise * place) ** 2 for place, each in zip(places, apart, strict=True))
    deviation = sqrt(rest / free)
    if rise * rise * spread > (_NO_CHANCE[free] * deviation) ** 2 and abs(rise) > _ROUNDING * week:
        error = deviation / sqrt(spread) / week
        return _Past(weeks, mean, deviation, rise / week, error, _QUANTILES[free])
    deviation = sqrt(sum(each * each for each in apart) / (weeks - 1))
    return _Past(weeks, mean, deviation, 0.0, 0.0, _QUANTILES[weeks - 1])


def projected(history: Sequence[float], parts: Sequence[float]) -> tuple[float, float, float]:
    """
    Return the sum to expect over the days that follow, and the bounds of its interval.

    Let the sums of k weeks of history have the standard deviation s, and a weekday have the part
    v of that variance. Then n such days to come add s*s * v * (n + n*n / k) to the variance of
    the forecast: the days vary, and so does the mean that they are expected to have. The part
    of a weekday is 1/7, or as its mean squared, whichever makes the interval wider.

    Where the weeks rise or fall by more than chance would have it, the days to come go on along
    that line; s is then what the weeks are off it, and how sure its slope is widens the interval.

    Args:
        history: A value for each full day, the oldest first, at least 28.
        parts: For each day that follows, how much of it is still to come.
    """
    past = _past(history)
    mean = past.mean
    # Each day of a weekday lies so many weeks after the middle of those that were before.
    lead = [(past.weeks + 1) / 2 + day // 7 for day in range(len(parts))]
    sizes = [part * mean[day % 7] for day, part in enumerate(parts)]
    expected = sum(
        size * max(1 + past.slope * weeks, 0.0) for size, weeks in zip(sizes, lead, strict=True)
    )
    ahead = [sum(parts[day::7]) for day in range(7)]
    terms = [n + n * n / past.weeks for n in ahead]
    squares = sum(each * each for each in mean)
    share = sum(terms) / 7
    if squares:
        by_size = sum(t * m * m for t, m in zip(terms, mean, strict=True)) / squares
        share = max(share, by_size)
    doubt = past.slope_deviation * sum(size * n for size, n in zip(sizes, lead, strict=True))
    width = past.quantile * sqrt(past.deviation**2 * share + doubt**2)
    return expected, max(expected - width, 0.0), expected + width


def _method(history: Sequence[float]) -> str:
    past = _past(history)
    sign = "+" if past.slope > 0 else ""
    trend = _TREND.format(sign=sign, slope=past.slope) if past.slope else ""
    return _METHOD.format(weeks=past.weeks, trend=trend)


def _from(so_far: int, more: tuple[float, float, float], unit: int) -> Projection:
    return Projection(so_far, *(so_far + round(each / unit) * unit for each in more))


def _full_days(days: Mapping[date, UsageSummary], today: date) -> list[date]:
    """Return the days before today from the day after the first one on, which may be cut."""
    first = min(days, default=today)
    oldest = today - timedelta(days=_HISTORY_DAYS)
    begin = first if first == oldest else first + timedelta(days=1)
    return days_between(begin, today - timedelta(days=1))


def past_misses(history: Sequence[float], length: int) -> list[Miss]:
    """Forecast each span of the history from the days before it."""
    found = []
    for start in range(7 * _FEWEST_WEEKS, len(history) - length + 1):
        expected, low, high = projected(history[:start], [1.0] * length)
        came = sum(history[start : start + length])
        found.append(Miss(low <= came <= high, abs(came - expected), expected))
    return found


def widened(more: tuple[float, float, float], misses: Sequence[Miss]) -> tuple[float, float, float]:
    """Make an interval at least as wide as what `CONFIDENCE` of the past forecasts missed by."""
    if len(misses) < _FEWEST_MISSES:
        return more
    expected, low, high = more
    parts = sorted(miss.by / miss.expected if miss.expected else 0.0 for miss in misses)
    width = expected * parts[ceil(CONFIDENCE * len(parts)) - 1]
    return expected, max(min(low, expected - width), 0.0), max(high, expected + width)


def _tokens(usage: UsageSummary) -> int:
    return usage.total_tokens + usage.embedding_tokens
