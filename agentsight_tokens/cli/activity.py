"""The conversations that run: what the store has of them, and what is not sent yet."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final, NamedTuple

from agentsight_tokens.backend.analytics import ConversationOrder, conversation, conversations
from agentsight_tokens.backend.store import Reader
from agentsight_tokens.budgets import BudgetManager
from agentsight_tokens.budgets.configured import configured_manager
from agentsight_tokens.budgets.status import WindowStatus
from agentsight_tokens.config import TokenConfig
from agentsight_tokens.rows import USAGE_ROW_FIELDS, usage_row
from agentsight_tokens.summary import UsageSummary

from .embedded import reading
from .running import OpenConversation, open_conversations

__all__ = ["ACTIVITY_FIELDS", "Active", "Activity", "activity", "activity_row"]

MOST_CONVERSATIONS: Final = 1_000
"""How many of the store's conversations are looked at."""
_BRING_IN_SECONDS: Final = 2.0

ACTIVITY_FIELDS: Final = (
    "conversation_id",
    "user_id",
    "last_at",
    *USAGE_ROW_FIELDS,
    "unsent_calls",
    "budget_used",
)


class Active(NamedTuple):
    """A conversation and what it has used so far."""

    conversation_id: str
    user_id: str | None
    last_at: datetime
    usage: UsageSummary
    """Everything, sent or not."""
    unsent_calls: int
    """The calls that are not sent yet."""
    budget_used: float | None
    """How much of the nearest limit of its own is used; None without one."""


class Activity(NamedTuple):
    """What is going on at a time."""

    conversations: tuple[Active, ...]
    common_limits: tuple[WindowStatus, ...]
    """The windows of the configured budget that all conversations share."""


def activity(config: TokenConfig, *, since: datetime, order: ConversationOrder) -> Activity:
    """
    Return the conversations that have a call since a time, or one that is not sent yet.

    Args:
        config: Whose data directory and budget.
        since: The time.
        order: What comes first.
    """
    manager = configured_manager(config.replace(alert_webhook_url=None))
    with reading(config, seconds=_BRING_IN_SECONDS) as store:
        found = [*_merged(store, open_conversations(config.directory), since)]
    active = [each._replace(budget_used=_budget_used(manager, each)) for each in found]
    active.sort(key=_ORDERS[order], reverse=True)
    shared = manager.status() if manager is not None else ()
    limits = tuple(window for window in shared if window.window != "session")
    return Activity(tuple(active), limits)


def activity_row(active: Active) -> dict[str, Any]:
    """Return a conversation as one flat row."""
    facts = active._asdict()
    row = {**facts, **usage_row(active.usage)}
    return {name: row[name] for name in ACTIVITY_FIELDS}


def _merged(
    store: Reader, unsent: dict[str, OpenConversation], since: datetime
) -> Iterable[Active]:
    page = conversations(store, where={"since": since}, limit=MOST_CONVERSATIONS)
    stored = {each.conversation_id: each for each in page.rows}
    for name in unsent.keys() - stored.keys():
        earlier = conversation(store, name)
        if earlier is not None:
            stored[name] = earlier.summary
    for name in stored.keys() | unsent.keys():
        sent, rest = stored.get(name), unsent.get(name)
        parts = [each for each in (sent, rest) if each is not None]
        newest = max(parts, key=lambda each: each.last_at)
        yield Active(
            name,
            next((each.user_id for each in reversed(parts) if each.user_id), None),
            newest.last_at,
            UsageSummary.merged(each.usage for each in parts),
            rest.usage.request_count if rest else 0,
            None,
        )


def _budget_used(manager: BudgetManager | None, active: Active) -> float | None:
    if manager is None:
        return None
    own = [w for w in manager.status(session_id=active.conversation_id) if w.window == "session"]
    return max((window.fraction for window in own), default=None)


_ORDERS: Final = {
    "newest": lambda active: (active.last_at, active.conversation_id),
    "costliest": lambda active: (active.usage.cost_pico_usd, active.last_at),
    "largest": lambda active: (active.usage.total_tokens, active.last_at),
}
