"""Prices: what models cost, who says so, and how old that is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple

import msgspec

from agentsight_tokens.backend.analytics import usage_by
from agentsight_tokens.backend.endpoint import Asked
from agentsight_tokens.pricing import CostEstimator
from agentsight_tokens.pricing.catalog import OLD_AFTER_DAYS
from agentsight_tokens.pricing.explanation import model_sheet

from .figures import Figure, count
from .page import page
from .selection import address

__all__ = ["ENDPOINTS", "PriceRow", "price_row"]

_RECENTLY: Final = timedelta(days=30)
_RATES: Final = ("input", "cache_read", "cache_write", "output")


class PricesQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of the page."""

    model: str = ""
    provider: str = ""


class PriceRow(NamedTuple):
    """What a model costs now, in USD per million tokens."""

    model: str
    provider: str | None
    rates: tuple[str, ...]
    """Of input, cache reads, cache writes and output; empty where they cost as input does."""
    matched: str
    """The catalog's name of it; empty without a price."""
    source: str
    as_of: str
    link: str
    unpriced: Figure | None
    """Calls that have no price, if there are any."""


class Prices(NamedTuple):
    """What the page shows."""

    version: str
    age_days: int
    is_old: bool
    model_count: Figure
    rows: tuple[PriceRow, ...]
    sheet: tuple[str, ...]
    asked_for: str


def price_row(
    prices: CostEstimator, model: str, provider: str | None, unpriced_calls: int
) -> PriceRow:
    """Return what a model costs now."""
    match = prices.match(model, provider=provider)
    price = None if match is None else prices.get_rate(model, provider=provider)
    rates = {} if price is None else price.rates()
    return PriceRow(
        model=model,
        provider=provider,
        rates=tuple(_rate(rates.get(name)) for name in _RATES),
        matched="" if match is None or price is None else match.entry.key,
        source="" if price is None else price.source,
        as_of=(price.as_of or "") if price else "",
        link=address("/prices", {"model": model, "provider": provider}),
        unpriced=count(unpriced_calls) if unpriced_calls else None,
    )


def view_of(asked: Asked, query: PricesQuery) -> Mapping[str, Any]:
    """Read the prices of the models that the project has used, and of one that is asked for."""
    since = asked.server.accounts.now() - _RECENTLY
    since = since.replace(hour=0, minute=0, second=0, microsecond=0)
    used = usage_by(asked.project, ["model", "provider"], where={"since": since})
    prices = asked.server.meter.estimator
    catalog = prices.catalog
    model = query.model.strip()
    sheet = model_sheet(model, prices, provider=query.provider or None) if model else []
    return {
        "view": Prices(
            version=catalog.version,
            age_days=catalog.age_days(),
            is_old=catalog.age_days() > OLD_AFTER_DAYS,
            model_count=count(len(catalog)),
            rows=tuple(
                price_row(prices, name, provider, usage.unpriced_calls)
                for (name, provider), usage in used.groups
                if name
            ),
            sheet=tuple(sheet),
            asked_for=model,
        ),
    }


def _rate(usd_per_million: Decimal | None) -> str:
    if usd_per_million is None:
        return ""
    text = f"{usd_per_million:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    whole, dot, rest = text.partition(".")
    return f"${whole}.{rest:0<2}" if dot else f"${whole}.00"


ENDPOINTS: Final = (page("/prices", view_of, PricesQuery, template="prices.html", title="Prices"),)
