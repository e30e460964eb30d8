"""
Exports of Langfuse's observations, as JSON, JSON lines or CSV.

Its API and its exports write names in camel case, its exports to blob storage with underscores;
both are read. What Langfuse has computed as cost is not taken over.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from agentsight_tokens.errors import InvalidCountError
from agentsight_tokens.extract import langfuse_usage
from agentsight_tokens.usage import Operation, TokenUsage, UsageRecord

from .row import (
    Call,
    Defaults,
    RowError,
    SkippedRow,
    object_in,
    record_id,
    tags_in,
    text_in,
    time_in,
)
from .timing import seconds_between

__all__ = ["is_langfuse_export", "langfuse_call"]

_OPERATIONS: Final[dict[str, Operation]] = {"generation": "chat", "embedding": "embedding"}
_HUMP: Final = re.compile(r"(?<=[a-z0-9])([A-Z])")
_COUNTS: Final = {
    "input": ("prompt_tokens", "input_tokens", "input_usage"),
    "output": ("completion_tokens", "output_tokens", "output_usage"),
    "total": ("total_tokens", "total_usage"),
}


def is_langfuse_export(row: Mapping[str, Any]) -> bool:
    """Return whether this looks like an observation."""
    names = {_HUMP.sub(r"_\1", name).lower() for name in row}
    return "trace_id" in names and bool(names & {"start_time", "usage_details", "observation_id"})


def langfuse_call(row: Mapping[str, Any], defaults: Defaults) -> Call:
    """
    Return the call of an observation.

    Raises:
        RowError: If it cannot be read.
        SkippedRow: If it is no call of a model.
    """
    row = {_HUMP.sub(r"_\1", name).lower(): value for name, value in row.items()}
    kind = (text_in(row, "type") or "GENERATION").lower()
    operation = _OPERATIONS.get(kind)
    if operation is None:
        raise SkippedRow(f"an observation of the type {kind}, which is no call of a model")
    observation_id = text_in(row, "id", "observation_id")
    if observation_id is None:
        raise RowError("it has no id")
    start = time_in(row, "start_time")
    end = time_in(row, "end_time") or start or defaults.at
    if end is None:
        raise RowError("it has neither endTime nor startTime; give --at")
    usage = _usage(row)
    is_error = (text_in(row, "level") or "").upper() == "ERROR"
    if usage is not None and operation == "embedding":
        usage = TokenUsage(embedding_tokens=usage.total_tokens)
    trace_id = text_in(row, "trace_id")
    silence = "error_without_usage" if is_error else "provider_silent"
    record = UsageRecord(
        id=record_id(end, "langfuse", trace_id, observation_id),
        at=end,
        usage=usage or TokenUsage(),
        scope=defaults.scope(
            conversation_id=text_in(row, "session_id") or trace_id,
            session_id=text_in(row, "session_id"),
            user_id=text_in(row, "user_id"),
            feature=text_in(row, "trace_name"),
            tags=tags_in(row, "tags", "trace_tags"),
        ),
        model=text_in(row, "model", "provided_model_name"),
        provider=defaults.provider,
        operation=operation,
        status="error" if is_error else "ok",
        unreported_reason=silence if usage is None else None,
        duration_seconds=seconds_between(start, end),
        time_to_first_token_seconds=seconds_between(start, time_in(row, "completion_start_time")),
        handler="import",
    )
    return Call(record, text_in(row, "environment") or defaults.environment)


def _usage(row: Mapping[str, Any]) -> TokenUsage | None:
    details = object_in(row, "usage_details", "usage")
    counts = {name: value for name, value in details.items() if value and name != "unit"}
    if not counts:
        counts = {
            name: found
            for name, names in _COUNTS.items()
            for found in (text_in(row, *names),)
            if found is not None
        }
    try:
        return langfuse_usage(counts) or None
    except InvalidCountError as error:
        raise RowError(str(error)) from None
