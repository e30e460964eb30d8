"""What LlamaIndex's responses tell about a call, and where in them it stands."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from agentsight_tokens.errors import InvalidCountError, UnknownResponseError
from agentsight_tokens.extract import Extracted, extract_usage
from agentsight_tokens.extract.reading import field

__all__ = ["Source", "find_source", "is_first_token", "lacks_cache", "read_answer"]

_HOLDERS: Final = ("response", "_raw_response")
"""Where `raw` holds the answer itself: events of OpenAI's Responses, and older Gemini."""

_PLACES: Final = ("usage", *_HOLDERS, "usage_metadata", "usageMetadata", "x_groq", "meta")

_COUNTS: Final = (
    *("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens"),
    *("prompt_token_count", "candidates_token_count", "promptTokenCount", "candidatesTokenCount"),
    *("inputTokens", "outputTokens", "prompt_eval_count", "eval_count", "billed_units"),
)
"""The counts by which a usage object is known."""


class Source:
    """The object that says what a call used, and the answer that it is a part of."""

    __slots__ = ("answer", "usage")

    def __init__(self, answer: Any, usage: Any) -> None:
        self.answer = answer
        self.usage = usage


def find_source(response: Any) -> Source | None:
    """Return what a response, or a part of a stream, says of its usage if that is not 0."""
    for answer, usage in _candidates(response):
        if usage is not None and _is_counted(usage):
            return Source(answer, usage)
    return None


def read_answer(source: Source | None, raw: Any, first: Any, provider: str | None) -> Extracted:
    """
    Return everything that a call's answer says; `usage` is None if it says nothing.

    Args:
        source: Where the usage was found.
        raw: The last raw answer or event, which tells the rest where there is no usage.
        first: The first raw answer or event, which may name the model that the last does not.
        provider: Who answered, by the model's class.
    """
    if provider == "anthropic":
        provider = None  # its answers themselves tell whether Bedrock or Vertex served them
    if source is None:
        found = _read(first, provider)
        return found if found.model else _read(raw, provider)
    found = _read(source.answer, provider)
    if found.usage:
        return found
    return _read(source.usage, provider)


def lacks_cache(source: Source | None) -> bool:
    """
    Tell whether a stream's usage says nothing of the cache, which its first event may have told.

    llama-index-llms-anthropic (0.12) keeps no more of `message_start` than the input.
    """
    return (
        source is not None
        and field(source.answer, "type") == "message_delta"
        and field(source.usage, "cache_read_input_tokens") is None
        and field(source.usage, "cache_creation_input_tokens") is None
    )


def is_first_token(response: Any) -> bool:
    """Tell whether a part of a stream brings anything that the model produced."""
    if response.delta:
        return True
    for told in (
        response.additional_kwargs,
        field(field(response, "message"), "additional_kwargs"),
    ):
        if told and (told.get("tool_calls") or told.get("thinking_delta")):
            return True
    return False


def _candidates(response: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (answer, usage) from where the integrations of llama-index 0.14 put them."""
    raw = field(response, "raw")
    if raw is not None:
        fields = _fields_of(raw)
        yield raw, fields.get("usage")
        for name in _HOLDERS:
            held = fields.get(name)
            if held is not None and not isinstance(held, str):
                yield held, field(held, "usage", "usage_metadata")
        yield raw, fields.get("usage_metadata")
        yield raw, fields.get("usageMetadata")
        if fields.get("x_groq") is not None:
            yield raw, field(fields["x_groq"], "usage")
        yield raw, fields.get("meta")
        if fields is raw:
            yield raw, raw
    extra = field(response, "additional_kwargs")
    if extra:
        told = field(extra, "usage")
        yield told, told
        yield extra, extra


def _fields_of(raw: Any) -> Mapping[str, Any]:
    """Return a raw answer's fields by name; most parts of a stream have none that matter."""
    if isinstance(raw, dict):
        return raw
    fields: dict[str, Any] = getattr(raw, "__dict__", None) or {}
    if hasattr(type(raw), "__pydantic_validator__"):
        extra = raw.__pydantic_extra__
        return {**extra, **fields} if extra else fields
    # The fields of other classes may be properties, as those of protobuf's messages are.
    return {name: value for name in _PLACES if (value := getattr(raw, name, None)) is not None}


def _is_counted(usage: Any) -> bool:
    """Tell whether a usage object has a count that is not 0."""
    counts = usage if isinstance(usage, dict) else getattr(usage, "__dict__", None)
    if counts is None:
        return not isinstance(usage, (int, float, str))
    return any(map(counts.get, _COUNTS))


def _read(answer: Any, provider: str | None) -> Extracted:
    if answer is None:
        return Extracted()
    try:
        return extract_usage(answer, provider=provider)
    except (UnknownResponseError, InvalidCountError):
        return Extracted()
