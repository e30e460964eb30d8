"""Turns: which messages of a conversation belong together, and which must stay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .messages import ReadMessage

__all__ = ["Group", "Turn", "turns_of"]


class Group(NamedTuple):
    """Messages that are kept or dropped together: a tool call and its answers."""

    first: int
    last: int
    """Included."""
    is_protected: bool
    """Whether it must stay: a system message, the user's last turn, the newest answer."""

    @property
    def positions(self) -> range:
        """The places of its messages."""
        return range(self.first, self.last + 1)


Turn = Sequence[Group]
"""What a user said and everything that followed, up to the user's next words."""


def turns_of(messages: Sequence[ReadMessage]) -> list[Turn]:
    """Return the turns of a conversation, in order; system messages are groups of their own."""
    spans = _spans(messages)
    last_said = max((i for i, m in enumerate(messages) if m.is_users_turn), default=None)
    turns: list[list[Group]] = [[]]
    for first, last in spans:
        head = messages[first]
        is_protected = (
            any(messages[i].role == "system" for i in range(first, last + 1))
            or (last_said is not None and first <= last_said <= last)
            or (first, last) == spans[-1]
        )
        if head.is_users_turn:
            turns.append([])
        turns[-1].append(Group(first, last, is_protected))
    return [turn for turn in turns if turn]


def _spans(messages: Sequence[ReadMessage]) -> list[tuple[int, int]]:
    """Return the first and last positions of messages that belong together."""
    ends = _ends(messages)
    spans: list[tuple[int, int]] = []
    position = 0
    while position < len(messages):
        last = inner = position
        while inner <= last:
            last = max(last, ends[inner])
            inner += 1
        spans.append((position, last))
        position = last + 1
    return spans


def _ends(messages: Sequence[ReadMessage]) -> list[int]:
    """Return of each message the position of the last that it must stay with."""
    called: dict[str, int] = {}
    ends = list(range(len(messages)))
    for position, message in enumerate(messages):
        if message.leads:
            ends[position] = min(position + 1, len(messages) - 1)
        if message.role == "tool" and not message.answers and position:
            ends[position - 1] = position  # it names no call: it answers what stands before it
        for answer in message.answers & called.keys():
            ends[called[answer]] = max(ends[called[answer]], position)
        called.update(dict.fromkeys(message.calls, position))
    return ends
