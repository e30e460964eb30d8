"""The requests of OpenAI's SDK that are billed, and how their answers are read."""

from __future__ import annotations

import re
from typing import Any, Final

from agentsight_tokens.extract import (
    Extracted,
    openai_completion,
    openai_embedding,
    openai_responses,
)
from agentsight_tokens.extract.chat_format import by_provider, compatible_chat
from agentsight_tokens_wire.answers import Answer
from agentsight_tokens_wire.exchange import Endpoint

__all__ = ["CHAT", "COMPLETION", "EMBEDDING", "RESPONSES", "endpoint_of", "provider_of"]

_FAILURE: Final = re.compile(
    rb'^\s*\{\s*"error"\s*:\s*\{|"type"\s*:\s*"(?:error|response\.failed)"'
)
_ERROR_TYPE: Final = "APIError"

_CHAT_TOKEN: Final = re.compile(
    rb'"(?:content|reasoning|reasoning_content|refusal|arguments|text)"\s*:\s*"[^"]'
    rb'|"tool_calls"\s*:\s*\[\s*\{'
)
_CHAT_END: Final = re.compile(rb'^\[DONE\]|"choices"\s*:\s*\[\s*\]')


def _chat(answer: Answer, start: Answer | None, provider: str | None) -> Extracted:
    return compatible_chat(answer, provider)


def _completion(answer: Answer, start: Answer | None, provider: str | None) -> Extracted:
    return by_provider(openai_completion(answer), answer, provider)


def _embedding(answer: Answer, start: Answer | None, provider: str | None) -> Extracted:
    return openai_embedding(answer)


def _responses(answer: Answer, start: Answer | None, provider: str | None) -> Extracted:
    return by_provider(openai_responses(answer), answer.response or answer, provider)


def _has_usage(answer: Answer) -> bool:
    return bool(answer.usage) or bool(answer.x_groq)


def _response_has_usage(answer: Answer) -> bool:
    return isinstance(answer.response, dict) and bool(answer.response.get("usage"))


CHAT: Final = Endpoint(
    operation="chat",
    read=_chat,
    tells_usage=_has_usage,
    first_token=_CHAT_TOKEN,
    end=_CHAT_END,
    failure=_FAILURE,
    error_type=_ERROR_TYPE,
)
COMPLETION: Final = Endpoint(
    operation="completion",
    read=_completion,
    tells_usage=_has_usage,
    first_token=_CHAT_TOKEN,
    end=_CHAT_END,
    failure=_FAILURE,
    error_type=_ERROR_TYPE,
)
EMBEDDING: Final = Endpoint(
    operation="embedding",
    read=_embedding,
    tells_usage=_has_usage,
    first_token=_CHAT_TOKEN,
    end=_CHAT_END,
    failure=_FAILURE,
    error_type=_ERROR_TYPE,
)
RESPONSES: Final = Endpoint(
    operation="chat",
    read=_responses,
    tells_usage=_response_has_usage,
    first_token=re.compile(rb'"type"\s*:\s*"response\.[a-z_.]+\.delta"'),
    end=re.compile(rb'"type"\s*:\s*"response\.(?:completed|failed|incomplete|cancelled)"'),
    failure=_FAILURE,
    error_type=_ERROR_TYPE,
)

_BY_PATH: Final = {
    "chat/completions": CHAT,
    "completions": COMPLETION,
    "embeddings": EMBEDDING,
    "responses": RESPONSES,
    "responses/compact": RESPONSES,
}


def endpoint_of(method: str, path: str) -> Endpoint | None:
    """Return the endpoint of a request, if it is billed; the path may be a whole address."""
    if method.lower() != "post":
        return None
    head, _, last = path.partition("?")[0].rstrip("/").rpartition("/")
    return _BY_PATH.get(f"{head.rpartition('/')[2]}/{last}") or _BY_PATH.get(last)


_HOSTS: Final = {
    "api.openai.com": "openai",
    "api.deepseek.com": "deepseek",
    "api.x.ai": "xai",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral",
    "api.perplexity.ai": "perplexity",
    "api.together.xyz": "together_ai",
    "api.together.ai": "together_ai",
    "api.fireworks.ai": "fireworks_ai",
    "api.moonshot.ai": "moonshot",
    "openrouter.ai": "openrouter",
    "generativelanguage.googleapis.com": "gemini",
}
_AZURE: Final = (".openai.azure.com", ".services.ai.azure.com", ".cognitiveservices.azure.com")


def provider_of(client: Any) -> str | None:
    """Return who answers a client's requests; None where its address does not tell."""
    if any(base.__name__ == "BaseAzureClient" for base in type(client).__mro__):
        return "azure"
    host = client.base_url.host
    if host.endswith(_AZURE):
        return "azure"
    return _HOSTS.get(host)
