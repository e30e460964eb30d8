"""The form of a budget: what people write in it, and the budget that it describes."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Final

import msgspec
from msgspec import UNSET

from agentsight_tokens.backend.budgets import (
    BudgetChange,
    NewBudget,
    ServerBudget,
    ServerBudgetScope,
)
from agentsight_tokens.errors import InvalidBudgetError

__all__ = ["WINDOW_CHOICES", "BudgetForm", "change_of", "filled", "new_budget_of"]

WINDOW_CHOICES: Final[dict[str, str]] = {
    "month": "Month",
    "week": "Week",
    "day": "Day",
    "hour": "Hour",
    "rolling 24h": "Last 24 hours",
    "rolling 7d": "Last 7 days",
    "rolling 30d": "Last 30 days",
    "total": "All time",
}
_ORNAMENTS: Final = str.maketrans("", "", ",_ $%'")
_MOST_DIGITS: Final = 40


class BudgetForm(msgspec.Struct, frozen=True, kw_only=True):
    """The fields as they are written."""

    name: str = ""
    scope: ServerBudgetScope = "global"
    value: str = "*"
    window: str = "month"
    timezone: str = "UTC"
    cost_limit_usd: str = ""
    token_limit: str = ""
    levels: str = "50, 80, 100"
    webhook_urls: str = ""
    webhook_secret: str = ""
    remove_webhooks: bool = False
    enabled: bool = False


def new_budget_of(form: BudgetForm) -> NewBudget:
    """
    Return the budget that a form describes.

    Raises:
        InvalidBudgetError: For a number that is none.
    """
    return NewBudget(
        name=form.name,
        scope=form.scope,
        value="*" if form.scope == "global" else form.value,
        window=form.window,
        timezone=form.timezone,
        token_limit=_tokens(form.token_limit),
        cost_limit_usd=_usd(form.cost_limit_usd),
        levels=_levels(form.levels),
        webhook_urls=_urls(form.webhook_urls),
        webhook_secret=form.webhook_secret or None,
    )


def change_of(form: BudgetForm) -> BudgetChange:
    """
    Return the change that a form asks for; webhooks stay where it names none.

    Raises:
        InvalidBudgetError: For a number that is none.
    """
    urls = _urls(form.webhook_urls)
    return BudgetChange(
        name=form.name,
        token_limit=_tokens(form.token_limit),
        cost_limit_usd=_usd(form.cost_limit_usd),
        levels=_levels(form.levels),
        webhook_urls=() if form.remove_webhooks else urls or UNSET,
        webhook_secret=form.webhook_secret or UNSET,
        enabled=form.enabled,
    )


def filled(budget: ServerBudget) -> BudgetForm:
    """Return the form of a budget; secrets and the addresses of webhooks are not in it."""
    cost = budget.cost_limit_usd
    return BudgetForm(
        name=budget.name,
        scope=budget.scope,
        value=budget.value,
        window=budget.window,
        timezone=budget.timezone,
        cost_limit_usd="" if cost is None else f"{cost.normalize():f}",
        token_limit="" if budget.token_limit is None else f"{budget.token_limit:,}",
        levels=", ".join(_percent(level) for level in budget.levels),
        enabled=budget.enabled,
    )


def _percent(level: float) -> str:
    text = f"{Decimal(str(level)) * 100:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _usd(text: str) -> Decimal | None:
    return _number("the limit in USD", text)


def _tokens(text: str) -> int | None:
    number = _number("the limit of tokens", text)
    if number is None:
        return None
    if number != number.to_integral_value():
        raise InvalidBudgetError(f"the limit of tokens must be a whole number, not {text[:40]!r}")
    return int(number)


def _levels(text: str) -> tuple[float, ...]:
    parts = [part for part in text.replace(";", ",").split(",") if part.strip()]
    found = [_number("a level in percent", part) for part in parts]
    return tuple(float(percent / 100) for percent in found if percent is not None)


def _urls(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def _number(what: str, text: str) -> Decimal | None:
    plain = text.strip().translate(_ORNAMENTS)
    if not plain:
        return None
    try:
        number = Decimal(plain if len(plain) <= _MOST_DIGITS else "none")
    except InvalidOperation:
        number = Decimal("nan")
    if not number.is_finite() or number.adjusted() > _MOST_DIGITS:
        raise InvalidBudgetError(f"{what} must be a number, not {text[:40]!r}")
    return number
