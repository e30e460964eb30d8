"""Days: the usage of each day of a zone, as forecasts and anomalies take it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta, tzinfo
from typing import Any

from agentsight_tokens.backend.store import Reader
from agentsight_tokens.summary import UsageSummary

from .periods import midnight
from .usage import usage_by

__all__ = ["days_between", "times_of_days", "usage_of_days"]


def days_between(first: date, last: date) -> list[date]:
    """Return the days from the first to the last one, both included."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]


def usage_of_days(
    reader: Reader, where: Mapping[str, Any], zone: tzinfo, first: date, last: date
) -> dict[date, UsageSummary]:
    """
    Return the usage of the days that have calls, from the first to the last one, both included.

    Args:
        reader: Where the calls are.
        where: The filter, as `usage_by` takes it; its times do not count.
        zone: The time zone of the days.
        first: The first day.
        last: The last day.
    """
    report = usage_by(
        reader, ["day"], where={**where, **times_of_days(zone, first, last)}, zone=zone
    )
    return {date.fromisoformat(str(group.key[0])): group.usage for group in report.groups}


def times_of_days(zone: tzinfo, first: date, last: date) -> dict[str, datetime]:
    """Return the filter of some days of a zone, both the first and the last one included."""
    return {"since": midnight(first, zone), "until": midnight(last + timedelta(days=1), zone)}
