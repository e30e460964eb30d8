"""The requests of OpenAI's SDK that are billed, and how their answers are read."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

import msgspec

from agentsight_tokens.extract import (
    Extracted,
    openai_completion,
    openai_embedding,
    openai_media,
    openai_responses,
)
from agentsight_tokens.extract.chat_format import by_provider, compatible_chat
from agentsight_tokens.extract.from_openai import openais_own_chat
from agentsight_tokens_wire.answers import Answer
from agentsight_tokens_wire.exchange import Endpoint

__all__ = ["RESPONSES", "endpoint_of", "provider_of", "response_id_of"]


def _chat(answer: Answer, start: Answer | None, provider: str | None) -> Extracted:
    return openais_own_chat(answer, provider) or compatible_chat(answer, provider)


def _completion(answer: Answer, start: Answer | None, provider: str | None) -> Extracted:
    return by_provider(openai_completion(answer), answer, provider)


def _embedding(answer: Answer, start: Answer | None, provider: str | None) -> Extracted:
    return openai_embedding(answer)


def _responses(answer: Answer, start: Answer | None, provider: str | None) -> Extracted:
    return by_provider(openai_responses(answer), answer.response or answer, provider)


def _transcription(answer: Answer, start: Answer | None, provider: str | None) -> Extracted:
    return openai_media(answer)


def _image(answer: Answer, start: Answer | None, provider: str | None) -> Extracted:
    return openai_media({**msgspec.structs.asdict(answer), "data": ()})


def _has_usage(answer: Answer) -> bool:
    return bool(answer.usage or answer.x_groq)


def _response_has_usage(answer: Answer) -> bool:
    return isinstance(answer.response, dict) and bool(answer.response.get("usage"))


_CHAT: Final = Endpoint(
    operation="chat",
    read=_chat,
    tells_usage=_has_usage,
    first_token=re.compile(
        rb'"(?:content|reasoning|reasoning_content|refusal|arguments|text|delta)"\s*:\s*"[^"]'
        rb'|"tool_calls"\s*:\s*\[\s*\{'
    ),
    end=re.compile(rb'^\[DONE\]|"choices"\s*:\s*\[\s*\]'),
    failure=re.compile(rb'^\s*\{\s*"error"\s*:\s*\{|"type"\s*:\s*"(?:error|response\.failed)"'),
    error_type="APIError",
)
RESPONSES: Final = _CHAT.replace(
    read=_responses,
    tells_usage=_response_has_usage,
    first_token=re.compile(rb'"type"\s*:\s*"response\.[a-z_.]+\.delta"'),
    end=re.compile(rb'"type"\s*:\s*"response\.(?:completed|failed|incomplete|cancelled)"'),
)
"""Responses, whose events carry the whole response."""

_MEDIA: Final = _CHAT.replace(
    operation="other", end=re.compile(rb'"type"\s*:\s*"[a-z_.]+\.(?:completed|done)"')
)
_IMAGES: Final = _MEDIA.replace(read=_image)

_BY_PATH: Final = {
    "chat/completions": _CHAT,
    "completions": _CHAT.replace(operation="completion", read=_completion),
    "embeddings": _CHAT.replace(operation="embedding", read=_embedding),
    "responses": RESPONSES,
    "responses/compact": RESPONSES,
    "images/generations": _IMAGES,
    "images/edits": _IMAGES,
    "images/variations": _IMAGES,
    "audio/transcriptions": _MEDIA.replace(read=_transcription),
}


@lru_cache(maxsize=256)
def endpoint_of(method: str, url: str) -> Endpoint | None:
    """Return the endpoint of a request, if it is billed; its URL may be a path alone."""
    if method.lower() != "post":
        return None
    head, _, last = url.partition("?")[0].rstrip("/").rpartition("/")
    return _BY_PATH.get(f"{head.rpartition('/')[2]}/{last}") or _BY_PATH.get(last)


_RESPONSE: Final = re.compile(r"(?:^|/)responses/([^/?]+)(?:/cancel)?/?(?:\?|$)")


def response_id_of(method: str, url: str) -> str | None:
    """Return the id of the response that a request asks for or cancels."""
    found = _RESPONSE.search(url)
    if found is None or (method.lower() == "get") == url.rstrip("/").endswith("/cancel"):
        return None
    return found[1]


_AZURE: Final = (".openai.azure.com", ".services.ai.azure.com", ".cognitiveservices.azure.com")
_HOSTS: Final = {
    "api.openai.com": "openai",
    "api.deepseek.com": "deepseek",
    "api.fireworks.ai": "fireworks_ai",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral",
    "api.moonshot.ai": "moonshot",
    "api.perplexity.ai": "perplexity",
    "api.together.ai": "together_ai",
    "api.together.xyz": "together_ai",
    "api.x.ai": "xai",
    "generativelanguage.googleapis.com": "gemini",
    "openrouter.ai": "openrouter",
}


def provider_of(client: Any) -> str | None:
    """Return who answers a client's requests; None where its address does not tell."""
    if _is_azure_client(type(client)):  # type: ignore[arg-type]  # mypy takes a type for unhashable
        return "azure"
    host = client.base_url.host
    return "azure" if host.endswith(_AZURE) else _HOSTS.get(host)


@lru_cache(maxsize=256)
def _is_azure_client(kind: type[Any]) -> bool:
    return any(base.__name__ == "BaseAzureClient" for base in kind.__mro__)
