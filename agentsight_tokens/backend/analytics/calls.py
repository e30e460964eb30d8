"""Single calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agentsight_tokens.backend.store import Reader
from agentsight_tokens.calls import CALL_COLUMNS, records
from agentsight_tokens.usage import UsageRecord

from .filters import condition_of

__all__ = ["call_of_id", "newest_calls"]

_EVERYTHING: Final = 2**63 - 1


def newest_calls(
    store: Reader, *, where: Mapping[str, Any] | None = None, limit: int | None = None
) -> list[UsageRecord]:
    """
    Return the newest calls that a filter selects, the newest first.

    Args:
        store: Where the calls are.
        where: The filter, as `usage_by` takes it.
        limit: How many to return at most; all when not given.

    Raises:
        InvalidScopeError: For an unknown filter.
    """
    condition, values = condition_of(store, where or {})
    found = store.rows(
        f"SELECT {', '.join(CALL_COLUMNS)} FROM calls WHERE {condition} "  # noqa: S608  # our own names
        "ORDER BY at DESC, id DESC LIMIT ?",
        [*values, _EVERYTHING if limit is None else limit],
    )
    return list(records(found))


def call_of_id(store: Reader, id: str) -> UsageRecord | None:
    """Return the call of an id, or None if the store has no such call."""
    found = store.rows(f"SELECT {', '.join(CALL_COLUMNS)} FROM calls WHERE id = ?", [id])  # noqa: S608  # our own names
    return next(records(found), None)
