"""The server, as an ASGI application."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from typing import Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from .accounts import Accounts
from .body import BodyLimits
from .endpoint import ANYONE, Asked, Endpoint, Server
from .gate import access_of
from .problem import Problem, answer_of_problem, answer_of_surprise
from .routes import ENDPOINTS
from .store import Store

__all__ = ["create_app"]

_logger: Final = logging.getLogger("agentsight_tokens.server")


def create_app(
    store: Store,
    *,
    api_key: str | None = None,
    is_open: bool = True,
    body_limits: BodyLimits = BodyLimits(),  # noqa: B008  # it cannot be changed
    endpoints: Sequence[Endpoint] = ENDPOINTS,
) -> Starlette:
    """
    Return the server of a store, as an ASGI application.

    Args:
        store: Where everything is; it is closed when the server ends.
        api_key: A key of the default project beside those in the store.
        is_open: Whether everybody on this machine is let in as long as there is no key.
        body_limits: How large and how slow a body may be.
        endpoints: What the server does.
    """
    server = Server(store, Accounts(store), api_key, is_open, body_limits)

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        store.close()

    return Starlette(
        routes=[_route(endpoint, server) for endpoint in endpoints],
        lifespan=lifespan,
        exception_handlers={HTTPException: answer_of_problem, Exception: answer_of_surprise},
    )


def _route(endpoint: Endpoint, server: Server) -> Route:
    async def respond(request: Request) -> Response:
        try:
            access = ANYONE
            if endpoint.scope is not None:
                access = await run_in_threadpool(access_of, request, server, endpoint.scope)
            return await endpoint.handler(Asked(request, server, access))
        except server.store.outages as error:
            # Nothing is acknowledged that is not on disk, so the client must keep it.
            _logger.warning("the store does not answer: %s", error)
            raise Problem(503, type(error).__name__, {"Retry-After": "1"}) from None

    return Route(endpoint.path, respond, methods=[endpoint.method])
