"""Tells whether a moment lies in the hours of an off-peak price."""

from __future__ import annotations

from datetime import datetime, timedelta

from .rows import OffPeak

__all__ = ["is_off_peak"]


def is_off_peak(prices: OffPeak, moment: datetime) -> bool:
    """Return whether the off-peak rates hold at a moment in UTC."""
    weekday = (moment + timedelta(hours=prices.utc_offset_hours)).isoweekday()
    minute = moment.hour * 60 + moment.minute
    return any(
        (not window.weekdays or weekday in window.weekdays)
        and any(_holds(hours, minute) for hours in window.hours)
        for window in prices.windows
    )


def _holds(hours: str, minute: int) -> bool:
    start, _, end = hours.partition("-")
    begins, ends = _minute_of(start), _minute_of(end)
    if begins < ends:
        return begins <= minute < ends
    return minute >= begins or minute < ends


def _minute_of(clock: str) -> int:
    hour, _, minute = clock.strip().partition(":")
    return int(hour) * 60 + int(minute)
