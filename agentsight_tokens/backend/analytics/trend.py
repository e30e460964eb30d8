"""Trends: usage period by period, beside the time before."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone, tzinfo
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from agentsight_tokens.backend.store import Reader
from agentsight_tokens.frames import arrow_table, pandas_frame
from agentsight_tokens.rows import USAGE_ROW_FIELDS, usage_row
from agentsight_tokens.summary import UsageSummary

from .periods import PeriodName, moved, period_of, periods_between, start_of
from .usage import usage_by

if TYPE_CHECKING:
    import pandas
    import pyarrow

__all__ = ["Trend", "TrendPoint", "change", "trend"]

_HOUR: Final = timedelta(hours=1)
_SHOWN: Final[dict[PeriodName, int]] = {"hour": 24, "day": 30, "week": 12, "month": 12, "year": 5}
"""How many periods there are where nobody says since when."""
_FLAT: Final = 0.05
_FIELDS: Final = ("period", "begins_at", "ends_at", *USAGE_ROW_FIELDS)


class TrendPoint(NamedTuple):
    """The usage of one period."""

    name: str
    """As `usage_by` names it: `2026-01-31`."""
    begins_at: datetime
    ends_at: datetime
    """Excluded."""
    usage: UsageSummary


class Trend(NamedTuple):
    """Usage period by period, and what it was in the span of the same length before."""

    period: PeriodName
    since: datetime
    until: datetime
    """Excluded."""
    points: tuple[TrendPoint, ...]
    """In the order of time, those without a call too; the first and last may be cut."""
    total: UsageSummary
    before_since: datetime
    """When the span before begins; it ends at `since`."""
    before: UsageSummary
    cost_change: float | None
    """The growth of the cost: 0.25 is a quarter more; None where it cost nothing before."""
    tokens_change: float | None
    calls_change: float | None
    direction: Literal["up", "down", "flat"] | None
    """Where the cost goes; flat within 5 %."""

    def rows(self) -> list[dict[str, Any]]:
        """Return each period as one flat row: its name and times, its counters and its cost."""
        return [
            {
                "period": point.name,
                "begins_at": point.begins_at,
                "ends_at": point.ends_at,
                **usage_row(point.usage),
            }
            for point in self.points
        ]

    def to_pandas(self) -> pandas.DataFrame:
        """
        Return the rows as a DataFrame; costs are `Decimal`.

        Raises:
            ImportError: Without pandas, `pip install 'agentsight-tokens[pandas]'`.
        """
        return pandas_frame(_FIELDS, self.rows())

    def to_arrow(self) -> pyarrow.Table:
        """
        Return the rows as an Arrow table; costs are decimals of 12 places.

        Raises:
            ImportError: Without pyarrow, `pip install 'agentsight-tokens[arrow]'`.
        """
        return arrow_table(_FIELDS, self.rows())


def trend(
    reader: Reader,
    *,
    where: Mapping[str, Any] | None = None,
    period: str = "day",
    zone: tzinfo = timezone.utc,
    now: datetime | None = None,
) -> Trend:
    """
    Return the usage of each period of a span, and compare it with the span before.

    The span before is as long by the zone's calendar; where the span is of whole months or
    years, it is as many months or years.

    Args:
        reader: Where the calls are.
        where: The filter, as `usage_by` takes it; without `since` the last 24 hours, 30 days,
            12 weeks, 12 months or 5 years, without `until` up to the end of this hour.
        period: hour, day, week, month or year.
        zone: The time zone in which periods begin.
        now: The present, aware.

    Raises:
        InvalidScopeError: For an unknown filter.
        InvalidQueryError: For an unknown period, or a span that is empty or too long.
    """
    unit = period_of(period)
    filters = dict(where or {})
    until = filters.get("until") or _end_of_hour(now or datetime.now(timezone.utc))
    since = filters.get("since") or moved(
        unit, until - timedelta.resolution, zone, 1 - _SHOWN[unit]
    )
    periods = periods_between(unit, since, until, zone)
    found = usage_by(reader, [unit], where={**filters, "since": since, "until": until}, zone=zone)
    usages = {group.key[0]: group.usage for group in found.groups}
    before_since = _before(unit, since, until, zone)
    before = usage_by(
        reader, (), where={**filters, "since": before_since, "until": since}, zone=zone
    ).total
    cost_change = change(found.total.cost_pico_usd, before.cost_pico_usd)
    return Trend(
        period=unit,
        since=since,
        until=until,
        points=tuple(TrendPoint(*each, usages.get(each.name, UsageSummary())) for each in periods),
        total=found.total,
        before_since=before_since,
        before=before,
        cost_change=cost_change,
        tokens_change=change(_tokens(found.total), _tokens(before)),
        calls_change=change(found.total.request_count, before.request_count),
        direction=_direction(cost_change),
    )


def change(now: int, before: int) -> float | None:
    """Return how much more it is than before, as a part of that; None where that was nothing."""
    return (now - before) / before if before else None


def _direction(cost_change: float | None) -> Literal["up", "down", "flat"] | None:
    if cost_change is None:
        return None
    if abs(cost_change) <= _FLAT:
        return "flat"
    return "up" if cost_change > 0 else "down"


def _tokens(usage: UsageSummary) -> int:
    return usage.total_tokens + usage.embedding_tokens


def _end_of_hour(now: datetime) -> datetime:
    # Nothing lies between now and then, and sums by the hour can answer.
    floor = now.astimezone(timezone.utc).replace(minute=0, second=0, microsecond=0)
    return floor + _HOUR


def _before(unit: PeriodName, since: datetime, until: datetime, zone: tzinfo) -> datetime:
    calendar: list[PeriodName] = ["year", "month"] if unit in ("year", "month") else []
    for each in calendar:
        if start_of(each, since, zone) == since.astimezone(timezone.utc):
            number = len(periods_between(each, since, until, zone))
            return moved(each, since, zone, -number)
    begin, end = since.astimezone(zone), until.astimezone(zone)
    length = end.replace(tzinfo=None) - begin.replace(tzinfo=None)
    if unit == "hour" or length <= timedelta():
        return since - (until - since)
    return (begin - length).astimezone(timezone.utc)
