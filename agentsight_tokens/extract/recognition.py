"""Recognition of a response by its shape, without importing any provider's SDK."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from agentsight_tokens.errors import UnknownResponseError

from .chat_format import by_provider, compatible_chat, xai
from .from_anthropic import anthropic_message
from .from_bedrock import bedrock_converse, bedrock_invoke_model
from .from_cohere import cohere
from .from_frameworks import (
    find_llamaindex_source,
    langchain_message,
    langchain_result,
    langchain_usage,
    litellm_provider,
)
from .from_google import gemini, vertex
from .from_ollama import ollama
from .from_openai import openai_completion, openai_embedding, openai_media, openai_responses
from .reading import Extracted, field, has, text
from .shapes import (
    is_anthropic,
    is_batch_line,
    is_chat,
    is_cohere,
    is_converse,
    is_embedding,
    is_gemini,
    is_invoke_model,
    is_langchain,
    is_langchain_result,
    is_llamaindex,
    is_media,
    is_of_xai_sdk,
    is_ollama,
    is_responses,
    is_usage,
    is_vertex_embedding,
)

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
    """Return the response inside JSON text or a structured output."""
    if isinstance(response, (str, bytes)):
        try:
            response = msgspec.json.decode(response)
        except msgspec.DecodeError:
            raise _unknown(response) from None
    if isinstance(response, Mapping) and "parsing_error" in response and "raw" in response:
        return response["raw"]
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


def _langchain(response: Any, provider: str | None) -> Extracted:
    return langchain_message(response, lambda raw: _usage_in(raw, provider).usage)


def _langchain_result(response: Any, provider: str | None) -> Extracted:
    return langchain_result(response, lambda raw: _usage_in(raw, provider).usage)


def _usage_in(raw: Any, provider: str | None) -> Extracted:
    """Return what a framework's copy of a raw response says; nothing when it has no known shape."""
    try:
        return Extracted() if raw is None else _read(raw, provider)
    except UnknownResponseError:
        return Extracted()


def _google(response: Any, provider: str | None) -> Extracted:
    return vertex(response) if provider == "vertex_ai" else gemini(response)


def _batch_line(response: Any, provider: str | None) -> Extracted:
    found = _read(field(field(response, "response"), "body"), provider)
    return msgspec.structs.replace(found, service_tier="batch")


def _llamaindex(response: Any, provider: str | None) -> Extracted:
    return _usage_in(find_llamaindex_source(response), provider)


def _any_usage(response: Any, provider: str | None) -> Extracted:
    usage = field(response, "usage") or response
    if provider == "anthropic" and not has(usage, "prompt_tokens"):
        return anthropic_message(response)
    if has(usage, "input_token_details") and not has(usage, "output_tokens_details"):
        return Extracted(usage=langchain_usage(usage))
    return xai(response) if is_of_xai_sdk(response) else compatible_chat(response, provider)


def _responses(response: Any, provider: str | None) -> Extracted:
    return by_provider(
        openai_responses(response), field(response, "response") or response, provider
    )


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
    ("LangChain messages", is_langchain, _langchain),
    ("LangChain results", is_langchain_result, _langchain_result),
    ("LlamaIndex responses", is_llamaindex, _llamaindex),
    ("lines of OpenAI's batches", is_batch_line, _batch_line),
    ("OpenAI Responses", is_responses, _responses),
    ("chat completions of OpenAI and of every provider with its format", is_chat, compatible_chat),
    ("embeddings", is_embedding, lambda response, _: openai_embedding(response)),
    ("Anthropic messages", is_anthropic, lambda response, _: anthropic_message(response)),
    ("Vertex AI embeddings", is_vertex_embedding, lambda response, _: vertex(response)),
    ("Bedrock Converse", is_converse, lambda response, _: bedrock_converse(response)),
    ("Bedrock InvokeModel", is_invoke_model, lambda response, _: bedrock_invoke_model(response)),
    ("Ollama", is_ollama, lambda response, _: ollama(response)),
    ("Cohere", is_cohere, lambda response, _: cohere(response)),
    ("Gemini and Vertex AI", is_gemini, _google),
    ("images and transcriptions", is_media, lambda response, _: openai_media(response)),
    ("usage objects", is_usage, _any_usage),
)

KNOWN_SHAPES: Final = tuple(name for name, _, _ in _SHAPES)
"""The shapes that are recognised, in the order in which they are tried."""
