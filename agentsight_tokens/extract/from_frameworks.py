"""What LangChain, LlamaIndex and LiteLLM make of their providers' responses."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from agentsight_tokens.usage import TokenUsage

from .reading import Extracted, count, field, has, items, text

__all__ = [
    "LANGCHAIN_COUNTS",
    "find_llamaindex_source",
    "langchain_message",
    "langchain_result",
    "langchain_usage",
    "litellm_provider",
]

LANGCHAIN_COUNTS: Final = ("input_tokens", "output_tokens", "total_tokens")

_TIERS: Final = ("flex", "priority")


def langchain_usage(usage: Any) -> TokenUsage:
    """
    Return a message's `usage_metadata`, which is inclusive for every provider.

    The details are parts of the input and the output. A service tier puts its name before
    their keys (`flex_cache_read`), and langchain-anthropic leaves `cache_creation` at 0 where
    it sends the writes by lifetime.

    https://reference.langchain.com/python/langchain_core/messages/#langchain_core.messages.ai.UsageMetadata,
    checked 2026-11-22.
    """
    read = field(usage, "input_token_details") or {}
    made = field(usage, "output_token_details") or {}
    written_1h = _tiered(read, "ephemeral_1h_input_tokens")
    return TokenUsage(
        input_tokens=count(usage, "input_tokens"),
        output_tokens=count(usage, "output_tokens"),
        total_tokens=count(usage, "total_tokens"),
        cache_read_tokens=_tiered(read, "cache_read"),
        cache_creation_tokens=max(
            _tiered(read, "cache_creation"),
            written_1h + _tiered(read, "ephemeral_5m_input_tokens"),
        ),
        cache_creation_1h_tokens=written_1h,
        reasoning_tokens=_tiered(made, "reasoning"),
        audio_input_tokens=_tiered(read, "audio"),
        audio_output_tokens=_tiered(made, "audio"),
        image_input_tokens=_tiered(read, "image"),
        image_output_tokens=_tiered(made, "image"),
    )


def _tiered(details: Any, name: str) -> int:
    """Return a detail together with the same detail of any service tier."""
    return count(details, name) + sum(count(details, f"{tier}_{name}") for tier in _TIERS)


def langchain_message(message: Any, of_raw: Callable[[Any], TokenUsage | None]) -> Extracted:
    """
    Return the use of an AIMessage or of the last chunk of its stream.

    Args:
        message: The message, or its dict.
        of_raw: Reads a raw usage object, for messages that carry only the provider's own.
    """
    about = field(message, "response_metadata")
    reported = field(message, "usage_metadata")
    if has(reported, *LANGCHAIN_COUNTS):
        usage: TokenUsage | None = langchain_usage(reported)
    else:
        usage = of_raw(field(about, "token_usage", "usage", "usage_metadata"))
    own_id = text(message, "id")
    if own_id and own_id.startswith(("run-", "lc_run-")):
        own_id = None
    tier = text(about, "service_tier") or _prefixed_tier(reported)
    return Extracted(
        usage=usage,
        model=text(about, "model_name", "model", "model_id"),
        provider=text(about, "model_provider", "ls_provider"),
        response_id=text(about, "id") or own_id,
        service_tier=tier and tier.lower(),
    )


def langchain_result(result: Any, of_raw: Callable[[Any], TokenUsage | None]) -> Extracted:
    """
    Return the use of an LLMResult: the sum over its prompts.

    Every choice of a prompt repeats the prompt's whole usage, so the first one is read.

    Args:
        result: The LLMResult or ChatResult.
        of_raw: Reads a raw usage object, for models that report through `llm_output`.
    """
    about = field(result, "llm_output")
    prompts = items(result, "generations")
    if prompts and not isinstance(prompts[0], (list, tuple)):
        prompts = (prompts,)  # A ChatResult holds the choices of its one prompt.
    firsts = [
        langchain_message(field(choices[0], "message"), of_raw)
        for choices in prompts
        if choices and has(choices[0], "message")
    ]
    reported = [found.usage for found in firsts if found.usage is not None]
    found = firsts[0] if firsts else Extracted(operation="completion")
    return msgspec.structs.replace(
        found,
        usage=sum(reported[1:], reported[0])
        if reported
        else of_raw(field(about, "token_usage", "usage")),
        model=found.model or text(about, "model_name", "model"),
    )


def _prefixed_tier(usage: Any) -> str | None:
    details = field(usage, "input_token_details")
    if isinstance(details, Mapping):
        for tier in _TIERS:
            if any(name.startswith(tier) for name in details):
                return tier
    return None


def find_llamaindex_source(response: Any) -> Any:
    """
    Return the part of a LlamaIndex response that holds the provider's usage; None if none does.

    That is the raw response or what it wraps, else `additional_kwargs`, where the integrations
    put counts that their raw responses lack.
    """
    raw = field(response, "raw")
    inner = getattr(raw, "_raw_response", None)
    for source in (raw, inner):
        if has(source, "usage", "usage_metadata", "usageMetadata", "response", "x_groq", "meta"):
            return source
    extra = field(response, "additional_kwargs")
    if has(extra, "usage"):
        return field(extra, "usage")
    if has(extra, "prompt_tokens", "completion_tokens", "total_tokens"):
        return extra
    return raw


def litellm_provider(response: Any) -> str | None:
    """Return the provider that LiteLLM notes beside a response."""
    return text(getattr(response, "_hidden_params", None), "custom_llm_provider")
