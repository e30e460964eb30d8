"""TokenBudgetManager: a manager by user, with the questions that applications ask."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from agentsight_tokens.usage import checked_count

from .alerts import amount_text
from .amounts import Amount, decimal_usd
from .budget import Budget
from .manager import BudgetManager
from .status import BudgetStatus, WindowStatus

__all__ = ["BudgetCheckResult", "TokenBudgetManager"]

_HIGH_USE = 0.8


class BudgetCheckResult(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a call would fit, and how near the limits are."""

    within_limit: bool
    reason: str | None
    """Which limit it would pass; None if it passes none."""
    current_usage: dict[str, int | Decimal]
    """Used and held, by window and unit: `user.day.tokens`."""
    limit_details: dict[str, int | Decimal]
    """The limits, by the same names."""
    recommendations: list[str]


class TokenBudgetManager(BudgetManager):
    """
    A `BudgetManager` that is asked by user.

    Asking holds nothing: of two calls that both ask and then spend, both may be told that
    there is room. What is to hold must `reserve`.
    """

    def configure_budget(self, user_id: str, budget: Budget) -> None:
        """Set the budget of a user."""
        self.set_budget(budget, scope="user", entity_id=user_id)

    def check_budget_limit(
        self,
        user_id: str | None = None,
        estimated_tokens: int = 0,
        estimated_cost: Amount = 0,
        *,
        session_id: str | None = None,
        **scope: Any,
    ) -> BudgetCheckResult:
        """
        Return whether a call would fit, without holding anything for it.

        Args:
            user_id: The user who would cause it.
            estimated_tokens: The tokens it may use.
            estimated_cost: The USD it may cost.
            session_id: The session it would belong to.
            **scope: Further facts of the call; see `BudgetManager.reserve`.
        """
        tokens = checked_count("estimated_tokens", estimated_tokens)
        cost = decimal_usd("estimated_cost", estimated_cost)
        status = self.status(user_id=user_id, session_id=session_id, **scope)
        reasons = [reason for w in status if (reason := _reason(w, tokens, cost))]
        usage: dict[str, int | Decimal] = {}
        limits: dict[str, int | Decimal] = {}
        for window in status:
            name = f"{window.scope}.{window.window}"
            if window.token_limit is not None:
                usage[f"{name}.tokens"] = window.used_tokens + window.held_tokens
                limits[f"{name}.tokens"] = window.token_limit
            if window.cost_limit is not None:
                usage[f"{name}.cost_usd"] = window.used_cost + window.held_cost
                limits[f"{name}.cost_usd"] = window.cost_limit
        return BudgetCheckResult(
            within_limit=not reasons,
            reason=reasons[0] if reasons else None,
            current_usage=usage,
            limit_details=limits,
            recommendations=_recommendations(status),
        )

    def get_budget_status(
        self, user_id: str | None = None, session_id: str | None = None
    ) -> BudgetStatus:
        """Return what is used, held and left of the budgets that a user meets."""
        return self.status(user_id=user_id, session_id=session_id)

    def get_budget_recommendations(
        self, user_id: str | None = None, session_id: str | None = None
    ) -> list[str]:
        """Return what to do about the budgets that are nearly used, most urgent first."""
        return _recommendations(self.status(user_id=user_id, session_id=session_id))


def _reason(window: WindowStatus, tokens: int, cost: Decimal) -> str | None:
    if window.tokens_left is not None and (tokens > window.tokens_left or not window.token_limit):
        left, asked = amount_text(window.tokens_left, "tokens"), amount_text(tokens, "tokens")
    elif window.cost_left is not None and (cost > window.cost_left or not window.cost_limit):
        left, asked = amount_text(window.cost_left, "usd"), amount_text(cost, "usd")
    else:
        return None
    return f"{asked} asked, {left} left of the {window.scope} budget per {window.window}"


def _recommendations(status: BudgetStatus) -> list[str]:
    advice = []
    for window in sorted(status, key=lambda window: -window.fraction):
        if window.fraction < _HIGH_USE:
            break
        until = f" until {window.resets_at:%Y-%m-%d %H:%M} UTC" if window.resets_at else ""
        advice.append(
            f"{window.fraction:.0%} of the {window.scope} budget per {window.window} is used: "
            f"route to a cheaper model, compress the context or raise the limit{until}"
        )
    return advice
