"""Samples: the newest calls of a selection, as many as may be read one by one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Final, NamedTuple

from agentsight_tokens.backend.store import Reader

from .filters import condition_of
from .usage import usage_by

__all__ = ["MOST_CALLS", "Sample", "newest_sample", "percentile"]

MOST_CALLS: Final = 20_000
"""How many calls are looked at one by one."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Sample(NamedTuple):
    """Which of the selected calls were looked at one by one: all, or the newest."""

    calls: int
    """How many were looked at."""
    of_calls: int
    """How many the filter selects."""
    since: datetime | None
    """When the oldest one that was looked at ended; None where all were."""


def newest_sample(
    reader: Reader, where: Mapping[str, Any], *, most: int = MOST_CALLS
) -> tuple[Sample, dict[str, Any]]:
    """
    Return the sample of a selection, and the filter that selects it.

    Args:
        reader: Where the calls are.
        where: The filter, as `usage_by` takes it.
        most: How many calls to look at.
    """
    condition, values = condition_of(reader, where)
    bound = reader.rows(
        f"SELECT at FROM calls WHERE {condition} ORDER BY at DESC LIMIT 1 OFFSET ?",  # noqa: S608  # our own names
        [*values, most],
    )
    of_calls = usage_by(reader, (), where=where).total.request_count
    if not bound:
        return Sample(of_calls, of_calls, None), dict(where)
    # The call at the bound, and those that ended with it, are left out.
    since = _EPOCH + timedelta(microseconds=bound[0][0] + 1)
    bounded = {**where, "since": since}
    calls = usage_by(reader, (), where=bounded).total.request_count
    return Sample(calls, of_calls, since), bounded


def percentile(ordered: list[float], share: float) -> float | None:
    """Return the smallest value that this share of the values does not exceed."""
    if not ordered:
        return None
    return ordered[max(-int(-len(ordered) * share // 1) - 1, 0)]
