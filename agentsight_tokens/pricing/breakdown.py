"""The cost of one call, by part and by kind of token."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import msgspec

from agentsight_tokens.markup import html_table
from agentsight_tokens.usage import CostStatus, TokenUsage, usd

from .rate_card import RateCard, leaf_counts, plain_counts
from .rows import LEAVES

__all__ = ["Bucket", "CostBreakdown"]


class Bucket(NamedTuple):
    """One line of the arithmetic: so many tokens at this rate."""

    name: str
    """The kind of tokens, or `embedding`, `search`, `call`."""
    quantity: int
    usd_per_million: Decimal
    """The rate; for `search` and `call` the price of a million of them."""
    cost: Decimal
    """In USD, not rounded."""


class CostBreakdown(msgspec.Struct, frozen=True, gc=False):
    """
    What a call cost. The parts always add up to the total, to the last pico-USD.

    Costs are None, never 0, where the model has no known price.
    """

    cost_pico_usd: int | None
    """The total in 10^-12 USD."""
    prompt_cost_pico_usd: int | None
    completion_cost_pico_usd: int | None
    embedding_cost_pico_usd: int | None
    status: CostStatus
    model: str | None = None
    """The model as it was asked for."""
    card: RateCard | None = None
    """The compiled rates; None where there are none."""
    counts: TokenUsage | tuple[int, int] = (0, 0)
    """The usage that was priced, or its input and output where there was nothing else."""

    @property
    def total_cost(self) -> Decimal | None:
        """The cost in USD."""
        return None if self.cost_pico_usd is None else usd(self.cost_pico_usd)

    @property
    def prompt_cost(self) -> Decimal | None:
        """The part that the input caused, in USD."""
        return None if self.prompt_cost_pico_usd is None else usd(self.prompt_cost_pico_usd)

    @property
    def completion_cost(self) -> Decimal | None:
        """The part that the output caused, in USD."""
        cost = self.completion_cost_pico_usd
        return None if cost is None else usd(cost)

    @property
    def embedding_cost(self) -> Decimal | None:
        """The part that the embedded tokens caused, in USD."""
        return None if self.embedding_cost_pico_usd is None else usd(self.embedding_cost_pico_usd)

    @property
    def fee_pico_usd(self) -> int | None:
        """The part that no token caused: searches and a price per call, in 10^-12 USD."""
        if self.cost_pico_usd is None:
            return None
        return (
            self.cost_pico_usd
            - (self.prompt_cost_pico_usd or 0)
            - (self.completion_cost_pico_usd or 0)
            - (self.embedding_cost_pico_usd or 0)
        )

    @property
    def fee(self) -> Decimal | None:
        """The part that no token caused: searches and a price per call, in USD."""
        return None if self.fee_pico_usd is None else usd(self.fee_pico_usd)

    @property
    def matched_key(self) -> str | None:
        """The key of the catalog whose row priced the call."""
        return None if self.card is None else self.card.key

    price_key = matched_key

    @property
    def price_version(self) -> str | None:
        """The row: its first day and the source that said so."""
        return None if self.card is None else self.card.version

    @property
    def matched(self) -> str | None:
        """How the model's name was matched: `exact`, `alias`, `dated`, `base` or `user`."""
        return None if self.card is None else self.card.matched

    @property
    def buckets(self) -> tuple[Bucket, ...]:
        """The arithmetic, by kind of token; empty where there is no price."""
        if self.card is None:
            return ()
        counts = self.counts
        usage = (
            counts
            if isinstance(counts, TokenUsage)
            else TokenUsage(input_tokens=counts[0], output_tokens=counts[1])
        )
        return tuple(_buckets(self.card, usage, is_consistent=self.status != "inconsistent"))

    def _repr_html_(self) -> str:
        cost = self.total_cost
        title = f"{self.model or 'Cost'}: {'unpriced' if cost is None else f'${cost:f}'}"
        is_short = cost is not None and self.status == "unpriced"
        notes = ["calls without a price are not in this cost"] if is_short else []
        if self.buckets:
            header = ("tokens", "quantity", "USD per million", "USD")
            rows = [
                (
                    each.name.replace("_", " "),
                    f"{each.quantity:,}",
                    f"{each.usd_per_million.normalize():f}",
                    f"{each.cost.normalize():f}",
                )
                for each in self.buckets
            ]
            return html_table(title, header, rows, notes=notes)
        parts = {
            "prompt": self.prompt_cost,
            "completion": self.completion_cost,
            "embedding": self.embedding_cost,
            "fee": self.fee,
        }
        priced = [(name, f"{part:f}") for name, part in parts.items() if part]
        return html_table(title, ("part", "USD"), priced, notes=notes)


def _buckets(card: RateCard, usage: TokenUsage, *, is_consistent: bool) -> list[Bucket]:
    band = card.band(usage.input_tokens)
    counts = leaf_counts(usage)
    if not is_consistent:
        counts = plain_counts(usage)
    searches = usage.web_search_requests
    if card.searches_per_prompt:
        searches = min(searches, 1)
    lines = [
        *zip(LEAVES, counts, band.rates, strict=True),
        ("embedding", usage.embedding_tokens, card.bands[0].rates[0]),
        ("search", searches, card.search_fee),
        ("call", 1 if card.call_fee else 0, card.call_fee),
    ]
    scale = Decimal(card.scale)
    return [
        Bucket(name, count, usd(rate) * 10**6 / scale, usd(count * rate) / scale)
        for name, count, rate in lines
        if count and rate is not None
    ]
