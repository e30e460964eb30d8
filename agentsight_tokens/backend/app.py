"""The server: what it answers over HTTP."""

from __future__ import annotations

import contextlib
import hmac
import logging
import zlib
from collections.abc import AsyncIterator
from typing import Final, Protocol

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from agentsight_tokens.receipt import encode_receipt

from .ingest import CycleStore, ingest

__all__ = ["create_app"]

LONGEST_BODY: Final = 8_000_000
"""Bytes of a request, as they are sent."""
LONGEST_CONTENT: Final = 64_000_000
"""Bytes of a request, decompressed."""

_logger: Final = logging.getLogger("agentsight_tokens.server")


class ClosableStore(CycleStore, Protocol):
    """A store that the server closes."""

    def close(self) -> None:
        """Close the store."""


def create_app(store: ClosableStore, *, api_key: str | None = None) -> Starlette:
    """
    Return the server of a store, as an ASGI application.

    Args:
        store: Where the cycles go; it is closed when the server ends.
        api_key: The key that clients must show; without one, everybody may write.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        store.close()

    async def post_cycles(request: Request) -> Response:
        _require_key(request, api_key)
        body = await _content(request)
        try:
            receipts = await run_in_threadpool(ingest, store, body)
        except msgspec.DecodeError as error:
            raise HTTPException(400, str(error)) from None
        except Exception as error:
            # A store of any kind may fail in any way; nothing is acknowledged that is not on disk, so the client must keep it.
            _logger.exception("the store does not take cycles")
            raise HTTPException(503, type(error).__name__, {"Retry-After": "1"}) from None
        return Response(encode_receipt(receipts), media_type="application/json")

    async def health(_: Request) -> Response:
        return PlainTextResponse("ok")

    return Starlette(
        routes=[
            Route("/v1/cycles", post_cycles, methods=["POST"]),
            Route("/healthz", health),
        ],
        lifespan=lifespan,
    )


def _require_key(request: Request, api_key: str | None) -> None:
    if api_key is None:
        return
    given = request.headers.get("Authorization", "")
    if not hmac.compare_digest(given.encode(), f"Bearer {api_key}".encode()):
        raise HTTPException(401, "the key is not known", {"WWW-Authenticate": "Bearer"})


async def _content(request: Request) -> bytes:
    """Return the body of a request, decompressed; neither may grow without bound."""
    pieces = []
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > LONGEST_BODY:
            raise HTTPException(413, f"a body has at most {LONGEST_BODY:,} bytes")
        pieces.append(piece)
    body = b"".join(pieces)
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding == "identity":
        return body
    if encoding != "gzip":
        raise HTTPException(415, f"Content-Encoding {encoding!r} is not known; gzip is")
    return _decompressed(body)


def _decompressed(body: bytes) -> bytes:
    unzip = zlib.decompressobj(wbits=31)
    try:
        content = unzip.decompress(body, LONGEST_CONTENT)
    except zlib.error as error:
        raise HTTPException(400, f"the body is no gzip: {error}") from None
    if unzip.unconsumed_tail:
        raise HTTPException(413, f"a body has at most {LONGEST_CONTENT:,} bytes decompressed")
    if not unzip.eof:
        raise HTTPException(400, "the body is cut off")
    return content
