"""The requests of Anthropic's SDK that are billed, and how their answers are read."""

from __future__ import annotations

import re
from typing import Any, Final

from agentsight_tokens.extract import Extracted, anthropic_message
from agentsight_tokens_wire.answers import Answer
from agentsight_tokens_wire.exchange import Endpoint

__all__ = ["BATCH_RESULTS", "endpoint_of", "provider_of"]


def _read(answer: Answer, start: Answer | None, provider: str | None) -> Extracted:
    return anthropic_message(answer, start=start)


def _tells_usage(answer: Answer) -> bool:
    return answer.type in ("message_start", "message_delta")


_MESSAGES: Final = Endpoint(
    operation="chat",
    read=_read,
    tells_usage=_tells_usage,
    first_token=re.compile(rb'"type"\s*:\s*"(?:content_block_delta|tool_use|server_tool_use)"'),
    end=re.compile(rb'"type"\s*:\s*"message_stop"|"stop_reason"\s*:\s*"'),
    failure=re.compile(rb'^\s*\{\s*"type"\s*:\s*"error"'),
    error_type="APIStatusError",
)
BATCH_RESULTS: Final = _MESSAGES.replace(content_type="application/x-jsonl")
"""The results of a batch, a line each."""


def endpoint_of(method: str, url: str) -> Endpoint | None:
    """Return the endpoint of a request, if it is billed; its URL may be a path alone."""
    path = url.partition("?")[0].rstrip("/")
    if method.lower() == "post":
        return _MESSAGES if path.endswith("/v1/messages") else None
    is_results = path.endswith("/results") and "/messages/batches/" in path
    return BATCH_RESULTS if is_results else None


_CLOUDS: Final = {
    "BaseBedrockClient": "bedrock",
    "BaseVertexClient": "vertex_ai",
    "BaseFoundryClient": "azure_ai",
}
_HOSTS: Final = {
    "api.anthropic.com": "anthropic",
    "api.deepseek.com": "deepseek",
    "api.moonshot.ai": "moonshot",
    "api.z.ai": "zai",
    "openrouter.ai": "openrouter",
}


def provider_of(client: Any) -> str | None:
    """Return who answers a client's requests; None where its address does not tell."""
    for base in type(client).__mro__:
        if base.__name__ in _CLOUDS:
            return _CLOUDS[base.__name__]
    return _HOSTS.get(client.base_url.host)
