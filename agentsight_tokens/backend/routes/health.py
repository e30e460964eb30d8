"""Whether the server lives, and whether it can take something."""

from __future__ import annotations

from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, Response

from agentsight_tokens.backend.endpoint import Asked, Endpoint
from agentsight_tokens.backend.problem import Problem
from agentsight_tokens.errors import StorageError

__all__ = ["ENDPOINTS"]


async def get_healthz(_: Asked) -> Response:
    """Answer as long as the process does."""
    return PlainTextResponse("ok")


async def get_readyz(asked: Asked) -> Response:
    """Answer if the store does, and has the tables of this version."""
    try:
        await run_in_threadpool(asked.server.store.check)
    except StorageError as error:
        raise Problem(503, str(error), {"Retry-After": "5"}) from None
    return PlainTextResponse("ok")


ENDPOINTS: Final = (
    Endpoint("GET", "/healthz", get_healthz, None, "Tell whether the process lives."),
    Endpoint("GET", "/readyz", get_readyz, None, "Tell whether calls can be stored."),
)
