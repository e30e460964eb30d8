"""Units of time: the months, days and hours of UTC by which sums and packs are kept."""

from __future__ import annotations

from calendar import monthrange
from datetime import datetime, timedelta, timezone
from typing import Final, Literal

from .rollup import DAY, HOUR

__all__ = ["UNITS", "Unit", "begin_of", "end_of"]

Unit = Literal["month", "day", "hour"]

UNITS: Final[tuple[Unit, ...]] = ("month", "day", "hour")
"""The long ones first."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


def begin_of(unit: Unit, at: int) -> int:
    """Return when the unit begins in which a time lies, both in microseconds since 1970."""
    if unit == "hour":
        return at - at % HOUR
    day = at - at % DAY
    return day if unit == "day" else day - (_date(day).day - 1) * DAY


def end_of(unit: Unit, start: int) -> int:
    """Return when the unit ends, excluded, that begins at a time."""
    if unit == "hour":
        return start + HOUR
    if unit == "day":
        return start + DAY
    date = _date(start)
    return start + monthrange(date.year, date.month)[1] * DAY


def _date(at: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at)
