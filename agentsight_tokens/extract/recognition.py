"""Recognition of a response by its shape, without importing any provider's SDK."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from agentsight_tokens.errors import UnknownResponseError

from .from_anthropic import ANTHROPIC_COUNTS, anthropic_message
from .from_bedrock import CONVERSE_COUNTS, METRICS, bedrock_converse, bedrock_invoke_model
from .from_cohere import cohere
from .from_compatible import compatible_chat
from .from_frameworks import (
    LANGCHAIN_COUNTS,
    find_llamaindex_source,
    langchain_message,
    litellm_provider,
)
from .from_google import GEMINI_COUNTS, gemini, vertex
from .from_ollama import OLLAMA_COUNTS, ollama
from .from_openai import openai_completion, openai_embedding, openai_media, openai_responses
from .reading import Extracted, field, has, items, text

__all__ = ["KNOWN_SHAPES", "PROVIDER_NAMES", "extract_usage"]

PROVIDER_NAMES: Final = {
    "amazon_bedrock": "bedrock",
    "anthropic_bedrock": "bedrock",
    "aws": "bedrock",
    "aws.bedrock": "bedrock",
    "azure.ai.openai": "azure",
    "azure_openai": "azure",
    "bedrock_converse": "bedrock",
    "gcp.gemini": "gemini",
    "gcp.vertex_ai": "vertex_ai",
    "google": "gemini",
    "google_genai": "gemini",
    "google_vertexai": "vertex_ai",
    "grok": "xai",
    "hosted_vllm": "vllm",
    "mistral_ai": "mistral",
    "mistralai": "mistral",
    "together": "together_ai",
    "vertex": "vertex_ai",
    "vertexai": "vertex_ai",
    "x_ai": "xai",
}
"""Other names of providers, as frameworks and the OpenTelemetry conventions write them."""

_Reader = Callable[[Any, "str | None"], Extracted]


def extract_usage(response: Any, *, provider: str | None = None) -> Extracted:
    """
    Return what a provider's response says about its own use.

    Args:
        response: The SDK's object, a dict, JSON text, a bare usage object, or what LangChain,
            LlamaIndex or LiteLLM made of it. Of a stream, the event that carries the usage.
        provider: Who answered, where the response alone does not tell.

    Raises:
        UnknownResponseError: If the response has no shape that is known.
        InvalidCountError: If a count is negative, too large or no integer.
    """
    name = None if provider is None else provider.lower().replace("-", "_")
    name = name and PROVIDER_NAMES.get(name, name)
    found = _read(_opened(response), name)
    if found.provider is not None:
        found = msgspec.structs.replace(
            found, provider=PROVIDER_NAMES.get(found.provider, found.provider)
        )
    return msgspec.structs.replace(found, provider=name) if name else found


def _opened(response: Any) -> Any:
    """Return the response inside JSON text, a structured output or a batch's line."""
    if isinstance(response, (str, bytes)):
        try:
            response = msgspec.json.decode(response)
        except msgspec.DecodeError:
            raise _unknown(response) from None
    if isinstance(response, Mapping):
        if "parsing_error" in response and "raw" in response:
            return response["raw"]
        body = field(field(response, "response"), "body")
        if "custom_id" in response and body is not None:
            return body
    return response


def _read(response: Any, provider: str | None) -> Extracted:
    root = type(response).__module__.partition(".")[0]
    if root == "litellm":
        return _litellm(response, provider or litellm_provider(response))
    return _read_shape(response, provider)


def _litellm(response: Any, provider: str | None) -> Extracted:
    found = _read_shape(response, provider)
    if found.usage is not None and not found.usage:
        # LiteLLM fills the usage with zeros where the provider is silent.
        found = msgspec.structs.replace(found, usage=None)
    return found if provider is None else msgspec.structs.replace(found, provider=provider)


def _read_shape(response: Any, provider: str | None) -> Extracted:
    named = _BY_OBJECT.get(text(response, "object") or "")
    if named is not None:
        return named(response, provider)
    for _, is_shape, read in _SHAPES:
        if is_shape(response):
            return read(response, provider)
    raise _unknown(response)


def _unknown(response: Any) -> UnknownResponseError:
    kind = type(response)
    seen = f"{kind.__module__}.{kind.__qualname__}"
    if isinstance(response, Mapping):
        seen = f"a dict with the keys {sorted(map(str, response))[:12]!r}"
    return UnknownResponseError(
        f"{seen} is no response whose usage can be read; known are {', '.join(KNOWN_SHAPES)}. "
        "For a stream pass the event that carries the usage, and for any other response call "
        "track_token_usage() with the counts"
    )


def _is_langchain(response: Any) -> bool:
    if has(field(response, "usage_metadata"), *LANGCHAIN_COUNTS):
        return True
    return has(response, "response_metadata") and has(response, "content")


def _langchain(response: Any, provider: str | None) -> Extracted:
    return langchain_message(response, lambda raw: _read_shape(raw, provider))


def _is_gemini(response: Any) -> bool:
    return has(
        response,
        "usageMetadata",
        "usage_metadata",
        "candidates",
        "promptFeedback",
        *GEMINI_COUNTS,
    )


