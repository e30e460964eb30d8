"""The body of a request, which may not fill the memory nor keep the server waiting."""

from __future__ import annotations

import zlib
from typing import Final, NamedTuple

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from .problem import Problem

__all__ = ["BodyLimits", "read_body"]

_MEGABYTE: Final = 1_000_000


class BodyLimits(NamedTuple):
    """How much a request may hold, and how long it may take to come."""

    sent_bytes: int = 8 * _MEGABYTE
    """As it is sent."""
    content_bytes: int = 64 * _MEGABYTE
    """Decompressed."""
    seconds: float = 30.0


async def read_body(request: Request, limits: BodyLimits) -> bytes:
    """
    Return the body of a request, decompressed.

    Raises:
        Problem: If it is too large, too slow, cut off, or in an encoding that is not known.
    """
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip"}:
        raise Problem(415, f"Content-Encoding {encoding!r} is not known; gzip is")
    try:
        with anyio.fail_after(limits.seconds):
            body = await _sent(request, limits.sent_bytes)
    except TimeoutError:
        raise Problem(408, f"the body did not come within {limits.seconds:g} seconds") from None
    except ClientDisconnect:
        raise Problem(400, "the body is cut off") from None
    if encoding == "identity":
        return body
    # In a thread, as other requests must not wait for it.
    return await run_in_threadpool(_decompressed, body, limits.content_bytes)


async def _sent(request: Request, limit: int) -> bytes:
    pieces = []
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > limit:
            raise Problem(413, f"a body has at most {limit:,} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def _decompressed(body: bytes, limit: int) -> bytes:
    unzip = zlib.decompressobj(wbits=31)
    try:
        content = unzip.decompress(body, limit)
    except zlib.error as error:
        raise Problem(400, f"the body is no gzip: {error}") from None
    if unzip.unconsumed_tail:
        raise Problem(413, f"a body has at most {limit:,} bytes decompressed")
    if not unzip.eof:
        raise Problem(400, "the body is cut off")
    return content
