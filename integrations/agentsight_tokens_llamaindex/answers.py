"""What LlamaIndex's responses tell about a call: where the usage is, the model, the id."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from agentsight_tokens.usage import TokenUsage

from .counts import member, merged, token_usage

__all__ = ["Facts", "combined", "facts_of", "find_usage", "first_token_in"]

_PATHS: Final = (
    ("usage",),
    ("response", "usage"),
    ("usage_metadata",),
    ("_raw_response", "usage_metadata"),
    ("x_groq", "usage"),
)
"""Where in `raw` the usage is; see the providers' integrations of llama-index 0.14."""

_HOLDERS: Final = ("response", "message")
"""Events of a stream carry the answer itself in one of these."""


class Facts(NamedTuple):
    """What the provider's answer says of itself."""

    model: str | None = None
    response_id: str | None = None
    service_tier: str | None = None

    def filled_from(self, other: Facts) -> Facts:
        """Return these facts, with the other's where there are none."""
        return Facts(*(mine or others for mine, others in zip(self, other, strict=True)))


def find_usage(response: Any) -> tuple[Any, TokenUsage] | None:
    """Return the object in a response that says what was used, and its counts, if not all 0."""
    for found in _candidates(response):
        counts = token_usage(found)
        if counts:
            return found, counts
    return None


def _candidates(response: Any) -> Iterator[Any]:
    raw = member(response, "raw")
    if raw is not None:
        for path in _PATHS:
            found = raw
            for name in path:
                found = member(found, name)
            yield found
        if isinstance(raw, dict):
            yield raw
    extra = member(response, "additional_kwargs")
    yield member(extra, "usage")
    yield extra


def combined(started: Any, usage: Any) -> TokenUsage | None:
    """Return the counts of a stream whose first event told a part of them."""
    return token_usage(merged(started, usage))


def facts_of(raw: Any) -> Facts:
    """Return what a raw answer, or an event of a stream, says of itself."""
    if raw is None:
        return Facts()
    facts = Facts(
        _text(raw, "model", "model_version", "modelVersion"),
        _text(raw, "id", "response_id", "responseId"),
        _text(raw, "service_tier") or _tier(member(raw, "usage")),
    )
    for name in _HOLDERS:
        held = member(raw, name)
        if held is not None and not isinstance(held, (str, list)):
            facts = facts.filled_from(facts_of(held))
    return facts


def first_token_in(response: Any) -> bool:
    """Tell whether a streamed response brings anything that the model produced."""
    if member(response, "delta"):
        return True
    if (extra := member(response, "additional_kwargs")) and extra.get("thinking_delta"):
        return True
    message = member(response, "message")
    told = member(message, "additional_kwargs")
    return bool(told and (told.get("tool_calls") or told.get("thinking_delta")))


def _tier(usage: Any) -> str | None:
    """Return Anthropic's tier, whose fast mode has a field of its own."""
    return "fast" if member(usage, "speed") == "fast" else _text(usage, "service_tier")


def _text(holder: Any, *names: str) -> str | None:
    for name in names:
        value = member(holder, name)
        if isinstance(value, str) and value:
            return value
    return None
