"""Amounts of money: USD at the interface, integer pico-USD inside."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Final

from agentsight_tokens.usage import PICO_PER_USD

__all__ = ["MAX_PICO_USD", "Amount", "decimal_usd", "pico_usd"]

Amount = Decimal | float | int | str
"""USD, as a caller writes it."""

MAX_PICO_USD: Final = 9_000_000 * PICO_PER_USD
"""The largest amount that is held or limited; its sums fit the 64 bits of every store."""

_MAX_USD: Final = MAX_PICO_USD // PICO_PER_USD
_EXACT_AS_FLOAT: Final = 1000.0
_PICO_AS_FLOAT: Final = float(PICO_PER_USD)


def decimal_usd(name: str, value: Amount) -> Decimal:
    """
    Return an amount as exact USD; a float means what it prints as.

    Raises:
        ValueError: If it is negative, too large or no number.
    """
    try:
        amount = Decimal("NaN") if isinstance(value, bool) else Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or not 0 <= amount <= _MAX_USD:
        raise ValueError(f"{name} must be USD between 0 and 9,000,000, not {value!r}")
    return amount


def pico_usd(name: str, value: Amount) -> int:
    """
    Return an amount in 10^-12 USD.

    Raises:
        ValueError: If it is negative, too large or no number.
    """
    if type(value) is float and 0 <= value < _EXACT_AS_FLOAT:  # much faster, and as exact
        return int(value * _PICO_AS_FLOAT + 0.5)
    return round(decimal_usd(name, value) * PICO_PER_USD)
