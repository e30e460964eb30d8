"""Who caused the call of a span: what it says itself, else what the spans around it say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from agentsight_tokens.config import TokenConfig
from agentsight_tokens.privacy import hashed_user_id
from agentsight_tokens.usage import Scope

from .names import (
    AGENT,
    CONVERSATION,
    ENVIRONMENT,
    FEATURE,
    ORGANISATION,
    SESSION,
    TAGS,
    USER,
)
from .span import Span

__all__ = ["environment_of", "scope_of", "text_of"]

_LONGEST: Final = 1024
_MOST_AROUND: Final = 64


def scope_of(span: Span, spans: Mapping[str, Span], config: TokenConfig) -> Scope:
    """
    Return who caused a call; the conversation is the trace where nothing names one.

    Args:
        span: The call.
        spans: The spans of its trace that came with it, by their ids.
        config: Whether user ids are hashed, and how.
    """
    around = (span, *_ancestors(span, spans))
    conversation = _text_in(around, CONVERSATION) or span.trace_id
    return Scope(
        conversation_id=conversation,
        session_id=_text_in(around, SESSION) or conversation,
        user_id=hashed_user_id(_text_in(around, USER), config),
        org_id=_text_in(around, ORGANISATION),
        agent=_agent_in(around),
        feature=_text_in(around, FEATURE),
        tags=_tags_in(around),
    )


def environment_of(span: Span) -> str | None:
    """Return production, staging, ... as the resource or the span says."""
    return text_of(span.origin.resource, ENVIRONMENT) or text_of(span.attributes, ENVIRONMENT)


def text_of(attributes: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """Return the first of the attributes that is there, and empty in none."""
    for name in names:
        value = attributes.get(name)
        if value is not None and value not in ("", []):
            return str(value)[:_LONGEST]
    return None


def _ancestors(span: Span, spans: Mapping[str, Span]) -> Iterator[Span]:
    for _ in range(_MOST_AROUND):  # a circle ends here too
        parent = spans.get(span.parent_id)
        if parent is None:
            return
        yield parent
        span = parent


def _text_in(around: Sequence[Span], names: Sequence[str]) -> str | None:
    for span in around:
        found = text_of(span.attributes, names)
        if found is not None:
            return found
    return None


def _agent_in(around: Sequence[Span]) -> str | None:
    for span in around:
        found = text_of(span.attributes, AGENT)
        if found is None and span.attributes.get("traceloop.span.kind") == "agent":
            found = text_of(span.attributes, ("traceloop.entity.name",))
        if found is None and span.attributes.get("openinference.span.kind") == "AGENT":
            found = span.name[:_LONGEST] or None
        if found is not None:
            return found
    return None


def _tags_in(around: Sequence[Span]) -> tuple[str, ...]:
    for span in around:
        for name in TAGS:
            value = span.attributes.get(name)
            if value:
                return tuple(sorted({tag[:_LONGEST] for tag in _tags(value) if tag}))
    return ()


def _tags(value: object) -> list[str]:
    if isinstance(value, list):
        return value
    text = str(value)
    if text.startswith("["):
        try:
            return msgspec.json.decode(text, type=list[str])
        except msgspec.DecodeError:
            return [text]
    return [part.strip() for part in text.split(",")]
