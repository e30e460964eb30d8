"""Routing: which model a call goes to, by how much of the budget is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from agentsight_tokens.budgets import BudgetStatus

__all__ = ["Route", "RouteRequest", "cheaper_model"]


class RouteRequest(NamedTuple):
    """What is known when a model is chosen."""

    model: str
    """The model that the call asks for."""
    prompt: Any
    status: BudgetStatus | None
    """The budgets that the call meets; None if there are none."""


Route = Callable[[RouteRequest], "str | None"]
"""Returns the model to take; None for the one that was asked for."""


def cheaper_model(alternatives: Mapping[str, str], *, at: float = 0.8) -> Route:
    """
    Return a route to cheaper models once a part of a budget is used.

    Args:
        alternatives: The cheaper model of each.
        at: The part of the nearest limit above which they are taken.
    """

    def route(request: RouteRequest) -> str | None:
        if request.status is None or request.status.fraction < at:
            return None
        return alternatives.get(request.model)

    return route
