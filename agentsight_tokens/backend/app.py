"""The server, as an ASGI application."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import AsyncIterator, Sequence
from typing import Final

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agentsight_tokens.config import TokenConfig
from agentsight_tokens.pricing import CostEstimator

from .accounts import Accounts
from .api_key import Access
from .attempts import Attempts
from .dashboard import page_of_problem
from .endpoint import ANYONE, Asked, Endpoint, Limits, Server
from .forgery import check_forgery
from .gate import access_of
from .metrics import Metrics
from .otlp import Meter, Settling
from .problem import Problem, answer_of_problem, answer_of_surprise
from .rate_limit import RateLimit
from .routes import ENDPOINTS
from .store import Store
from .store.packing import Packing
from .store.retention import Retention
from .webhooks import Courier

__all__ = ["create_app"]

_logger: Final = logging.getLogger("agentsight_tokens.server")
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
"""Of every answer that does not set its own."""


def create_app(  # noqa: PLR0913  # what a server is made of
    store: Store,
    *,
    api_key: str | None = None,
    is_open: bool = True,
    limits: Limits = Limits(),  # noqa: B008  # it cannot be changed
    metrics: Metrics | None = None,
    keep_months: int | None = None,
    meter: Meter | None = None,
    allow_private_webhooks: bool = False,
    endpoints: Sequence[Endpoint] = ENDPOINTS,
) -> Starlette:
    """
    Return the server of a store, as an ASGI application.

    Args:
        store: Where everything is; it is closed when the server ends.
        api_key: A key of the default project beside those in the store.
        is_open: Whether everybody on this machine is let in as long as there is no key.
        limits: What one client may ask.
        metrics: What the server counts itself in.
        keep_months: The full months whose calls are kept; all if None.
        meter: What prices the calls that come without a price; by the environment if None.
        allow_private_webhooks: Whether alerts may be posted to private addresses and this machine.
        endpoints: What the server does.
    """
    server = Server(
        store=store,
        accounts=Accounts(store),
        metrics=metrics or Metrics(),
        rate_limit=RateLimit(limits.requests_per_second),
        endpoints=endpoints,
        limits=limits,
        meter=meter or Meter(CostEstimator(), TokenConfig()),
        api_key=api_key,
        is_open=is_open,
        logins=Attempts(),
    )

    store.on_alerts = server.metrics.count_alerts

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        retention = None if keep_months is None else Retention(store, keep_months)
        settling = Settling(store)
        settling.start()
        packing = Packing(store)
        packing.start()
        if retention is not None:
            retention.start()
        courier = Courier(
            store, allow_private=allow_private_webhooks, on_outcome=server.metrics.count_webhook
        )
        courier.start()
        yield
        courier.stop()
        settling.stop()
        packing.stop()
        if retention is not None:
            retention.stop()
        store.close()

    return Starlette(
        routes=[_route(endpoint, server) for endpoint in endpoints],
        lifespan=lifespan,
        exception_handlers={HTTPException: answer_of_problem, Exception: answer_of_surprise},
    )


def _route(endpoint: Endpoint, server: Server) -> Route:
    async def respond(request: Request) -> Response:
        began = time.perf_counter()
        status = 500
        try:
            response = await _answer(request, server, endpoint)
            status = response.status_code
        except HTTPException as problem:
            status = problem.status_code
            if endpoint.kind == "page":
                response = page_of_problem(request, server, problem)
            elif endpoint.refusal is not None:
                response = endpoint.refusal(request, problem)
            else:
                raise
        finally:
            seconds = time.perf_counter() - began
            server.metrics.requests.labels(endpoint.method, endpoint.path, status).inc()
            server.metrics.seconds.labels(endpoint.method, endpoint.path).observe(seconds)
            if _logger.isEnabledFor(logging.INFO):
                access: Access = getattr(request.state, "access", ANYONE)
                facts = {
                    "method": endpoint.method,
                    "path": endpoint.path,
                    "status": status,
                    "seconds": round(seconds, 6),
                    "project": access.project_id,
                    "key": access.key_id,
                }
                _logger.info("request", extra={"facts": facts})
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    return Route(endpoint.path, respond, methods=[endpoint.method])


async def _answer(request: Request, server: Server, endpoint: Endpoint) -> Response:
    """Let a request in, and do what it asks for."""
    access = ANYONE
    try:
        if endpoint.scope is not None:
            access = await run_in_threadpool(access_of, request, server, endpoint)
            request.state.access = access
            server.rate_limit.check(access)
        asked = Asked(request, server, access)
        if endpoint.kind == "page" and endpoint.method == "POST":
            await check_forgery(asked)
        return await endpoint.handler(asked)
    except server.store.outages as error:
        # Nothing is acknowledged that is not on disk, so the client must keep it.
        server.metrics.outages.inc()
        _logger.warning("the store does not answer: %s", error)
        raise Problem(503, type(error).__name__, {"Retry-After": "1"}) from None
