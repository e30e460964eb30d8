"""The shapes by which responses are known."""

from __future__ import annotations

from typing import Any

from .from_anthropic import ANTHROPIC_COUNTS
from .from_bedrock import CONVERSE_COUNTS, METRICS
from .from_frameworks import LANGCHAIN_COUNTS
from .from_google import GEMINI_COUNTS
from .from_ollama import OLLAMA_COUNTS
from .reading import field, has, items, text

__all__ = [
    "is_anthropic",
    "is_batch_line",
    "is_chat",
    "is_cohere",
    "is_converse",
    "is_embedding",
    "is_gemini",
    "is_invoke_model",
    "is_langchain",
    "is_langchain_result",
    "is_llamaindex",
    "is_media",
    "is_of_xai_sdk",
    "is_ollama",
    "is_responses",
    "is_usage",
    "is_vertex_embedding",
]


def is_langchain(response: Any) -> bool:
    """Return whether this is a LangChain message."""
    if has(field(response, "usage_metadata"), *LANGCHAIN_COUNTS):
        return True
    return has(response, "response_metadata") and has(response, "content")


def is_langchain_result(response: Any) -> bool:
    """Return whether this is what a LangChain model's `generate` returns."""
    return has(response, "generations") and (
        has(response, "llm_output")
        or type(response).__module__.partition(".")[0] == "langchain_core"
    )


def is_llamaindex(response: Any) -> bool:
    """Return whether this is a LlamaIndex completion or chat response."""
    return has(response, "raw", "additional_kwargs") and has(response, "message", "text", "delta")


def is_batch_line(response: Any) -> bool:
    """Return whether this is a line of the output file of an OpenAI batch."""
    return has(response, "custom_id") and has(field(response, "response"), "body")


def is_responses(response: Any) -> bool:
    """Return whether this is an event of OpenAI's Responses, or a response without its `object`."""
    if text(field(response, "response"), "object") in ("response", "realtime.response"):
        return True
    return has(response, "output") and has(field(response, "usage"), "input_tokens")


def is_chat(response: Any) -> bool:
    """Return whether this is a chat completion of any provider."""
    return has(response, "choices", "x_groq")


def is_embedding(response: Any) -> bool:
    """Return whether this is a list of embeddings in OpenAI's format."""
    return has(_first(response, "data"), "embedding") or (
        text(response, "object") == "list" and has(response, "usage")
    )


def is_anthropic(response: Any) -> bool:
    """Return whether this is an Anthropic message, an event of its stream or a batch's result."""
    kind = text(response, "type")
    if kind in ("message", "message_start", "message_delta"):
        return True
    if has(field(field(response, "result"), "message"), "usage"):
        return True
    usage = field(response, "usage") or response
    return has(usage, *ANTHROPIC_COUNTS[2:]) and not has(usage, "prompt_tokens", "total_tokens")


def is_vertex_embedding(response: Any) -> bool:
    """Return whether this is embeddings of Vertex AI."""
    return has(_first(response, "predictions"), "embeddings") or has(
        _first(response, "embeddings"), "statistics"
    )


def is_converse(response: Any) -> bool:
    """Return whether this is a Bedrock Converse response."""
    usage = field(field(response, "metadata") or response, "usage")
    return has(usage, *CONVERSE_COUNTS) or has(response, "stopReason", *CONVERSE_COUNTS)


def is_invoke_model(response: Any) -> bool:
    """Return whether this is a Bedrock InvokeModel answer, or a body that only Bedrock sends."""
    return has(response, METRICS, "inputTextTokenCount", "generation_token_count") or has(
        field(response, "ResponseMetadata"), "HTTPHeaders"
    )


def is_ollama(response: Any) -> bool:
    """Return whether this is an Ollama response."""
    return has(response, *OLLAMA_COUNTS) or (
        has(response, "done") and has(response, "created_at", "model")
    )


def is_cohere(response: Any) -> bool:
    """Return whether this is a Cohere response."""
    found = field(field(response, "delta") or response, "usage", "meta")
    units = ("billed_units", "tokens", "api_version")
    return has(found, *units) or has(response, "billed_units")


def is_gemini(response: Any) -> bool:
    """Return whether this is content that Gemini generated."""
    return has(
        response,
        "usageMetadata",
        "usage_metadata",
        "candidates",
        "promptFeedback",
        *GEMINI_COUNTS,
    )


def is_media(response: Any) -> bool:
    """Return whether this is an image or a transcription of OpenAI."""
    return has(response, "text", "data") and has(response, "usage")


def is_usage(response: Any) -> bool:
    """Return whether this is a usage object, or anything that holds one."""
    return has(
        response, "prompt_tokens", "completion_tokens", "input_tokens", "output_tokens"
    ) or has(response, "usage")


def is_of_xai_sdk(response: Any) -> bool:
    """Return whether this is a response of xAI's own SDK."""
    return type(response).__module__.partition(".")[0] == "xai_sdk"


def _first(response: Any, name: str) -> Any:
    found = items(response, name)
    return found[0] if found else None
