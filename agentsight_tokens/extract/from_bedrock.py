"""Amazon Bedrock's responses: Converse and InvokeModel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from agentsight_tokens.usage import Operation, TokenUsage, checked_count

from .from_anthropic import ANTHROPIC_COUNTS, anthropic_usage
from .from_openai import openai_usage
from .reading import Extracted, count, field, has, items, text

__all__ = [
    "CONVERSE_COUNTS",
    "METRICS",
    "bedrock_converse",
    "bedrock_invoke_model",
    "bedrock_usage",
]

CONVERSE_COUNTS: Final = ("inputTokens", "outputTokens", "totalTokens")

METRICS: Final = "amazon-bedrock-invocationMetrics"
"""The key under which the last chunk of an InvokeModel stream tells what it used."""

_HEADER: Final = "x-amzn-bedrock-{}-token-count"


def bedrock_usage(usage: Any) -> TokenUsage:
    """
    Return the `usage` of Converse, or of a Nova model called by InvokeModel.

    The three input counts are disjoint: the input is `inputTokens` + `cacheReadInputTokens` +
    `cacheWriteInputTokens`, and `cacheDetails` splits the writes by lifetime.

    https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_TokenUsage.html and
    https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html, checked 2026-11-22.
    """
    lifetimes = items(usage, "cacheDetails")
    by_lifetime = sum(count(detail, "inputTokens") for detail in lifetimes)
    read = count(usage, "cacheReadInputTokens", "cacheReadInputTokenCount")
    written = max(count(usage, "cacheWriteInputTokens", "cacheWriteInputTokenCount"), by_lifetime)
    return TokenUsage(
        input_tokens=count(usage, "inputTokens", "inputTokenCount") + read + written,
        output_tokens=count(usage, "outputTokens", "outputTokenCount"),
        total_tokens=count(usage, "totalTokens"),
        cache_read_tokens=read,
        cache_creation_tokens=written,
        cache_creation_1h_tokens=sum(
            count(detail, "inputTokens") for detail in lifetimes if text(detail, "ttl") == "1h"
        ),
    )


def bedrock_converse(response: Any) -> Extracted:
    """
    Return the use of a Converse response, or of the metadata event that ends its stream.

    The response does not name the model unless a prompt router chose it. See
    `bedrock_usage` for what overlaps.

    https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html,
    checked 2026-11-22.
    """
    event = field(response, "metadata")
    if event is not None:
        response = event
    found = field(response, "usage")
    if found is None:
        found = response
    router = field(field(response, "trace"), "promptRouter")
    return Extracted(
        usage=bedrock_usage(found) if has(found, *CONVERSE_COUNTS) else None,
        model=text(router, "invokedModelId"),
        provider="bedrock",
        response_id=text(field(response, "ResponseMetadata"), "RequestId"),
        service_tier=text(field(response, "serviceTier"), "type"),
    )


def bedrock_invoke_model(response: Any) -> Extracted:
    """
    Return the use of an InvokeModel response: boto3's answer, or its decoded body.

    The headers of the answer and the metrics in a stream's last chunk count the input
    without what was read from or written to the cache, as Claude's and Nova's bodies do.
    Titan and Llama know no cache. A body that boto3 has not read yet is left unread.

    https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html and
    https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html, checked 2026-11-22.
    """
    answer = field(response, "ResponseMetadata")
    headers = field(answer, "HTTPHeaders")
    body = field(response, "body")
    if isinstance(body, (str, bytes)):
        try:
            body = msgspec.json.decode(body)
        except msgspec.DecodeError:
            body = None  # An image or another body that is no JSON.
    elif not isinstance(body, Mapping):
        body = None if headers is not None else response
    usage, operation = _body_usage(body)
    if usage is None and headers is not None:
        usage = _header_usage(headers)
    return Extracted(
        usage=usage,
        model=text(body, "model"),
        provider="bedrock",
        operation=operation,
        response_id=text(answer, "RequestId") or text(body, "id"),
        service_tier=text(response, "serviceTier"),
    )


def _header_usage(headers: Any) -> TokenUsage | None:
    counts = {
        name: _header_count(headers, _HEADER.format(name))
        for name in ("input", "output", "cache-read-input", "cache-write-input")
    }
    if counts["input"] is None and counts["output"] is None:
        return None
    read, written = counts["cache-read-input"] or 0, counts["cache-write-input"] or 0
    return TokenUsage(
        input_tokens=(counts["input"] or 0) + read + written,
        output_tokens=counts["output"] or 0,
        cache_read_tokens=read,
        cache_creation_tokens=written,
    )


def _header_count(headers: Any, name: str) -> int | None:
    value = field(headers, name)
    is_digits = isinstance(value, str) and value.isascii() and value.isdigit()
    return None if value is None else checked_count(name, int(value) if is_digits else value)


def _body_usage(body: Any) -> tuple[TokenUsage | None, Operation]:
    """Return what the body of one of Bedrock's model families says, and what it did."""
    if has(body, "embedding", "embeddings", "embeddingsByType"):
        read = count(body, "inputTextTokenCount")
        return TokenUsage(embedding_tokens=read) if read else None, "embedding"
    is_completion = has(body, "generation", "outputText", "results")
    return _text_usage(body), "completion" if is_completion else "chat"


def _text_usage(body: Any) -> TokenUsage | None:
    usage = field(body, METRICS, "usage")
    if has(usage, "inputTokens", "inputTokenCount", "outputTokenCount"):
        return bedrock_usage(usage)
    if has(usage, "prompt_tokens"):
        return openai_usage(usage)
    if has(usage, *ANTHROPIC_COUNTS):
        return anthropic_usage(usage)
    if has(body, "inputTextTokenCount"):
        made = sum(count(result, "tokenCount") for result in items(body, "results"))
        return TokenUsage(
            input_tokens=count(body, "inputTextTokenCount"),
            output_tokens=made or count(body, "totalOutputTextTokenCount"),
        )
    if has(body, "prompt_token_count", "generation_token_count"):
        return TokenUsage(
            input_tokens=count(body, "prompt_token_count"),
            output_tokens=count(body, "generation_token_count"),
        )
    return None
