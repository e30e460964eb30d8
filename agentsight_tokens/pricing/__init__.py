"""Prices: a dated catalog, the resolution of model names, and the estimator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .breakdown import CostBreakdown as CostBreakdown
    from .estimator import CostEstimator as CostEstimator
    from .model_price import ModelPrice as ModelPrice
    from .seed import MODEL_PRICING as MODEL_PRICING
    from .seed import calculate_cost as calculate_cost

__all__ = ["MODEL_PRICING", "CostBreakdown", "CostEstimator", "ModelPrice", "calculate_cost"]

_MODULES = {
    "CostBreakdown": "breakdown",
    "CostEstimator": "estimator",
    "MODEL_PRICING": "seed",
    "ModelPrice": "model_price",
    "calculate_cost": "seed",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value
