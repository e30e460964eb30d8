"""Periods of a calendar: hours, days, weeks, months and years of a time zone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import Final, Literal, NamedTuple, get_args

from agentsight_tokens.errors import InvalidQueryError

__all__ = ["Period", "PeriodName", "midnight", "moved", "period_of", "periods_between", "start_of"]

PeriodName = Literal["hour", "day", "week", "month", "year"]

_QUARTER: Final = timedelta(minutes=15)
"""No zone has an offset that is not a multiple of it (tz database, 2026)."""
_MOST: Final = 2_000


class Period(NamedTuple):
    """One of a calendar's periods."""

    name: str
    """As `usage_by` names it: `2026-01-31`, a week by its Monday, an hour with its offset."""
    begins_at: datetime
    ends_at: datetime
    """Excluded; both in UTC."""


def midnight(day: date, zone: tzinfo) -> datetime:
    """Return when a day begins in a zone, in UTC."""
    return datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(timezone.utc)


def start_of(period: PeriodName, at: datetime, zone: tzinfo) -> datetime:
    """Return when the period began in which a time lies, in UTC."""
    local = at.astimezone(zone)
    if period == "hour":
        back = timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
        return at.astimezone(timezone.utc) - back
    return midnight(_first_day(period, local.date()), zone)


def moved(period: PeriodName, at: datetime, zone: tzinfo, by: int) -> datetime:
    """Return the start of the period that lies some periods after the one of a time."""
    if period == "hour":
        return start_of(period, at, zone) + by * timedelta(hours=1)
    first = _first_day(period, at.astimezone(zone).date())
    return midnight(_shifted(period, first, by), zone)


def period_of(name: str) -> PeriodName:
    """
    Return the period of a name.

    Raises:
        InvalidQueryError: If there is none.
    """
    for period in get_args(PeriodName):
        if name == period:
            return period  # type: ignore[no-any-return]  # one of the literals
    raise InvalidQueryError(f"{name!r} is no period; known are {', '.join(get_args(PeriodName))}")


def periods_between(
    period: PeriodName, since: datetime, until: datetime, zone: tzinfo
) -> list[Period]:
    """
    Return the periods that a span of time touches, in their order.

    Raises:
        InvalidQueryError: If they are too many, or the span is none.
    """
    if since >= until:
        raise InvalidQueryError(
            f"since {since.isoformat()} is not before until {until.isoformat()}"
        )
    shortest = {"hour": 1, "day": 23, "week": 167, "month": 671, "year": 8_759}[period]
    number = int((until - since) / timedelta(hours=shortest)) + 1
    if number > _MOST + 2:
        raise InvalidQueryError(
            f"from {since:%Y-%m-%d} to {until:%Y-%m-%d} there are some {number:,} {period}s, "
            f"and at most {_MOST:,} are answered: ask for longer periods or a shorter time"
        )
    found = _hours(since, until, zone) if period == "hour" else _days(period, since, until, zone)
    return list(found)


def _hours(since: datetime, until: datetime, zone: tzinfo) -> Iterator[Period]:
    at = start_of("hour", since, zone)
    while at < until:
        name, begins_at = _hour_name(at, zone), at
        while _hour_name(at, zone) == name:
            at += _QUARTER
        yield Period(name, begins_at, at)


def _days(period: PeriodName, since: datetime, until: datetime, zone: tzinfo) -> Iterator[Period]:
    first = _first_day(period, since.astimezone(zone).date())
    begins_at = midnight(first, zone)
    while begins_at < until:
        following = _shifted(period, first, 1)
        ends_at = midnight(following, zone)
        yield Period(f"{first:{_FORMATS[period]}}", begins_at, ends_at)
        first, begins_at = following, ends_at


_FORMATS: Final[dict[PeriodName, str]] = {
    "day": "%Y-%m-%d",
    "week": "%Y-%m-%d",
    "month": "%Y-%m",
    "year": "%Y",
}


def _hour_name(at: datetime, zone: tzinfo) -> str:
    local = at.astimezone(zone)
    return f"{local:%Y-%m-%dT%H}:00{local.isoformat()[-6:]}"


def _first_day(period: PeriodName, day: date) -> date:
    if period == "week":
        return day - timedelta(days=day.weekday())
    if period == "month":
        return day.replace(day=1)
    return day.replace(month=1, day=1) if period == "year" else day


def _shifted(period: PeriodName, first: date, by: int) -> date:
    if period == "year":
        return first.replace(year=first.year + by)
    if period == "month":
        months = first.year * 12 + first.month - 1 + by
        return date(months // 12, months % 12 + 1, 1)
    return first + timedelta(days=by * (7 if period == "week" else 1))
