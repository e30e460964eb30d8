"""Spans for a server to take."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from starlette.applications import Starlette

from tests.server_kit import Answer, ask

START = 1_767_323_045_678_901_000
"""2026-01-02T03:04:05.678901Z, in nanoseconds."""
SECOND = 1_000_000_000
TRACE = "0af7651916cd43dd8448eb211c80319c"


def span(
    number: int,
    attributes: Mapping[str, Any] | None = None,
    *,
    parent: int | None = None,
    trace: str = TRACE,
    **fields: Any,
) -> dict[str, Any]:
    """Return a span in OTLP's JSON, of as many seconds as its number."""
    found = {
        "traceId": trace,
        "spanId": f"{number:016x}",
        "name": f"span-{number}",
        "startTimeUnixNano": str(START),
        "endTimeUnixNano": str(START + number * SECOND),
        "attributes": pairs(attributes or {}),
    }
    if parent is not None:
        found["parentSpanId"] = f"{parent:016x}"
    return {**found, **fields}


def chat(number: int, **more: Any) -> dict[str, Any]:
    """Return the span of a call by the GenAI conventions, whose counts tell its number."""
    fields = {name: more.pop(name) for name in ("parent", "trace") if name in more}
    attributes = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.response.model": "gpt-4o",
        "gen_ai.usage.input_tokens": number,
        "gen_ai.usage.output_tokens": 2 * number,
    }
    return span(number, attributes | more, **fields)


def total(number: int, tokens: int, **fields: Any) -> dict[str, Any]:
    """Return the span of an agent that says what was used below it."""
    attributes = {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "planner",
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.usage.input_tokens": tokens,
        "gen_ai.usage.output_tokens": 2 * tokens,
    }
    return span(number, attributes, **fields)


def pairs(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return attributes as OTLP's JSON has them."""
    return [{"key": key, "value": _value(value)} for key, value in attributes.items()]


def _value(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, (list, tuple)):
        return {"arrayValue": {"values": [_value(each) for each in value]}}
    return {"stringValue": value}


def request(
    *spans: Mapping[str, Any],
    resource: Mapping[str, Any] | None = None,
    library: str = "test",
) -> bytes:
    """Return a request in JSON."""
    scope_spans = [{"scope": {"name": library}, "spans": list(spans)}]
    resource_spans = {
        "resource": {"attributes": pairs(resource or {})},
        "scopeSpans": scope_spans,
    }
    return json.dumps({"resourceSpans": [resource_spans]}).encode()


def post(app: Starlette, body: bytes, *, kind: str = "application/json", **headers: Any) -> Answer:
    """Send a request to a server."""
    return ask(app, "POST", "/v1/traces", body=body, content_type=kind, **headers)


def as_json(request: ExportTraceServiceRequest) -> bytes:
    """Return a request of protobuf as OTLP's JSON has it, ids in hexadecimal digits."""
    found = MessageToDict(request)
    for each in _spans_in(found):
        for name in ("traceId", "spanId", "parentSpanId"):
            if name in each:
                each[name] = _hexadecimal(each[name])
        for link in each.get("links", ()):
            link["traceId"], link["spanId"] = map(_hexadecimal, (link["traceId"], link["spanId"]))
    return json.dumps(found).encode()


def _hexadecimal(text: str) -> str:
    from base64 import b64decode

    return b64decode(text).hex()


def _spans_in(request: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
    return [
        each
        for resource_spans in request.get("resourceSpans", ())
        for scope_spans in resource_spans.get("scopeSpans", ())
        for each in scope_spans.get("spans", ())
    ]
