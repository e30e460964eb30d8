"""The arithmetic: a usage times a card, in integers, rounded once."""

from __future__ import annotations

from operator import mul
from typing import Final

from msgspec.structs import astuple

from agentsight_tokens.usage import COUNTERS, CostStatus, TokenUsage

from .breakdown import CostBreakdown
from .rate_card import RateCard, leaf_counts, plain_counts
from .rows import LEAVES

__all__ = ["cost_of", "rounded", "text_cost_of"]

_OUTPUT: Final = LEAVES.index("output")
"""The first leaf of the output."""


def rounded(scaled: int, scale: int) -> int:
    """Divide and round half to even."""
    if scale == 1:
        return scaled
    quotient, rest = divmod(scaled, scale)
    twice = 2 * rest
    return quotient + (twice > scale or (twice == scale and quotient & 1))


def cost_of(usage: TokenUsage, card: RateCard, model: str | None) -> CostBreakdown | None:
    """
    Return what a usage costs by a card; None where the card lacks a rate that it needs.

    A usage whose details exceed its totals is priced without them, and says so.
    """
    band = card.band(usage.input_tokens)
    status: CostStatus = card.status
    counts = leaf_counts(usage)
    if min(counts) < 0:
        counts, status = plain_counts(usage), "inconsistent"
    if band.unknown and any(counts[leaf] for leaf in band.unknown):
        return None
    prompt = sum(map(mul, counts, band.prompt_rates))
    completion = sum(map(mul, counts[_OUTPUT:], band.completion_rates))
    embedding = 0
    if usage.embedding_tokens:
        # Many texts are embedded in one call, so that no threshold of length applies.
        rate = card.bands[0].rates[0]
        if rate is None:
            return None
        embedding = usage.embedding_tokens * rate
    if band.derived and status == "priced" and any(counts[leaf] for leaf in band.derived):
        status = "derived"
    fee, status = _fee(usage, card, status)
    # Rounded as running sums, so that the parts add up to the total that is rounded once.
    scale = card.scale
    first = rounded(prompt, scale)
    second = rounded(prompt + completion, scale)
    third = rounded(prompt + completion + embedding, scale)
    total = rounded(prompt + completion + embedding + fee, scale)
    return CostBreakdown(total, first, second - first, third - second, status, model, card, usage)


def _fee(usage: TokenUsage, card: RateCard, status: CostStatus) -> tuple[int, CostStatus]:
    """Return the scaled price of what is not tokens, and the status that follows."""
    searches = usage.web_search_requests
    if not searches:
        return card.call_fee, status
    if card.search_fee is None:
        return card.call_fee, "estimated" if status in ("priced", "derived") else status
    billed = 1 if card.searches_per_prompt else searches
    return card.call_fee + billed * card.search_fee, status


def text_cost_of(usage: TokenUsage, card: RateCard) -> tuple[int, int, int, CostStatus] | None:
    """
    Return what `cost_of` finds, in a part of its time, for nothing but text.

    Some of it may be read from a cache, or be reasoning.

    Args:
        usage: The counts.
        card: The rates.

    Returns:
        The cost and the parts of it that the prompt and the completion caused, in pico-USD, and
        how it was found; None for any other usage, or where not tokens alone have a price.
    """
    given, made = usage.input_tokens, usage.output_tokens
    read, reasoning = usage.cache_read_tokens, usage.reasoning_tokens
    if sum(astuple(usage)[COUNTERS]) != given + made + usage.total_tokens + read + reasoning:
        return None  # no count is negative, so that another one is not 0
    band = card.bands[0]
    if given > band.limit:
        band = card.band(given)
    if not (read or reasoning):
        status = band.text_status
    elif band.states_text and read <= given and reasoning <= made:
        status = card.status
    else:
        return None
    if not card.fits_text:
        return None
    input_rate, read_extra, output_rate, reasoning_extra = band.text_rates
    prompt = given * input_rate + read * read_extra
    total = prompt + made * output_rate + reasoning * reasoning_extra
    scale = card.scale
    if scale != 1:
        total, prompt = rounded(total, scale), rounded(prompt, scale)
    return total, prompt, total - prompt, status
