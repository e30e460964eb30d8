"""What LangChain's results say about usage, as the canonical counters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple
from uuid import UUID

from agentsight_tokens.errors import InvalidCountError
from agentsight_tokens.faults import report_fault
from agentsight_tokens.usage import TokenUsage

from .runs import Run

__all__ = ["Answer", "body_usage", "first_generation", "is_cache_hit", "read_answer"]

_NOTHING: Final[Mapping[str, Any]] = {}


class Answer(NamedTuple):
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


def read_answer(run: Run | None, generation: Any, llm_output: Any) -> Answer:
    """Return what a result says, the usage from the most exact place that has one."""
    message = getattr(generation, "message", None)
    metadata: Mapping[str, Any] = getattr(message, "response_metadata", None) or _NOTHING
    output: Mapping[str, Any] = llm_output if isinstance(llm_output, dict) else _NOTHING
    raw = _raw_usage(output) or _raw_usage(metadata)
    usage = _message_usage(run, message)
    if usage is None and raw:
        usage = _checked(_from_raw, raw)
    elif usage is not None and raw and "server_tool_use" in raw:
        usage = _with_searches(usage, raw)
    return Answer(
        usage=usage,
        is_part_of_batch=usage is None and output.get("token_usage") == {},
        model=metadata.get("model_name")
        or output.get("model_name")
        or metadata.get("model")
        or output.get("model"),
        provider=metadata.get("model_provider"),
        response_id=_response_id(message, metadata, output),
        service_tier=metadata.get("service_tier") or raw.get("service_tier"),
    )


def body_usage(response: Any) -> tuple[TokenUsage | None, int | None]:
    """Return the usage and the HTTP status of the response that an exception carried."""
    for generations in reversed(response.generations):
        for generation in generations:
            message = getattr(generation, "message", None)
            metadata = getattr(message, "response_metadata", None) or _NOTHING
            status, body = metadata.get("status_code"), metadata.get("body")
            raw = body.get("usage") if isinstance(body, dict) else None
            if raw or status is not None:
                return (_checked(_from_raw, raw) if isinstance(raw, dict) else None), status
    return None, None


def _message_usage(run: Run | None, message: Any) -> TokenUsage | None:
    metadata = getattr(message, "usage_metadata", None)
    if run is not None and run.reports >= 2 and run.usage_is_cumulative:
        metadata = run.usage  # the merged message has added up what were running totals
    return _checked(_from_metadata, metadata) if metadata else None


def _checked(read: Any, given: Mapping[str, Any]) -> TokenUsage | None:
    """Return a usage, None if it is all zero: no call is answered without any token."""
    try:
        usage: TokenUsage = read(given)
    except (InvalidCountError, TypeError, AttributeError) as error:
        report_fault("reading a usage", error)
        return None
    return usage if usage.total_tokens else None


def _from_metadata(metadata: Mapping[str, Any]) -> TokenUsage:
    given = metadata.get("input_token_details")
    made = metadata.get("output_token_details")
    if not given and not made:
        return TokenUsage(
            input_tokens=metadata.get("input_tokens") or 0,
            output_tokens=metadata.get("output_tokens") or 0,
            total_tokens=metadata.get("total_tokens") or 0,
        )
    given, made = given or _NOTHING, made or _NOTHING
    # langchain-anthropic sets cache_creation to 0 where it tells the lifetimes apart.
    by_lifetime = sum(
        count
        for key, count in given.items()
        if count and key.startswith("ephemeral_") and key.endswith("_input_tokens")
    )
    return TokenUsage(
        input_tokens=metadata.get("input_tokens") or 0,
        output_tokens=metadata.get("output_tokens") or 0,
        total_tokens=metadata.get("total_tokens") or 0,
        cache_read_tokens=_detail(given, "cache_read"),
        cache_creation_tokens=max(_detail(given, "cache_creation"), by_lifetime),
        cache_creation_1h_tokens=given.get("ephemeral_1h_input_tokens") or 0,
        reasoning_tokens=_detail(made, "reasoning"),
        audio_input_tokens=_detail(given, "audio"),
        audio_output_tokens=_detail(made, "audio"),
        image_input_tokens=_detail(given, "image"),
        image_output_tokens=_detail(made, "image"),
    )


def _detail(details: Mapping[str, Any], name: str) -> int:
    """Return a detail, which langchain-openai prefixes with the tier: `flex_cache_read`."""
    found = details.get(name)
    if found:
        return int(found)
    suffix = f"_{name}"
    return next((int(v) for key, v in details.items() if v and key.endswith(suffix)), 0)


def _raw_usage(holder: Mapping[str, Any]) -> Mapping[str, Any]:
    for key in ("token_usage", "usage"):
        raw = holder.get(key)
        if raw and isinstance(raw, dict):
            return raw
    return _NOTHING


def _from_raw(raw: Mapping[str, Any]) -> TokenUsage:
    """Read a provider's own usage, by OpenAI's names or by Anthropic's."""
    given = raw.get("prompt_tokens_details") or raw.get("input_tokens_details") or _NOTHING
    made = raw.get("completion_tokens_details") or raw.get("output_tokens_details") or _NOTHING
    read = raw.get("cache_read_input_tokens") or 0
    written = raw.get("cache_creation_input_tokens") or 0
    lifetimes = raw.get("cache_creation") or _NOTHING
    written = max(written, sum(count or 0 for count in lifetimes.values()))
    counted = raw.get("prompt_tokens")
    if counted is None:
        counted = raw.get("input_tokens")
    return TokenUsage(
        # Anthropic's input leaves out what was read from the cache and written to it.
        input_tokens=(counted or 0) + read + written,
        output_tokens=raw.get("completion_tokens") or raw.get("output_tokens") or 0,
        total_tokens=raw.get("total_tokens") or 0,
        cache_read_tokens=read or given.get("cached_tokens") or 0,
        cache_creation_tokens=written or given.get("cache_write_tokens") or 0,
        cache_creation_1h_tokens=lifetimes.get("ephemeral_1h_input_tokens") or 0,
        reasoning_tokens=made.get("reasoning_tokens") or made.get("thinking_tokens") or 0,
        audio_input_tokens=given.get("audio_tokens") or 0,
        audio_output_tokens=made.get("audio_tokens") or 0,
    )


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
