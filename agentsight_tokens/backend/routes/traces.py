"""Ingest over HTTP: spans of OpenTelemetry."""

from __future__ import annotations

from functools import partial
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from agentsight_tokens.backend.endpoint import Asked, Endpoint
from agentsight_tokens.backend.otlp import (
    JSON,
    PROTOBUF,
    Status,
    Taken,
    TracesAnswer,
    TracesInJSON,
    answer_of,
    encoding_of,
    refusal,
    spans_in_json,
    spans_in_protobuf,
    take_spans,
)
from agentsight_tokens.backend.problem import Problem

__all__ = ["ENDPOINTS"]


async def post_traces(asked: Asked) -> Response:
    """Store the calls among spans; what is acknowledged is on disk."""
    encoding = encoding_of(asked.request)
    if encoding is None:
        raise Problem(415, f"Content-Type is {PROTOBUF} or {JSON} here")
    body = await asked.body()

    def take() -> Taken:
        spans = spans_in_json(body) if encoding == JSON else spans_in_protobuf(body)
        return take_spans(
            asked.server.store,
            spans,
            asked.server.meter,
            project_id=asked.access.project_id,
            on_stored=partial(asked.server.metrics.count_stored, "otlp"),
        )

    try:
        taken = await run_in_threadpool(take)
    except ValueError as error:
        raise Problem(400, f"the body: {error}") from None
    return answer_of(taken, encoding)


ENDPOINTS: Final = (
    Endpoint(
        "POST",
        "/v1/traces",
        post_traces,
        "ingest",
        "Store the calls of models among the spans of an OTLP request, each once for ever.",
        body=TracesInJSON,
        result=TracesAnswer,
        binary=PROTOBUF,
        problem=Status,
        refusal=refusal,
    ),
)
