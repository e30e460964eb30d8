"""A row of the catalog, compiled for one kind of call into integers that only multiply."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import lcm
from operator import attrgetter
from typing import Final, NamedTuple

from agentsight_tokens.usage import CostStatus, TokenUsage

from .rows import LEAVES, Row

__all__ = [
    "Band",
    "CallKind",
    "RateCard",
    "compiled",
    "details_of",
    "leaf_counts",
    "plain_counts",
]

_INPUT: Final = LEAVES.index("input")
_OUTPUT: Final = LEAVES.index("output")
_PICO_PER_USD_AND_TOKEN: Final = 10**6  # USD per million tokens -> pico-USD per token
_PICO: Final = 10**12
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


class CallKind(NamedTuple):
    """What besides the model decides the rates of a call."""

    tier: str | None = None
    """The rate suffix: `flex`, `priority`, `batches`, ...; None is the standard tier."""
    region: str | None = None
    is_fast: bool = False


class Band(NamedTuple):
    """The rates of the requests up to a length."""

    limit: int
    """The largest input that is priced here."""
    rates: tuple[int | None, ...]
    """In scaled pico-USD per token, in the order of `LEAVES`; None is unknown."""
    derived: frozenset[int]
    """The leaves whose rate follows from others by a rule, not from the row itself."""
    text_status: CostStatus
    """The status of a call of nothing but text in and out."""


class RateCard:
    """Compiled rates: cost = sum of count * rate, divided by `scale`, rounded once."""

    __slots__ = (
        "bands",
        "call_fee",
        "fits_text",
        "key",
        "matched",
        "scale",
        "search_fee",
        "searches_per_prompt",
        "status",
        "version",
    )

    def __init__(  # noqa: PLR0913  # a record; only `compiled` makes it
        self,
        *,
        key: str,
        version: str,
        matched: str,
        status: CostStatus,
        scale: int,
        bands: tuple[Band, ...],
        search_fee: int | None,
        searches_per_prompt: bool,
        call_fee: int,
    ) -> None:
        self.key = key
        self.version = version
        self.matched = matched
        self.status = status
        self.scale = scale
        self.bands = bands
        self.search_fee = search_fee
        self.searches_per_prompt = searches_per_prompt
        self.call_fee = call_fee
        self.fits_text = not call_fee and all(
            band.rates[_INPUT] is not None and band.rates[_OUTPUT] is not None for band in bands
        )
        """Whether text in and out is priced, and by tokens alone."""

    def band(self, input_tokens: int) -> Band:
        """Return the rates for a request of this input."""
        for band in self.bands[:-1]:
            if input_tokens <= band.limit:
                return band
        return self.bands[-1]


details_of: Final = attrgetter(
    "cache_read_tokens",
    "cache_creation_tokens",
    "cache_creation_1h_tokens",
    "reasoning_tokens",
    "embedding_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "cache_read_audio_tokens",
    "image_input_tokens",
    "image_output_tokens",
    "web_search_requests",
)
"""Returns every count of a usage but input, output and total."""


def plain_counts(usage: TokenUsage) -> tuple[int, ...]:
    """Return the counts of a usage without its details, in the order of `LEAVES`."""
    return (usage.input_tokens, 0, 0, 0, 0, 0, 0, usage.output_tokens, 0, 0, 0)


def leaf_counts(usage: TokenUsage) -> tuple[int, ...]:
    """
    Split a usage into disjoint counts, in the order of `LEAVES`.

    A negative count tells that the usage contradicts itself.
    """
    read, written = usage.cache_read_tokens, usage.cache_creation_tokens
    written_1h = usage.cache_creation_1h_tokens
    audio, audio_read = usage.audio_input_tokens, usage.cache_read_audio_tokens
    image, reasoning = usage.image_input_tokens, usage.reasoning_tokens
    audio_out, image_out = usage.audio_output_tokens, usage.image_output_tokens
    return (
        usage.input_tokens - read - written - (audio - audio_read) - image,
        read - audio_read,
        written - written_1h,
        written_1h,
        audio - audio_read,
        audio_read,
        image,
        usage.output_tokens - reasoning - audio_out - image_out,
        reasoning,
        audio_out,
        image_out,
    )


def compiled(  # noqa: PLR0913  # what names a card, besides the row and the kind of call
    row: Row,
    kind: CallKind,
    *,
    key: str,
    version: str,
    matched: str,
    status: CostStatus = "priced",
    inclusive_threshold: bool = False,
    is_off_peak: bool = False,
) -> RateCard:
    """Compile a row for a kind of call."""
    usd = {**row.usd, **row.off_peak.usd} if is_off_peak and row.off_peak else row.usd
    factor = _factor(row, kind)
    bands = []
    for limit, look_up in _bands(usd, kind.tier, inclusive_threshold=inclusive_threshold):
        rates, derived = look_up.leaves()
        bands.append((limit, [None if r is None else r * factor for r in rates], derived))
    search = None if row.search_usd is None else Fraction(row.search_usd) * _PICO
    call_fee = Fraction(row.call_usd or 0) * _PICO
    scale = lcm(
        *(rate.denominator for _, rates, _ in bands for rate in rates if rate is not None),
        call_fee.denominator,
        1 if search is None else search.denominator,
    )
    unknown_tier = kind.tier is not None and not any(f"~{kind.tier}" in name for name in usd)
    text_status: CostStatus = "derived" if status == "priced" and unknown_tier else status
    return RateCard(
        key=key,
        version=version,
        matched=matched,
        status=text_status,
        scale=scale,
        bands=tuple(
            Band(
                limit,
                tuple(None if rate is None else int(rate * scale) for rate in rates),
                derived,
                _status(text_status, bool(derived & {_INPUT, _OUTPUT})),
            )
            for limit, rates, derived in bands
        ),
        search_fee=None if search is None else int(search * scale),
        searches_per_prompt=row.searches_per_prompt,
        call_fee=int(call_fee * scale),
    )


def _status(status: CostStatus, is_derived: bool) -> CostStatus:  # noqa: FBT001
    return "derived" if is_derived and status == "priced" else status


def _factor(row: Row, kind: CallKind) -> Fraction:
    factor = Fraction(row.factor.get("fast", 1)) if kind.is_fast else Fraction(1)
    if kind.region is None or kind.region == "global":
        return factor
    area = kind.region.partition("-")[0]
    for name in (f"region:{kind.region}", f"region:{area}", "region:*"):
        if name in row.factor:
            return factor * Fraction(row.factor[name])
    return factor


class _Lookup:
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


def _bands(
    usd: dict[str, Decimal], tier: str | None, *, inclusive_threshold: bool
) -> list[tuple[int, _Lookup]]:
    """Return the bands of a row: the largest input of each, and the way to its rates."""
    bounds = sorted({int(_before_tier(name, "<=")) for name in usd if "<=" in name})
    if bounds:
        limits = [*bounds[:-1], _WITHOUT_LIMIT]
        return [
            (limit, _Lookup(usd, tier, [], f"<={bound}"))
            for limit, bound in zip(limits, bounds, strict=True)
        ]
    thresholds = sorted({int(_before_tier(name, ">")) for name in usd if ">" in name})
    limits = [t - 1 if inclusive_threshold else t for t in thresholds]
    return [
        (limit, _Lookup(usd, tier, thresholds[:position], ""))
        for position, limit in enumerate([*limits, _WITHOUT_LIMIT])
    ]


def _before_tier(name: str, mark: str) -> str:
    return name.partition(mark)[2].partition("~")[0]
