"""The price table and the function of the simplest use: floats, per million tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Final

from .estimator import CostEstimator

__all__ = ["MODEL_PRICING", "calculate_cost"]

_USUAL_DISCOUNT: Final = float("0.9")  # told from a 0.9 of the caller by its identity
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
        return iter(_shared().get_all_rates())

    def __len__(self) -> int:
        return len(_shared().get_all_rates())

    def __repr__(self) -> str:
        return f"<MODEL_PRICING: {len(self)} models, USD per million tokens>"


MODEL_PRICING: Final[Mapping[str, Mapping[str, float]]] = _PricingView()
"""The catalog as USD per million tokens, read-only."""


def calculate_cost(
    model: str,
    input_tokens: int,
    output_tokens: int,
    cached_tokens: int = 0,
    cache_discount: float = _USUAL_DISCOUNT,
) -> float:
    """
    Return the cost of a call in USD, rounded to 6 digits; 0.0 for an unknown model.

    Args:
        model: The model's name.
        input_tokens: The whole input, cached tokens among it.
        output_tokens: The output.
        cached_tokens: The part of the input that was read from a cache.
        cache_discount: The share that a cached token costs less. Not given, the model's own
            cache price counts, and where it has none, a discount of 0.9.
    """
    estimator = _shared()
    cached = max(0, min(cached_tokens, input_tokens))
    price = estimator.get_rate(model)
    if cache_discount is _USUAL_DISCOUNT and price is not None and price.cache_read is not None:
        cost = estimator.estimate(input_tokens, output_tokens, model, cached_tokens=cached)
        return float(round(cost.total_cost or Decimal(0), 6))
    cost = estimator.estimate(input_tokens, output_tokens, model)
    if cost.total_cost is None or cost.prompt_cost is None:
        return 0.0
    cached_share = Fraction(cached, input_tokens) if cached else Fraction(0)
    saved = Fraction(cost.prompt_cost) * cached_share * Fraction(str(cache_discount))
    return float(round(Fraction(cost.total_cost) - saved, 6))
