"""A price as people state it: USD for so many tokens in and out."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

import msgspec

from agentsight_tokens.errors import ConfigurationError

__all__ = ["ModelPrice", "dated_prices_of", "model_price_of"]

_UNITS = (1, 1_000, 1_000_000)


def _figure(name: str, value: object) -> Decimal:
    try:
        number = value if isinstance(value, Decimal) else Decimal(str(value))
        if not number.is_finite() or number < 0:
            raise ArithmeticError
    except ArithmeticError:
        raise ConfigurationError(
            f"a price must be a number of 0 or more, not {name}={value!r}"
        ) from None
    return number


class ModelPrice(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    A price per `per` tokens.

    Raises:
        ConfigurationError: For a price that is negative or no number, or an unusual unit.
    """

    input: Decimal
    output: Decimal
    cache_read: Decimal | None = None
    """Tokens read from a prompt cache; as input when None."""
    cache_write: Decimal | None = None
    """Tokens written to a prompt cache; as input when None."""
    per: int = 1_000_000
    """The number of tokens that the price is for: 1, 1,000 or 1,000,000."""
    currency: str = "USD"
    """The currency of the figures; costs are always in USD."""
    usd_per_unit: Decimal | None = None
    """USD for one unit of the currency; needed when that is not USD."""
    since: str | None = None
    """The first day on which the price holds, as YYYY-MM-DD."""
    source: str = "user"
    """Who says so."""
    as_of: str | None = None
    """The day on which the price was last checked."""

    def __post_init__(self) -> None:
        for name in ("input", "output", "cache_read", "cache_write", "usd_per_unit"):
            value = getattr(self, name)
            if value is not None:
                msgspec.structs.force_setattr(self, name, _figure(name, value))
        if self.per not in _UNITS:
            raise ConfigurationError(f"per must be 1, 1000 or 1000000 tokens, not {self.per!r}")
        try:
            if self.since is not None:
                date.fromisoformat(self.since)
        except (TypeError, ValueError):
            raise ConfigurationError(f"since must be YYYY-MM-DD, not {self.since!r}") from None
        if self.currency != "USD" and not self.usd_per_unit:
            raise ConfigurationError(f"a price in {self.currency!r} needs usd_per_unit")

    def __float__(self) -> float:
        """Return the flat USD rate per 1,000 tokens; raises where in and out differ."""
        if self.input != self.output:
            raise ValueError(
                f"the price has no one rate: {self.input} in and {self.output} out per {self.per}"
            )
        return float(self.usd_per_million(self.input) / 1000)

    def usd_per_million(self, figure: Decimal) -> Decimal:
        """Return one of the figures in USD per million tokens."""
        return figure * (self.usd_per_unit or 1) * 1_000_000 / self.per

    def rates(self) -> dict[str, Decimal]:
        """Return the rates as a row of the catalog names them, in USD per million tokens."""
        figures = {name: getattr(self, name) for name in ("input", "output")}
        figures |= {name: getattr(self, name) for name in ("cache_read", "cache_write")}
        return {
            name: self.usd_per_million(figure)
            for name, figure in figures.items()
            if figure is not None
        }


def model_price_of(rate: Any) -> ModelPrice:
    """
    Return a price from a bare number (USD per 1,000 tokens, both ways), a mapping or a price.

    Raises:
        ConfigurationError: If it is none of these.
    """
    if isinstance(rate, ModelPrice):
        return rate
    if isinstance(rate, Mapping):
        try:
            return ModelPrice(**rate)
        except TypeError as error:
            raise ConfigurationError(f"{dict(rate)!r} is no price: {error}") from None
    if isinstance(rate, bool) or not isinstance(rate, (int, float, Decimal, str)):
        raise ConfigurationError(f"{rate!r} is no rate in USD per 1000 tokens")
    return ModelPrice(rate, rate, per=1_000)  # type: ignore[arg-type]  # made a Decimal above


def dated_prices_of(rates: Any) -> tuple[ModelPrice, ...]:
    """
    Return one price, or a list of them in the order of their first days.

    Raises:
        ConfigurationError: If one of them is none, or two begin on the same day.
    """
    several = rates if isinstance(rates, (list, tuple)) else (rates,)
    prices = sorted(map(model_price_of, several), key=lambda price: price.since or "")
    days = [price.since for price in prices]
    if len(set(days)) != len(days) or not days:
        raise ConfigurationError(f"prices that follow one another need different days: {days}")
    return tuple(prices)
