"""Providers that speak OpenAI's chat format and count in ways of their own."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import msgspec

from agentsight_tokens.usage import TokenUsage

from .from_openai import openai_chat, openai_usage
from .reading import Extracted, count, field, has, text

__all__ = [
    "USAGE_BY_PROVIDER",
    "compatible_chat",
    "deepseek",
    "deepseek_usage",
    "groq",
    "groq_usage",
    "mistral",
    "mistral_usage",
    "perplexity",
    "perplexity_usage",
    "together",
    "together_usage",
    "vllm",
    "vllm_usage",
    "xai",
    "xai_usage",
]

_XAI_SEARCHES: Final = ("SERVER_SIDE_TOOL_WEB_SEARCH", "SERVER_SIDE_TOOL_X_SEARCH")


def xai_usage(usage: Any) -> TokenUsage:
    """
    Return a usage object of xAI.

    Cached, image and audio tokens are part of the prompt. Reasoning stands beside
    `completion_tokens` in chat completions, with `total_tokens` the sum of the three, and
    within `output_tokens` in the Responses API.

    https://docs.x.ai/docs/api-reference#chat-completions and
    https://docs.x.ai/docs/guides/reasoning, read 2026-11-22.
    """
    base = openai_usage(usage)
    prompt = base.input_tokens
    completion = count(usage, "completion_tokens")
    reasoning = base.reasoning_tokens
    output = base.output_tokens
    is_inside = base.total_tokens == prompt + completion and reasoning <= completion
    if has(usage, "completion_tokens") and reasoning and not is_inside:
        output = completion + reasoning
    return msgspec.structs.replace(
        base,
        output_tokens=output,
        total_tokens=count(usage, "total_tokens"),
        cache_read_tokens=base.cache_read_tokens or count(usage, "cached_prompt_text_tokens"),
        image_input_tokens=base.image_input_tokens or count(usage, "prompt_image_tokens"),
        web_search_requests=base.web_search_requests
        or _xai_searches(usage)
        or count(usage, "num_sources_used"),
    )


def _xai_searches(usage: Any) -> int:
    calls = field(usage, "server_side_tool_usage")
    return sum(count(calls, name) for name in _XAI_SEARCHES)


def deepseek_usage(usage: Any) -> TokenUsage:
    """
    Return a usage object of DeepSeek.

    `prompt_tokens` equals `prompt_cache_hit_tokens` + `prompt_cache_miss_tokens`; reasoning is
    part of `completion_tokens`.

    https://api-docs.deepseek.com/api/create-chat-completion, read 2026-11-22.
    """
    return openai_usage(usage)


def groq_usage(usage: Any) -> TokenUsage:
    """
    Return a usage object of Groq: cached tokens are part of the prompt, reasoning of the output.

    https://console.groq.com/docs/api-reference#chat-create and
    https://console.groq.com/docs/prompt-caching, read 2026-11-22.
    """
    return openai_usage(usage)


def together_usage(usage: Any) -> TokenUsage:
    """
    Return a usage object of Together: `cached_tokens`, where sent, is part of the prompt.

    https://docs.together.ai/reference/chat-completions-1, read 2026-11-22.
    """
    return openai_usage(usage)


def vllm_usage(usage: Any) -> TokenUsage:
    """
    Return a usage object of a vLLM server: cached tokens are part of the prompt.

    They are sent only when the server runs with `--enable-prompt-tokens-details`.

    https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html, read 2026-11-22.
    """
    return openai_usage(usage)


def mistral_usage(usage: Any) -> TokenUsage:
    """
    Return a usage object of Mistral.

    Cached tokens are part of `prompt_tokens`. In conversations `connector_tokens` stand beside
    the prompt, and `total_tokens` is the sum of the three.

    https://docs.mistral.ai/api/, read 2026-11-22.
    """
    base = openai_usage(usage)
    connectors = count(usage, "connector_tokens")
    searches = count(field(usage, "connectors"), "web_search", "web_search_premium")
    if not connectors and not searches:
        return base
    return msgspec.structs.replace(
        base,
        input_tokens=base.input_tokens + connectors,
        total_tokens=count(usage, "total_tokens"),
        web_search_requests=searches,
    )


def perplexity_usage(usage: Any) -> TokenUsage:
    """
    Return a usage object of Perplexity.

    `citation_tokens` (input) and `reasoning_tokens` (output) of sonar-deep-research are billed
    beside `prompt_tokens` and `completion_tokens`, and are in neither of them nor in
    `total_tokens`. `num_search_queries` are billed searches.

    https://docs.perplexity.ai/getting-started/models/models/sonar-deep-research and
    https://docs.perplexity.ai/getting-started/pricing, read 2026-11-22.
    """
    base = openai_usage(usage)
    beside = count(usage, "reasoning_tokens")
    return msgspec.structs.replace(
        base,
        input_tokens=base.input_tokens + count(usage, "citation_tokens"),
        # Where the total holds the reasoning, openai_usage has added it already.
        output_tokens=count(usage, "completion_tokens") + beside if beside else base.output_tokens,
        total_tokens=count(usage, "total_tokens"),
        web_search_requests=count(usage, "num_search_queries") or base.web_search_requests,
    )


def gemini_compatible_usage(usage: Any) -> TokenUsage:
    """
    Return a usage object of Gemini's OpenAI-compatible endpoint.

    Thoughts are in `total_tokens` alone, and are output.

    https://ai.google.dev/gemini-api/docs/openai, read 2026-11-22.
    """
    base = openai_usage(usage)
    thoughts = base.total_tokens - base.input_tokens - base.output_tokens
    if thoughts <= 0:
        return base
    return msgspec.structs.replace(
        base,
        output_tokens=base.output_tokens + thoughts,
        reasoning_tokens=base.reasoning_tokens + thoughts,
    )


USAGE_BY_PROVIDER: Final[dict[str, Callable[[Any], TokenUsage]]] = {
    "gemini": gemini_compatible_usage,
    "mistral": mistral_usage,
    "perplexity": perplexity_usage,
    "xai": xai_usage,
}
"""The providers whose usage differs from OpenAI's in more than a name."""


