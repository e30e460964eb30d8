"""What the server tells of itself."""

from __future__ import annotations

from typing import Any, Final

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from agentsight_tokens.backend.endpoint import Asked, Endpoint, answer
from agentsight_tokens.backend.metrics import CONTENT_TYPE
from agentsight_tokens.backend.openapi import openapi_document
from agentsight_tokens.backend.problem import Problem
from agentsight_tokens.backend.store import DEFAULT_PROJECT_ID

__all__ = ["ENDPOINTS"]


async def get_openapi(asked: Asked) -> Response:
    """Describe every endpoint."""
    return answer(openapi_document(asked.server.endpoints))


async def get_metrics(asked: Asked) -> Response:
    """Tell what the server has counted, for keys of the project that runs it."""
    if asked.access.project_id != DEFAULT_PROJECT_ID:
        raise Problem(403, "the figures of the whole server are for keys of the project default")
    text = await run_in_threadpool(asked.server.metrics.text)
    return Response(text, headers={"Content-Type": CONTENT_TYPE})


ENDPOINTS: Final = (
    Endpoint(
        "GET", "/openapi.json", get_openapi, None, "Describe the server.", result=dict[str, Any]
    ),
    Endpoint("GET", "/metrics", get_metrics, "read", "Tell what the server has counted."),
)
