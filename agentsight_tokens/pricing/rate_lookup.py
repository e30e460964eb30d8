"""Finds the rates of a row: by length of the request, tier of service, and what stands in."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Final

from .rows import LEAVES

__all__ = ["RateLookup", "bands_of"]

_OUTPUT: Final = LEAVES.index("output")
_PICO_PER_USD_AND_TOKEN: Final = 10**6  # USD per million tokens -> pico-USD per token
_WITHOUT_LIMIT: Final = 2**63

# What stands in for a rate that a row does not state. Each is looked up after its parent.
_PARENT: Final = {
    "cache_read": "input",
    "cache_write": "input",
    "cache_write_1h": "cache_write",
    "audio_input": "input",
    "image_input": "input",
    "reasoning": "output",
    "audio_output": "output",
    "image_output": "output",
}


class RateLookup:
    """Finds the rates of one band by the rules of fallback."""

    def __init__(
        self, usd: dict[str, Decimal], tier: str | None, thresholds: list[int], bound: str
    ) -> None:
        self._usd = usd
        self._tier = tier
        self._marks = [*(f">{t}" for t in sorted(thresholds, reverse=True)), bound, ""]
        self._derived: set[int] = set()

    def leaves(self) -> tuple[list[Fraction | None], frozenset[int]]:
        """Return the rates in pico-USD per token, and which of them are derived."""
        found: dict[str, Fraction | None] = {}
        for leaf in ("input", "output", *_PARENT):
            found[leaf] = self._rate(leaf, found)
        audio_read, _ = self._stated("cache_read_audio")
        if audio_read is None:
            has_read = self._stated("cache_read")[0] is not None
            audio_read = found["cache_read" if has_read else "audio_input"]
        found["cache_read_audio"] = audio_read
        in_pico = [
            None if rate is None else rate * _PICO_PER_USD_AND_TOKEN
            for rate in (found[leaf] for leaf in LEAVES)
        ]
        return in_pico, frozenset(self._derived)

    def _rate(self, leaf: str, found: dict[str, Fraction | None]) -> Fraction | None:
        if leaf == "reasoning" and self._tier_covers_reasoning():
            return found["output"]
        rate, is_derived = self._stated(leaf)
        if rate is None:
            parent = _PARENT.get(leaf)
            return None if parent is None else found[parent]
        if is_derived:
            self._derived.add(LEAVES.index(leaf))
        return rate

    def _tier_covers_reasoning(self) -> bool:
        """Return whether a tier's output price is the only one for what the model thinks."""
        has_tier = self._tier is not None and self._has_tier("output")
        return has_tier and not self._has_tier("reasoning")

    def _has_tier(self, leaf: str) -> bool:
        return any(f"{leaf}{mark}~{self._tier}" in self._usd for mark in self._marks)

    def _stated(self, leaf: str) -> tuple[Fraction | None, bool]:
        """Return the rate that the row states for the leaf, and whether it is derived."""
        plain = self._first(leaf, "")
        if self._tier is None:
            return plain, False
        base, tier_base = self._usd.get(leaf), self._usd.get(f"{leaf}~{self._tier}")
        for mark in self._marks:
            exact = self._usd.get(f"{leaf}{mark}~{self._tier}")
            if exact is not None:
                return Fraction(exact), False
            above = self._usd.get(f"{leaf}{mark}") if mark else None
            if above is not None and tier_base is not None and base:
                return Fraction(tier_base) * Fraction(above) / Fraction(base), True
        if self._tier == "batches" and plain is not None:
            return plain * self._batch_share(leaf), True
        return plain, False

    def _first(self, leaf: str, suffix: str) -> Fraction | None:
        for mark in self._marks:
            rate = self._usd.get(f"{leaf}{mark}{suffix}")
            if rate is not None:
                return Fraction(rate)
        return None

    def _batch_share(self, leaf: str) -> Fraction:
        """Return the share of the price that a batch pays: the row's own, else half."""
        side = "output" if LEAVES.index(leaf) >= _OUTPUT else "input"
        full, batch = self._usd.get(side), self._usd.get(f"{side}~batches")
        return Fraction(batch) / Fraction(full) if full and batch is not None else Fraction(1, 2)


def bands_of(
    usd: dict[str, Decimal], tier: str | None, *, inclusive_threshold: bool
) -> list[tuple[int, RateLookup]]:
    """Return the bands of a row: the largest input of each, and the way to its rates."""
    bounds = sorted({int(_before_tier(name, "<=")) for name in usd if "<=" in name})
    if bounds:
        limits = [*bounds[:-1], _WITHOUT_LIMIT]
        return [
            (limit, RateLookup(usd, tier, [], f"<={bound}"))
            for limit, bound in zip(limits, bounds, strict=True)
        ]
    thresholds = sorted({int(_before_tier(name, ">")) for name in usd if ">" in name})
    limits = [t - 1 if inclusive_threshold else t for t in thresholds]
    return [
        (limit, RateLookup(usd, tier, thresholds[:position], ""))
        for position, limit in enumerate([*limits, _WITHOUT_LIMIT])
    ]


def _before_tier(name: str, mark: str) -> str:
    return name.partition(mark)[2].partition("~")[0]
