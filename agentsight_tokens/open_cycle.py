"""The counters of a cycle that is still open."""

from __future__ import annotations

from typing import Final

from msgspec.structs import astuple

from .usage import COUNTERS, USAGE_FIELDS, TokenUsage, UsageRecord

__all__ = ["OpenCycle"]

_MOST_APART: Final = 16
"""How many calls are kept before they are added up."""
_Sums = tuple[list[int], list[UsageRecord]]
"""The cost and the counters of some calls, and the calls that are not among them."""


class OpenCycle:
    """Adds up the calls of one conversation until it is sealed. Not locked; the tracker is."""

    __slots__ = ("_sums", "sequence")

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence
        """The number of the cycle in the journal of its process."""
        self._sums: _Sums = ([0] * (1 + len(USAGE_FIELDS)), [])

    def add(self, record: UsageRecord) -> None:
        """Add a call."""
        # Added up a few at a time, which takes a part of the time, and put in place in one step
        # for those that read meanwhile.
        counts, records = self._sums
        records.append(record)
        if len(records) >= _MOST_APART:
            self._sums = (_added_up(counts, records), [])

    @property
    def usage(self) -> TokenUsage:
        """The sum of the calls."""
        counts, records = self._sums
        _, *counters = _added_up(counts, records[:])
        return TokenUsage(**dict(zip(USAGE_FIELDS, counters, strict=True)))

    @property
    def cost_pico_usd(self) -> int:
        """What the calls with a price cost, in 10^-12 USD."""
        counts, records = self._sums
        return _added_up(counts, records[:])[0]


def _added_up(counts: list[int], records: list[UsageRecord]) -> list[int]:
    values = ((r.cost_pico_usd or 0, *astuple(r.usage)[COUNTERS]) for r in records)
    return list(map(sum, zip(counts, *values, strict=True)))
