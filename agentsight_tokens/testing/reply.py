"""Reply: what the loopback provider answers to one request, and what it bills for it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from agentsight_tokens.usage import TokenUsage

__all__ = [
    "BadDirectiveError",
    "Reply",
    "ResponseStatus",
    "ToolCall",
    "UsageMode",
    "directives_in",
    "reply_from",
]

UsageMode = Literal[
    "normal", "never", "every_chunk", "last_content_chunk", "second_last_chunk", "output_only"
]
"""
Where a client is told what a call used.

- `normal`: as the real provider does; an OpenAI stream only when the client asks for it by
  `stream_options.include_usage`.
- `never`: nowhere, although it is billed.
- `every_chunk`: cumulatively, on every chunk of a stream.
- `last_content_chunk`, `second_last_chunk`: complete, on that content chunk of an OpenAI stream.
- `output_only`: the last events of an Anthropic stream leave the input out.
"""

ResponseStatus = Literal["completed", "failed", "incomplete"]
"""How a response of the Responses API ends."""

_UNSAID: Final = -1


@dataclass(frozen=True)
class ToolCall:
    """One call of a tool that the model asks for."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def json(self) -> str:
        """The arguments as the JSON text that the providers send."""
        return json.dumps(dict(self.arguments), separators=(",", ":"))


