"""
What a span says of its use, in our own counting.

Input includes what was read from and written to a cache, output includes reasoning. Most
instrumentations count so today; where the counts themselves prove that one does not, or its
source says so, what it left out is added.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from agentsight_tokens.errors import InvalidCountError
from agentsight_tokens.extract import langfuse_usage, openai_usage
from agentsight_tokens.usage import MAX_COUNT, TokenUsage

from .names import (
    AUDIO_INPUT,
    AUDIO_OUTPUT,
    CACHE_READ,
    CACHE_WRITE,
    EMBEDDED,
    INPUT,
    OUTPUT,
    REASONING,
    TOTAL,
)
from .span import SpanError

__all__ = ["usage_of"]

_LANGFUSE: Final = "langfuse.observation.usage_details"
_MLFLOW: Final = "mlflow.chat.tokenUsage"
_VERCEL_DETAILS: Final = "ai.usage.inputTokenDetails.cacheReadTokens"


def usage_of(attributes: Mapping[str, Any], *, is_embedding: bool) -> TokenUsage | None:
    """
    Return what a span says was used; None if it says nothing, or nothing but zeros.

    Raises:
        SpanError: If a count is none.
    """
    try:
        found = _counted(attributes)
    except InvalidCountError as error:
        raise SpanError(str(error)) from None
    if found is None or not found:
        return None
    if is_embedding:
        return TokenUsage(embedding_tokens=found.total_tokens)
    return found


def _counted(attributes: Mapping[str, Any]) -> TokenUsage | None:
    text = attributes.get(_LANGFUSE)
    if text is not None:
        return langfuse_usage(_object(text, _LANGFUSE))
    given = _count(attributes, INPUT)
    output = _count(attributes, OUTPUT)
    total = _count(attributes, TOTAL)
    if given is None and output is None and total is None:
        text = attributes.get(_MLFLOW)
        if text is not None:
            return openai_usage(_object(text, _MLFLOW))
        embedded = _count(attributes, EMBEDDED)
        return None if embedded is None else TokenUsage(input_tokens=embedded)
    return _inclusive(attributes, given or 0, output or 0, total or 0)


def _inclusive(attributes: Mapping[str, Any], given: int, output: int, total: int) -> TokenUsage:
    read = _count(attributes, CACHE_READ) or 0
    written = _count(attributes, CACHE_WRITE) or 0
    reasoning = _count(attributes, REASONING) or 0
    cached = read + written
    stated = total
    if cached and (
        cached > given
        or total == given + output + cached
        or (total in (0, given + output) and _is_of_older_vercel_for_anthropic(attributes))
    ):
        given += cached
        stated = 0
    if reasoning and (reasoning > output or stated == given + output + reasoning):
        output += reasoning  # Gemini's thoughts stand beside its candidates
    return TokenUsage(
        input_tokens=given,
        output_tokens=output,
        total_tokens=total if total > given + output else given + output,
        cache_read_tokens=read,
        cache_creation_tokens=written,
        reasoning_tokens=reasoning,
        audio_input_tokens=_count(attributes, AUDIO_INPUT) or 0,
        audio_output_tokens=_count(attributes, AUDIO_OUTPUT) or 0,
    )


def _is_of_older_vercel_for_anthropic(attributes: Mapping[str, Any]) -> bool:
    """
    Return whether this is the AI SDK before its version 6 with a model of Anthropic.

    Its `inputTokens` are Anthropic's own, beside which the cache stands; later ones write
    `inputTokenDetails` and count everything.
    """
    provider = attributes.get("ai.model.provider")
    return (
        isinstance(provider, str)
        and provider.startswith("anthropic")
        and _VERCEL_DETAILS not in attributes
    )


def _object(text: object, name: str) -> dict[str, Any]:
    try:
        return msgspec.convert(msgspec.json.decode(str(text)), dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
        raise SpanError(f"{name}: {error}") from None


def _count(attributes: Mapping[str, Any], names: Sequence[str]) -> int | None:
    for name in names:
        value = attributes.get(name)
        if value is not None:
            return (
                value if type(value) is int and 0 <= value <= MAX_COUNT else _checked(name, value)
            )
    return None


def _checked(name: str, value: object) -> int:
    """Return a count that may be written as a float or a text."""
    try:
        number = int(value) if isinstance(value, (int, float, str)) else -1
    except (ValueError, OverflowError):
        number = -1
    if isinstance(value, bool) or (isinstance(value, float) and number != value):
        number = -1
    if not 0 <= number <= MAX_COUNT:
        raise SpanError(
            f"{name} must be a whole number between 0 and {MAX_COUNT:,}, not {str(value)[:40]!r}"
        )
    return number
