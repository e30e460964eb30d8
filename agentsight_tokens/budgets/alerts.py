"""Alerts: what is told when a budget runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Final, NamedTuple

from agentsight_tokens.usage import usd

from .windows import Unit, Window

__all__ = ["AlertCallback", "BudgetAlert", "alert_of", "amount_text", "log_alert", "owner_text"]

_logger: Final = logging.getLogger("agentsight_tokens")


class BudgetAlert(NamedTuple):
    """A level that a window has reached, told once for each window, level and unit."""

    level: float
    """The part of the limit that was reached; 1.0 also when the first call was refused."""
    scope: str
    entity_id: str
    window: str
    unit: Unit
    """What is limited; the amounts below are whole tokens or USD."""
    used: int | Decimal
    limit: int | Decimal
    resets_at: datetime | None
    at: datetime
    key: str
    """The same whoever tells of it: the window, the unit and the level."""

    @property
    def message(self) -> str:
        """The alert in one sentence."""
        whose = owner_text(self.scope, self.entity_id)
        used = amount_text(self.used, self.unit)
        limit = amount_text(self.limit, self.unit)
        what = f"at {self.level:.0%}"
        if self.level >= 1 and self.used < self.limit:  # running calls hold the rest
            what = "has refused a call"
        return f"budget of {whose} {what}: used {used} of {limit} per {self.window}"


AlertCallback = Callable[[BudgetAlert], object]


def alert_of(window: Window, unit: Unit, level: float, used: int, at: datetime) -> BudgetAlert:
    """Return the alert of a window; `used` is in tokens or pico-USD."""
    limit = window.limit_of(unit) or 0
    return BudgetAlert(
        level=level,
        scope=window.scope,
        entity_id=window.shown_id,
        window=window.name,
        unit=unit,
        used=used if unit == "tokens" else usd(used),
        limit=limit if unit == "tokens" else usd(limit),
        resets_at=window.resets_at,
        at=at,
        key=f"{window.alert_id} {unit}:{level}",
    )


def amount_text(amount: int | Decimal, unit: Unit) -> str:
    """Return an amount as people write it."""
    if unit == "tokens":
        return f"{amount:,} tokens"
    cents = f"{amount:,.2f}"
    return f"${cents}" if Decimal(cents.replace(",", "")) == amount else f"${amount:,.6f}"


def owner_text(scope: str, entity_id: str) -> str:
    """Return whose budget it is, as people write it."""
    return "all calls" if scope == "global" else f"{scope} {entity_id!r}"


def log_alert(alert: BudgetAlert) -> None:
    """Write an alert to the log."""
    _logger.warning(alert.message)
