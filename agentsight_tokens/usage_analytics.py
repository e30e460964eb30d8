"""The questions that are asked of what was used: by user, session, tool, or any dimension."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Protocol

import msgspec

from .summary import UsageSummary

__all__ = ["UsageAnalytics", "UsageQuestions"]

GroupKey = str | tuple[str | None, ...] | None


class UsageAnalytics(msgspec.Struct, frozen=True, kw_only=True):
    """What was used in a time, as a whole and by group; every sum has averages of its own."""

    total: UsageSummary
    groups: Mapping[GroupKey, UsageSummary]
    """The sum of each value of `group_by`; calls without one are under None."""
    group_by: str
    since: datetime | None = None
    """Included."""
    until: datetime | None = None
    """Not included."""


class UsageQuestions(Protocol):
    """What every tracker can be asked besides its sums and groups."""

    def get_usage(self, **where: Any) -> UsageSummary:
        """Return the sum of the calls that the filters select, by model too."""

    def group_by(self, *dimensions: str, **where: Any) -> Mapping[GroupKey, UsageSummary]:
        """Return the sum of each group of the calls that the filters select."""

    def get_user_usage(self, user_id: str, **where: Any) -> UsageSummary:
        """Return what a user used; filters as in `get_usage`."""
        return self.get_usage(user_id=user_id, **where)

    def get_session_usage(self, session_id: str) -> UsageSummary:
        """Return what a session used; a conversation that names no session is its own."""
        return self.get_usage(session_id=session_id)

    def get_breakdown_by_tool(self, **where: Any) -> dict[str, UsageSummary]:
        """Return what was used inside of each tool; calls outside of tools are in none."""
        groups = self.group_by("tool_name", **where)
        return {tool: usage for tool, usage in groups.items() if isinstance(tool, str)}

    def get_tracking_stats(self) -> dict[str, Any]:
        """Return how much was tracked, and how much of it is not known, as plain values."""
        usage = self.get_usage()
        return {
            "calls": usage.request_count,
            "total_tokens": usage.total_tokens,
            "embedding_tokens": usage.embedding_tokens,
            "cost_usd": usage.cost,
            "unreported_calls": usage.unreported_calls,
            "unpriced_calls": usage.unpriced_calls,
            "estimated_calls": usage.estimated_calls,
            "models": sorted(usage.by_model),
        }

    def get_usage_analytics(
        self,
        user_id: str | None = None,
        session_id: str | None = None,
        time_range: str | float | timedelta | None = None,
        group_by: str = "model",
        **where: Any,
    ) -> UsageAnalytics:
        """
        Return what was used, as a whole and by group, with averages.

        Args:
            user_id: Only this user's calls.
            session_id: Only this session's calls.
            time_range: Only calls of the last `90m`, `72h`, `7d` or so many seconds.
            group_by: `model`, `provider`, `day`, or another dimension of `group_by()`.
            **where: Further filters, as in `get_usage`; not `since` beside a time range.

        Raises:
            InvalidScopeError: For an unknown dimension or filter.
            ValueError: For a duration that is none.
        """
        where |= {"user_id": user_id, "session_id": session_id}
        if time_range is not None:
            # Imported here: few programs ask by a duration.
            from .budgets.periods import duration_seconds

            if where.get("since") is not None:
                raise ValueError("since and time_range say the same: give one of them")
            length = timedelta(seconds=duration_seconds(time_range))
            where["since"] = datetime.now(timezone.utc) - length
        return UsageAnalytics(
            total=self.get_usage(**where),
            groups=self.group_by(group_by, **where),
            group_by=group_by,
            since=where.get("since"),
            until=where.get("until"),
        )
