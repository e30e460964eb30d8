"""Exports over HTTP: every call that a query selects, as one file."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import Final

from starlette.responses import Response, StreamingResponse

from agentsight_tokens.backend.analytics import every_call
from agentsight_tokens.backend.endpoint import Asked, Endpoint
from agentsight_tokens.backend.export import MEDIA_TYPES, ExportFormat, exported
from agentsight_tokens.backend.problem import Problem
from agentsight_tokens.errors import ConfigurationError

from .selection import Selection, asked_for

__all__ = ["ENDPOINTS"]


class ExportQuery(Selection, kw_only=True):
    """An export of calls."""

    format: ExportFormat = "csv"


async def get_export(asked: Asked) -> Response:
    """Send calls as a file, while they are read."""
    query = asked.query(ExportQuery)
    calls = await asked_for(partial(every_call, asked.project, query.where))
    try:
        pieces = exported(calls, query.format)
    except ConfigurationError as error:
        raise Problem(400, str(error)) from None
    # What goes wrong at once is told as a status; later it can only break the file off.
    first = await asked_for(lambda: next(pieces, b""))
    return StreamingResponse(
        _chained(first, pieces),
        media_type=MEDIA_TYPES[query.format],
        headers={"Content-Disposition": f'attachment; filename="calls.{query.format}"'},
    )


def _chained(first: bytes, pieces: Iterator[bytes]) -> Iterator[bytes]:
    return chain((first,), pieces)


ENDPOINTS: Final = (
    Endpoint(
        "GET",
        "/v1/export",
        get_export,
        "read",
        "Send every call that is selected, the oldest first, as a file.",
        query=ExportQuery,
        media_types=tuple(MEDIA_TYPES.values()),
    ),
)
