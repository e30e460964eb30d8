"""Conversations: the newest, the costliest or the largest ones, page by page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from agentsight_tokens.backend.analytics import (
    CONVERSATION_ORDERS,
    ConversationOrder,
    ConversationSummary,
    conversations,
)
from agentsight_tokens.backend.endpoint import Asked

from .figures import Figure, cost_of, count, decimals_of, duration, moment
from .page import page
from .selection import Selection, SelectionQuery, address, selection_of

__all__ = ["ENDPOINTS"]

_ROWS_OF_PAGE: Final = 50


class ConversationsQuery(SelectionQuery, frozen=True, kw_only=True):
    """The parameters of the page."""

    order: ConversationOrder = "newest"
    cursor: str = ""


class Row(NamedTuple):
    """A conversation."""

    id: str
    link: str
    user: str | None
    last: Figure
    length: Figure
    calls: Figure
    tokens: Figure
    cost: Figure
    unreported: int


class Conversations(NamedTuple):
    """What the page shows."""

    orders: tuple[tuple[str, str, bool], ...]
    rows: tuple[Row, ...]
    more: str
    """The address of the page behind; empty without."""
    is_first: bool


def view_of(asked: Asked, query: ConversationsQuery) -> Mapping[str, Any]:
    """Read a page of conversations."""
    selection = selection_of("/conversations", query, asked.server.accounts.now())
    found = conversations(
        asked.project,
        where=selection.where,
        order=query.order,
        limit=_ROWS_OF_PAGE,
        cursor=query.cursor or None,
    )
    decimals = decimals_of(each.usage.cost_pico_usd for each in found.rows)
    return {
        "selection": selection,
        "view": Conversations(
            orders=tuple(
                (name.capitalize(), selection.link(order=name, cursor=None), name == query.order)
                for name in CONVERSATION_ORDERS
            ),
            rows=tuple(_row(each, selection, decimals) for each in found.rows),
            more=selection.link(cursor=found.next_cursor) if found.next_cursor else "",
            is_first=not query.cursor,
        ),
    }


def _row(found: ConversationSummary, selection: Selection, decimals: int) -> Row:
    usage = found.usage
    return Row(
        id=found.conversation_id,
        link=address(
            "/conversations/one", {"id": found.conversation_id, "zone": selection.given.get("zone")}
        ),
        user=found.user_id,
        last=moment(found.last_at, selection.period.zone),
        length=duration((found.last_at - found.first_at).total_seconds()),
        calls=count(usage.request_count),
        tokens=count(usage.total_tokens + usage.embedding_tokens),
        cost=cost_of(usage, decimals=decimals),
        unreported=usage.unreported_calls,
    )


ENDPOINTS: Final = (
    page(
        "/conversations",
        view_of,
        ConversationsQuery,
        template="conversations.html",
        title="Conversations",
    ),
)
