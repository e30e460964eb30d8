"""
Exports of LiteLLM's table `LiteLLM_SpendLogs`, as JSON or CSV.

https://github.com/BerriAI/litellm/blob/main/schema.prisma, read 2026-11-30. What LiteLLM has
computed as `spend` is not taken over: calls are priced as everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agentsight_tokens.errors import InvalidCountError
from agentsight_tokens.extract import PROVIDER_NAMES, openai_usage
from agentsight_tokens.usage import Operation, TokenUsage, UsageRecord, checked_count

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

__all__ = ["is_litellm_log", "litellm_call"]

_OPERATIONS: Final[dict[str, Operation]] = {
    "embedding": "embedding",
    "aembedding": "embedding",
    "text_completion": "completion",
    "atext_completion": "completion",
    "rerank": "other",
    "arerank": "other",
    "image_generation": "other",
    "aimage_generation": "other",
}


def is_litellm_log(row: Mapping[str, Any]) -> bool:
    """Return whether this looks like a row of that table."""
    return "request_id" in row and ("spend" in row or "call_type" in row)


def litellm_call(row: Mapping[str, Any], defaults: Defaults) -> Call:
    """
    Return the call of a row.

    Raises:
        RowError: If it cannot be read.
        SkippedRow: If it tells of no call that was billed.
    """
    request_id = text_in(row, "request_id")
    if request_id is None:
        raise RowError("it has no request_id")
    if str(row.get("cache_hit", "")).lower() == "true":
        raise SkippedRow("answered by LiteLLM's own cache, so that nothing was billed")
    start = time_in(row, "startTime", "start_time")
    end = time_in(row, "endTime", "end_time") or start or defaults.at
    if end is None:
        raise RowError("it has neither endTime nor startTime; give --at")
    operation = _OPERATIONS.get(text_in(row, "call_type") or "", "chat")
    metadata = object_in(row, "metadata")
    usage = _usage(row, metadata, is_embedding=operation == "embedding")
    if usage is None and (text_in(row, "status") or "").lower() == "failure":
        raise SkippedRow("a request that failed, and tells no use")
    provider = text_in(row, "custom_llm_provider") or defaults.provider
    record = UsageRecord(
        id=record_id(end, "litellm", request_id),
        at=end,
        usage=usage or TokenUsage(),
        scope=defaults.scope(
            session_id=text_in(row, "session_id"),
            user_id=text_in(row, "end_user", "user"),
            org_id=text_in(row, "organization_id", "team_id"),
            tags=tags_in(row, "request_tags"),
        ),
        model=_model(text_in(row, "model"), provider),
        provider=PROVIDER_NAMES.get(provider, provider) if provider else None,
        operation=operation,
        unreported_reason="provider_silent" if usage is None else None,
        duration_seconds=seconds_between(start, end),
        time_to_first_token_seconds=seconds_between(
            start, time_in(row, "completionStartTime", "completion_start_time")
        ),
        handler="import",
        response_id=request_id,
    )
    return Call(record, defaults.environment)


def _usage(
    row: Mapping[str, Any], metadata: Mapping[str, Any], *, is_embedding: bool
) -> TokenUsage | None:
    """Return what was used; None if it is nothing but zeros, which LiteLLM writes for unknown."""
    try:
        details = object_in(metadata, "usage_object")
        counts = [
            checked_count(name, _whole(row.get(name)))
            for name in ("prompt_tokens", "completion_tokens", "total_tokens")
        ]
        if details and any(details.get(n) for n in ("prompt_tokens", "completion_tokens")):
            found = openai_usage(details)
        else:
            found = TokenUsage(
                input_tokens=counts[0], output_tokens=counts[1], total_tokens=counts[2]
            )
    except InvalidCountError as error:
        raise RowError(str(error)) from None
    if not found:
        return None
    return TokenUsage(embedding_tokens=found.total_tokens) if is_embedding else found


def _whole(value: object) -> object:
    """Return a number that a CSV has as text."""
    text = str(value).strip() if value is not None else ""
    return int(text) if text.isdecimal() else (value or None)


def _model(model: str | None, provider: str | None) -> str | None:
    """Return a model's name without the provider that LiteLLM puts before it."""
    if model is not None and provider is not None:
        return model.removeprefix(f"{provider}/")
    return model
