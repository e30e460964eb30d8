"""Anthropic's messages, on its own API, on Bedrock and on Vertex."""

from __future__ import annotations

from typing import Any, Final

from agentsight_tokens.usage import TokenUsage

from .reading import Extracted, count, field, items, text, usage_of

__all__ = ["ANTHROPIC_COUNTS", "anthropic_message", "anthropic_usage"]

ANTHROPIC_COUNTS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
)

_PROVIDER_BY_ID: Final = {"msg_bdrk_": "bedrock", "msg_vrtx_": "vertex_ai"}


class _Merged:
    """The usage of a stream: what `message_delta` leaves out is as `message_start` said."""

    def __init__(self, delta: Any, start: Any) -> None:
        self._delta = delta
        self._start = start

    def __getattr__(self, name: str) -> Any:
        value = field(self._delta, name)
        return field(self._start, name) if value is None else value


def anthropic_usage(usage: Any, *, start: Any = None) -> TokenUsage:
    """
    Return a usage object of messages.

    The three input counts are disjoint: the input is `input_tokens` + cache reads + cache
    writes. The writes by lifetime (`cache_creation`) add up to
    `cache_creation_input_tokens`, thinking is part of `output_tokens`, and a compaction's
    tokens stand beside the counts at the top.

    Args:
        usage: The `usage` of a message, of `message_start` or of `message_delta`.
        start: The `usage` of the stream's `message_start`; the counts of `message_delta` are
            cumulative, and those that it leaves out are the start's.

    https://platform.claude.com/docs/en/build-with-claude/prompt-caching,
    https://platform.claude.com/docs/en/build-with-claude/streaming and
    https://platform.claude.com/docs/en/build-with-claude/compaction, checked 2026-11-22.
    """
    if start is not None:
        usage = _Merged(usage, start)
    total = _disjoint(usage)
    for iteration in items(usage, "iterations"):
        if text(iteration, "type") == "compaction":
            total += _disjoint(iteration)
    return total


def _disjoint(usage: Any) -> TokenUsage:
    lifetimes = field(usage, "cache_creation")
    read = count(usage, "cache_read_input_tokens")
    written_1h = count(lifetimes, "ephemeral_1h_input_tokens")
    written = max(
        count(usage, "cache_creation_input_tokens"),
        written_1h + count(lifetimes, "ephemeral_5m_input_tokens"),
    )
    return TokenUsage(
        input_tokens=count(usage, "input_tokens") + read + written,
        output_tokens=count(usage, "output_tokens"),
        cache_read_tokens=read,
        cache_creation_tokens=written,
        cache_creation_1h_tokens=written_1h,
        reasoning_tokens=count(field(usage, "output_tokens_details"), "thinking_tokens"),
        web_search_requests=count(field(usage, "server_tool_use"), "web_search_requests"),
    )


def anthropic_message(response: Any, *, start: Any = None) -> Extracted:
    """
    Return the use of a message, of a stream's event or of a batch's result.

    See `anthropic_usage` for what overlaps. Advisor models answer within the same response
    at rates of their own, so what they used is in `others`.

    Args:
        response: A message, a `message_start` or `message_delta` event, or a usage object.
        start: The stream's `message_start` event when `response` is its `message_delta`.

    https://platform.claude.com/docs/en/api/messages and
    https://platform.claude.com/docs/en/agents-and-tools/tool-use/advisor-tool, checked 2026-11-22.
    """
    message = field(field(response, "result"), "message") or field(response, "message")
    if message is None or isinstance(message, str):
        message = response
    begun = field(start, "message") or start
    begun_usage = field(begun, "usage") or begun
    found = usage_of(message, "usage", *ANTHROPIC_COUNTS)
    if found is None:
        found, begun_usage = begun_usage, None
    response_id = text(message, "id") or text(begun, "id")
    provider = _PROVIDER_BY_ID.get((response_id or "")[:9], "anthropic")
    tier = text(found, "speed") if text(found, "speed") == "fast" else text(found, "service_tier")
    geography = text(found, "inference_geo")
    return Extracted(
        usage=None if found is None else anthropic_usage(found, start=begun_usage),
        model=text(message, "model") or text(begun, "model"),
        provider=provider,
        response_id=response_id,
        service_tier=tier or text(begun_usage, "service_tier"),
        region=None if geography in ("global", "not_available") else geography,
        others=tuple(
            Extracted(
                usage=_disjoint(iteration),
                model=text(iteration, "model"),
                provider=provider,
                response_id=response_id,
            )
            for iteration in items(found, "iterations")
            if text(iteration, "type") == "advisor_message"
        ),
    )
