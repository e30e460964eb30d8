"""Usage: who used what, when, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timezone, tzinfo
from typing import Any, NamedTuple

from agentsight_tokens.backend.store import Reader
from agentsight_tokens.calls import SUMMARY_COLUMNS, summary_of_row
from agentsight_tokens.summary import UsageSummary

from .sums import sums_by

__all__ = ["UsageGroup", "UsageReport", "usage_by"]


class UsageGroup(NamedTuple):
    """The usage of the calls that have the same key."""

    key: tuple[str | None, ...]
    """One value for each dimension; None where the calls say nothing."""
    usage: UsageSummary


class UsageReport(NamedTuple):
    """Usage by group, and the sum of all groups, also of those beyond the limit."""

    by: tuple[str, ...]
    """The keys, in the order of each group's values: `conversation_id`, `day`, ..."""
    groups: tuple[UsageGroup, ...]
    total: UsageSummary


def usage_by(
    reader: Reader,
    by: Sequence[str],
    *,
    where: Mapping[str, Any] | None = None,
    zone: tzinfo = timezone.utc,
    limit: int | None = None,
) -> UsageReport:
    """
    Add up the calls that a filter selects, group by group.

    Groups come in the order of time where time is a dimension, else the costliest first.

    Args:
        reader: Where the calls are.
        by: Names or keys of `DIMENSIONS`.
        where: The filter, as `calls.selection` takes it, and `environment`.
        zone: The time zone in which hours and days begin.
        limit: How many groups to return at most; all when not given.

    Raises:
        InvalidScopeError: For an unknown dimension or filter.
    """
    found = sums_by(reader, by, where=where, zone=zone, limit=limit)
    width = len(SUMMARY_COLUMNS)
    groups = [UsageGroup(key, summary_of_row(sums[:width])) for key, sums in found.groups]
    return UsageReport(found.by, tuple(groups), summary_of_row(found.total[:width]))
