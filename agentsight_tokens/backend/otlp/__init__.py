"""Ingest of OTLP: spans of other instrumentations become calls."""

from .answers import (
    JSON,
    PROTOBUF,
    Status,
    TracesAnswer,
    answer_of,
    encoding_of,
    refusal,
)
from .json_format import TracesInJSON, spans_in_json
from .protobuf_format import spans_in_protobuf
from .settling import Settling
from .taking import Meter, Taken, take_spans

__all__ = [
    "JSON",
    "PROTOBUF",
    "Meter",
    "Settling",
    "Status",
    "Taken",
    "TracesAnswer",
    "TracesInJSON",
    "answer_of",
    "encoding_of",
    "refusal",
    "spans_in_json",
    "spans_in_protobuf",
    "take_spans",
]
