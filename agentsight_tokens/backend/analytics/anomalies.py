"""Anomalies: days whose spend departs from what such days cost before."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta, timezone, tzinfo
from math import pi, sqrt
from statistics import median
from typing import Any, Final, NamedTuple

from agentsight_tokens.backend.store import Reader
from agentsight_tokens.errors import InvalidQueryError
from agentsight_tokens.summary import UsageSummary

from .daily import days_between, times_of_days, usage_of_days
from .dimensions import PERIODS, key_of
from .usage import usage_by

__all__ = ["MOST_DAYS", "Anomalies", "Anomaly", "anomalies"]

MOST_DAYS: Final = 366
"""How many days are judged at once."""

_BASELINE_DAYS: Final = 56
_NEEDED_DAYS: Final = 28
_SHOWN_DAYS: Final = 30
_SPREADS: Final = 4.0
"""How many robust deviations a day may depart; of normal days one in 16,000 does."""
_LEAST_SPREAD: Final = 0.05
"""The spread that is granted to the steadiest series, as a part of the typical day."""
_TO_DEVIATION: Final = 1.4826
"""What makes the median absolute deviation a standard deviation where values are normal."""
_MOST_VALUES: Final = 20
_MICRO: Final = 1_000_000


class Anomaly(NamedTuple):
    """A day that cost much more, or much less, than such days did."""

    day: str
    value: str | None
    """Of the dimension that was asked for; None for all calls."""
    observed_pico_usd: int
    expected_pico_usd: int
    """The median of the same weekday over the 8 weeks before."""
    low_pico_usd: int
    high_pico_usd: int
    """The range in which a day is no anomaly."""
    deviations: float
    """How far the day departs, in robust standard deviations; negative for less."""
    usage: UsageSummary
    """Of the day."""


class Anomalies(NamedTuple):
    """The anomalous days of a span, and how many days could be judged."""

    by: str | None
    """The dimension whose values were judged each by itself."""
    since: str
    until: str
    """The first and the last day, both included."""
    found: tuple[Anomaly, ...]
    """The latest day first, of a day the farthest departure."""
    judged_days: int
    """Days, of each value, that had enough history."""
    needed_days: int
    """How many days before a day it takes to judge it."""


def anomalies(
    reader: Reader,
    *,
    where: Mapping[str, Any] | None = None,
    by: str | None = None,
    zone: tzinfo = timezone.utc,
    now: datetime | None = None,
) -> Anomalies:
    """
    Return the days whose spend departs from what the days before let expect.

    A day is expected to cost the median of its weekday over the eight weeks before it. It may
    depart from that by four robust standard deviations: 1.4826 times the median of how far the
    days of those weeks that cost between half and twice as much were from their weekday's
    median, widened for the few weeks that medians are of, at least 5 % of a typical day. Today
    is judged only for what it has cost too much already.

    Args:
        reader: Where the calls are.
        where: The filter, as `usage_by` takes it; without `since` the last 30 days, 366 at most.
        by: A name or key of `DIMENSIONS` of which the 20 costliest values are each judged by
            themselves.
        zone: The time zone of the days.
        now: The present, aware.

    Raises:
        InvalidScopeError: For an unknown dimension or filter.
        InvalidQueryError: For a period as dimension, or too long a span.
    """
    filters = dict(where or {})
    key = None if by is None else _dimension(by)
    today = (now or datetime.now(timezone.utc)).astimezone(zone).date()
    since, until = filters.pop("since", None), filters.pop("until", None)
    last = today
    if until is not None:
        last = min((until - timedelta.resolution).astimezone(zone).date(), today)
    first = last - timedelta(days=_SHOWN_DAYS - 1)
    if since is not None:
        first = since.astimezone(zone).date()
    if (last - first).days >= MOST_DAYS:
        raise InvalidQueryError(
            f"{first} to {last} are {(last - first).days + 1:,} days, and at most {MOST_DAYS} "
            "are judged: ask for a shorter time"
        )
    oldest = first - timedelta(days=_BASELINE_DAYS)
    found, judged = [], 0
    for value in [None] if key is None else _costliest(reader, key, filters, zone, first, last):
        of_value = filters if key is None else {**filters, key: value}
        days = usage_of_days(reader, of_value, zone, oldest, last)
        begun = min(days, default=today)
        for day in days_between(first, last):
            before = [
                d for d in days_between(day - timedelta(days=_BASELINE_DAYS), day) if d >= begun
            ]
            if len(before) <= _NEEDED_DAYS:
                continue
            judged += 1
            anomaly = _judged(value, day, before[:-1], days, is_today=day == today)
            if anomaly is not None:
                found.append(anomaly)
    found.sort(key=lambda each: (each.day, abs(each.deviations)), reverse=True)
    return Anomalies(key, str(first), str(last), tuple(found), judged, _NEEDED_DAYS)


def _costliest(
    reader: Reader, key: str, where: Mapping[str, Any], zone: tzinfo, first: date, last: date
) -> list[str]:
    span = times_of_days(zone, first, last)
    report = usage_by(reader, [key], where={**where, **span}, limit=_MOST_VALUES)
    return [name for (name,), _ in report.groups if name is not None]


def _judged(
    value: str | None,
    day: date,
    before: list[date],
    days: Mapping[date, UsageSummary],
    *,
    is_today: bool,
) -> Anomaly | None:
    def cost(of: date) -> int:
        return days[of].cost_pico_usd if of in days else 0

    medians = {
        weekday: median([cost(each) for each in before if each.weekday() == weekday])
        for weekday in range(7)
    }
    expected = medians[day.weekday()]
    # Days that cost as much vary as much; those of the weekend may not.
    distances = [
        abs(cost(each) - medians[each.weekday()])
        for each in before
        if expected <= 2 * medians[each.weekday()] <= 4 * expected
    ]
    weeks = len(before) / 7
    # Days lie nearer to a median that they are part of than the next day will.
    wider = sqrt((weeks + pi / 2) / (weeks - 1))
    typical = median(map(cost, before))
    spread = max(_TO_DEVIATION * median(distances) * wider, _LEAST_SPREAD * typical)
    observed = cost(day)
    low, high = max(expected - _SPREADS * spread, 0), expected + _SPREADS * spread
    if not spread or low <= observed <= high or (is_today and observed < expected):
        return None
    return Anomaly(
        day=str(day),
        value=value,
        observed_pico_usd=observed,
        expected_pico_usd=_rounded(expected),
        low_pico_usd=_rounded(low),
        high_pico_usd=_rounded(high),
        deviations=(observed - expected) / spread,
        usage=days.get(day, UsageSummary()),
    )


def _rounded(pico_usd: float) -> int:
    return round(pico_usd / _MICRO) * _MICRO


def _dimension(name: str) -> str:
    key = key_of(name)
    if key in PERIODS:
        raise InvalidQueryError(f"{name!r} is a period: days are judged by themselves already")
    return key
