"""The chat format of OpenAI, by whichever provider answers in it."""

from __future__ import annotations

import re
from decimal import Decimal
from math import isfinite
from typing import Any, Final

import msgspec

from agentsight_tokens.usage import TokenUsage

from .from_compatible import USAGE_BY_PROVIDER, groq_usage
from .from_openai import openai_chat
from .reading import Extracted, count, field, has, text

__all__ = [
    "by_provider",
    "compatible_chat",
    "deepseek",
    "groq",
    "mistral",
    "perplexity",
    "together",
    "vllm",
    "xai",
]

_ONLY_IN_USAGE: Final = {
    "prompt_cache_hit_tokens": "deepseek",
    "prompt_cache_miss_tokens": "deepseek",
    "queue_time": "groq",
    "cost_details": "openrouter",
    "is_byok": "openrouter",
    "search_context_size": "perplexity",
    "citation_tokens": "perplexity",
    "num_search_queries": "perplexity",
    "num_sources_used": "xai",
    "cost_in_usd_ticks": "xai",
}
_ONLY_IN_RESPONSE: Final = {
    "x_groq": "groq",
    "prompt_filter_results": "azure",
    "prompt": "together_ai",
    "kv_transfer_params": "vllm",
}
_MODELS: Final = {
    "gemini": re.compile(r"(models/)?gemini-"),
    "mistral": re.compile(
        r"(open-)?(codestral|devstral|magistral|ministral|mistral|mixtral|pixtral|voxtral)-.*"
        r"-(\d{4}|latest)$"
    ),
    "perplexity": re.compile(r"sonar(-|$)"),
    "xai": re.compile(r"grok-"),
}
_BY_MODULE: Final = {
    "groq": "groq",
    "mistralai": "mistral",
    "together": "together_ai",
    "xai_sdk": "xai",
}


def compatible_chat(response: Any, provider: str | None) -> Extracted:
    """
    Return the use of a response in OpenAI's chat format, by the provider's own counting.

    Args:
        response: A chat completion, its last chunk, or a usage object.
        provider: Who answered; None for whoever the response itself names.
    """
    return by_provider(openai_chat(response), response, provider)


def by_provider(found: Extracted, response: Any, provider: str | None) -> Extracted:
    """
    Return what was found in one of OpenAI's formats as the provider that answered counts it.

    Args:
        found: What the format says.
        response: The response that it was found in.
        provider: Who answered; None for whoever the response itself names.
    """
    usage = found.usage
    reported = field(response, "usage")
    if reported is None:
        reported = response
    provider = provider or _named_provider(response, reported, found.model) or found.provider
    if usage is None:
        reported = field(field(response, "x_groq"), "usage")
        if has(reported, "prompt_tokens", "completion_tokens"):
            usage = groq_usage(reported)
    elif provider in USAGE_BY_PROVIDER:
        searches = usage.web_search_requests
        usage = USAGE_BY_PROVIDER[provider](reported)
        if searches and not usage.web_search_requests:
            usage = msgspec.structs.replace(usage, web_search_requests=searches)
        if provider == "perplexity":
            usage = _billed_by_perplexity(usage, found.model, reported)
    return msgspec.structs.replace(
        found,
        usage=usage,
        provider=provider,
        service_tier=found.service_tier or text(reported, "service_tier"),
        reported_cost_usd=_reported_cost(reported),
    )


def _billed_by_perplexity(usage: TokenUsage, model: str | None, reported: Any) -> TokenUsage:
    """
    Return the usage without what only the deep research models bill.

    The others bill no citations, and one fee for the searches of a request.
    """
    if model is None or "deep-research" in model:
        return usage
    is_searched = usage.web_search_requests or has(reported, "search_context_size")
    return msgspec.structs.replace(
        usage,
        input_tokens=usage.input_tokens - count(reported, "citation_tokens"),
        web_search_requests=1 if is_searched else 0,
    )


def _named_provider(response: Any, reported: Any, model: str | None) -> str | None:
    """Return the provider that a chat response, or its model, tells by what only it has."""
    provider = _owner(reported, _ONLY_IN_USAGE) or _owner(response, _ONLY_IN_RESPONSE)
    if provider is not None:
        return provider
    for name, models in _MODELS.items():
        if model and models.match(model):
            return name
    return _BY_MODULE.get(type(response).__module__.partition(".")[0])


def _owner(source: Any, providers: dict[str, str]) -> str | None:
    if not has(source, *providers):
        return None
    return next(name for field_name, name in providers.items() if has(source, field_name))


def _reported_cost(usage: Any) -> Decimal | None:
    """Return the cost that OpenRouter, Perplexity and xAI send with the usage."""
    ticks = field(usage, "cost_in_usd_ticks")
    if _is_amount(ticks) and ticks:
        return Decimal(str(ticks)).scaleb(-10)
    cost = field(usage, "cost")
    # With a key of the user's own, OpenRouter's cost is its fee alone.
    if _is_amount(cost) and not field(usage, "is_byok"):
        return Decimal(str(cost))
    total = field(cost, "total_cost")
    return Decimal(str(total)) if _is_amount(total) else None


def _is_amount(value: Any) -> bool:
    return type(value) in (int, float) and isfinite(value) and value >= 0


def xai(response: Any) -> Extracted:
    """
    Return the use of an xAI response, of its HTTP API or of its own SDK.

    See `xai_usage` for what overlaps.
    """
    found = compatible_chat(response, "xai")
    if found.model is None:
        found = msgspec.structs.replace(found, model=text(field(response, "proto"), "model"))
    calls = field(response, "server_side_tool_usage")
    searches = sum(count(calls, f"SERVER_SIDE_TOOL_{name}_SEARCH") for name in ("WEB", "X"))
    if found.usage is None or not searches:
        return found
    return msgspec.structs.replace(
        found, usage=msgspec.structs.replace(found.usage, web_search_requests=searches)
    )


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
    """
    Return the use of a Perplexity response. See `perplexity_usage` for what overlaps.

    Only sonar-deep-research bills citations and each search query; the other models bill a fee
    for the request, which counts as one search.

    https://docs.perplexity.ai/getting-started/pricing, checked 2026-11-22.
    """
    return compatible_chat(response, "perplexity")
