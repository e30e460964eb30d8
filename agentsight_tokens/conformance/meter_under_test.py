"""What counts while a scenario runs, and what it is asked for."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

from agentsight_tokens.tracker import ConversationTracker

from .figures import Figures

__all__ = ["MeterUnderTest", "TrackerUnderTest"]


class MeterUnderTest(Protocol):
    """A meter that a scenario is run with."""

    langchain_callback: Any
    """What a program might pass to LangChain besides; None if the meter has no callback."""

    def conversation(self, conversation_id: str) -> AbstractContextManager[object]:
        """Make the calls of a block those of a conversation."""

    def figures(self, conversation_id: str | None = None) -> Figures:
        """Return what was counted for a conversation, or for all."""

    def send(self, conversation_id: str) -> int | None:
        """
        Send what a conversation used since the last time.

        Returns:
            Its total tokens; None if the meter cannot send.
        """


class TrackerUnderTest:
    """A tracker of this package."""

    langchain_callback = None

    def __init__(self, tracker: ConversationTracker) -> None:
        self.tracker = tracker

    def conversation(self, conversation_id: str) -> AbstractContextManager[object]:
        """Make the calls of a block those of a conversation."""
        return self.tracker.conversation(conversation_id)

    def figures(self, conversation_id: str | None = None) -> Figures:
        """Return what was counted for a conversation, or for all."""
        usage = self.tracker.get_usage(conversation_id=conversation_id)
        partial = self.tracker.get_usage(conversation_id=conversation_id, status="partial")
        return Figures.of(usage, partial_calls=partial.request_count)

    def send(self, conversation_id: str) -> int | None:
        """Send what a conversation used since the last time, and return its total tokens."""
        with self.tracker.conversation(conversation_id):
            totals = self.tracker.send_tracked_data().totals
        return totals.total_tokens
