"""Conversations: a page of them, and one with its cycles."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, Final, Literal, NamedTuple, get_args

from agentsight_tokens.backend.store import Reader
from agentsight_tokens.calls import SUMMARY_COLUMNS, summary_columns, summary_of_row
from agentsight_tokens.errors import InvalidQueryError
from agentsight_tokens.summary import UsageSummary

from .filters import condition_of
from .leading import leading_conversations
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
"""By the last call, by cost to the micro-USD, or by total tokens; the most first."""

CONVERSATION_ORDERS: Final[tuple[ConversationOrder, ...]] = get_args(ConversationOrder)

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_OF_CONVERSATION: Final = frozenset(
    {"conversation_id", "session_id", "user_id", "org_id", "environment", "since", "until"}
)
"""The filters that the table of conversations answers; the others ask the calls."""

_ORDERED_BY: Final[dict[ConversationOrder, tuple[str, ...]]] = {
    "newest": ("last_at",),
    "costliest": ("cost_micro_usd", "last_at"),
    "largest": ("total_tokens", "last_at"),
}
_OF_CALLS: Final = {
    "last_at": "MAX(at)",
    "cost_micro_usd": "CAST(COALESCE(SUM(cost_pico_usd / 1000000), 0) AS BIGINT) "
    "+ CAST(COALESCE(SUM(cost_pico_usd % 1000000), 0) AS BIGINT) / 1000000",
    "total_tokens": "CAST(COALESCE(SUM(total_tokens), 0) AS BIGINT)",
}
_SHAPES: Final[dict[ConversationOrder, Any]] = {
    "newest": tuple[int, str],
    "costliest": tuple[int, int, str],
    "largest": tuple[int, int, str],
}
_MOST_CYCLES: Final = 500
_TIME: Final = re.compile(r"\bat\b")


class ConversationSummary(NamedTuple):
    """What one conversation used."""

    conversation_id: str
    user_id: str | None
    """Whom the latest of its calls that names a user has named."""
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
    Return some of the conversations.

    Times select them by their last call, and user, session, org and environment by the latest
    call that names one; they are then counted whole. Any other filter selects calls, and of each
    conversation only these are counted. One that has new calls moves to the front of its order;
    the others stay where they are.

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
    filters = {name: value for name, value in (where or {}).items() if value is not None}
    search = _whole if filters.keys() <= _OF_CONVERSATION else _of_calls
    found = search(reader, filters, order, after, limit + 1)
    page = page_of(found, limit, kind, lambda each: each.position)
    return Page(tuple(each.summary for each in page.rows), page.next_cursor)


def conversation(reader: Reader, conversation_id: str) -> Conversation | None:
    """Return a conversation with its cycles, or None if the store has no call of it."""
    found = _whole(reader, {"conversation_id": conversation_id}, "newest", None, 1)
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
    return Conversation(found[0].summary, tuple(map(_cycle, rows)), count)


class _Found(NamedTuple):
    position: tuple[Any, ...]
    """Where it stands in the order that was asked for."""
    summary: ConversationSummary


def _whole(
    reader: Reader,
    where: Mapping[str, Any],
    order: ConversationOrder,
    after: tuple[Any, ...] | None,
    limit: int,
) -> list[_Found]:
    """Return conversations from their own table."""
    condition, values = condition_of(reader, where)
    condition = _TIME.sub("last_at", condition)  # the time of a conversation is its end
    columns = _ORDERED_BY[order]
    # A session has few: no index would be looked through for them twice.
    if len(columns) > 1 and "session_id" not in where:
        bound = _bound(reader, condition, values, columns, after, limit)
        if bound is not None:
            found = _rows(
                reader,
                f"{condition} AND ({', '.join(columns)}) >= (?, ?)",
                [*values, *bound],
                columns,
                after,
                limit,
            )
            if len(found) == limit:
                return found
    return _rows(reader, condition, values, columns, after, limit)


def _bound(  # a query's parts
    reader: Reader,
    condition: str,
    values: list[Any],
    columns: tuple[str, ...],
    after: tuple[Any, ...] | None,
    limit: int,
) -> tuple[Any, ...] | None:
    """
    Return where the last row stands that is asked for, its name aside.

    An index has all that it takes to find that, so that only few whole rows are then read.
    """
    names = ", ".join(columns)
    if after is not None:
        condition += f" AND ({names}) <= (?, ?)"
        values = [*values, *after[:2]]
    found = reader.rows(
        f"SELECT {names} FROM conversations WHERE {condition} "  # noqa: S608  # our own names
        f"ORDER BY {', '.join(f'{name} DESC' for name in columns)} LIMIT 1 OFFSET ?",
        [*values, limit - 1],
    )
    return found[0] if found else None


def _rows(  # a query's parts
    reader: Reader,
    condition: str,
    values: list[Any],
    columns: tuple[str, ...],
    after: tuple[Any, ...] | None,
    limit: int,
) -> list[_Found]:
    order = (*columns, "conversation_id")
    if after is not None:
        # The first part is what an index can find.
        condition += f" AND {order[0]} <= ? AND ({', '.join(order)}) < ({_marks(order)})"
        values = [*values, after[0], *after]
    rows = reader.rows(
        f"SELECT {', '.join(order)}, user_id, first_at, last_at, "  # noqa: S608  # our own names
        f"{', '.join(SUMMARY_COLUMNS)} FROM conversations WHERE {condition} "
        f"ORDER BY {', '.join(f'{name} DESC' for name in order)} LIMIT ?",
        [*values, limit],
    )
    width = len(order)
    return [_Found(row[:width], _summary(*row[width - 1 :])) for row in rows]


def _of_calls(
    reader: Reader,
    where: Mapping[str, Any],
    order: ConversationOrder,
    after: tuple[Any, ...] | None,
    limit: int,
) -> list[_Found]:
    """Return conversations with nothing but the calls that a filter selects."""
    condition, values = condition_of(reader, where)
    measure, *_ = _ORDERED_BY[order]
    among = leading_conversations(
        reader,
        where,
        None if measure == "last_at" else measure,
        None if after is None else after[:-1],
        limit,
    )
    if among is not None:
        condition += f" AND conversation_id IN ({_marks(among) or 'NULL'})"
        values += among
    columns = [*(_OF_CALLS[name] for name in _ORDERED_BY[order]), "conversation_id"]
    behind = ""
    if after is not None:
        behind = f"HAVING ({', '.join(columns)}) < ({_marks(columns)}) "
        values += after
    rows = reader.rows(
        f"SELECT {', '.join(columns)}, MIN(at), MAX(at), {summary_columns()} "  # noqa: S608  # our own names
        f"FROM calls WHERE {condition} AND conversation_id <> '' GROUP BY conversation_id {behind}"
        f"ORDER BY {', '.join(f'{column} DESC' for column in columns)} LIMIT ?",
        [*values, limit],
    )
    width = len(columns)
    ids = [row[width - 1] for row in rows]
    users = dict(
        reader.rows(
            f"SELECT conversation_id, user_id FROM conversations "  # noqa: S608  # our own names
            f"WHERE conversation_id IN ({_marks(ids) or 'NULL'})",
            ids,
        )
    )
    return [
        _Found(row[:width], _summary(row[width - 1], users.get(row[width - 1]), *row[width:]))
        for row in rows
    ]


def _summary(
    id: str, user_id: str | None, first: int, last: int, *sums: int
) -> ConversationSummary:
    return ConversationSummary(id, user_id, _at(first), _at(last), summary_of_row(sums))


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


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