_ONLY_IN_USAGE: Final = {
    "deepseek": ("prompt_cache_hit_tokens", "prompt_cache_miss_tokens"),
    "groq": ("queue_time",),
    "openrouter": ("cost_details", "is_byok"),
    "perplexity": ("search_context_size", "citation_tokens", "num_search_queries"),
    "xai": ("num_sources_used", "cost_in_usd_ticks"),
}
_ONLY_IN_RESPONSE: Final = {
    "groq": ("x_groq",),
    "azure": ("prompt_filter_results",),
    "vllm": ("kv_transfer_params",),
}
_MODELS: Final = {
    "gemini-": "gemini",
    "grok-": "xai",
    "models/gemini-": "gemini",
    "sonar": "perplexity",
}
_BY_MODULE: Final = {"groq": "groq", "mistralai": "mistral", "together": "together_ai"}


def compatible_chat(response: Any, provider: str | None) -> Extracted:
    """
    Return the use of a response in OpenAI's chat format, by the provider's own counting.

    Args:
        response: A chat completion, its last chunk, or a usage object.
        provider: Who answered; None for whoever the response itself names.
    """
    found = openai_chat(response)
    provider = provider or named_provider(response) or found.provider
    usage = found.usage
    reported = field(response, "usage")
    if reported is None:
        reported = response
    if usage is None:
        reported = field(field(response, "x_groq"), "usage")
        if has(reported, "prompt_tokens", "completion_tokens"):
            usage = groq_usage(reported)
    elif provider in USAGE_BY_PROVIDER:
        searches = usage.web_search_requests
        usage = USAGE_BY_PROVIDER[provider](reported)
        if searches and not usage.web_search_requests:
            usage = msgspec.structs.replace(usage, web_search_requests=searches)
    return msgspec.structs.replace(
        found,
        usage=usage,
        provider=provider,
        service_tier=found.service_tier or text(reported, "service_tier"),
        reported_cost_usd=_reported_cost(reported),
    )


def named_provider(response: Any) -> str | None:
    """Return the provider that a chat response tells by what only it sends."""
    usage = field(response, "usage")
    for provider, fields in _ONLY_IN_USAGE.items():
        if has(usage, *fields):
            return provider
    for provider, fields in _ONLY_IN_RESPONSE.items():
        if has(response, *fields):
            return provider
    model = text(response, "model") or ""
    for prefix, provider in _MODELS.items():
        if model.startswith(prefix):
            return provider
    return _BY_MODULE.get(type(response).__module__.partition(".")[0])


def _reported_cost(usage: Any) -> Decimal | None:
    """Return the cost that OpenRouter, Perplexity and xAI send with the usage."""
    ticks = field(usage, "cost_in_usd_ticks")
    if isinstance(ticks, int) and ticks:
        return Decimal(ticks).scaleb(-10)
    cost = field(usage, "cost")
    # With a key of the user's own, OpenRouter's cost is its fee alone.
    if isinstance(cost, (int, float)) and not field(usage, "is_byok"):
        return Decimal(str(cost))
    total = field(cost, "total_cost")
    return Decimal(str(total)) if isinstance(total, (int, float)) else None


def xai(response: Any) -> Extracted:
    """Return the use of an xAI response. See `xai_usage` for what overlaps."""
    return compatible_chat(response, "xai")


def deepseek(response: Any) -> Extracted:
    """Return the use of a DeepSeek response. See `deepseek_usage` for what overlaps."""
    return compatible_chat(response, "deepseek")


def groq(response: Any) -> Extracted:
    """
    Return the use of a Groq response, or of a chunk with `x_groq.usage`.

    See `groq_usage` for what overlaps.
    """
    return compatible_chat(response, "groq")


def together(response: Any) -> Extracted:
    """Return the use of a Together response. See `together_usage` for what overlaps."""
    return compatible_chat(response, "together_ai")


def vllm(response: Any) -> Extracted:
    """Return the use of a vLLM response. See `vllm_usage` for what overlaps."""
    return compatible_chat(response, "vllm")


def mistral(response: Any) -> Extracted:
    """Return the use of a Mistral response. See `mistral_usage` for what overlaps."""
    return compatible_chat(response, "mistral")


def perplexity(response: Any) -> Extracted:
    """Return the use of a Perplexity response. See `perplexity_usage` for what overlaps."""
    return compatible_chat(response, "perplexity")
