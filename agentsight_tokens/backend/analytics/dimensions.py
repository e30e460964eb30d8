"""The dimensions by which usage is grouped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from agentsight_tokens.errors import InvalidScopeError

__all__ = ["DIMENSIONS", "PERIODS", "key_of"]

PERIODS: Final[tuple[str, ...]] = ("hour", "day", "week", "month", "year")
"""The dimensions of time; a week is named by its Monday."""

DIMENSIONS: Final[Mapping[str, str]] = {
    "conversation": "conversation_id",
    "session": "session_id",
    "user": "user_id",
    "org": "org_id",
    "agent": "agent",
    "feature": "feature",
    "model": "model",
    "provider": "provider",
    "operation": "operation",
    "status": "status",
    "source": "source",
    "handler": "handler",
    "tool": "tool_name",
    "tier": "service_tier",
    "environment": "environment",
    **{period: period for period in PERIODS},
}
"""What usage can be grouped by, and the key under which a group is found in a row."""


def key_of(name: str) -> str:
    """
    Return the key of a dimension that is given by its name or its key.

    Raises:
        InvalidScopeError: If there is no such dimension.
    """
    if name in DIMENSIONS:
        return DIMENSIONS[name]
    if name in DIMENSIONS.values():
        return name
    raise InvalidScopeError(f"{name!r} is nothing to group by; known are {', '.join(DIMENSIONS)}")
