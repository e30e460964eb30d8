"""Usage: who used what, when, and what it cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timezone, tzinfo
from typing import TYPE_CHECKING, Any, NamedTuple

from agentsight_tokens.backend.store import Reader
from agentsight_tokens.calls import SUMMARY_COLUMNS, summary_of_row
from agentsight_tokens.frames import arrow_table, pandas_frame
from agentsight_tokens.markup import usage_table
from agentsight_tokens.rows import USAGE_ROW_FIELDS, usage_row
from agentsight_tokens.summary import UsageSummary

from .sums import Sums, sums_by, sums_over_time

if TYPE_CHECKING:
    import pandas
    import pyarrow

__all__ = ["UsageGroup", "UsageReport", "usage_by", "usage_over_time"]


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

    def rows(self) -> list[dict[str, Any]]:
        """Return each group as one flat row: its key, its counters and its cost."""
        return [
            {**dict(zip(self.by, key, strict=True)), **usage_row(usage)}
            for key, usage in self.groups
        ]

    def to_pandas(self) -> pandas.DataFrame:
        """
        Return the rows as a DataFrame; costs are `Decimal`.

        Raises:
            ImportError: Without pandas, `pip install 'agentsight-tokens[pandas]'`.
        """
        return pandas_frame([*self.by, *USAGE_ROW_FIELDS], self.rows())

    def to_arrow(self) -> pyarrow.Table:
        """
        Return the rows as an Arrow table; costs are decimals of 12 places.

        Raises:
            ImportError: Without pyarrow, `pip install 'agentsight-tokens[arrow]'`.
        """
        return arrow_table([*self.by, *USAGE_ROW_FIELDS], self.rows())

    def _repr_html_(self) -> str:
        names = [key.removesuffix("_id").replace("_", " ") for key in self.by]
        title = f"Usage by {' and '.join(names)}" if names else "Usage"
        return usage_table(title, names, self.groups, self.total)


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
    found = sums_by(reader, by, where=where, zone=zone, limit=limit, columns=SUMMARY_COLUMNS)
    return _report(found)


def usage_over_time(
    reader: Reader,
    by: tuple[str, str],
    *,
    where: Mapping[str, Any],
    zone: tzinfo,
    limit: int,
    most: int,
) -> tuple[UsageReport, UsageReport]:
    """
    Add up the calls that a filter selects by a dimension, and by that and the time.

    The second report may have costs, tokens and the number of calls only: what a chart shows.

    Args:
        reader: Where the calls are.
        by: One of `PERIODS`, and the name or key of one of `DIMENSIONS`.
        where: The filter, as `usage_by` takes it.
        zone: The time zone in which hours and days begin.
        limit: How many groups to return at most.
        most: With more groups than this or the limit, and by a period, the second report is by
            time alone.

    Raises:
        InvalidScopeError: For an unknown dimension or filter.
    """
    found = sums_over_time(reader, by, where=where, zone=zone, limit=limit, most=most)
    return _report(found[0]), _report(found[1])


def _report(found: Sums) -> UsageReport:
    width = len(SUMMARY_COLUMNS)
    groups = [UsageGroup(key, summary_of_row(sums[:width])) for key, sums in found.groups]
    return UsageReport(found.by, tuple(groups), summary_of_row(found.total[:width]))
