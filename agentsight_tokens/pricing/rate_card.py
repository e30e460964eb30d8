"""A row of the catalog, compiled for one kind of call into integers that only multiply."""

from __future__ import annotations

from fractions import Fraction
from math import lcm
from typing import Final, NamedTuple

from agentsight_tokens.usage import CostStatus, TokenUsage

from .rate_lookup import bands_of
from .rows import LEAVES, Row

__all__ = [
    "Band",
    "CallKind",
    "RateCard",
    "compiled",
    "leaf_counts",
    "plain_counts",
]

_INPUT: Final = LEAVES.index("input")
_OUTPUT: Final = LEAVES.index("output")
_CACHE_READ: Final = LEAVES.index("cache_read")
_REASONING: Final = LEAVES.index("reasoning")
_TEXT: Final = (_INPUT, _CACHE_READ, _OUTPUT, _REASONING)
_PICO: Final = 10**12


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
    prompt_rates: tuple[int, ...]
    """The same for the leaves of the input, with 0 for what is unknown."""
    completion_rates: tuple[int, ...]
    """The same for the leaves of the output."""
    unknown: frozenset[int]
    """The leaves whose rate is unknown."""
    derived: frozenset[int]
    """The leaves whose rate follows from others by a rule, not from the row itself."""
    text_status: CostStatus
    """The status of a call of nothing but text in and out."""
    states_text: bool
    """Whether the row itself states all rates of text: input, cache read, output, reasoning."""
    text_rates: tuple[int, int, int, int]
    """Input, what cache reads cost more than it (less than 0), output, and reasoning likewise."""


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
    bands: list[tuple[int, list[Fraction | None], frozenset[int]]] = []
    for limit, look_up in bands_of(usd, kind.tier, inclusive_threshold=inclusive_threshold):
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
            _band(
                limit,
                tuple(None if rate is None else int(rate * scale) for rate in rates),
                derived,
                text_status,
            )
            for limit, rates, derived in bands
        ),
        search_fee=None if search is None else int(search * scale),
        searches_per_prompt=row.searches_per_prompt,
        call_fee=int(call_fee * scale),
    )


def _band(
    limit: int, rates: tuple[int | None, ...], derived: frozenset[int], status: CostStatus
) -> Band:
    known = tuple(rate or 0 for rate in rates)
    return Band(
        limit=limit,
        rates=rates,
        prompt_rates=known[:_OUTPUT],
        completion_rates=known[_OUTPUT:],
        unknown=frozenset(leaf for leaf, rate in enumerate(rates) if rate is None),
        derived=derived,
        text_status=_status(status, bool(derived & {_INPUT, _OUTPUT})),
        text_rates=(
            known[_INPUT],
            known[_CACHE_READ] - known[_INPUT],
            known[_OUTPUT],
            known[_REASONING] - known[_OUTPUT],
        ),
        states_text=all(rates[leaf] is not None and leaf not in derived for leaf in _TEXT),
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