def _google(response: Any, provider: str | None) -> Extracted:
    return vertex(response) if provider == "vertex_ai" else gemini(response)


def _is_vertex_embedding(response: Any) -> bool:
    return has(_first(response, "predictions"), "embeddings") or has(
        _first(response, "embeddings"), "statistics"
    )


def _is_converse(response: Any) -> bool:
    usage = field(field(response, "metadata") or response, "usage")
    return has(usage, *CONVERSE_COUNTS) or has(response, "stopReason", *CONVERSE_COUNTS)


def _is_invoke_model(response: Any) -> bool:
    return has(response, METRICS, "inputTextTokenCount", "generation_token_count") or has(
        field(response, "ResponseMetadata"), "HTTPHeaders"
    )


def _is_ollama(response: Any) -> bool:
    return has(response, *OLLAMA_COUNTS) or (
        has(response, "done") and has(response, "created_at", "model")
    )


def _is_cohere(response: Any) -> bool:
    found = field(field(response, "delta") or response, "usage", "meta")
    units = ("billed_units", "tokens", "api_version")
    return has(found, *units) or has(response, "billed_units")


def _is_anthropic(response: Any) -> bool:
    kind = text(response, "type")
    if kind in ("message", "message_start", "message_delta"):
        return True
    if has(field(field(response, "result"), "message"), "usage"):
        return True
    usage = field(response, "usage") or response
    return has(usage, *ANTHROPIC_COUNTS[2:]) and not has(usage, "prompt_tokens", "total_tokens")


def _is_responses(response: Any) -> bool:
    if text(field(response, "response"), "object") in ("response", "realtime.response"):
        return True
    return has(response, "output") and has(field(response, "usage"), "input_tokens")


def _is_embedding(response: Any) -> bool:
    return has(_first(response, "data"), "embedding") or (
        text(response, "object") == "list" and has(response, "usage")
    )


def _is_chat(response: Any) -> bool:
    return has(response, "choices", "x_groq")


def _is_media(response: Any) -> bool:
    return has(response, "text", "data") and has(response, "usage")


def _is_llamaindex(response: Any) -> bool:
    return has(response, "raw", "additional_kwargs") and has(response, "message", "text", "delta")


def _llamaindex(response: Any, provider: str | None) -> Extracted:
    source = find_llamaindex_source(response)
    if source is None:
        return Extracted(provider=provider)
    return _read(source, provider)


def _is_usage(response: Any) -> bool:
    return has(
        response, "prompt_tokens", "completion_tokens", "input_tokens", "output_tokens"
    ) or has(response, "usage")


def _any_usage(response: Any, provider: str | None) -> Extracted:
    usage = field(response, "usage") or response
    if provider == "anthropic" and not has(usage, "prompt_tokens"):
        return anthropic_message(response)
    if has(usage, "input_token_details") and not has(usage, "output_tokens_details"):
        return langchain_message({"usage_metadata": usage}, lambda raw: compatible_chat(raw, None))
    return compatible_chat(response, provider)


def _first(response: Any, name: str) -> Any:
    found = items(response, name)
    return found[0] if found else None


def _responses(response: Any, provider: str | None) -> Extracted:
    found = openai_responses(response)
    if provider is None and (found.model or "").startswith("grok-"):
        provider = "xai"
    return found if provider is None else msgspec.structs.replace(found, provider=provider)


_BY_OBJECT: Final[dict[str, _Reader]] = {
    "chat.completion": compatible_chat,
    "chat.completion.chunk": compatible_chat,
    "conversation.response": lambda response, _: compatible_chat(response, "mistral"),
    "realtime.response": _responses,
    "response": _responses,
    "text_completion": lambda response, _: openai_completion(response),
}
"""The readers of the responses that name their own kind, which most of them do."""

_SHAPES: Final[tuple[tuple[str, Callable[[Any], bool], _Reader], ...]] = (
    ("LangChain messages", _is_langchain, _langchain),
    ("LlamaIndex responses", _is_llamaindex, _llamaindex),
    ("OpenAI Responses", _is_responses, _responses),
    ("chat completions of OpenAI and of every provider with its format", _is_chat, compatible_chat),
    ("embeddings", _is_embedding, lambda response, _: openai_embedding(response)),
    ("Anthropic messages", _is_anthropic, lambda response, _: anthropic_message(response)),
    ("Vertex AI embeddings", _is_vertex_embedding, lambda response, _: vertex(response)),
    ("Bedrock Converse", _is_converse, lambda response, _: bedrock_converse(response)),
    ("Bedrock InvokeModel", _is_invoke_model, lambda response, _: bedrock_invoke_model(response)),
    ("Ollama", _is_ollama, lambda response, _: ollama(response)),
    ("Cohere", _is_cohere, lambda response, _: cohere(response)),
    ("Gemini and Vertex AI", _is_gemini, _google),
    ("images and transcriptions", _is_media, lambda response, _: openai_media(response)),
    ("usage objects", _is_usage, _any_usage),
)

KNOWN_SHAPES: Final = tuple(name for name, _, _ in _SHAPES)
"""The shapes that are recognised, in the order in which they are tried."""
