"""
A provider's usage object, of whatever shape, as a `TokenUsage`.

Providers differ in what overlaps. OpenAI, and LiteLLM for everyone, count the cache within
the prompt and the reasoning within the completion; Anthropic and Bedrock report input, cache
reads and cache writes apart; Gemini reports thoughts and its own tools' results apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from agentsight_tokens.usage import TokenUsage

__all__ = ["member", "merged", "token_usage"]

_NOTHING: Final[dict[str, Any]] = {}


def member(holder: Any, name: str) -> Any:
    """
    Return a field of a mapping or an object, None where there is none.

    Pydantic models are looked into directly: a miss through `getattr` costs a microsecond,
    and a stream misses several times for each chunk.
    """
    if holder is None:
        return None
    if isinstance(holder, Mapping):
        return holder.get(name)
    fields = getattr(holder, "__dict__", None)
    if fields is not None and name in fields:
        return fields[name]
    if hasattr(type(holder), "__pydantic_fields__"):
        extra = getattr(holder, "__pydantic_extra__", None)
        if extra:
            return extra.get(name)
        return None
    return getattr(holder, name, None)


def token_usage(usage: Any) -> TokenUsage | None:
    """Return the counts of a usage object or mapping; None when it names none."""
    if usage is None:
        return None
    for marks, read in _SHAPES:
        if any(member(usage, mark) is not None for mark in marks):
            return read(usage)
    return None


def merged(first: Any, last: Any) -> Any:
    """
    Return two usages of one stream as one mapping; what the later one names wins.

    Anthropic's `message_start` alone may tell the input and the cache, and its last
    `message_delta` tells the output.
    """
    if first is None:
        return last
    if last is None:
        return first
    return {**_named(first), **_named(last)}


def _named(usage: Any) -> dict[str, Any]:
    fields = usage if isinstance(usage, Mapping) else vars(usage)
    return {name: value for name, value in fields.items() if value is not None}


def _count(holder: Any, *names: str) -> int:
    """Return the first of the named counts that is more than 0, else 0."""
    for name in names:
        value = member(holder, name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if type(value) is int and value > 0:
            return value
    return 0


def _openai(usage: Any) -> TokenUsage:
    """Read https://platform.openai.com/docs/api-reference/chat/object, and who follows it."""
    prompt = member(usage, "prompt_tokens_details") or _NOTHING
    completion = member(usage, "completion_tokens_details") or _NOTHING
    read = _count(usage, "prompt_tokens")
    written = _count(usage, "completion_tokens")
    total = _count(usage, "total_tokens")
    reasoning = _count(completion, "reasoning_tokens")
    if reasoning and total == read + written + reasoning:  # xAI counts reasoning apart
        written += reasoning
    creation = member(usage, "cache_creation") or _NOTHING
    return TokenUsage(
        input_tokens=read,
        output_tokens=written,
        total_tokens=total,
        cache_read_tokens=_count(prompt, "cached_tokens")
        or _count(usage, "cache_read_input_tokens", "prompt_cache_hit_tokens"),
        cache_creation_tokens=_count(prompt, "cache_write_tokens", "cache_creation_tokens")
        or _count(usage, "cache_creation_input_tokens"),
        cache_creation_1h_tokens=_count(creation, "ephemeral_1h_input_tokens"),
        reasoning_tokens=reasoning,
        audio_input_tokens=_count(prompt, "audio_tokens"),
        audio_output_tokens=_count(completion, "audio_tokens"),
        image_input_tokens=_count(prompt, "image_tokens"),
        image_output_tokens=_count(completion, "image_tokens"),
    )


def _responses(usage: Any) -> TokenUsage:
    """Read https://platform.openai.com/docs/api-reference/responses/object."""
    read = member(usage, "input_tokens_details") or _NOTHING
    written = member(usage, "output_tokens_details") or _NOTHING
    return TokenUsage(
        input_tokens=_count(usage, "input_tokens"),
        output_tokens=_count(usage, "output_tokens"),
        total_tokens=_count(usage, "total_tokens"),
        cache_read_tokens=_count(read, "cached_tokens"),
        cache_creation_tokens=_count(read, "cache_write_tokens", "cache_creation_tokens"),
        reasoning_tokens=_count(written, "reasoning_tokens"),
        audio_input_tokens=_count(read, "audio_tokens"),
        audio_output_tokens=_count(written, "audio_tokens"),
        image_input_tokens=_count(read, "image_tokens"),
        image_output_tokens=_count(written, "image_tokens"),
    )


