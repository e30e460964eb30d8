"""Figures: the counters by which a meter is judged."""

from __future__ import annotations

from typing import Final, NamedTuple

from agentsight_tokens.summary import UsageSummary

__all__ = ["COUNTED", "Figures"]


class Figures(NamedTuple):
    """What was used, and by how many calls."""

    input_tokens: int = 0
    output_tokens: int = 0
    total_tokens: int = 0
    embedding_tokens: int = 0
    cache_read_tokens: int = 0
    cache_creation_tokens: int = 0
    cache_creation_1h_tokens: int = 0
    reasoning_tokens: int = 0
    calls: int = 0
    unreported_calls: int = 0
    partial_calls: int = 0
    """Calls of which only a part was told, and which are marked so."""

    @classmethod
    def of(cls, usage: UsageSummary, *, partial_calls: int = 0) -> Figures:
        """Return the figures of a summary."""
        counts = {name: getattr(usage, name) for name in COUNTED}
        return cls(
            calls=usage.request_count,
            unreported_calls=usage.unreported_calls,
            partial_calls=partial_calls,
            **counts,
        )


COUNTED: Final = tuple(name for name in Figures._fields if name.endswith("_tokens"))
"""The figures that count tokens."""
