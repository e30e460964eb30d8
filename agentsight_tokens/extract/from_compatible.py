"""Providers that speak OpenAI's chat format and count in ways of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from agentsight_tokens.usage import TokenUsage

from .from_openai import openai_usage
from .reading import count, field, has

__all__ = [
    "USAGE_BY_PROVIDER",
    "deepseek_usage",
    "groq_usage",
    "mistral_usage",
    "perplexity_usage",
    "together_usage",
    "vllm_usage",
    "xai_usage",
]


def xai_usage(usage: Any) -> TokenUsage:
    """
    Return a usage object of xAI.

    Cached, image and audio tokens are part of the prompt. Reasoning stands beside
    `completion_tokens` in chat completions, with `total_tokens` the sum of the three, and
    within `output_tokens` in the Responses API. Searches of the web and of X are billed alike.

    https://docs.x.ai/docs/api-reference#chat-completions,
    https://docs.x.ai/docs/guides/reasoning and
    https://docs.x.ai/docs/guides/tools/overview, checked 2026-11-22.
    """
    base = openai_usage(usage)
    completion = count(usage, "completion_tokens")
    reasoning = base.reasoning_tokens
    output = base.output_tokens
    total = count(usage, "total_tokens")
    is_inside = total == base.input_tokens + completion and reasoning <= completion
    if completion and reasoning and not is_inside:
        output = completion + reasoning
    calls = field(usage, "server_side_tool_usage_details")
    return msgspec.structs.replace(
        base,
        output_tokens=output,
        total_tokens=total,
        cache_read_tokens=base.cache_read_tokens or count(usage, "cached_prompt_text_tokens"),
        image_input_tokens=base.image_input_tokens or count(usage, "prompt_image_tokens"),
        web_search_requests=count(calls, "web_search_calls") + count(calls, "x_search_calls")
        or base.web_search_requests
        or count(usage, "num_sources_used"),
    )


def deepseek_usage(usage: Any) -> TokenUsage:
    """
    Return a usage object of DeepSeek.

    `prompt_tokens` equals `prompt_cache_hit_tokens` + `prompt_cache_miss_tokens`; reasoning is
    part of `completion_tokens`.

    https://api-docs.deepseek.com/api/create-chat-completion, checked 2026-11-22.
    """
    return openai_usage(usage)


def groq_usage(usage: Any) -> TokenUsage:
    """
    Return a usage object of Groq: cached tokens are part of the prompt, reasoning of the output.

    https://console.groq.com/docs/api-reference#chat-create and
    https://console.groq.com/docs/prompt-caching, checked 2026-11-22.
    """
    return openai_usage(usage)


def together_usage(usage: Any) -> TokenUsage:
    """
    Return a usage object of Together: `cached_tokens`, where sent, is part of the prompt.

    https://docs.together.ai/reference/chat-completions-1, checked 2026-11-22.
    """
    return openai_usage(usage)


def vllm_usage(usage: Any) -> TokenUsage:
    """
    Return a usage object of a vLLM server: cached tokens are part of the prompt.

    They are sent only when the server runs with `--enable-prompt-tokens-details`.

    https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html, checked 2026-11-22.
    """
    return openai_usage(usage)


def mistral_usage(usage: Any) -> TokenUsage:
    """
    Return a usage object of Mistral.

    Cached tokens are part of `prompt_tokens`. In conversations `connector_tokens` stand beside
    the prompt, and `total_tokens` is the sum of the three.

    https://docs.mistral.ai/api/, checked 2026-11-22.
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
    `total_tokens`. `num_search_queries` are its billed searches. See `perplexity` for the other
    models.

    https://docs.perplexity.ai/getting-started/models/models/sonar-deep-research and
    https://docs.perplexity.ai/getting-started/pricing, checked 2026-11-22.
    """
    base = openai_usage(usage)
    beside = count(usage, "reasoning_tokens")
    searches = field(field(usage, "tool_calls_details"), "search_web")
    return msgspec.structs.replace(
        base,
        input_tokens=base.input_tokens + count(usage, "citation_tokens"),
        # Where the total holds the reasoning, openai_usage has added it already.
        output_tokens=count(usage, "completion_tokens") + beside if beside else base.output_tokens,
        total_tokens=count(usage, "total_tokens"),
        web_search_requests=count(usage, "num_search_queries")
        or count(searches, "invocation")
        or base.web_search_requests,
    )


def gemini_compatible_usage(usage: Any) -> TokenUsage:
    """
    Return a usage object of Gemini's OpenAI-compatible endpoint.

    Thoughts are in `total_tokens` alone, and are output.

    https://ai.google.dev/gemini-api/docs/openai, checked 2026-11-22.
    """
    base = openai_usage(usage)
    thoughts = base.total_tokens - base.input_tokens - base.output_tokens
    # LiteLLM names the tool results that it leaves out of a prompt; they are no thoughts.
    if thoughts <= 0 or has(field(usage, "prompt_tokens_details"), "tool_use_tokens"):
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
