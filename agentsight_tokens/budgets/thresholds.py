"""Thresholds on single costs: an alert where one is passed, and nothing is stopped."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import Final

from .amounts import Amount, decimal_usd

__all__ = ["BUDGET_THRESHOLDS", "check_budget", "log_budget_alert"]

_logger: Final = logging.getLogger("agentsight_tokens")

BUDGET_THRESHOLDS: Final[dict[str, float]] = {
    "per_call_max": 1.00,
    "per_session_max": 10.00,
    "per_user_daily": 50.00,
    "org_daily": 1000.00,
}
"""USD above which `check_budget` gives an alert; a program may change them."""

_SHORT_NAMES: Final = {
    "per_call": "per_call_max",
    "per_session": "per_session_max",
    "per_user": "per_user_daily",
    "org": "org_daily",
}


def check_budget(cost: Amount, level: str, entity_id: str) -> bool:
    """
    Give an alert if a cost is above its threshold.

    Args:
        cost: USD; at a daily level those of the day so far.
        level: per_call, per_session, per_user_daily (per_user) or org_daily (org), or a name
            that was added to `BUDGET_THRESHOLDS`.
        entity_id: Whose cost it is.

    Returns:
        Whether the cost is within the threshold.

    Raises:
        ValueError: For an unknown level, or a cost that cannot be one.
    """
    threshold = BUDGET_THRESHOLDS.get(_SHORT_NAMES.get(level, level))
    if threshold is None:
        threshold = BUDGET_THRESHOLDS.get(f"{level}_max")
    if threshold is None:
        known = sorted({*_SHORT_NAMES, *BUDGET_THRESHOLDS})
        raise ValueError(f"level {level!r} has no threshold; known are {', '.join(known)}")
    is_within = decimal_usd("cost", cost) <= decimal_usd(level, threshold)
    if not is_within:
        log_budget_alert(level, entity_id, cost, threshold)
    return is_within


def log_budget_alert(level: str, entity_id: str, cost: Amount, threshold: Amount) -> None:
    """Write to the log that a cost is above its threshold."""
    _logger.warning(
        "Cost $%.4f of %r exceeded the %s budget of $%.2f",
        Decimal(str(cost)),
        entity_id,
        level,
        Decimal(str(threshold)),
    )
