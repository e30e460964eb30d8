"""Google's responses: the Gemini API and Vertex AI."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from agentsight_tokens.usage import TokenUsage

from .from_anthropic import anthropic_message
from .reading import Extracted, count, field, has, items, text, usage_of

__all__ = ["GEMINI_COUNTS", "gemini", "gemini_usage", "vertex"]

GEMINI_COUNTS: Final = (
    "prompt_token_count",
    "promptTokenCount",
    "candidates_token_count",
    "candidatesTokenCount",
    "total_token_count",
    "totalTokenCount",
    "response_token_count",
    "responseTokenCount",
)


def gemini_usage(usage: Any) -> TokenUsage:
    """
    Return a `usageMetadata` object, in camel case or as the SDKs write it.

    The prompt includes the cached content; the tokens of tool results stand beside it and
    are input. Thoughts stand beside the candidates and are output. `totalTokenCount` is the
    sum of all four, so where it is that of the others alone, the thoughts are in the
    candidates. The details by modality are parts of the count that they belong to.

    https://ai.google.dev/api/generate-content#UsageMetadata and
    https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rest/v1/GenerateContentResponse#UsageMetadata,
    checked 2026-11-22.
    """
    prompt = count(usage, "prompt_token_count", "promptTokenCount") + count(
        usage, "tool_use_prompt_token_count", "toolUsePromptTokenCount"
    )
    output = count(
        usage,
        "candidates_token_count",
        "candidatesTokenCount",
        "response_token_count",
        "responseTokenCount",
    )
    total = count(usage, "total_token_count", "totalTokenCount")
    thoughts = count(usage, "thoughts_token_count", "thoughtsTokenCount")
    if thoughts > output or total != prompt + output:
        output += thoughts
    read = _modalities(usage, "prompt_tokens_details", "promptTokensDetails")
    tools = _modalities(usage, "tool_use_prompt_tokens_details", "toolUsePromptTokensDetails")
    cached = _modalities(usage, "cache_tokens_details", "cacheTokensDetails")
    made = _modalities(
        usage,
        "candidates_tokens_details",
        "candidatesTokensDetails",
        "response_tokens_details",
        "responseTokensDetails",
    )
    images = read.get("IMAGE", 0)
    return TokenUsage(
        input_tokens=prompt,
        output_tokens=output,
        total_tokens=total,
        cache_read_tokens=count(usage, "cached_content_token_count", "cachedContentTokenCount"),
        reasoning_tokens=thoughts,
        audio_input_tokens=read.get("AUDIO", 0) + tools.get("AUDIO", 0),
        audio_output_tokens=made.get("AUDIO", 0),
        cache_read_audio_tokens=cached.get("AUDIO", 0),
        # There is no price of cached images: what was cached is charged as a cache read alone.
        image_input_tokens=max(images - cached.get("IMAGE", 0), 0) + tools.get("IMAGE", 0),
        image_output_tokens=made.get("IMAGE", 0),
    )


def _modalities(usage: Any, *names: str) -> dict[str, int]:
    """Return the counts of a list of modality counts by the modality's name."""
    counts: dict[str, int] = {}
    for item in items(usage, *names):
        name = (text(item, "modality") or "").upper()
        counts[name] = counts.get(name, 0) + count(item, "token_count", "tokenCount")
    return counts


def gemini(response: Any) -> Extracted:
    """
    Return the use of a generated content, or of the last chunk of its stream.

    `web_search_requests` is the number of search queries behind the answer; whether each
    query is billed or the grounded prompt once depends on the model. See `gemini_usage` for
    what overlaps.

    https://ai.google.dev/api/generate-content#GenerateContentResponse and
    https://ai.google.dev/gemini-api/docs/google-search, checked 2026-11-22.
    """
    return _generated(response, "gemini")


def vertex(response: Any) -> Extracted:
    """
    Return the use of a response of Vertex AI: generated content, a Claude message, embeddings.

    Embeddings count the tokens of each input in `statistics`. See `gemini_usage` and
    `anthropic_usage` for what overlaps.

    https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference and
    https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/text-embeddings-api,
    checked 2026-11-22.
    """
    embeddings = items(response, "predictions", "embeddings")
    if embeddings:
        return _embedded(response, embeddings)
    if text(response, "type") in ("message", "message_start", "message_delta"):
        return msgspec.structs.replace(anthropic_message(response), provider="vertex_ai")
    return _generated(response, "vertex_ai")


def _generated(response: Any, provider: str) -> Extracted:
    key = "usage_metadata" if has(response, "usage_metadata") else "usageMetadata"
    found = usage_of(response, key, *GEMINI_COUNTS)
    usage = None if found is None else gemini_usage(found)
    queries = sum(
        1
        for candidate in items(response, "candidates")
        for query in items(
            field(candidate, "grounding_metadata", "groundingMetadata"),
            "web_search_queries",
            "webSearchQueries",
        )
        if query
    )
    if usage is not None and queries:
        usage = usage + TokenUsage(web_search_requests=queries)
    traffic = text(found, "traffic_type", "trafficType")
    tier = traffic or text(found, "service_tier", "serviceTier")
    return Extracted(
        usage=usage,
        model=text(response, "model_version", "modelVersion"),
        provider="vertex_ai" if traffic else provider,
        response_id=text(response, "response_id", "responseId"),
        # ON_DEMAND_FLEX is the tier that every other provider calls flex.
        service_tier=tier and tier.lower().removeprefix("on_demand_"),
    )


def _embedded(response: Any, embeddings: tuple[Any, ...]) -> Extracted:
    statistics = [field(field(item, "embeddings") or item, "statistics") for item in embeddings]
    tokens = [
        count(found, "token_count", "tokenCount")
        for found in statistics
        if has(found, "token_count", "tokenCount")
    ]
    return Extracted(
        usage=TokenUsage(embedding_tokens=sum(tokens)) if tokens else None,
        model=text(response, "model", "deployedModelId"),
        provider="vertex_ai",
        operation="embedding",
    )
