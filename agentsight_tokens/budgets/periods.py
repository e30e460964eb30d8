"""Periods: when a window that contains a moment begins and ends."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone, tzinfo
from fractions import Fraction
from typing import Final, Literal, NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

__all__ = ["CalendarPeriod", "Period", "Span", "calendar_span", "duration_seconds", "zone_named"]

CalendarPeriod = Literal["hour", "day", "week", "month"]
Period = Literal["call", "session", "hour", "day", "month", "rolling", "total"]

_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_QUARTER: Final = 900
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([a-zA-Z]+)")


class Span(NamedTuple):
    """A window in time, in seconds since 1970 UTC."""

    start: int
    end: int
    """Not included."""


def zone_named(name: str) -> tzinfo:
    """
    Return a time zone of the IANA database.

    Raises:
        ValueError: If there is none of this name on this machine.
    """
    if name == "UTC":
        return timezone.utc
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"timezone {name!r} is no zone of the IANA database on this machine, such as "
            "'Europe/Berlin'; where the machine has no database: pip install tzdata"
        ) from None


def calendar_span(period: CalendarPeriod, now: float, zone: tzinfo) -> Span:
    """
    Return the hour, day, week (from Monday) or month of a zone's calendar with a moment in it.

    A day has 23 or 25 hours where the clocks change; an hour that comes twice is two windows.
    """
    if period == "hour":
        start = _hour_start(now, zone)
        return Span(start, _next_hour(start, zone))
    # Dates have no fold: a midnight that comes twice begins one day only.
    first = datetime.fromtimestamp(now, zone).date()
    if period == "day":
        return Span(_midnight(first, zone), _midnight(first + timedelta(days=1), zone))
    if period == "week":
        first -= timedelta(days=first.weekday())
        return Span(_midnight(first, zone), _midnight(first + timedelta(days=7), zone))
    first = first.replace(day=1)
    following = (first + timedelta(days=31)).replace(day=1)
    return Span(_midnight(first, zone), _midnight(following, zone))


def duration_seconds(text: str | float | timedelta) -> int:
    """
    Return the seconds of a duration such as `72h`, `90m`, `7d` or 3600.

    Raises:
        ValueError: If it is no whole, positive number of seconds. A month is none: its
            length is not fixed.
    """
    if isinstance(text, timedelta):
        seconds = Fraction(text // timedelta(microseconds=1), 10**6)
    elif isinstance(text, str):
        found = _DURATION.fullmatch(text.strip())
        if found is None or found[2] not in _SECONDS:
            raise ValueError(
                f"duration {text!r} is not known; write a number and s, m, h, d or w, such as "
                "'90m'. A month or year has no fixed length: use monthly_token_limit or "
                "monthly_cost_limit"
            )
        seconds = Fraction(found[1]) * _SECONDS[found[2]]
    elif isinstance(text, bool) or not abs(text) < float("inf"):
        raise ValueError(f"duration {text!r} is no number of seconds")
    else:
        seconds = Fraction(text)
    if seconds.denominator != 1 or seconds <= 0:
        raise ValueError(f"duration {text!r} is no whole, positive number of seconds")
    return int(seconds)


def _midnight(day: date, zone: tzinfo) -> int:
    # Where the clocks jump over midnight, this is the moment of the jump.
    return round(datetime(day.year, day.month, day.day, tzinfo=zone).timestamp())


def _hour_start(now: float, zone: tzinfo) -> int:
    # The fold is kept: it tells two hours of the same name apart.
    local = datetime.fromtimestamp(now, zone).replace(minute=0, second=0, microsecond=0)
    return round(local.timestamp())


def _next_hour(start: int, zone: tzinfo) -> int:
    """Return when the next hour begins; where the clocks change by half an hour, it is odd."""
    end = start + _QUARTER
    while _hour_start(end, zone) == start:
        end += _QUARTER
    return end
