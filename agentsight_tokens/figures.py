"""Figures as people read them: costs with the decimals that they need, numbers with a noun."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from .usage import usd

__all__ = ["cost_decimals", "cost_text", "plural"]

_MOST_DECIMALS: Final = 6


def cost_decimals(costs: Iterable[int | None]) -> int:
    """Return how many decimals show two digits of the smallest cost, 2 to 6 of them."""
    smallest = min((cost for cost in costs if cost), default=0)
    return next(
        (n for n in range(2, _MOST_DECIMALS) if smallest >= 10 ** (13 - n)),
        _MOST_DECIMALS if smallest else 2,
    )


def cost_text(pico_usd: int | None, decimals: int) -> str:
    """Return a cost in USD for reading; what is too small for the decimals is said to be so."""
    if pico_usd is None:
        return "unpriced"
    if not pico_usd:
        return "$0"
    unit = Decimal(1).scaleb(-decimals)
    cost = usd(pico_usd)
    return f"<${unit:f}" if cost < unit else f"${cost.quantize(unit):,f}"


def plural(number: int, word: str, several: str | None = None) -> str:
    """Return a number with its noun: `1 call`, `2,000 calls`."""
    return f"{number:,} {word if number == 1 else several or word + 's'}"