@dataclass(frozen=True, kw_only=True)
class Reply:
    """
    What one request is answered with.

    Counts are inclusive as in `TokenUsage`, for every provider: on the Anthropic wire the
    cache counts are taken out of the input again. A reply that names no counts bills 11 input
    tokens, 4 of them cached, and 7 output tokens, 2 of them reasoning; one that names its
    input or its output has none of the details that it does not name.
    """

    input_tokens: int = _UNSAID
    """Everything that is read, cache included; 11 if not given."""
    output_tokens: int = _UNSAID
    """Everything that is produced for one choice, reasoning included; 7 if not given."""
    total_tokens: int | None = None
    """A total other than the sum, where the provider reports a total."""
    cache_read_tokens: int = _UNSAID
    cache_creation_tokens: int = 0
    cache_creation_1h_tokens: int = 0
    """The part of `cache_creation_tokens` that lives for an hour (Anthropic)."""
    reasoning_tokens: int = _UNSAID
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    image_input_tokens: int = 0
    """The part of the input that is images (Gemini)."""
    image_output_tokens: int = 0
    tool_use_prompt_tokens: int = 0
    """The part of the input that Gemini reports apart, as the results of its own tools."""
    web_search_requests: int = 0
    """Searches that are billed besides the tokens (Anthropic)."""
    embedding_tokens: int | None = None
    """The tokens of each embedded text; 13 if not given."""

    text: str | None = None
    """What the model says; "ok", or nothing when there are tool calls, if not given."""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str | None = None
    """The reason in the provider's own word, instead of its usual one."""
    response_id: str | None = None
    model: str | None = None
    """The model that answers, when it is not the one that was asked for."""
    service_tier: str | None = None
    """The tier that served the call, when it is not the one that was asked for."""
    label: str | None = None
    """The ledger's label, when the request carries none."""
    dimensions: int = 8
    """The length of an embedding when the request does not name it."""

    usage_mode: UsageMode = "normal"
    chunks: int = 2
    """How many content chunks the text is streamed in."""
    message_deltas: int = 1
    """How many events at an Anthropic stream's end report a cumulative usage."""
    break_after_chunks: int | None = None
    """
    Drop the connection after so many content chunks. The input and the generated share of
    the output are billed. Without a stream there is no answer, and everything is billed.
    """
    hold_after_chunks: int | None = None
    """Stop after so many content chunks until the client has gone; bill as for a break."""
    response_status: ResponseStatus = "completed"
    status: int = 200
    error_message: str = "The loopback provider was told to fail."
    retry_after: float | None = None
    """The seconds of the `retry-after` header."""
    billed: bool | None = None
    """Whether the call is billed; unless given, everything but a failure is."""
    delay_seconds: float = 0.0
    """The wait before the first byte."""
    chunk_delay_seconds: float = 0.0
    """The wait between content chunks; only with one can a client's leaving be seen."""

    def __post_init__(self) -> None:
        defaults = {
            "cache_read_tokens": 4 if self.input_tokens == _UNSAID else 0,
            "reasoning_tokens": 2 if self.output_tokens == _UNSAID else 0,
            "input_tokens": 11,
            "output_tokens": 7,
        }
        for name, value in defaults.items():
            if getattr(self, name) == _UNSAID:
                object.__setattr__(self, name, value)

    @property
    def is_billed(self) -> bool:
        """Whether the provider charges for the call."""
        if self.billed is not None:
            return self.billed
        return self.status < 400 and self.response_status != "failed"

    @property
    def content(self) -> str:
        """The text that is sent."""
        if self.text is not None:
            return self.text
        return "" if self.tool_calls else "ok"

    def content_chunks(self) -> list[str]:
        """Return the text in `chunks` pieces; of a short text some are empty."""
        text = self.content
        size, count = len(text), max(self.chunks, 1)
        if not size:
            return []
        return [text[i * size // count : (i + 1) * size // count] for i in range(count)]

    def usage(self) -> TokenUsage:
        """Return what one choice of a chat or a completion uses."""
        return TokenUsage(
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            total_tokens=self.total_tokens or 0,
            cache_read_tokens=self.cache_read_tokens,
            cache_creation_tokens=self.cache_creation_tokens,
            cache_creation_1h_tokens=self.cache_creation_1h_tokens,
            reasoning_tokens=self.reasoning_tokens,
            audio_input_tokens=self.audio_input_tokens,
            audio_output_tokens=self.audio_output_tokens,
            image_input_tokens=self.image_input_tokens,
            image_output_tokens=self.image_output_tokens,
            web_search_requests=self.web_search_requests,
        )


class BadDirectiveError(ValueError):
    """A directive has an unknown key or a value that cannot be read."""


_DIRECTIVE = re.compile(r"\[\[\s*((?:\w+=\S+?\s*)+?)\]\](?!\])")

_KEYS: Final[dict[str, tuple[str, Callable[[str], Any]]]] = {
    "in": ("input_tokens", int),
    "out": ("output_tokens", int),
    "total": ("total_tokens", int),
    "cached": ("cache_read_tokens", int),
    "written": ("cache_creation_tokens", int),
    "written_1h": ("cache_creation_1h_tokens", int),
    "reasoning": ("reasoning_tokens", int),
    "audio_in": ("audio_input_tokens", int),
    "audio_out": ("audio_output_tokens", int),
    "searches": ("web_search_requests", int),
    "embedding": ("embedding_tokens", int),
    "text": ("text", str),
    "status": ("status", int),
    "mode": ("usage_mode", str),
    "chunks": ("chunks", int),
    "deltas": ("message_deltas", int),
    "break": ("break_after_chunks", int),
    "hold": ("hold_after_chunks", int),
    "tier": ("service_tier", str),
    "delay": ("delay_seconds", float),
    "chunk_delay": ("chunk_delay_seconds", float),
    "retry_after": ("retry_after", float),
    "id": ("response_id", str),
    "model": ("model", str),
}


def directives_in(text: str) -> dict[str, str]:
    """Return the keys and values of every `[[key=value ...]]` in a text; later ones win."""
    if "[[" not in text:
        return {}
    pairs = (pair for found in _DIRECTIVE.findall(text) for pair in found.split())
    return {key: value for key, _, value in (pair.partition("=") for pair in pairs)}


def reply_from(directives: Mapping[str, str], *, tool_is_done: bool = False) -> Reply | None:
    """
    Return the reply that directives ask for, None when they name no more than a label.

    Args:
        directives: What `directives_in` found. `tool=name` and `args=<JSON without spaces>`
            ask for a tool call.
        tool_is_done: Whether the conversation has the tool's result already; then the reply
            is a text.

    Raises:
        BadDirectiveError: For a key that is unknown or a value that cannot be read.
    """
    given = {key: value for key, value in directives.items() if key != "label"}
    if not given:
        return None
    tool, arguments = given.pop("tool", None), given.pop("args", "{}")
    fields: dict[str, Any] = {}
    for key, value in given.items():
        if key not in _KEYS:
            known = ", ".join(sorted([*_KEYS, "args", "label", "tool"]))
            raise BadDirectiveError(f"{key!r} is no directive; the directives are {known}")
        name, convert = _KEYS[key]
        fields[name] = _read(key, value, convert)
    if tool and not tool_is_done:
        fields["tool_calls"] = (ToolCall(tool, _read("args", arguments, json.loads)),)
    return Reply(**fields)


def _read(key: str, value: str, convert: Callable[[str], Any]) -> Any:
    try:
        return convert(value)
    except ValueError as error:
        raise BadDirectiveError(f"the directive {key}={value} cannot be read: {error}") from error
