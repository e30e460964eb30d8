"""From the span of a call to its record."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import msgspec

from agentsight_tokens.config import TokenConfig
from agentsight_tokens.extract import PROVIDER_NAMES
from agentsight_tokens.usage import (
    STATED_BY_PROVIDER,
    CallStatus,
    Operation,
    TokenUsage,
    UsageRecord,
    pico_usd,
)

from .attribution import scope_of, text_of
from .names import MODEL, PROVIDER, RESPONSE_ID, SERVICE_TIER
from .span import Span, SpanError

__all__ = ["own_record", "record_id", "record_of"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_OWN_RECORD: Final = "agentsight.record"
_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
_FIRST_CHUNK_MS: Final = "ai.response.msToFirstChunk"
_LANGFUSE_FIRST: Final = "langfuse.observation.completion_start_time"
_COST: Final = "gen_ai.usage.cost"
_STATING_COSTS: Final = frozenset(("openrouter",))
"""
Who says in its answers what a call cost, and whose instrumentations pass that on.

https://openrouter.ai/docs/use-cases/usage-accounting, read 2026-11-30. What others write as the
cost of a span is what the instrumentation made of a price table.
"""
_MORE_PROVIDERS: Final = {
    "amazon-bedrock": "bedrock",
    "az.ai.openai": "azure",
    "azure-openai": "azure",
    "gcp.gen_ai": "gemini",
    "google.generative-ai": "gemini",
    "google.vertex": "vertex_ai",
    "ibm.watsonx.ai": "watsonx",
    "vertexai": "vertex_ai",
}
_CANCELLED: Final = ("CancelledError", "GeneratorExit", "KeyboardInterrupt", "AbortError")


def record_id(span: Span) -> str:
    """
    Return the id of a span's record, the same whenever the span comes.

    It begins with the milliseconds of the span's end, as ids that sort by time cost the stores
    the least, and ends with a digest of the trace's and the span's id.
    """
    digest = blake2b((span.trace_id + span.span_id).encode(), digest_size=10).hexdigest()
    return f"{span.end_ns // 1_000_000:012x}{digest}"


def own_record(span: Span) -> UsageRecord | None:
    """Return the record that a span of our own carries, to the last detail."""
    text = span.attributes.get(_OWN_RECORD)
    if text is None:
        return None
    try:
        return msgspec.json.decode(str(text), type=UsageRecord)
    except (msgspec.DecodeError, RecursionError) as error:
        raise SpanError(f"{_OWN_RECORD}: {error}") from None


def record_of(
    span: Span,
    spans: Mapping[str, Span],
    *,
    operation: Operation,
    usage: TokenUsage | None,
    config: TokenConfig,
) -> UsageRecord:
    """
    Return the record of a call, without its price.

    Args:
        span: The span that is counted.
        spans: The spans of its trace that came with it, by their ids.
        operation: What the call did.
        usage: What it used; None if the span does not say.
        config: Whether user ids are hashed, and how.
    """
    found = span.attributes
    named = text_of(found, PROVIDER)
    provider = None if named is None else _provider_named(named)
    cost = _stated_cost(found, provider) if usage is not None else None
    status, error_type = _end_of(span)
    began = 0 < span.start_ns <= span.end_ns
    return UsageRecord(
        id=record_id(span),
        at=_EPOCH + timedelta(microseconds=span.end_ns // 1000),
        usage=usage or TokenUsage(),
        scope=scope_of(span, spans, config),
        model=text_of(found, MODEL),
        provider=provider,
        operation=operation,
        status=status,
        unreported_reason=None if usage is not None else _silence(status),
        cost_pico_usd=cost,
        cost_status="unpriced" if cost is None else "priced",
        price_key=None if cost is None else STATED_BY_PROVIDER,
        service_tier=text_of(found, SERVICE_TIER),
        duration_seconds=(span.end_ns - span.start_ns) / 1e9 if began else None,
        time_to_first_token_seconds=_first_token_after(span),
        handler="otlp",
        response_id=text_of(found, RESPONSE_ID),
        error_type=error_type,
    )


@lru_cache(maxsize=1024)
def _provider_named(given: str) -> str:
    name = given.lower()
    while True:
        known = _MORE_PROVIDERS.get(name) or PROVIDER_NAMES.get(name.replace("-", "_"))
        if known is not None:
            return known
        # The AI SDK of Vercel writes openai.chat, anthropic.messages, google.vertex.chat, ...
        before, dot, _ = name.rpartition(".")
        if not dot:
            return name
        name = before


def _stated_cost(found: Mapping[str, Any], provider: str | None) -> int | None:
    value = found.get(_COST)
    if value is None or provider not in _STATING_COSTS:
        return None
    try:
        cost = Decimal(str(value))
    except InvalidOperation:
        return None
    return pico_usd(cost) if cost.is_finite() and 0 <= cost < 1_000_000 else None


def _end_of(span: Span) -> tuple[CallStatus, str | None]:
    error = text_of(span.attributes, ("error.type",)) or span.exception_type
    if not span.is_error and error is None:
        return "ok", None
    if error is not None and error.endswith(_CANCELLED):
        return "cancelled", error
    return "error", error


def _silence(status: CallStatus) -> str:
    if status == "ok":
        return "provider_silent"
    return "cancelled" if status == "cancelled" else "error_without_usage"


def _first_token_after(span: Span) -> float | None:
    """Return the seconds from the begin of a span to its first token."""
    found = span.attributes
    seconds = found.get(_FIRST_CHUNK)
    milliseconds = found.get(_FIRST_CHUNK_MS)
    if isinstance(seconds, (int, float)):
        return float(seconds) if seconds >= 0 else None
    if isinstance(milliseconds, (int, float)):
        return milliseconds / 1000 if milliseconds >= 0 else None
    first = span.first_token_ns or _nanoseconds(found.get(_LANGFUSE_FIRST))
    if first is None or not 0 < span.start_ns <= first:
        return None
    return (first - span.start_ns) / 1e9


def _nanoseconds(text: object) -> int | None:
    try:
        at = msgspec.convert(str(text).strip('"'), datetime)
    except msgspec.ValidationError:
        return None
    return None if at.tzinfo is None else int((at - _EPOCH) / timedelta(microseconds=1)) * 1000
