"""Single calls: a page of them, all of them, or one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from agentsight_tokens.backend.store import Reader
from agentsight_tokens.calls import CALL_COLUMNS, microseconds, records
from agentsight_tokens.usage import UsageRecord

from .filters import condition_of
from .page import Page, checked_limit, page_of, position_of

__all__ = ["call_of_id", "calls_page", "every_call", "newest_calls"]

_COLUMNS: Final = ", ".join(CALL_COLUMNS)
_EVERYTHING: Final = 2**63 - 1
_CHUNK: Final = 1_000
"""How many calls are in memory at once while all are read."""


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
    return _newest(store, where or {}, None, _EVERYTHING if limit is None else limit)


def calls_page(
    reader: Reader,
    *,
    where: Mapping[str, Any] | None = None,
    limit: int = 100,
    cursor: str | None = None,
) -> Page[UsageRecord]:
    """
    Return some of the calls that a filter selects, the newest first.

    Args:
        reader: Where the calls are.
        where: The filter, as `usage_by` takes it.
        limit: How many to return at most, 1 to 1,000.
        cursor: `next_cursor` of the page before.

    Raises:
        InvalidScopeError: For an unknown filter.
        InvalidQueryError: For a limit or a cursor that cannot be one.
    """
    checked_limit(limit)
    after = position_of(cursor, "calls", tuple[int, str])
    return page_of(
        _newest(reader, where or {}, after, limit + 1),
        limit,
        "calls",
        lambda call: (microseconds(call.at), call.id),
    )


def every_call(reader: Reader, where: Mapping[str, Any] | None = None) -> Iterator[UsageRecord]:
    """
    Return all calls that a filter selects, the oldest first, in bounded memory.

    Calls that are stored meanwhile come too if they are newer than those that were read.

    Raises:
        InvalidScopeError: For an unknown filter.
    """
    condition, values = condition_of(reader, where or {})
    return _every(reader, condition, values)


def _every(reader: Reader, condition: str, values: list[Any]) -> Iterator[UsageRecord]:
    after = ""
    behind: list[Any] = []
    while True:
        found = reader.rows(
            f"SELECT {_COLUMNS} FROM calls WHERE {condition}{after} "  # noqa: S608  # our own names
            "ORDER BY at, id LIMIT ?",
            [*values, *behind, _CHUNK],
        )
        yield from records(found)
        if len(found) < _CHUNK:
            return
        id, at = found[-1][:2]
        after, behind = " AND at >= ? AND (at > ? OR id > ?)", [at, at, id]


def call_of_id(store: Reader, id: str) -> UsageRecord | None:
    """Return the call of an id, or None if the store has no such call."""
    found = store.rows(f"SELECT {_COLUMNS} FROM calls WHERE id = ?", [id])  # noqa: S608  # our own names
    return next(records(found), None)


def _newest(
    reader: Reader, where: Mapping[str, Any], after: tuple[int, str] | None, limit: int
) -> list[UsageRecord]:
    condition, values = condition_of(reader, where)
    if after is not None:
        at, id = after
        # The first part is what an index can find.
        condition += " AND at <= ? AND (at < ? OR id < ?)"
        values += [at, at, id]
    found = reader.rows(
        f"SELECT {_COLUMNS} FROM calls WHERE {condition} "  # noqa: S608  # our own names
        "ORDER BY at DESC, id DESC LIMIT ?",
        [*values, limit],
    )
    return list(records(found))
