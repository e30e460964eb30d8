"""OTLP in protobuf, as spans."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from .events import exception_type_in, is_first_token
from .names import KNOWN
from .response import read_response_id
from .span import Origin, Span

__all__ = ["spans_in_protobuf"]

_ERROR: Final = 2
_ARRAY: Final = "array_value"


def spans_in_protobuf(body: bytes) -> Iterator[Span]:
    """
    Yield the spans of a request.

    Raises:
        ValueError: If the body is none.
    """
    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError as error:
        raise ValueError(str(error)) from None
    for resource_spans in request.resource_spans:
        resource = _attributes(resource_spans.resource.attributes)
        for scope_spans in resource_spans.scope_spans:
            origin = Origin(resource, scope_spans.scope.name)
            for span in scope_spans.spans:
                yield _span(span, origin)


def _span(span: Any, origin: Origin) -> Span:
    found = Span(
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        name=span.name,
        start_ns=span.start_time_unix_nano,
        end_ns=span.end_time_unix_nano,
        is_error=span.status.code == _ERROR,
        attributes=_attributes(span.attributes),
        origin=origin,
    )
    read_response_id(found.attributes)
    for event in span.events:
        if is_first_token(event.name):
            found.first_token_ns = event.time_unix_nano
        elif event.name == "exception":
            pairs = ((each.key, each.value.string_value) for each in event.attributes)
            found.exception_type = exception_type_in(pairs)
    return found


def _attributes(pairs: Iterable[Any]) -> dict[str, Any]:
    found = {}
    for pair in pairs:
        key = pair.key
        if key in KNOWN:
            value = pair.value
            kind = value.WhichOneof("value")
            if kind == _ARRAY:
                found[key] = [each.string_value for each in value.array_value.values]
            elif kind is not None:
                found[key] = getattr(value, kind)
    return found
