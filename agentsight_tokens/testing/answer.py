"""Answer: the bytes of a reply, in the pieces in which they are sent and billed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from agentsight_tokens.usage import TokenUsage

from .reply import Reply
from .request import LoopbackRequest

__all__ = ["Answer", "Draft", "Piece", "dumps", "event", "refusal", "scaled", "whole"]

_OUTPUT_FIELDS: Final = (
    "output_tokens",
    "reasoning_tokens",
    "audio_output_tokens",
    "image_output_tokens",
)


@dataclass(frozen=True, kw_only=True)
class Draft:
    """Everything that a wire format needs to write an answer."""

    request: LoopbackRequest
    reply: Reply
    """How the request is answered."""
    replies: tuple[Reply, ...]
    """What each of the request's inputs uses; for a chat there is one."""
    unique: str
    """What makes the ids of this answer unique."""
    created: int
    """The answer's time, in seconds of the epoch."""

    @property
    def model(self) -> str:
        """The model that answers."""
        return self.reply.model or self.request.model

    def response_id(self, prefix: str) -> str:
        """Return the answer's id, by default with the provider's prefix."""
        return self.reply.response_id or prefix + self.unique

    def call_id(self, prefix: str, position: int) -> str:
        """Return the id of a tool call."""
        return f"{prefix}{self.unique}{position}"


@dataclass(frozen=True)
class Piece:
    """A part of an answer that is sent at once."""

    data: bytes
    told: TokenUsage | None = None
    """The usage that this piece tells the client."""
    is_content: bool = False
    """Whether this is a content chunk of a stream, and so a share of the output."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A whole answer, ready to be sent."""

    pieces: tuple[Piece, ...]
    usage: TokenUsage | None = None
    """What is billed when every piece is sent; None for a call that is not billed."""
    response_id: str = ""
    service_tier: str | None = None
    status: int = 200
    content_type: str = "application/json"
    is_stream: bool = False
    headers: dict[str, str] = field(default_factory=dict)

    def finished(
        self, reply: Reply, error_body: Callable[[int, str], Any], headers: dict[str, str]
    ) -> Answer:
        """Return this answer with its headers, or the error that the reply asks for instead."""
        usage = self.usage if reply.is_billed else None
        if reply.status < 400:
            return dataclasses.replace(self, usage=usage, status=reply.status, headers=headers)
        return Answer(
            pieces=whole(error_body(reply.status, reply.error_message), None),
            usage=usage,
            response_id=self.response_id,
            service_tier=self.service_tier,
            status=reply.status,
            headers=headers,
        )


def dumps(value: Any) -> bytes:
    """Return a value as compact JSON."""
    return msgspec.json.encode(value)


def event(value: Any, name: str | None = None) -> bytes:
    """Return a value as one server-sent event."""
    data = b"data: " + dumps(value) + b"\n\n"
    return data if name is None else b"event: " + name.encode() + b"\n" + data


def whole(value: Any, told: TokenUsage | None) -> tuple[Piece, ...]:
    """Return a JSON answer as its only piece."""
    return (Piece(dumps(value), told),)


def refusal(body: Any, status: int) -> tuple[Answer, Reply, Callable[..., None]]:
    """Return an exchange that is refused before any reply is chosen, and bills nothing."""
    return Answer(pieces=whole(body, None), status=status), Reply(), lambda billed, told: None


def scaled(usage: TokenUsage, part: int, whole: int) -> TokenUsage:
    """
    Return a usage with `part / whole` of its output, rounded down, and all of its input.

    This is the rule for a stream that ends early, where `part` of `whole` content chunks were
    generated, and for several choices, which share their input.
    """
    if part == whole:
        return usage
    counts = {name: getattr(usage, name) * part // whole for name in _OUTPUT_FIELDS}
    total = usage.total_tokens - usage.output_tokens + counts["output_tokens"]
    return replace(usage, total_tokens=total, **counts)
