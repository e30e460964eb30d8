"""Compression: strategies that make a conversation shorter without breaking it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Literal

import msgspec

from .messages import ReadMessage, summary_like
from .turns import Group, turns_of

__all__ = ["STRATEGIES", "CompressionResult", "Conversation", "Job", "Strategy"]

Strategy = Literal[
    "sliding_window",
    "message_pruning",
    "smart_truncation",
    "aggressive_summarization",
]
STRATEGIES: Final[tuple[Strategy, ...]] = (
    "sliding_window",
    "message_pruning",
    "smart_truncation",
    "aggressive_summarization",
)
"""Drop the oldest turns; shorten tools' output; shorten long texts; summarise what is old."""

_KEPT_OF_OUTPUT: Final = 64
_KEPT_OF_TEXT: Final = 64
_SUMMARY_TOKENS: Final = 128
_SUMMARY_HEAD: Final = "Summary of the conversation so far:\n"


class CompressionResult(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation after compression, and what was done to it."""

    messages: list[Any]
    """The messages, of the types that they had."""
    tokens_before: int
    tokens_after: int
    target_tokens: int | None
    """What was to be reached; None if the window is not known and none was given."""
    strategies: tuple[Strategy, ...] = ()
    """The strategies that changed something."""
    dropped: int = 0
    """How many messages were left out or summarised."""
    shortened: int = 0
    """How many messages were shortened."""

    @property
    def ratio(self) -> float:
        """Tokens after, as a part of those before; 1.0 is unchanged."""
        return self.tokens_after / self.tokens_before if self.tokens_before else 1.0

    @property
    def tokens_saved(self) -> int:
        """How many tokens fewer a model reads."""
        return self.tokens_before - self.tokens_after

    @property
    def fits(self) -> bool:
        """Whether the target was reached, or there was none."""
        return self.target_tokens is None or self.tokens_after <= self.target_tokens


class Conversation:
    """
    A conversation that is being made shorter.

    System messages, tool calls with their answers, the user's last words and the newest
    message are never broken.

    Args:
        messages: The messages.
        count: Returns the tokens of one message.
        overhead: The tokens that belong to no message, such as those of tools.
    """

    def __init__(
        self,
        messages: Sequence[Any],
        count: Callable[[ReadMessage], int],
        *,
        overhead: int = 0,
    ) -> None:
        self._count = count
        self._read = [ReadMessage(message) for message in messages]
        self._tokens = [count(message) for message in self._read]
        self._overhead = overhead
        self._dropped: set[int] = set()
        self._shortened: set[int] = set()
        self._turns = turns_of(self._read)
        self._summaries: list[tuple[int, ReadMessage]] = []
        self.tokens = sum(self._tokens) + overhead
        """The tokens as they are now."""

    @property
    def dropped(self) -> int:
        """How many messages were left out or summarised."""
        return len(self._dropped)

    @property
    def shortened(self) -> int:
        """How many of the messages that are left were shortened."""
        return len(self._shortened - self._dropped)

    def messages(self) -> list[Any]:
        """Return the messages as they are now."""
        found = []
        for position, message in enumerate(self._read):
            found += [summary.message for at, summary in self._summaries if at == position]
            if position not in self._dropped:
                found.append(message.message)
        return found

    def drop_oldest(self, target: int) -> None:
        """Leave out turns, oldest first, and then what lies between the last words and now."""
        for groups in self._units():
            if self.tokens <= target:
                return
            for group in groups:
                self._drop(group)

    def prune_tool_outputs(self, target: int) -> None:
        """Shorten what tools answered, oldest first."""
        for group in self._oldest_first():
            for position in group.positions:
                if self.tokens <= target:
                    return
                if self._read[position].answers or self._read[position].role == "tool":
                    self._shorten(position, _KEPT_OF_OUTPUT)

    def truncate(self, target: int) -> None:
        """Shorten long texts, the longest first, and keep how each begins and ends."""
        positions = [p for g in self._oldest_first() for p in g.positions]
        for position in sorted(positions, key=lambda p: -self._tokens[p]):
            if self.tokens <= target:
                return
            excess = self.tokens - target
            self._shorten(position, max(self._tokens[position] - excess, _KEPT_OF_TEXT))

    def old_messages(self, target: int) -> list[Any]:
        """Return the messages that are to be summarised so that the rest fits."""
        chosen = self._to_summarise(target)
        return [self._read[p].message for group in chosen for p in group.positions]

    def replace_old(self, target: int, summary: str) -> None:
        """Put a summary in the place of what `old_messages` returned."""
        chosen = self._to_summarise(target)
        if not chosen:
            return
        example = self._read[chosen[0].first].message
        read = ReadMessage(summary_like(example, _SUMMARY_HEAD + summary))
        for group in chosen:
            self._drop(group)
        self._summaries.append((chosen[0].first, read))
        self.tokens += self._count(read)

    def _to_summarise(self, target: int) -> list[Group]:
        """Return what is old, and a little more than what must go, because a summary stays."""
        chosen: list[Group] = []
        left = self.tokens + _SUMMARY_TOKENS
        for groups in self._units():
            if left <= target:
                break
            left -= sum(self._tokens[p] for group in groups for p in group.positions)
            chosen += groups
        return chosen

    def _units(self) -> Iterator[list[Group]]:
        """Return what is dropped at once, oldest first: whole turns, and parts of the last."""
        for turn in self._turns:
            groups = [g for g in turn if not g.is_protected and g.first not in self._dropped]
            if turn is self._turns[-1]:
                yield from ([group] for group in groups)
            elif groups:
                yield groups

    def _oldest_first(self) -> Iterator[Group]:
        return (group for groups in self._units() for group in groups)

    def _drop(self, group: Group) -> None:
        for position in group.positions:
            self._dropped.add(position)
            self.tokens -= self._tokens[position]

    def _shorten(self, position: int, kept_tokens: int) -> None:
        tokens = self._tokens[position]
        if tokens <= kept_tokens:
            return
        part = kept_tokens / tokens

        def shorten(text: str) -> str:
            return _middle_out(text, int(len(text) * part))

        changed = ReadMessage(self._read[position].shortened(shorten))
        after = self._count(changed)
        if after < tokens:
            self._read[position] = changed
            self._tokens[position] = after
            self._shortened.add(position)
            self.tokens += after - tokens


class Job:
    """
    A compression under way.

    Args:
        conversation: What is made shorter.
        originals: The messages as they were given.
        chain: The strategies, tried in turn until the target is reached.
        target_tokens: What is to be reached; None leaves the conversation as it is.
    """

    def __init__(
        self,
        conversation: Conversation,
        originals: list[Any],
        chain: Sequence[Strategy],
        target_tokens: int | None,
    ) -> None:
        self._conversation = conversation
        self._originals = originals
        self._chain = chain
        self._target = target_tokens
        self._before = conversation.tokens
        self._used: list[Strategy] = []
        self.summary: str | None = None
        """To be set between two steps of `run`: the summary of what it gave."""

    def run(self, *, can_summarise: bool) -> Iterator[list[Any]]:
        """Compress, and give the messages whose summary is needed."""
        target, work = self._target, self._conversation
        if target is None:
            return
        by_itself: dict[Strategy, Callable[[int], None]] = {
            "sliding_window": work.drop_oldest,
            "message_pruning": work.prune_tool_outputs,
            "smart_truncation": work.truncate,
        }
        for strategy in self._chain:
            before = work.tokens
            if before <= target:
                return
            if strategy in by_itself:
                by_itself[strategy](target)
            elif can_summarise:
                yield from self._summarise(target)
            if work.tokens != before:
                self._used.append(strategy)

    def _summarise(self, target: int) -> Iterator[list[Any]]:
        old = self._conversation.old_messages(target)
        if old:
            yield old
        if self.summary is not None:
            self._conversation.replace_old(target, self.summary)

    def result(self) -> CompressionResult:
        """Return what the compression has come to."""
        work = self._conversation
        return CompressionResult(
            messages=work.messages() if self._used else self._originals,
            tokens_before=self._before,
            tokens_after=work.tokens,
            target_tokens=self._target,
            strategies=tuple(self._used),
            dropped=work.dropped,
            shortened=work.shortened,
        )


def _middle_out(text: str, kept: int) -> str:
    """Return how a text begins and ends, with a note of how much is left out."""
    if len(text) <= kept:
        return text
    mark = f"\n[... {len(text) - kept} characters left out ...]\n"
    if len(mark) >= len(text):
        return text
    half = max(kept - len(mark), 0)
    head = half - half // 3
    return text[:head] + mark + (text[-(half // 3) :] if half // 3 else "")
