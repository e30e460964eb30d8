"""Langfuse's usage details."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from agentsight_tokens.errors import InvalidCountError
from agentsight_tokens.usage import TokenUsage, checked_count

from .from_openai import openai_usage

__all__ = ["langfuse_usage"]

_OPENAI_NAMES: Final = frozenset(("prompt_tokens", "completion_tokens", "input_tokens"))


def langfuse_usage(details: Mapping[str, Any]) -> TokenUsage:
    """
    Return Langfuse's usage details, which are disjoint unless they are OpenAI's own object.

    A count may be written as a float or a text.

    Raises:
        InvalidCountError: If one is none.

    https://langfuse.com/docs/observability/features/token-and-cost-tracking, read 2026-11-30.
    """
    if not _OPENAI_NAMES.isdisjoint(details):
        return openai_usage(details)
    counts = {name: _count(name, value) for name, value in details.items()}
    given = _sum(counts, "input", "cache")
    output = _sum(counts, "output")
    total = counts.get("total", 0)
    return TokenUsage(
        input_tokens=given,
        output_tokens=output,
        total_tokens=total if total > given + output else given + output,
        cache_read_tokens=sum(n for name, n in counts.items() if _is_read(name)),
        cache_creation_tokens=sum(n for name, n in counts.items() if "cache_creation" in name),
        reasoning_tokens=sum(n for name, n in counts.items() if "reasoning" in name),
        audio_input_tokens=_sum(counts, "input_audio"),
        audio_output_tokens=_sum(counts, "output_audio"),
    )


def _sum(counts: Mapping[str, int], *kinds: str) -> int:
    return sum(count for name, count in counts.items() if name.startswith(kinds))


def _is_read(name: str) -> bool:
    return "cache" in name and "creation" not in name and "write" not in name


def _count(name: str, value: object) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    elif isinstance(value, str):
        if not value.strip().isdecimal():
            raise InvalidCountError(f"{name} must be a whole number of tokens, not {value[:40]!r}")
        value = int(value)
    return checked_count(name, value)
