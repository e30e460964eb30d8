"""What the server answers when it does not do what it was asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

__all__ = ["Problem", "ProblemBody", "answer_of_problem", "answer_of_surprise"]

_CODES: Final = {
    400: "invalid",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "timeout",
    413: "too_large",
    415: "unsupported_encoding",
    429: "too_many_requests",
    503: "unavailable",
}


class Problem(HTTPException):
    """Ends a request with a status and a sentence that says what is wrong and the way out."""


class _Error(msgspec.Struct):
    code: str
    message: str


class ProblemBody(msgspec.Struct):
    """The body of every answer that is no success."""

    error: _Error


def answer_of_problem(_: Request, problem: Exception) -> Response:
    """Return the answer to a request that cannot be served."""
    if not isinstance(problem, HTTPException):
        raise problem
    code = _CODES.get(problem.status_code, "error")
    return _answer(problem.status_code, code, str(problem.detail), problem.headers)


def answer_of_surprise(_: Request, error: Exception) -> Response:
    """Return the answer to a request at which the server itself failed; uvicorn logs why."""
    return _answer(500, "internal", f"the server failed: {type(error).__name__}", None)


def _answer(status: int, code: str, message: str, headers: Mapping[str, str] | None) -> Response:
    body = msgspec.json.encode(ProblemBody(_Error(code, message)))
    return Response(body, status, headers, "application/json")
