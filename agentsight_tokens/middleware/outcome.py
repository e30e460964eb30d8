"""The outcome of a call: what its answer, its chunks or its failure say that it used."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgspec

from agentsight_tokens.counting import TokenCounter
from agentsight_tokens.errors import (
    BudgetExceededError,
    EncodingUnavailableError,
    UnknownResponseError,
)
from agentsight_tokens.extract import Extracted, extract_usage
from agentsight_tokens.usage import (
    USAGE_FIELDS,
    CallStatus,
    Source,
    TokenUsage,
    UnreportedReason,
    UsageRecord,
)

__all__ = [
    "Outcome",
    "UsageReader",
    "failed",
    "label",
    "merged",
    "read_answer",
    "stop_reason_of",
    "told_by_texts",
]

UsageReader = Callable[[Any], TokenUsage | None]
"""Returns what a response of your own says that it used."""

_CANCELS: Final = (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt)
_STOP_REASONS: Final[tuple[tuple[str | int, ...], ...]] = (
    ("choices", 0, "finish_reason"),  # OpenAI, LiteLLM
    ("stop_reason",),  # Anthropic
    ("delta", "stop_reason"),  # and its streams
    ("candidates", 0, "finish_reason"),  # Google
    ("incomplete_details", "reason"),  # OpenAI's responses
    ("response_metadata", "finish_reason"),  # LangChain
    ("response_metadata", "stop_reason"),
)
_OF_PROVIDERS: Final = frozenset({"openai", "anthropic", "litellm"})


class Outcome(NamedTuple):
    """How a call ended, as far as its answer tells."""

    usage: TokenUsage | None = None
    model: str | None = None
    provider: str | None = None
    status: CallStatus = "ok"
    source: Source = "provider"
    unreported_reason: UnreportedReason | None = None
    response_id: str | None = None
    service_tier: str | None = None
    error_type: str | None = None
    was_sent: bool = True
    """Whether a provider may have billed something."""


def read_answer(answer: Any, provider: str | None, reader: UsageReader | None) -> Outcome | None:
    """Return what an answer or a chunk says; None if it is of no known shape."""
    if reader is not None:
        return Outcome(usage=reader(answer))
    try:
        found = extract_usage(answer, provider=provider)
    except UnknownResponseError:
        return None
    return _outcome_of(found)


def merged(one: Outcome | None, other: Outcome | None) -> Outcome | None:
    """
    Return what two chunks of a stream say together.

    Chunks repeat and complete one another, so that of each count the largest is taken.
    """
    if one is None or other is None:
        return one or other
    usage = one.usage or other.usage
    if one.usage is not None and other.usage is not None:
        usage = TokenUsage(
            **{n: max(getattr(one.usage, n), getattr(other.usage, n)) for n in USAGE_FIELDS}
        )
        total = usage.input_tokens + usage.output_tokens
        if usage.total_tokens < total:
            usage = msgspec.structs.replace(usage, total_tokens=total)
    return one._replace(
        usage=usage,
        model=other.model or one.model,
        response_id=one.response_id or other.response_id,
        service_tier=other.service_tier or one.service_tier,
    )


def stop_reason_of(answer: Any) -> str | None:
    """Return why an answer or a stream ended, as its provider says it; None if it does not."""
    for path in _STOP_REASONS:
        value = answer
        for step in path:
            value = _at(value, step)
        value = getattr(value, "value", value)  # of an enumeration
        if isinstance(value, str) and value:
            return value
    return None


def told_by_texts(prompt: Any, texts: list[str], model: str | None) -> Outcome:
    """Return an estimate by counting what was said, marked as one; nothing without a tokenizer."""
    if prompt is None:
        return Outcome(unreported_reason="provider_silent")
    counter = TokenCounter(model=model)
    try:
        read = counter.count(prompt)
        written = counter.count("".join(texts))
    except (EncodingUnavailableError, TypeError):
        return Outcome(unreported_reason="provider_silent")
    return Outcome(usage=TokenUsage(input_tokens=read, output_tokens=written), source="estimated")


def failed(error: BaseException) -> Outcome:
    """Return the outcome of a call that raised."""
    name = type(error).__name__
    status = getattr(error, "status_code", None)
    if isinstance(error, BudgetExceededError):
        return Outcome(error_type=name, was_sent=False)
    if isinstance(status, int) and status >= 400:
        return Outcome(usage=TokenUsage(), status="error", error_type=name)
    if isinstance(error, _CANCELS):
        return Outcome(status="cancelled", unreported_reason="cancelled", error_type=name)
    return Outcome(status="error", unreported_reason="error_without_usage", error_type=name)


def label(answer: Any, records: list[UsageRecord]) -> None:
    """Put `token_usage` into the metadata of an answer that has a dict for it."""
    metadata = getattr(answer, "response_metadata", None)
    if not isinstance(metadata, dict):
        metadata = getattr(answer, "metadata", None)
        # A provider's own object repeats what was asked; it is not ours to add to.
        is_providers = type(answer).__module__.partition(".")[0] in _OF_PROVIDERS
        if not isinstance(metadata, dict) or is_providers:
            return
    known = metadata.get("token_usage")
    costs = [record.cost for record in records]
    metadata["token_usage"] = {
        **(known if isinstance(known, dict) else {}),
        "input_tokens": sum(record.input_tokens for record in records),
        "output_tokens": sum(record.output_tokens for record in records),
        "total_tokens": sum(record.total_tokens for record in records),
        "cost_usd": None if None in costs else sum(costs),
        "model": records[-1].model,
    }


def _outcome_of(found: Extracted) -> Outcome:
    return Outcome(
        usage=found.usage,
        model=found.model,
        provider=found.provider,
        response_id=found.response_id,
        service_tier=found.service_tier,
    )


def _at(value: Any, step: str | int) -> Any:
    if isinstance(step, int):
        return value[step] if isinstance(value, (list, tuple)) and len(value) > step else None
    return value.get(step) if isinstance(value, dict) else getattr(value, step, None)
