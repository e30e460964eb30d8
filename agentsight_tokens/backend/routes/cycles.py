"""Ingest over HTTP: cycles."""

from __future__ import annotations

from functools import partial
from typing import Final

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from agentsight_tokens.backend.endpoint import Asked, Endpoint
from agentsight_tokens.backend.ingest import ingest
from agentsight_tokens.backend.problem import Problem
from agentsight_tokens.cycle import Cycle
from agentsight_tokens.receipt import Receipt, encode_receipt

__all__ = ["ENDPOINTS"]


class Cycles(msgspec.Struct):
    """Cycles in the wire format v1."""

    cycles: list[Cycle]


async def post_cycles(asked: Asked) -> Response:
    """Store cycles; what is acknowledged is on disk."""
    body = await asked.body()
    take = partial(
        ingest,
        asked.server.store,
        body,
        project_id=asked.access.project_id,
        on_stored=partial(asked.server.metrics.count_stored, "cycles"),
    )
    try:
        receipts = await run_in_threadpool(take)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Problem(400, f"the body: {error}") from None
    asked.server.metrics.count_receipts(receipts)
    return Response(encode_receipt(receipts), media_type="application/json")


ENDPOINTS: Final = (
    Endpoint(
        "POST",
        "/v1/cycles",
        post_cycles,
        "ingest",
        "Store cycles, each key and each record id once for ever.",
        body=Cycles,
        result=Receipt,
    ),
)
