"""Spans as OTLP brings them, reduced to what tells of a call of a model."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec

__all__ = ["Origin", "Span", "SpanError"]


class SpanError(Exception):
    """What is wrong with a span; the others of its request are taken."""


class Origin(NamedTuple):
    """What the spans of one instrumentation in one process have in common."""

    resource: dict[str, Any]
    """The known attributes of the resource."""
    library: str
    """The name of the instrumentation scope."""


class Span(msgspec.Struct, gc=False):
    """One span; ids are lowercase hexadecimal digits, times nanoseconds since 1970 UTC."""

    trace_id: str
    span_id: str
    parent_id: str
    """Empty if there is no parent."""
    name: str
    start_ns: int
    end_ns: int
    is_error: bool
    attributes: dict[str, Any]
    """Those that are known, see `names`."""
    origin: Origin
    first_token_ns: int | None = None
    """When an event told of the first token."""
    exception_type: str | None = None
    """As an event told."""
