"""What the demo's users say, and what the loopback provider answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal, NamedTuple

from agentsight_tokens.testing import LoopbackRequest, Reply

__all__ = ["CONVERSATIONS", "Conversation", "Step", "answer"]

CHEAP_MODEL: Final = "gpt-4o-mini"
GOOD_MODEL: Final = "gpt-4o"
EMBEDDING_MODEL: Final = "text-embedding-3-small"


class Step(NamedTuple):
    """One call of a model."""

    kind: Literal["chat", "stream", "embed"]
    texts: tuple[str, ...]
    """What is asked, or the texts to embed."""
    model: str
    reply: Reply
    """What the loopback provider answers and bills."""


class Conversation(NamedTuple):
    """What one user does."""

    id: str
    user_id: str
    framework: Literal["langchain", "llamaindex"]
    """The framework that makes the calls, where it is installed."""
    steps: tuple[Step, ...]


CONVERSATIONS: Final = (
    Conversation(
        "lisbon-trip",
        "ana",
        "langchain",
        (
            Step(
                "chat",
                ("Which month is best for Lisbon?",),
                CHEAP_MODEL,
                Reply(
                    input_tokens=214, output_tokens=38, text="May: warm, dry and not yet crowded."
                ),
            ),
            Step(
                "stream",
                ("And where do I hear fado?",),
                CHEAP_MODEL,
                Reply(
                    input_tokens=271,
                    output_tokens=64,
                    chunks=6,
                    text="In Alfama, in a small house, after ten in the evening.",
                ),
            ),
        ),
    ),
    Conversation(
        "invoice-4711",
        "ben",
        "llamaindex",
        (
            Step(
                "embed",
                (
                    "Invoices are due within 30 days.",
                    "Invoice 4711 was issued on 3 March.",
                    "Reminders go out after 45 days.",
                ),
                EMBEDDING_MODEL,
                Reply(embedding_tokens=164),
            ),
            Step(
                "chat",
                ("When is invoice 4711 due?",),
                CHEAP_MODEL,
                Reply(input_tokens=388, output_tokens=21, text="On 2 April."),
            ),
            Step(
                "stream",
                ("Write a friendly reminder.",),
                CHEAP_MODEL,
                Reply(
                    input_tokens=431,
                    output_tokens=96,
                    chunks=6,
                    text="Dear customer, we hope you are well. Invoice 4711 is due on 2 April.",
                ),
            ),
        ),
    ),
    Conversation(
        "code-review",
        "ana",
        "langchain",
        (
            Step(
                "chat",
                ("Review this function for races.",),
                GOOD_MODEL,
                Reply(
                    input_tokens=2310,
                    output_tokens=412,
                    text="The counter is read and written without a lock.",
                ),
            ),
            Step(
                "stream",
                ("Show me the fix.",),
                GOOD_MODEL,
                Reply(
                    input_tokens=2744,
                    output_tokens=238,
                    cache_read_tokens=2304,
                    chunks=6,
                    text="Hold one lock around the whole update.",
                ),
            ),
        ),
    ),
)
"""Streams, embeddings and a prompt that is read from the provider's cache are among them."""


def answer(request: LoopbackRequest) -> Reply | None:
    """Return the script's reply to a request, billed to its conversation."""
    return _REPLIES.get(request.inputs)


def _replies(conversations: Sequence[Conversation]) -> dict[tuple[str, ...], Reply]:
    return {
        step.texts: replace(step.reply, label=each.id)
        for each in conversations
        for step in each.steps
    }


_REPLIES: Final = _replies(CONVERSATIONS)
