"""What LangChain's results say about usage, as the canonical counters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from agentsight_tokens.errors import InvalidCountError, UnknownResponseError
from agentsight_tokens.extract import Extracted, extract_usage
from agentsight_tokens.faults import report_fault
from agentsight_tokens.usage import TokenUsage, checked_count

from .runs import Run

__all__ = ["Answer", "extracted", "first_generations", "is_cache_hit", "read_answer"]


class _InputDetails(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """`input_token_details`, each a part of the input."""

    cache_read: int = 0
    cache_creation: int = 0
    ephemeral_1h_input_tokens: int = 0
    ephemeral_5m_input_tokens: int = 0
    audio: int = 0
    image: int = 0


class _OutputDetails(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """`output_token_details`, each a part of the output."""

    reasoning: int = 0
    audio: int = 0
    image: int = 0


class _Metadata(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """`usage_metadata`, as LangChain defines it."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    input_token_details: _InputDetails = _InputDetails()
    output_token_details: _OutputDetails = _OutputDetails()


_NOTHING: Final[Mapping[str, Any]] = {}
_OWN_IDS: Final = ("run-", "lc_run-")


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What a result says about its call."""

    usage: TokenUsage | None
    is_part_of_batch: bool = False
    """Whether the usage is told to be empty, as for all runs but the first of one request."""
    model: str | None = None
    provider: str | None = None
    response_id: str | None = None
    service_tier: str | None = None


def first_generations(response: Any) -> Sequence[Any]:
    """Return the choices of the first prompt of a result."""
    generations = response.generations
    return generations[0] if generations else ()


def is_cache_hit(run: Run, message: Any) -> bool:
    """
    Tell whether LangChain's own cache gave an answer beside which the model says nothing.

    Such a message carries a cost of 0 and the id of the run that once paid for it; one that
    was stored without its usage has no id at all.
    """
    if message is None or run.was_streamed:
        return False
    metadata = getattr(message, "usage_metadata", None)
    if metadata:
        is_free = "total_cost" in metadata and metadata["total_cost"] == 0
        return is_free and str(run.manager.run_id) not in (message.id or "")
    return message.id is None


def read_answer(run: Run, message: Any, output: Any) -> Answer:
    """
    Return what an answer says, the usage from the most exact place that has one.

    Args:
        run: Its run.
        message: The first choice; None where it is no message.
        output: What the model says beside the choices.
    """
    told: Mapping[str, Any] = getattr(message, "response_metadata", None) or _NOTHING
    if isinstance(output, dict) and output:
        told = {**output, **told}
    raw = told.get("token_usage") or told.get("usage")
    if not isinstance(raw, dict):
        raw = _NOTHING
    # A merged message has added up what were running totals.
    is_merged = run.reports >= 2 and run.usage_is_cumulative
    metadata = run.usage if is_merged else getattr(message, "usage_metadata", None)
    usage = _from_metadata(metadata) if metadata else None
    if usage is None and raw:
        found = extracted(raw, run.call.provider)
        usage = found.usage or None if found is not None else None
    elif usage is not None and "server_tool_use" in raw:
        usage = _with_searches(usage, raw)
    response_id = told.get("id") or getattr(message, "id", None)
    # LangChain's own ids say nothing to the provider.
    if not isinstance(response_id, str) or response_id.startswith(_OWN_IDS):
        response_id = None
    return Answer(
        usage,
        usage is None and told.get("token_usage") == {},
        told.get("model_name") or told.get("model"),
        told.get("model_provider"),
        response_id,
        told.get("service_tier") or raw.get("service_tier"),
    )


def extracted(response: Any, provider: str | None) -> Extracted | None:
    """Return what a provider's own response or usage object says; None if it has none."""
    if not isinstance(response, dict):
        return None
    try:
        return extract_usage(response, provider=provider)
    except UnknownResponseError:
        return None
    except InvalidCountError as error:
        report_fault("reading a provider's usage", error)
        return None


def _from_metadata(metadata: Mapping[str, Any]) -> TokenUsage | None:
    """Return the counts of `usage_metadata`; None where it has none, for no call has no token."""
    try:
        try:
            told = msgspec.convert(metadata, _Metadata)
        except msgspec.ValidationError:
            told = msgspec.convert(_plain(metadata), _Metadata)
        given, made = told.input_token_details, told.output_token_details
        # langchain-anthropic sets cache_creation to 0 where it tells the lifetimes apart.
        by_lifetime = given.ephemeral_1h_input_tokens + given.ephemeral_5m_input_tokens
        usage = TokenUsage(
            input_tokens=told.input_tokens,
            output_tokens=told.output_tokens,
            total_tokens=told.total_tokens,
            cache_read_tokens=given.cache_read,
            cache_creation_tokens=max(given.cache_creation, by_lifetime),
            cache_creation_1h_tokens=given.ephemeral_1h_input_tokens,
            reasoning_tokens=made.reasoning,
            audio_input_tokens=given.audio,
            audio_output_tokens=made.audio,
            image_input_tokens=given.image,
            image_output_tokens=made.image,
        )
    except (InvalidCountError, TypeError, ValueError, AttributeError) as error:
        report_fault("reading usage_metadata", error)
        return None
    return usage if usage.total_tokens else None


def _plain(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the counts that are known, where there are others, or some that are None."""
    found: dict[str, Any] = {}
    for name in ("input_tokens", "output_tokens", "total_tokens"):
        found[name] = checked_count(name, metadata.get(name))
    for name, known in (
        ("input_token_details", _InputDetails.__struct_fields__),
        ("output_token_details", _OutputDetails.__struct_fields__),
    ):
        details = found[name] = {}
        for key, count in (metadata.get(name) or _NOTHING).items():
            if key in known:
                details[key] = checked_count(key, count)
            elif count:  # langchain-openai puts the service tier first: `flex_cache_read`
                for field in known:
                    if key.endswith(f"_{field}"):
                        details.setdefault(field, checked_count(key, count))
    return found


def _with_searches(usage: TokenUsage, raw: Mapping[str, Any]) -> TokenUsage:
    searches = (raw.get("server_tool_use") or _NOTHING).get("web_search_requests") or 0
    return usage + TokenUsage(web_search_requests=searches) if searches else usage
