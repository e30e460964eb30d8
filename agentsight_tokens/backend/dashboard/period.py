"""Periods: the span of time that a page looks at, and the steps in which it is drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from agentsight_tokens.backend.problem import Problem

__all__ = ["CUSTOM", "PRESETS", "Period", "months_of", "period_of", "steps_between", "zone_of"]

CUSTOM: Final = "custom"
PRESETS: Final[dict[str, str]] = {
    "24h": "Last 24 hours",
    "7d": "Last 7 days",
    "30d": "Last 30 days",
    "90d": "Last 90 days",
    "month": "This month",
    "last-month": "Last month",
    "12m": "Last 12 months",
    "all": "All time",
    CUSTOM: "Custom dates",
}
_DAYS: Final = {"7d": 7, "30d": 30, "90d": 90}
_EARLIEST, _LATEST = date(2000, 1, 1), date(2199, 12, 31)
_DECEMBER: Final = 12
_LONGEST: Final = ((2, "hour"), (100, "day"), (400, "week"), (4000, "month"))
"""Up to so many days a span is drawn in these steps."""


class Period(NamedTuple):
    """A span of time, its beginning included and its end not."""

    name: str
    since: datetime | None
    """None for all that is there."""
    until: datetime | None
    """None for now."""
    now: datetime
    zone: tzinfo

    @property
    def step(self) -> str:
        """The dimension of time in which the span is drawn."""
        if self.since is None:
            return "month"
        days = ((self.until or self.now) - self.since) / timedelta(days=1)
        return next((step for most, step in _LONGEST if days <= most), "year")

    @property
    def is_short(self) -> bool:
        """Whether it is no longer than some months."""
        return self.step in {"hour", "day"}

    @property
    def previous(self) -> tuple[datetime, datetime] | None:
        """The span as long as this one before it; of one that goes on, as far as it has come."""
        if self.since is None:
            return None
        until = self.until or _hour_of(self.now)
        if self.name in {"month", "last-month"}:
            before = _first_of_month(self.since - timedelta(days=1), self.zone)
            return before, min(self.since, before + (until - self.since))
        whole = timedelta(days=_DAYS[self.name]) if self.name in _DAYS else until - self.since
        return self.since - whole, until - whole

    def steps(self) -> list[str]:
        """Return the names of all steps, as `usage_by` names them; none for all time."""
        if self.since is None:
            return []
        return steps_between(self.step, self.since, self.until or self.now, self.zone)


def zone_of(name: str | None) -> tzinfo:
    """
    Return a zone by its name in the tz database; UTC without one.

    Raises:
        Problem: If there is none of that name.
    """
    if not name or name == "UTC":
        return timezone.utc
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, KeyError):
        raise Problem(400, f"{name[:80]!r} is no time zone; one is 'Europe/Zurich'") from None


def period_of(
    name: str, *, since: str | None, until: str | None, zone: tzinfo, now: datetime
) -> Period:
    """
    Return a period.

    Args:
        name: One of `PRESETS`.
        since: The first day of custom dates.
        until: The last day of them, included; today without it.
        zone: Where days begin.
        now: The time.

    Raises:
        Problem: For an unknown name, or days that are none.
    """
    if name not in PRESETS:
        raise Problem(400, f"the range {name[:80]!r} is none of {', '.join(PRESETS)}")
    today = now.astimezone(zone).date()
    if name == CUSTOM:
        first, last = _day("since", since, today), _day("until", until, today)
        if last < first:
            raise Problem(400, f"the last day, {last}, is before the first one, {first}")
        begin = _midnight(first, zone)
        return Period(name, begin, _midnight(last + timedelta(days=1), zone), now, zone)
    if name == "last-month":
        end = _first_of_month(now, zone)
        return Period(name, _first_of_month(end - timedelta(days=1), zone), end, now, zone)
    return Period(name, _begin(name, today, now, zone), None, now, zone)


def _begin(name: str, today: date, now: datetime, zone: tzinfo) -> datetime | None:
    """Return when a span begins that goes on until now; None for all time."""
    if name == "all":
        return None
    if name == "24h":
        return _hour_of(now) - timedelta(hours=23)
    if name in _DAYS:
        return _midnight(today - timedelta(days=_DAYS[name] - 1), zone)
    return _midnight(date(today.year - (name == "12m"), today.month, 1), zone)


def months_of(names: Iterable[str]) -> list[str]:
    """Return all months from the first to the last one of some."""
    known = sorted(name for name in names if name)
    if not known:
        return []
    year, month = map(int, known[0].split("-"))
    months = [known[0]]
    while months[-1] < known[-1]:
        year, month = (year, month + 1) if month < _DECEMBER else (year + 1, 1)
        months.append(f"{year:04}-{month:02}")
    return months


def steps_between(step: str, since: datetime, until: datetime, zone: tzinfo) -> list[str]:
    """Return the names of all steps of a span, as `usage_by` names them."""
    return list(dict.fromkeys(_step_names(step, since, until, zone)))


def _day(which: str, text: str | None, default: date) -> date:
    if not text:
        return default
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise Problem(400, f"{which} is no day: {text[:80]!r}; one is {default}") from None
    if not _EARLIEST <= day <= _LATEST:
        raise Problem(400, f"{which} must lie between {_EARLIEST} and {_LATEST}, not {day}")
    return day


def _midnight(day: date, zone: tzinfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(timezone.utc)


def _first_of_month(at: datetime, zone: tzinfo) -> datetime:
    return _midnight(at.astimezone(zone).date().replace(day=1), zone)


def _hour_of(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _step_names(step: str, since: datetime, until: datetime, zone: tzinfo) -> Iterator[str]:
    if step == "hour":
        at = since
        while at < until:
            local = at.astimezone(zone).replace(minute=0, second=0, microsecond=0)
            yield local.isoformat(timespec="minutes")
            at += timedelta(hours=1)
        return
    day = since.astimezone(zone).date()
    last = (until - timedelta(microseconds=1)).astimezone(zone).date()
    while day <= last:
        yield _name_of_day(step, day)
        day += timedelta(days=1)


def _name_of_day(step: str, day: date) -> str:
    if step == "week":
        return f"{day - timedelta(days=day.weekday())}"
    return f"{day}"[: {"day": 10, "month": 7, "year": 4}[step]]
