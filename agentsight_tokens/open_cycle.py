"""The counters of a cycle that is still open."""

from __future__ import annotations

from typing import Final

from msgspec.structs import astuple

from .usage import COUNTERS, USAGE_FIELDS, TokenUsage, UsageRecord

__all__ = ["OpenCycle"]

_MOST_APART: Final = 16
"""How many usages are kept before they are added up."""


class OpenCycle:
    """Adds up the calls of one conversation until it is sealed. Not locked; the tracker is."""

    __slots__ = ("_sums", "cost_pico_usd", "sequence")

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        """The number of the cycle in the journal of its process."""
        self.cost_pico_usd = 0
        self._sums: tuple[list[int], list[TokenUsage]] = ([0] * len(USAGE_FIELDS), [])

    def add(self, record: UsageRecord) -> None:
        """Add a call."""
        if record.cost_pico_usd:
            self.cost_pico_usd += record.cost_pico_usd
        # Added up a few at a time, which takes a part of the time, and put in place in one step
        # for those that read meanwhile.
        counts, usages = self._sums
        usages.append(record.usage)
        if len(usages) >= _MOST_APART:
            self._sums = (_sums_of(counts, usages), [])

    @property
    def usage(self) -> TokenUsage:
        """The sum of the calls."""
        counts, usages = self._sums
        return TokenUsage(**dict(zip(USAGE_FIELDS, _sums_of(counts, usages[:]), strict=True)))


def _sums_of(counts: list[int], usages: list[TokenUsage]) -> list[int]:
    values = (astuple(usage)[COUNTERS] for usage in usages)
    return list(map(sum, zip(counts, *values, strict=True)))
