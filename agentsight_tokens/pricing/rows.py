"""
The rows of the catalog: what one model cost, from when on, and who says so.

A rate is written `leaf[>threshold | <=bound][~tier]` in USD per million tokens: `input`,
`cache_read>200000`, `output~priority`, `input<=32000`. `>` names the input length above
which the rate holds for the whole request, `<=` the last length of a range.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec

__all__ = ["LEAVES", "Entry", "Header", "OffPeak", "Row", "Source", "Window"]

LEAVES: Final = (
    "input",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "audio_input",
    "cache_read_audio",
    "image_input",
    "output",
    "reasoning",
    "audio_output",
    "image_output",
)
"""The disjoint kinds of tokens into which pricing splits a usage."""


class Source(msgspec.Struct, frozen=True, array_like=True):
    """Who published prices, and when."""

    name: str
    day: str
    """The day of publication, as YYYY-MM-DD."""


class Window(msgspec.Struct, frozen=True, omit_defaults=True):
    """Hours of the day, in UTC, in which off-peak rates hold."""

    hours: tuple[str, ...]
    """`HH:MM-HH:MM`, the end excluded; an equal start and end are the whole day."""
    weekdays: tuple[int, ...] = ()
    """ISO weekdays, 1 is Monday; empty is every day."""


class OffPeak(msgspec.Struct, frozen=True, omit_defaults=True):
    """Rates that replace the usual ones at certain times."""

    windows: tuple[Window, ...]
    usd: dict[str, Decimal]
    utc_offset_hours: int = 0
    """The offset of the calendar in which the weekdays are read."""


class Row(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a model costs from a day on, until the next row of the same model begins."""

    first: int
    """The index of the source that said so first."""
    last: int
    """The index of the source that said so last: the day the row was checked."""
    usd: dict[str, Decimal]
    """USD per million tokens by rate name."""
    also: int | None = None
    """The index of a second source, of the cache prices that the first does not state."""
    since: str | None = None
    """The first day, where it is known better than by the first source's day; empty is ever."""
    factor: dict[str, Decimal] = {}
    """Multipliers: `fast`, `region:us`, `region:eu`, `region:*` (all but global)."""
    search_usd: Decimal | None = None
    """USD per billed search."""
    searches_per_prompt: bool = False
    """Whether all the searches of one call are billed as one."""
    call_usd: Decimal | None = None
    """USD per call, besides its tokens."""
    off_peak: OffPeak | None = None

    def says_the_same_as(self, other: Row) -> bool:
        """Return whether two rows price every call the same."""
        return (
            self.usd == other.usd
            and self.factor == other.factor
            and self.search_usd == other.search_usd
            and self.searches_per_prompt == other.searches_per_prompt
            and self.call_usd == other.call_usd
            and self.off_peak == other.off_peak
        )


class Entry(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model of the catalog: what is known of it besides prices, and its dated rows."""

    rows: tuple[Row, ...] = ()
    """In the order of their days; empty where the entry is an alias."""
    key: str = ""
    """The model's name as its source writes it."""
    alias: str | None = None
    """The key of the entry that this name stands for."""
    provider: str | None = None
    mode: str | None = None
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    retires: str | None = None
    """The day on which the provider switches the model off."""
    inclusive_threshold: bool = False
    """Whether a request of exactly the threshold is already above it."""


class Header(msgspec.Struct, frozen=True):
    """The first line of the snapshot."""

    version: str
    """The day of the newest source."""
    sources: tuple[Source, ...]
