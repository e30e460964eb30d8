"""The windows of the server's budgets: which one a moment lies in, and how they are stored."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final, Literal, NamedTuple

from agentsight_tokens.budgets.periods import (
    CalendarPeriod,
    Span,
    calendar_span,
    duration_seconds,
    zone_named,
)
from agentsight_tokens.errors import InvalidBudgetError

__all__ = ["WINDOWS", "BudgetWindow", "window_named"]

WINDOWS: Final = ("hour", "day", "week", "month", "total")
"""The names of windows, besides `rolling` and a duration."""

_ROLLING: Final = "rolling "
_LONGEST_ROLLING_SECONDS: Final = 366 * 86_400
_SHORTEST_ROLLING_SECONDS: Final = 60
_MOST_SLICES: Final = 60
_MINUTE: Final = 60
_HOUR: Final = 3600
_DAY: Final = 86_400
_SLICES: Final = (
    *(1, 2, 5, 10, 15, 30),
    *(n * _MINUTE for n in (1, 2, 5, 10, 15, 30)),
    *(n * _HOUR for n in (1, 2, 3, 6, 12)),
    *(n * _DAY for n in (1, 2, 5, 7)),
)
"""The lengths of slices; whole hours where they can be, which is how the sums by hour are cut."""

_QUARTER: Final = 900
"""Every zone's hours and days have begun at a quarter of an hour of UTC since 1972."""

_LATEST: Final = 253_370_764_800
"""The year 9999, which has no next one: what says it is later counts here."""


class BudgetWindow(NamedTuple):
    """
    A kind of window. Moments are whole seconds since 1970 UTC.

    One that slides is stored in slices, and the oldest counts until it has left the window as a
    whole: what was used is never forgotten too early, and at most one slice too late.
    """

    name: str
    period: CalendarPeriod | Literal["rolling", "total"]
    timezone: str = "UTC"
    seconds: int = 0
    """The length of one that slides."""

    @property
    def is_calendar(self) -> bool:
        """Whether one follows on another."""
        return self.period not in {"rolling", "total"}

    @property
    def slice_seconds(self) -> int:
        """The length of the slices in which one that slides is stored."""
        return _slice_seconds(self.seconds)

    @property
    def slices_before(self) -> int:
        """How many slices before the newest one count in one that slides."""
        return math.ceil(self.seconds / self.slice_seconds)

    @property
    def reach_seconds(self) -> int:
        """From the oldest slice that counts to the newest one; 0 if the window does not slide."""
        return self.slices_before * self.slice_seconds if self.period == "rolling" else 0

    @property
    def step_seconds(self) -> int | None:
        """A length at whose multiples alone windows or slices begin; None if none ever does."""
        if self.period == "total":
            return None
        return self.slice_seconds if self.period == "rolling" else _QUARTER

    def stored_start(self, at: int) -> int:
        """Return when the window, or the slice, that contains a moment begins."""
        if self.period == "total":
            return 0
        if self.period == "rolling":
            return at // self.slice_seconds * self.slice_seconds
        return _span(self.period, _quarter(at), self.timezone).start

    def counts_since(self, at: int) -> int | None:
        """Return from when on calls count in the window of a moment; None for all of the past."""
        if self.period == "total":
            return None
        start = self.stored_start(at)
        return (
            start - self.slices_before * self.slice_seconds if self.period == "rolling" else start
        )

    def span(self, at: int) -> Span | None:
        """Return from when to when the window of a moment counts; None for all time."""
        if self.period == "total":
            return None
        if self.period == "rolling":
            start = self.stored_start(at)
            return Span(start + self.slice_seconds - self.seconds, start + self.slice_seconds)
        return _span(self.period, _quarter(at), self.timezone)

    def resets_at(self, at: int) -> int | None:
        """Return when what is used at a moment no longer counts; None if it always does."""
        span = self.span(at)
        return None if span is None else span.end + self.seconds

    def alert_start(self, stored_start: int) -> int:
        """Return what tells apart the windows, each of which gives an alert of a level once."""
        if self.period == "rolling":
            return stored_start // self.seconds * self.seconds
        return stored_start


def window_named(name: str, timezone: str = "UTC") -> BudgetWindow:
    """
    Return a kind of window.

    Args:
        name: hour, day, week (from Monday), month, total, or `rolling` and a duration such as
            `rolling 7d`, `rolling 24h`.
        timezone: The IANA zone in whose calendar hours, days, weeks and months begin.

    Raises:
        InvalidBudgetError: For another name, or an unknown zone.
    """
    try:
        zone_named(timezone)
        if name == "total":
            return BudgetWindow(name, "total", timezone)
        if name in WINDOWS:
            return BudgetWindow(name, name, timezone)  # type: ignore[arg-type]  # a calendar's
        if not name.startswith(_ROLLING):
            raise ValueError(
                f"window {name!r} is not known; known are {', '.join(WINDOWS)} and 'rolling' with "
                "a duration, such as 'rolling 7d' or 'rolling 24h'"
            )
        seconds = duration_seconds(name.removeprefix(_ROLLING))
    except ValueError as error:
        raise InvalidBudgetError(str(error)) from None
    if not _SHORTEST_ROLLING_SECONDS <= seconds <= _LONGEST_ROLLING_SECONDS:
        raise InvalidBudgetError(f"window {name!r} must be between 60 seconds and 366 days long")
    return BudgetWindow(name, "rolling", timezone, seconds)


def _quarter(at: int) -> int:
    return min(at // _QUARTER * _QUARTER, _LATEST)


@lru_cache(maxsize=1024)
def _slice_seconds(length: int) -> int:
    return next(size for size in _SLICES if size * _MOST_SLICES >= length)


@lru_cache(maxsize=4096)
def _span(period: CalendarPeriod, at: int, timezone: str) -> Span:
    return calendar_span(period, at, zone_named(timezone))
