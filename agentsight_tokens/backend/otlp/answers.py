"""What OTLP's clients are told: how many spans were not taken, or why nothing was."""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from .taking import Taken

__all__ = ["JSON", "PROTOBUF", "Status", "TracesAnswer", "answer_of", "encoding_of", "refusal"]

JSON: Final = "application/json"
PROTOBUF: Final = "application/x-protobuf"

_Encoding = Literal["application/json", "application/x-protobuf"]
_RPC_CODES: Final = {
    400: 3,  # INVALID_ARGUMENT
    401: 16,  # UNAUTHENTICATED
    403: 7,  # PERMISSION_DENIED
    408: 4,  # DEADLINE_EXCEEDED
    413: 8,  # RESOURCE_EXHAUSTED
    415: 3,
    429: 8,
    503: 14,  # UNAVAILABLE
}
_UNKNOWN: Final = 2


class _PartialSuccess(msgspec.Struct, rename="camel"):
    rejected_spans: str
    """A whole number of 64 bits is a text in the JSON of protobuf."""
    error_message: str


class TracesAnswer(msgspec.Struct, rename="camel", omit_defaults=True):
    """An ExportTraceServiceResponse in JSON."""

    partial_success: _PartialSuccess | None = None


class Status(msgspec.Struct):
    """A google.rpc.Status in JSON."""

    code: int
    message: str


def encoding_of(request: Request) -> _Encoding | None:
    """Return how a request is written; None if it does not say, or says something else."""
    kind = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if kind == JSON:
        return JSON
    return PROTOBUF if kind == PROTOBUF else None


def answer_of(taken: Taken, encoding: _Encoding) -> Response:
    """Return the answer to a request whose calls are on disk."""
    if encoding == JSON:
        partial = _PartialSuccess(str(taken.rejected), taken.reason) if taken.rejected else None
        return Response(msgspec.json.encode(TracesAnswer(partial)), media_type=JSON)
    answer: Any = ExportTraceServiceResponse()
    if taken.rejected:
        answer.partial_success.rejected_spans = taken.rejected
        answer.partial_success.error_message = taken.reason
    return Response(answer.SerializeToString(), media_type=PROTOBUF)


def refusal(request: Request, problem: HTTPException) -> Response:
    """Return the answer to a request that cannot be served, as OTLP wants it."""
    code = _RPC_CODES.get(problem.status_code, _UNKNOWN)
    message = str(problem.detail)
    is_binary = encoding_of(request) == PROTOBUF
    body = _status(code, message) if is_binary else msgspec.json.encode(Status(code, message))
    kind = PROTOBUF if is_binary else JSON
    return Response(body, problem.status_code, problem.headers, kind)


def _status(code: int, message: str) -> bytes:
    """Return a google.rpc.Status in protobuf: an int32 and a text."""
    text = message.encode()
    return b"\x08" + bytes([code]) + b"\x12" + _varint(len(text)) + text


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    digits.append(number)
    return bytes(digits)
