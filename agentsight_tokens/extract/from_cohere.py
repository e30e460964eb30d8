"""Cohere's responses, of both versions of its API."""

from __future__ import annotations

from typing import Any, Final

from agentsight_tokens.usage import Operation, TokenUsage

from .reading import Extracted, count, field, has, text

__all__ = ["cohere", "cohere_usage"]

_COUNTS: Final = ("input_tokens", "output_tokens", "image_tokens")


def cohere_usage(usage: Any) -> TokenUsage:
    """
    Return the `usage` of version 2 or the `meta` of version 1.

    `billed_units` are what is charged; `tokens` repeats them with what Cohere itself adds to
    the prompt, and is taken only where no units are sent. `cached_tokens` are part of the
    input.

    https://docs.cohere.com/reference/chat and
    https://docs.cohere.com/docs/how-does-cohere-pricing-work, checked 2026-11-22.
    """
    units = field(usage, "billed_units")
    if not has(units, *_COUNTS):
        units = field(usage, "tokens")
    return TokenUsage(
        input_tokens=count(units, "input_tokens"),
        output_tokens=count(units, "output_tokens"),
        cache_read_tokens=count(usage, "cached_tokens"),
    )


def cohere(response: Any) -> Extracted:
    """
    Return the use of a chat, embed, generate or rerank response, or of a stream's last event.

    The responses name no model, and a rerank is billed by searches and reports no tokens. See
    `cohere_usage` for what overlaps.

    https://docs.cohere.com/reference/chat, https://docs.cohere.com/reference/embed and
    https://docs.cohere.com/reference/rerank, checked 2026-11-22.
    """
    delta = field(response, "delta")
    if delta is not None and has(delta, "usage"):
        found = field(delta, "usage")
    else:
        # The stream of version 1 ends with an event that holds the whole response.
        found = field(field(response, "response") or response, "usage", "meta") or response
    operation: Operation = "chat"
    if has(response, "embeddings"):
        operation = "embedding"
    elif has(response, "results"):
        operation = "other"
    usage = None
    if has(field(found, "billed_units"), *_COUNTS) or has(field(found, "tokens"), *_COUNTS):
        usage = _embedded(found) if operation == "embedding" else cohere_usage(found)
    return Extracted(
        usage=usage,
        model=text(response, "model"),
        provider="cohere",
        operation=operation,
        response_id=text(response, "id", "response_id", "generation_id"),
    )


def _embedded(meta: Any) -> TokenUsage:
    units = field(meta, "billed_units")
    if not has(units, *_COUNTS):
        units = field(meta, "tokens")
    read, images = count(units, "input_tokens"), count(units, "image_tokens")
    if has(units, "text_tokens"):
        return TokenUsage(embedding_tokens=max(read, count(units, "text_tokens") + images))
    return TokenUsage(embedding_tokens=read + images)
