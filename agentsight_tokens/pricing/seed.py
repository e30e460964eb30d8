"""The price table and the function of the simplest use: floats, per million tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Final

from .estimator import CostEstimator

__all__ = ["MODEL_PRICING", "calculate_cost"]

_MILLION: Final = 1_000_000
_estimator: CostEstimator | None = None


def _shared() -> CostEstimator:
    global _estimator
    if _estimator is None:
        _estimator = CostEstimator()
    return _estimator


class _PricingView(Mapping[str, Mapping[str, float]]):
    """The catalog as USD per million tokens: `{"input": ..., "output": ...}` by model."""

    def __getitem__(self, model: str) -> dict[str, float]:
        price = _shared().get_rate(model)
        if price is None:
            raise KeyError(model)
        return {
            "input": float(price.usd_per_million(price.input)),
            "output": float(price.usd_per_million(price.output)),
        }

    def __iter__(self) -> Iterator[str]:
        return iter(_shared().catalog)

    def __len__(self) -> int:
        return len(_shared().catalog)

    def __repr__(self) -> str:
        return f"<MODEL_PRICING: {len(self)} models, USD per million tokens>"


MODEL_PRICING: Final[Mapping[str, Mapping[str, float]]] = _PricingView()
"""The catalog as USD per million tokens, read-only."""


def calculate_cost(
    model: str,
    input_tokens: int,
    output_tokens: int,
    cached_tokens: int = 0,
    cache_discount: float | None = None,
) -> float:
    """
    Return the cost of a call in USD, rounded to 6 digits; 0.0 for an unknown model.

    Cached tokens are a part of the input. They cost what the discount leaves of the input
    price; without one, the model's own cache price, and where it has none a tenth.

    Args:
        model: The model's name.
        input_tokens: The whole input.
        output_tokens: The output.
        cached_tokens: The part of the input that was read from a cache.
        cache_discount: The share that a cached token costs less, for example 0.9.
    """
    cached = max(0, min(cached_tokens, input_tokens))
    estimator = _shared()
    price = estimator.get_rate(model)
    if price is None:
        estimator.estimate(input_tokens, output_tokens, model)
        return 0.0
    if cache_discount is None and price.cache_read is not None:
        cache_rate = price.cache_read
    else:
        discount = Decimal(str(0.9 if cache_discount is None else cache_discount))
        cache_rate = price.input * (1 - discount)
    cost = (
        (input_tokens - cached) * price.usd_per_million(price.input)
        + cached * price.usd_per_million(cache_rate)
        + output_tokens * price.usd_per_million(price.output)
    ) / _MILLION
    return float(round(cost, 6))
