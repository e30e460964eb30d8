"""
Logs of responses: a body of a provider in each row, alone or with what was asked.

Whatever `extract_usage` knows is read: OpenAI, Anthropic and those with their formats, and the
lines of their batches. Around the body there may be `request`, a time and who caused the call.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from agentsight_tokens.errors import InvalidCountError, UnknownResponseError
from agentsight_tokens.extract import Extracted, extract_usage
from agentsight_tokens.usage import STATED_BY_PROVIDER, TokenUsage, UsageRecord, pico_usd

from .row import (
    Call,
    Defaults,
    RowError,
    SkippedRow,
    number_in,
    record_id,
    tags_in,
    text_in,
    time_in,
)

__all__ = ["is_response_log", "response_call"]

_TIMES: Final = ("timestamp", "at", "time", "created_at", "createdAt", "ts", "date")
_STREAM_EVENTS: Final = frozenset(
    ("message_start", "message_delta", "content_block_start", "content_block_delta", "ping")
)
_OK: Final = 400


def is_response_log(row: Mapping[str, Any]) -> bool:
    """Return whether this looks like a row of such a log."""
    if any(isinstance(row.get(name), dict) for name in ("response", "result", "usage")):
        return True
    return "object" in row or "usageMetadata" in row or row.get("type") == "message"


def response_call(row: Mapping[str, Any], defaults: Defaults, *, unique: str) -> Call:
    """
    Return the call of a row.

    Args:
        row: The row.
        defaults: What is taken where it says nothing.
        unique: What tells it from every other row, where the response has no id.

    Raises:
        RowError: If it cannot be read.
        SkippedRow: If it tells of no call that was billed.
    """
    body, is_batch = _body_of(row)
    _skip_failed(row, body)
    if body.get("type") in _STREAM_EVENTS:
        raise RowError("an event of a stream; import whole responses, or the last of each stream")
    provider = text_in(row, "provider", "custom_llm_provider") or defaults.provider
    try:
        found = extract_usage(body, provider=provider)
    except (UnknownResponseError, InvalidCountError) as error:
        raise RowError(str(error)) from None
    if found.usage is None and str(body.get("object", "")).endswith(".chunk"):
        raise SkippedRow("a part of a stream that tells no use")
    asked = _asked(row)
    at = time_in(row, *_TIMES) or time_in(body, "created", "created_at") or defaults.at
    if at is None:
        raise RowError("it does not say when it was made; give --at, or a field `timestamp`")
    model = found.model or text_in(asked, "model") or text_in(row, "model")
    tier = "batch" if is_batch else found.service_tier
    return Call(
        _record(row, found, at, defaults, unique=unique, model=model, tier=tier, asked=asked),
        text_in(row, "environment") or defaults.environment,
    )


def _record(  # noqa: PLR0913  # what was found where
    row: Mapping[str, Any],
    found: Extracted,
    at: datetime,
    defaults: Defaults,
    *,
    unique: str,
    model: str | None,
    tier: str | None,
    asked: Mapping[str, Any],
) -> UsageRecord:
    cost = found.reported_cost_usd
    milliseconds = number_in(row, "duration_ms", "latency_ms")
    seconds = number_in(row, "duration_seconds", "duration_s", "latency_seconds")
    if seconds is None and milliseconds is not None:
        seconds = milliseconds / 1000
    known = (found.provider, found.response_id) if found.response_id else (unique,)
    metadata = asked.get("metadata")
    user = text_in(row, "user_id", "user") or text_in(asked, "user", "safety_identifier")
    if user is None and isinstance(metadata, dict):
        user = text_in(metadata, "user_id")
    return UsageRecord(
        id=record_id(at, "response", *known),
        at=at,
        usage=found.usage or TokenUsage(),
        scope=defaults.scope(
            conversation_id=text_in(row, "conversation_id", "thread_id"),
            session_id=text_in(row, "session_id"),
            user_id=user,
            org_id=text_in(row, "org_id", "organization", "organization_id"),
            agent=text_in(row, "agent"),
            feature=text_in(row, "feature"),
            tags=tags_in(row, "tags"),
        ),
        model=model,
        provider=found.provider,
        operation=found.operation,
        unreported_reason="provider_silent" if found.usage is None else None,
        cost_pico_usd=None if cost is None else pico_usd(cost),
        cost_status="unpriced" if cost is None else "priced",
        price_key=None if cost is None else STATED_BY_PROVIDER,
        service_tier=tier,
        region=found.region,
        duration_seconds=seconds if seconds is not None and seconds >= 0 else None,
        handler="import",
        response_id=found.response_id,
    )


def _body_of(row: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """Return the body that a row carries, and whether it is of a batch."""
    result = row.get("result")
    if "custom_id" in row and isinstance(result, dict):  # Anthropic's batches
        message = result.get("message")
        return (message, True) if isinstance(message, dict) else (result, True)
    response = row.get("response")
    if isinstance(response, dict):
        body = response.get("body")
        is_batch = "custom_id" in row
        return (body, is_batch) if isinstance(body, dict) else (response, is_batch)
    return row, False


def _asked(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what was asked, as far as the row has it."""
    request = row.get("request")
    body = request.get("body") if isinstance(request, dict) else None
    if isinstance(body, dict):
        return body
    return request if isinstance(request, dict) else {}


def _skip_failed(row: Mapping[str, Any], body: Mapping[str, Any]) -> None:
    response = row.get("response")
    status = response.get("status_code") if isinstance(response, dict) else row.get("status_code")
    is_failed = isinstance(status, int) and status >= _OK
    # Anthropic's batches name what is no message: errored, canceled, expired.
    is_failed = is_failed or body.get("type") in ("error", "errored", "canceled", "expired")
    has_use = body.get("usage") or body.get("usageMetadata")
    if is_failed or (body.get("error") and not has_use):
        raise SkippedRow("a request that failed, and tells no use")
