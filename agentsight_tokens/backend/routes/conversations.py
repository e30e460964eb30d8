"""Conversations and calls, over HTTP, page by page."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

import msgspec
from starlette.convertors import Convertor, register_url_convertor
from starlette.responses import Response

from agentsight_tokens.backend.analytics import (
    Conversation,
    ConversationOrder,
    ConversationSummary,
    calls_page,
    conversation,
    conversations,
)
from agentsight_tokens.backend.endpoint import Asked, Endpoint, answer
from agentsight_tokens.backend.problem import Problem
from agentsight_tokens.backend.wire import CallRow, wire, wire_type

from .selection import Cursor, Limit, Selection, asked_for

__all__ = ["ENDPOINTS"]


class _Anything(Convertor[str]):
    """Takes the rest of a path, whatever it holds: a name may have slashes and ends of lines."""

    regex = r"[\s\S]+"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("anything", _Anything())


class ConversationsQuery(Selection, kw_only=True):
    """Conversations."""

    order: ConversationOrder = "newest"
    limit: Limit = 50
    cursor: Cursor = None


class ConversationsPage(msgspec.Struct):
    """Some of the conversations."""

    rows: list[wire_type(ConversationSummary)]  # type: ignore[valid-type]  # made at run time
    next_cursor: str | None


class CallsQuery(Selection, kw_only=True):
    """Calls, the newest first."""

    limit: Limit = 100
    cursor: Cursor = None


class CallsPage(msgspec.Struct):
    """Some of the calls."""

    rows: list[CallRow]  # type: ignore[valid-type]  # made at run time
    next_cursor: str | None


async def get_conversations(asked: Asked) -> Response:
    """List the conversations of the project."""
    query = asked.query(ConversationsQuery)
    page: Any = await asked_for(
        partial(
            conversations,
            asked.project,
            where=query.where,
            order=query.order,
            limit=query.limit,
            cursor=query.cursor,
        )
    )
    return answer(wire(page))


async def get_conversation(asked: Asked) -> Response:
    """Show one conversation and its cycles."""
    id = asked.request.path_params["conversation_id"]
    found = await asked_for(partial(conversation, asked.project, id))
    if found is None:
        raise Problem(404, "this project has no such conversation")
    return answer(wire(found))


async def get_calls(asked: Asked) -> Response:
    """List the calls of the project."""
    query = asked.query(CallsQuery)
    page: Any = await asked_for(
        partial(
            calls_page, asked.project, where=query.where, limit=query.limit, cursor=query.cursor
        )
    )
    return answer(wire(page))


ENDPOINTS: Final = (
    Endpoint(
        "GET",
        "/v1/conversations",
        get_conversations,
        "read",
        "List conversations.",
        query=ConversationsQuery,
        result=ConversationsPage,
    ),
    Endpoint(
        "GET",
        "/v1/conversations/{conversation_id:anything}",
        get_conversation,
        "read",
        "Show a conversation and its cycles.",
        result=wire_type(Conversation),
    ),
    Endpoint(
        "GET",
        "/v1/calls",
        get_calls,
        "read",
        "List calls, the newest first.",
        query=CallsQuery,
        result=CallsPage,
    ),
)
