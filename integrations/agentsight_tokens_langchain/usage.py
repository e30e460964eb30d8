"""What LangChain's results say about usage, as the canonical counters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import msgspec

from agentsight_tokens.errors import InvalidCountError, UnknownResponseError
from agentsight_tokens.extract import Extracted, extract_usage
from agentsight_tokens.faults import report_fault
from agentsight_tokens.usage import TokenUsage

from .runs import Run

__all__ = ["Answer", "extracted", "first_generation", "is_cache_hit", "read_answer"]

_INPUT_DETAILS: Final = {
    "cache_read": "cache_read_tokens",
    "cache_creation": "cache_creation_tokens",
    "ephemeral_1h_input_tokens": "cache_creation_1h_tokens",
    "ephemeral_5m_input_tokens": "_5m",
    "audio": "audio_input_tokens",
    "image": "image_input_tokens",
}
_OUTPUT_DETAILS: Final = {
    "reasoning": "reasoning_tokens",
    "audio": "audio_output_tokens",
    "image": "image_output_tokens",
}
_NOTHING: Final[Mapping[str, Any]] = {}


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What a result says about its call."""

    usage: TokenUsage | None
    is_part_of_batch: bool = False
    """Whether the usage is told to be empty, as for all runs but the first of one request."""
    model: str | None = None
    provider: str | None = None
    response_id: str | None = None
    service_tier: str | None = None


def first_generation(response: Any) -> Any:
    """
    Return the first choice of a result; None where there is none.

    Only the first is read, because every choice repeats the usage of all.
    """
    generations = response.generations
    return generations[0][0] if generations and generations[0] else None


def is_cache_hit(run_id: UUID, run: Run | None, message: Any, llm_output: Any) -> bool:
    """
    Tell whether LangChain's own cache answered, so that nothing was sent.

    Such a message carries a cost of 0 and the id of the run that once paid for it; one that
    was stored without its usage has no id at all.
    """
    if message is None or llm_output or (run is not None and run.was_streamed):
        return False
    metadata = getattr(message, "usage_metadata", None)
    if metadata:
        is_free = "total_cost" in metadata and metadata["total_cost"] == 0
        return is_free and str(run_id) not in (message.id or "")
    return message.id is None


def read_answer(run: Run | None, generation: Any, llm_output: Any, provider: str | None) -> Answer:
    """Return what a result says, the usage from the most exact place that has one."""
    message = getattr(generation, "message", None)
    metadata: Mapping[str, Any] = getattr(message, "response_metadata", None) or _NOTHING
    output: Mapping[str, Any] = llm_output if isinstance(llm_output, dict) else _NOTHING
    raw = output.get("token_usage") or output.get("usage")
    if not isinstance(raw, dict):
        raw = metadata.get("token_usage") or metadata.get("usage")
        if not isinstance(raw, dict):
            raw = _NOTHING
    usage = _message_usage(run, message)
    if usage is None and raw:
        found = extracted(raw, provider)
        usage = found.usage or None if found is not None else None
    elif usage is not None and "server_tool_use" in raw:
        usage = _with_searches(usage, raw)
    return Answer(
        usage,
        usage is None and output.get("token_usage") == {},
        metadata.get("model_name")
        or output.get("model_name")
        or metadata.get("model")
        or output.get("model"),
        metadata.get("model_provider"),
        _response_id(message, metadata, output),
        metadata.get("service_tier") or raw.get("service_tier"),
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


def _message_usage(run: Run | None, message: Any) -> TokenUsage | None:
    metadata = getattr(message, "usage_metadata", None)
    if run is not None and run.reports >= 2 and run.usage_is_cumulative:
        metadata = run.usage  # the merged message has added up what were running totals
    if not metadata:
        return None
    try:
        usage = _from_metadata(metadata)
    except (InvalidCountError, TypeError, ValueError, AttributeError) as error:
        report_fault("reading usage_metadata", error)
        return None
    return usage if usage.total_tokens else None  # no call is answered without any token


def _from_metadata(metadata: Mapping[str, Any]) -> TokenUsage:
    counts = {
        "input_tokens": metadata.get("input_tokens") or 0,
        "output_tokens": metadata.get("output_tokens") or 0,
        "total_tokens": metadata.get("total_tokens") or 0,
    }
    given, made = metadata.get("input_token_details"), metadata.get("output_token_details")
    if given:
        _add_details(counts, given, _INPUT_DETAILS)
        if "_5m" in counts or "cache_creation_1h_tokens" in counts:
            # langchain-anthropic sets cache_creation to 0 where it tells the lifetimes apart.
            by_lifetime = counts.get("cache_creation_1h_tokens", 0) + counts.pop("_5m", 0)
            if by_lifetime > counts.get("cache_creation_tokens", 0):
                counts["cache_creation_tokens"] = by_lifetime
    if made:
        _add_details(counts, made, _OUTPUT_DETAILS)
    return TokenUsage(**counts)


def _add_details(counts: dict[str, int], details: Mapping[str, Any], names: dict[str, str]) -> None:
    """Add the details by the names of their fields; most of them are 0."""
    for key, count in details.items():
        if not count:
            continue
        if key in names:
            counts[names[key]] = count
        else:  # langchain-openai puts the service tier first: `flex_cache_read`
            for name, field in names.items():
                if key.endswith(f"_{name}"):
                    counts.setdefault(field, count)


def _with_searches(usage: TokenUsage, raw: Mapping[str, Any]) -> TokenUsage:
    searches = (raw.get("server_tool_use") or _NOTHING).get("web_search_requests") or 0
    return usage + TokenUsage(web_search_requests=searches) if searches else usage


def _response_id(
    message: Any, metadata: Mapping[str, Any], output: Mapping[str, Any]
) -> str | None:
    found = metadata.get("id") or output.get("id")
    if not found:
        own = getattr(message, "id", None)
        # LangChain's own ids say nothing to the provider.
        if own and not own.startswith(("run-", "lc_run-")):
            found = own
    return found if isinstance(found, str) else None
