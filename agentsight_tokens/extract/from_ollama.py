"""Ollama's responses."""

from __future__ import annotations

from typing import Any, Final

from agentsight_tokens.usage import Operation, TokenUsage

from .reading import Extracted, count, has, text

__all__ = ["OLLAMA_COUNTS", "ollama", "ollama_usage"]

OLLAMA_COUNTS: Final = ("prompt_eval_count", "eval_count")


def ollama_usage(usage: Any) -> TokenUsage:
    """
    Return the counts of a response; they stand in the response itself.

    Thinking is part of `eval_count`. Nothing overlaps.

    https://docs.ollama.com/api/usage, checked 2026-11-22.
    """
    return TokenUsage(
        input_tokens=count(usage, "prompt_eval_count"),
        output_tokens=count(usage, "eval_count"),
    )


def ollama(response: Any) -> Extracted:
    """
    Return the use of a chat, generate or embed response, or of the last chunk of a stream.

    https://docs.ollama.com/api/chat and https://docs.ollama.com/api/embed, checked 2026-11-22.
    """
    operation: Operation = "chat"
    if has(response, "embeddings", "embedding"):
        operation = "embedding"
    elif has(response, "response"):
        operation = "completion"
    usage = None
    if has(response, *OLLAMA_COUNTS):
        usage = ollama_usage(response)
        if operation == "embedding":
            usage = TokenUsage(embedding_tokens=usage.input_tokens)
    return Extracted(
        usage=usage, model=text(response, "model"), provider="ollama", operation=operation
    )
