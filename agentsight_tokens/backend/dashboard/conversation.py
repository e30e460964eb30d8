"""One conversation: its cycles, and its calls one after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from typing import Any, Final, NamedTuple

import msgspec

from agentsight_tokens.backend.analytics import (
    Conversation,
    CycleSummary,
    calls_page,
    conversation,
)
from agentsight_tokens.backend.endpoint import Asked
from agentsight_tokens.backend.problem import Problem
from agentsight_tokens.usage import UsageRecord

from .figures import NOTHING, Figure, cost_of, count, decimals_of, duration, moment, money, share
from .page import page
from .period import zone_of
from .selection import address

__all__ = ["ENDPOINTS"]

_CALLS_OF_PAGE: Final = 100
_SEALED_BY: Final = {"send": "sent", "reset": "reset", "close": "closed", "recovery": "recovered"}


class ConversationQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of the page."""

    id: str
    zone: str = ""
    cursor: str = ""


class CycleRow(NamedTuple):
    """What was used between two sends."""

    sealed: Figure
    sealed_by: str
    environment: str | None
    calls: Figure
    tokens: Figure
    cost: Figure


class CallRow(NamedTuple):
    """A call."""

    id: str
    at: Figure
    model: str | None
    operation: str
    status: str
    facts: tuple[tuple[str, str], ...]
    """What else is known: agent, feature, tool, ..."""
    input: Figure
    cached: Figure
    output: Figure
    cost: Figure
    lasted: Figure
    first_token: Figure
    width: str
    """Of its tokens, in percent of the largest call's."""
    unreported: str | None
    is_estimated: bool


class Timeline(NamedTuple):
    """What the page shows."""

    id: str
    user: str | None
    user_link: str
    first: Figure
    last: Figure
    length: Figure
    tiles: tuple[tuple[str, Figure], ...]
    cycles: tuple[CycleRow, ...]
    cycle_count: int
    calls: tuple[CallRow, ...]
    more: str
    is_first: bool


def view_of(asked: Asked, query: ConversationQuery) -> Mapping[str, Any]:
    """Read a conversation, and a page of its calls."""
    found = conversation(asked.project, query.id)
    if found is None:
        raise Problem(404, f"this project has no conversation {query.id[:200]!r}")
    page_of_calls = calls_page(
        asked.project,
        where={"conversation_id": query.id},
        limit=_CALLS_OF_PAGE,
        cursor=query.cursor or None,
    )
    zone = zone_of(query.zone)
    more = {**msgspec.structs.asdict(query), "cursor": page_of_calls.next_cursor}
    view = _timeline(found, page_of_calls.rows, zone)
    return {
        "zone_name": query.zone or "UTC",
        "view": view._replace(
            more=address("/conversations/one", more) if page_of_calls.next_cursor else "",
            is_first=not query.cursor,
        ),
    }


def _timeline(found: Conversation, calls: Sequence[UsageRecord], zone: tzinfo) -> Timeline:
    summary, usage = found.summary, found.summary.usage
    longest = max((_size(call) for call in calls), default=0) or 1
    decimals = decimals_of(call.cost_pico_usd for call in calls)
    of_cycles = decimals_of(cycle.usage.cost_pico_usd for cycle in found.cycles)
    return Timeline(
        id=summary.conversation_id,
        user=summary.user_id,
        user_link=address("/usage", {"user": summary.user_id, "range": "all"}),
        first=moment(summary.first_at, zone),
        last=moment(summary.last_at, zone),
        length=duration((summary.last_at - summary.first_at).total_seconds()),
        tiles=(
            ("Spend", cost_of(usage)),
            ("Tokens", count(usage.total_tokens + usage.embedding_tokens)),
            ("Calls", count(usage.request_count)),
            ("Cached input", share(usage.cache_read_tokens, usage.input_tokens)),
        ),
        cycles=tuple(_cycle(cycle, zone, of_cycles) for cycle in found.cycles),
        cycle_count=found.cycle_count,
        calls=tuple(_call(call, zone, longest, decimals) for call in calls),
        more="",
        is_first=True,
    )


def _cycle(cycle: CycleSummary, zone: tzinfo, decimals: int) -> CycleRow:
    usage = cycle.usage
    return CycleRow(
        sealed=moment(cycle.sealed_at, zone),
        sealed_by=_SEALED_BY.get(cycle.sealed_by or "", cycle.sealed_by or "unknown"),
        environment=cycle.environment,
        calls=count(usage.request_count),
        tokens=count(usage.total_tokens + usage.embedding_tokens),
        cost=cost_of(usage, decimals=decimals),
    )


def _call(call: UsageRecord, zone: tzinfo, longest: int, decimals: int) -> CallRow:
    scope = call.scope
    facts = {
        "agent": scope.agent,
        "feature": scope.feature,
        "tool": call.tool_name,
        "tier": call.service_tier,
        "tags": ", ".join(scope.tags) or None,
    }
    usage = call.usage
    at = moment(call.at, zone)
    return CallRow(
        id=call.id,
        at=at._replace(text=f"{call.at.astimezone(zone):%H:%M:%S}"),
        model=call.model,
        operation=call.operation,
        status=call.status,
        facts=tuple((name, value) for name, value in facts.items() if value),
        input=NOTHING if call.is_unreported else count(usage.input_tokens + usage.embedding_tokens),
        cached=count(usage.cache_read_tokens) if usage.cache_read_tokens else NOTHING,
        output=NOTHING if call.is_unreported else count(usage.output_tokens),
        cost=NOTHING if call.is_unreported else money(call.cost_pico_usd, decimals=decimals),
        lasted=duration(call.duration_seconds),
        first_token=duration(call.time_to_first_token_seconds),
        width=f"{100 * _size(call) / longest:.2f}",
        unreported=call.unreported_reason,
        is_estimated=call.source == "estimated",
    )


def _size(call: UsageRecord) -> int:
    return call.total_tokens + call.embedding_tokens


ENDPOINTS: Final = (
    page(
        "/conversations/one",
        view_of,
        ConversationQuery,
        template="conversation.html",
        title="Conversation",
    ),
)
