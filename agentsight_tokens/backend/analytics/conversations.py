"""Conversations: a page of them, and one with its cycles."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Final, Literal, NamedTuple, get_args

from agentsight_tokens.backend.store import Reader
from agentsight_tokens.calls import microseconds, summary_columns, summary_of_row
from agentsight_tokens.errors import InvalidQueryError
from agentsight_tokens.summary import UsageSummary

from .filters import condition_of
from .page import Page, checked_limit, page_of, position_of

__all__ = [
    "CONVERSATION_ORDERS",
    "Conversation",
    "ConversationOrder",
    "ConversationSummary",
    "CycleSummary",
    "conversation",
    "conversations",
]

ConversationOrder = Literal["newest", "costliest", "largest"]
"""By the last call, by cost, or by tokens, embedded ones included; the most first."""

CONVERSATION_ORDERS: Final[tuple[ConversationOrder, ...]] = get_args(ConversationOrder)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_PICO_PER_MICRO: Final = 1_000_000
_MICRO: Final = (
    "CAST(COALESCE(SUM(cost_pico_usd / 1000000), 0) AS BIGINT)"
    " + CAST(COALESCE(SUM(cost_pico_usd % 1000000), 0) AS BIGINT) / 1000000"
)
_REST: Final = "CAST(COALESCE(SUM(cost_pico_usd % 1000000), 0) AS BIGINT) % 1000000"
_TOKENS: Final = "CAST(COALESCE(SUM(total_tokens + embedding_tokens), 0) AS BIGINT)"
_ORDERED_BY: Final[dict[ConversationOrder, tuple[str, ...]]] = {
    "newest": ("MAX(at)", "conversation_id"),
    "costliest": (_MICRO, _REST, "conversation_id"),
    "largest": (_TOKENS, "conversation_id"),
}
_SHAPES: Final[dict[ConversationOrder, Any]] = {
    "newest": tuple[int, str],
    "costliest": tuple[int, int, str],
    "largest": tuple[int, str],
}
_MOST_CYCLES: Final = 500


class ConversationSummary(NamedTuple):
    """What one conversation used."""

    conversation_id: str
    user_id: str | None
    """The user; None where the calls name none, or several."""
    first_at: datetime
    last_at: datetime
    """When the first and the last of the calls ended."""
    usage: UsageSummary


class CycleSummary(NamedTuple):
    """What one conversation used between two sends."""

    key: str
    sealed_by: str | None
    """Why it was sealed; None where the store has the calls of a cycle but not the cycle."""
    opened_at: datetime | None
    sealed_at: datetime | None
    environment: str | None
    usage: UsageSummary


class Conversation(NamedTuple):
    """One conversation with its cycles; its calls are a `calls_page`."""

    summary: ConversationSummary
    cycles: tuple[CycleSummary, ...]
    """The newest first, 500 at most."""
    cycle_count: int
    """How many there are."""


def conversations(
    reader: Reader,
    *,
    where: Mapping[str, Any] | None = None,
    order: ConversationOrder = "newest",
    limit: int = 50,
    cursor: str | None = None,
) -> Page[ConversationSummary]:
    """
    Return some of the conversations, and what the calls that a filter selects used in each.

    One that has new calls moves to the front of its order; the others stay where they are.

    Args:
        reader: Where the calls are.
        where: The filter, as `usage_by` takes it.
        order: What comes first.
        limit: How many to return at most, 1 to 1,000.
        cursor: `next_cursor` of the page before, in the same order.

    Raises:
        InvalidScopeError: For an unknown filter.
        InvalidQueryError: For an order, a limit or a cursor that cannot be one.
    """
    if order not in CONVERSATION_ORDERS:
        known = ", ".join(CONVERSATION_ORDERS)
        raise InvalidQueryError(f"{order!r} is no order of conversations; known are {known}")
    checked_limit(limit)
    kind = f"conversations by {order}"
    after = position_of(cursor, kind, _SHAPES[order])
    found = _summaries(reader, where or {}, order, after, limit + 1)
    return page_of(found, limit, kind, lambda summary: _position(summary, order))


def conversation(reader: Reader, conversation_id: str) -> Conversation | None:
    """Return a conversation with its cycles, or None if the store has no call of it."""
    found = _summaries(reader, {"conversation_id": conversation_id}, "newest", None, 1)
    if not found:
        return None
    condition, values = condition_of(reader, {"conversation_id": conversation_id})
    [(count,)] = reader.rows(
        f"SELECT COUNT(DISTINCT cycle_key) FROM calls WHERE {condition}",  # noqa: S608  # our own names
        values,
    )
    rows = reader.rows(
        "SELECT cycle_key, MIN(sealed_by), MIN(opened_at), MIN(sealed_at), "  # noqa: S608  # our own names
        f"MIN(calls.environment), {summary_columns()} FROM calls "
        "LEFT JOIN (SELECT project_id AS owner, key, sealed_by, opened_at, sealed_at "
        "FROM cycles WHERE conversation_id = ?) AS cycle "
        "ON owner = project_id AND key = cycle_key "
        f"WHERE {condition} GROUP BY project_id, cycle_key "
        "ORDER BY MAX(at) DESC, cycle_key DESC LIMIT ?",
        [conversation_id, *values, _MOST_CYCLES],
    )
    return Conversation(found[0], tuple(map(_cycle, rows)), count)


def _summaries(
    reader: Reader,
    where: Mapping[str, Any],
    order: ConversationOrder,
    after: tuple[Any, ...] | None,
    limit: int,
) -> list[ConversationSummary]:
    condition, values = condition_of(reader, where)
    columns = _ORDERED_BY[order]
    behind = ""
    if after is not None:
        behind = f"HAVING ({', '.join(columns)}) < ({', '.join('?' * len(columns))}) "
        values += after
    rows = reader.rows(
        "SELECT conversation_id, MIN(user_id), MAX(user_id), MIN(at), MAX(at), "  # noqa: S608  # our own names
        f"{summary_columns()} FROM calls WHERE {condition} AND conversation_id IS NOT NULL "
        f"GROUP BY conversation_id {behind}"
        f"ORDER BY {', '.join(f'{column} DESC' for column in columns)} LIMIT ?",
        [*values, limit],
    )
    return [
        ConversationSummary(
            id, first if first == last else None, _at(begun), _at(ended), summary_of_row(sums)
        )
        for id, first, last, begun, ended, *sums in rows
    ]


def _position(summary: ConversationSummary, order: ConversationOrder) -> tuple[Any, ...]:
    if order == "newest":
        return microseconds(summary.last_at), summary.conversation_id
    usage = summary.usage
    if order == "costliest":
        return *divmod(usage.cost_pico_usd, _PICO_PER_MICRO), summary.conversation_id
    return usage.total_tokens + usage.embedding_tokens, summary.conversation_id


def _cycle(row: tuple[Any, ...]) -> CycleSummary:
    key, sealed_by, opened_at, sealed_at, environment, *sums = row
    return CycleSummary(
        key,
        sealed_by,
        None if opened_at is None else _at(opened_at),
        None if sealed_at is None else _at(sealed_at),
        environment,
        summary_of_row(sums),
    )


def _at(since_1970: int) -> datetime:
    return _EPOCH + timedelta(microseconds=since_1970)
