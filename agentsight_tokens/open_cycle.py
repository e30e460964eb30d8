"""The counters of a cycle that is still open."""

from __future__ import annotations

from operator import add

from msgspec.structs import astuple

from .usage import COUNTERS, USAGE_FIELDS, TokenUsage, UsageRecord

__all__ = ["OpenCycle"]


class OpenCycle:
    """Adds up the calls of one conversation until it is sealed. Not locked; the tracker is."""

    __slots__ = ("_counts", "calls", "cost_pico_usd", "sequence")

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        """The number of the cycle in the journal of its process."""
        self.calls = 0
        self.cost_pico_usd = 0
        self._counts = [0] * len(USAGE_FIELDS)

    def add(self, record: UsageRecord) -> None:
        """Add a call."""
        self.calls += 1
        self.cost_pico_usd += record.cost_pico_usd or 0
        self._counts = list(map(add, self._counts, astuple(record.usage)[COUNTERS]))

    @property
    def usage(self) -> TokenUsage:
        """The sum of the calls."""
        return TokenUsage(**dict(zip(USAGE_FIELDS, self._counts, strict=True)))
