"""
OTLP in JSON, as spans.

It differs from protobuf's own JSON: ids are hexadecimal, and whole numbers of 64 bits come as
texts or as numbers. https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding, read
2026-11-30.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from .events import exception_type_in, is_first_token
from .names import KNOWN
from .response import read_response_id
from .span import Origin, Span

__all__ = ["TracesInJSON", "spans_in_json"]

_ERROR: Final = 2
_DIGITS: Final = 20
"""Of the largest whole number."""
_Whole = int | str


class _Array(msgspec.Struct, rename="camel"):
    values: list[_Value] | None = None


class _Value(msgspec.Struct, rename="camel"):
    string_value: str | None = None
    int_value: _Whole | None = None
    double_value: float | str | None = None
    bool_value: bool | None = None
    array_value: _Array | None = None


class _Attribute(msgspec.Struct):
    key: str = ""
    value: _Value | None = None


class _Event(msgspec.Struct, rename="camel"):
    time_unix_nano: _Whole = 0
    name: str = ""
    attributes: list[_Attribute] | None = None


class _Status(msgspec.Struct):
    code: int | str = 0


class _Span(msgspec.Struct, rename="camel"):
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str | None = None
    name: str = ""
    start_time_unix_nano: _Whole = 0
    end_time_unix_nano: _Whole = 0
    attributes: list[_Attribute] | None = None
    events: list[_Event] | None = None
    status: _Status | None = None


class _Library(msgspec.Struct):
    name: str = ""


class _ScopeSpans(msgspec.Struct, rename="camel"):
    scope: _Library | None = None
    spans: list[_Span] | None = None


class _Resource(msgspec.Struct):
    attributes: list[_Attribute] | None = None


class _ResourceSpans(msgspec.Struct, rename="camel"):
    resource: _Resource | None = None
    scope_spans: list[_ScopeSpans] | None = None


class TracesInJSON(msgspec.Struct, rename="camel"):
    """An ExportTraceServiceRequest in JSON; fields that are not read may be there."""

    resource_spans: list[_ResourceSpans] | None = None


_decoder: Final = msgspec.json.Decoder(TracesInJSON)
_ID: Final = re.compile(r"[0-9a-fA-F]*")


def spans_in_json(body: bytes) -> Iterator[Span]:
    """
    Yield the spans of a request.

    Raises:
        ValueError: If the body is none.
    """
    body.decode()  # what is not read is not checked for it
    try:
        request = _decoder.decode(body)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    for resource_spans in request.resource_spans or ():
        of = resource_spans.resource
        resource = _attributes(None if of is None else of.attributes)
        for scope_spans in resource_spans.scope_spans or ():
            origin = Origin(resource, scope_spans.scope.name if scope_spans.scope else "")
            for span in scope_spans.spans or ():
                yield _span(span, origin)


def _span(span: _Span, origin: Origin) -> Span:
    code = span.status.code if span.status else 0
    found = Span(
        trace_id=_id(span.trace_id),
        span_id=_id(span.span_id),
        parent_id=_id(span.parent_span_id or ""),
        name=span.name,
        start_ns=_whole(span.start_time_unix_nano),
        end_ns=_whole(span.end_time_unix_nano),
        is_error=code in (_ERROR, "STATUS_CODE_ERROR"),
        attributes=_attributes(span.attributes),
        origin=origin,
    )
    read_response_id(found.attributes)
    for event in span.events or ():
        if is_first_token(event.name):
            found.first_token_ns = _whole(event.time_unix_nano)
        elif event.name == "exception":
            found.exception_type = exception_type_in(
                (each.key, each.value and each.value.string_value)
                for each in event.attributes or ()
            )
    return found


def _attributes(pairs: Sequence[_Attribute] | None) -> dict[str, Any]:
    found = {}
    for pair in pairs or ():
        if pair.key in KNOWN and pair.value is not None:
            value = _value_of(pair.value)
            if value is not None:
                found[pair.key] = value
    return found


def _value_of(value: _Value) -> Any:
    if value.string_value is not None:
        return value.string_value
    if value.int_value is not None:
        return _whole(value.int_value)
    if value.double_value is not None:
        return float(value.double_value)
    if value.array_value is not None:
        return [each.string_value or "" for each in value.array_value.values or ()]
    return value.bool_value


def _whole(value: _Whole) -> int:
    is_long = len(str(value)) > _DIGITS
    if is_long or not -(1 << 63) <= (number := int(value)) < 1 << 64:
        raise ValueError("a whole number has more than 64 bits")
    return number


def _id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise ValueError(f"an id is written in hexadecimal digits, not {text[:40]!r}")
    return text.lower()
