"""Named queries over a store: who used what, when, and what it cost."""

from .calls import call_of_id, calls_page, every_call, newest_calls
from .conversations import (
    CONVERSATION_ORDERS,
    Conversation,
    ConversationOrder,
    ConversationSummary,
    CycleSummary,
    conversation,
    conversations,
)
from .dimensions import DIMENSIONS, PERIODS
from .page import LONGEST_PAGE, Page
from .usage import UsageGroup, UsageReport, usage_by

__all__ = [
    "CONVERSATION_ORDERS",
    "DIMENSIONS",
    "LONGEST_PAGE",
    "PERIODS",
    "Conversation",
    "ConversationOrder",
    "ConversationSummary",
    "CycleSummary",
    "Page",
    "UsageGroup",
    "UsageReport",
    "call_of_id",
    "calls_page",
    "conversation",
    "conversations",
    "every_call",
    "newest_calls",
    "usage_by",
]
