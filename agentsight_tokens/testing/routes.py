"""The paths that the loopback provider answers, in every spelling that clients use."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from agentsight_tokens.usage import Operation

from . import anthropic_wire, gemini_wire, openai_wire
from .answer import Answer, Draft
from .embeddings_wire import embeddings
from .request import LoopbackRequest
from .responses_wire import responses

__all__ = ["Route", "request_from", "route_of"]


@dataclass(frozen=True)
class Route:
    """One endpoint: how it is answered and what its errors look like."""

    method: str
    endpoint: str
    operation: Operation
    answer: Callable[[Draft], Answer]
    error_body: Callable[[int, str], dict[str, Any]]
    is_model_call: bool = True
    """Whether it calls a model, and so takes a reply from the queue."""


def _openai(
    method: str, endpoint: str, operation: Operation, answer: Callable[[Draft], Answer]
) -> Route:
    is_model_call = method == "POST"
    return Route(method, endpoint, operation, answer, openai_wire.error_body, is_model_call)


def _anthropic(endpoint: str, operation: Operation, answer: Callable[[Draft], Answer]) -> Route:
    error_body = anthropic_wire.error_body
    return Route("POST", endpoint, operation, answer, error_body, operation == "chat")


_ROUTES = {
    (route.method, route.endpoint): route
    for route in (
        _openai("POST", "/v1/chat/completions", "chat", openai_wire.chat),
        _openai("POST", "/v1/completions", "completion", openai_wire.completion),
        _openai("POST", "/v1/responses", "chat", responses),
        _openai("POST", "/v1/embeddings", "embedding", embeddings),
        _openai("GET", "/v1/models", "other", openai_wire.models),
        _anthropic("/v1/messages", "chat", anthropic_wire.messages),
        _anthropic("/v1/messages/count_tokens", "other", anthropic_wire.count_tokens),
    )
}

_GEMINI = {
    method: Route(
        "POST", f":{method}", "chat", gemini_wire.generate_content, gemini_wire.error_body
    )
    for method in ("generateContent", "streamGenerateContent")
}

_GEMINI_PATH = re.compile(r"/models/([^/:]+):(\w+)$")
_AZURE_PREFIX = re.compile(r"^/openai(?:/deployments/([^/]+))?(?=/)")


def route_of(method: str, path: str) -> tuple[Route | None, str]:
    """Return (route, the model or deployment that the path names); None for unknown paths."""
    path = path.partition("?")[0]
    gemini = _GEMINI_PATH.search(path)
    if gemini:
        route = _GEMINI.get(gemini[2])
        return (route if method == "POST" else None), gemini[1]
    azure = _AZURE_PREFIX.match(path)
    name = (azure[1] or "") if azure else ""
    path = path[azure.end() :] if azure else path
    if not path.startswith("/v1/"):
        path = "/v1" + path
    return _ROUTES.get((method, path)), name


def request_from(
    route: Route, name: str, path: str, headers: dict[str, str], raw: bytes
) -> LoopbackRequest:
    """
    Return a request as a record.

    Args:
        route: Where the path leads.
        name: The model or deployment that the path names, else "".
        path: The path with its query.
        headers: The headers by their names in lower case.
        raw: The body.

    Raises:
        ValueError: For a body that is no JSON object.
    """
    try:
        body = msgspec.json.decode(raw or b"{}")
    except msgspec.DecodeError as error:
        raise ValueError(f"the body is no JSON: {error}") from error
    if not isinstance(body, dict):
        raise ValueError(f"the body must be a JSON object, not {type(body).__name__}")
    return LoopbackRequest(
        path=path,
        endpoint=route.endpoint,
        operation=route.operation,
        headers=headers,
        body=body,
        model=str(body.get("model") or name or "loopback"),
        is_stream=bool(body.get("stream")) or route.endpoint == ":streamGenerateContent",
    )