def _anthropic(usage: Any) -> TokenUsage:
    """Read https://docs.anthropic.com/en/api/messages, whose counts are disjoint."""
    creation = member(usage, "cache_creation") or _NOTHING
    one_hour = _count(creation, "ephemeral_1h_input_tokens")
    split = one_hour + _count(creation, "ephemeral_5m_input_tokens")
    cache_read = _count(usage, "cache_read_input_tokens")
    cache_written = max(_count(usage, "cache_creation_input_tokens"), split)
    return TokenUsage(
        input_tokens=_count(usage, "input_tokens") + cache_read + cache_written,
        output_tokens=_count(usage, "output_tokens"),
        cache_read_tokens=cache_read,
        cache_creation_tokens=cache_written,
        cache_creation_1h_tokens=one_hour,
        reasoning_tokens=_count(member(usage, "output_tokens_details"), "thinking_tokens"),
        web_search_requests=_count(member(usage, "server_tool_use"), "web_search_requests"),
    )


def _gemini(usage: Any) -> TokenUsage:
    """Read https://ai.google.dev/api/generate-content#UsageMetadata."""
    thoughts = _count(usage, "thoughts_token_count", "thoughtsTokenCount")
    answered = _count(usage, "candidates_token_count", "candidatesTokenCount")
    prompt = _count(usage, "prompt_token_count", "promptTokenCount")
    tools = _count(usage, "tool_use_prompt_token_count", "toolUsePromptTokenCount")
    return TokenUsage(
        input_tokens=prompt + tools,
        output_tokens=answered + thoughts,
        total_tokens=_count(usage, "total_token_count", "totalTokenCount"),
        cache_read_tokens=_count(usage, "cached_content_token_count", "cachedContentTokenCount"),
        reasoning_tokens=thoughts,
        audio_input_tokens=_modality(usage, "prompt_tokens_details", "AUDIO"),
        audio_output_tokens=_modality(usage, "candidates_tokens_details", "AUDIO"),
        image_input_tokens=_modality(usage, "prompt_tokens_details", "IMAGE"),
        image_output_tokens=_modality(usage, "candidates_tokens_details", "IMAGE"),
        cache_read_audio_tokens=_modality(usage, "cache_tokens_details", "AUDIO"),
    )


def _modality(usage: Any, details: str, modality: str) -> int:
    found = 0
    for each in member(usage, details) or ():
        kind = member(each, "modality")
        if str(getattr(kind, "value", kind)) == modality:
            found += _count(each, "token_count")
    return found


def _bedrock(usage: Any) -> TokenUsage:
    """Read Converse's `TokenUsage`, whose counts are disjoint."""
    cache_read = _count(usage, "cacheReadInputTokens")
    cache_written = _count(usage, "cacheWriteInputTokens")
    return TokenUsage(
        input_tokens=_count(usage, "inputTokens") + cache_read + cache_written,
        output_tokens=_count(usage, "outputTokens"),
        cache_read_tokens=cache_read,
        cache_creation_tokens=cache_written,
    )


def _ollama(usage: Any) -> TokenUsage:
    return TokenUsage(
        input_tokens=_count(usage, "prompt_eval_count"), output_tokens=_count(usage, "eval_count")
    )


_SHAPES: Final[tuple[tuple[tuple[str, ...], Callable[[Any], TokenUsage]], ...]] = (
    (("prompt_tokens", "completion_tokens"), _openai),
    (("input_tokens_details", "output_tokens_details", "total_tokens"), _responses),
    (("input_tokens", "output_tokens"), _anthropic),
    (("prompt_token_count", "candidates_token_count"), _gemini),
    (("promptTokenCount", "candidatesTokenCount"), _gemini),
    (("inputTokens", "outputTokens"), _bedrock),
    (("prompt_eval_count", "eval_count"), _ollama),
)
"""The fields that give a shape away, and its reader; the first that fits wins."""
