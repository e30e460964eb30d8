"""
Budgets: what may be used, reserved before each call and settled after it.

A manager turns a scope into the windows that a call meets and asks a store to hold what the
call may use at most, in all of them or in none. Stores know windows, not budgets.
"""

from __future__ import annotations

# Not from `typing`, whose import would cost more than all the rest of this module.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from .alerts import BudgetAlert as BudgetAlert
    from .budget import Budget as Budget
    from .budget import TokenBudgetConfig as TokenBudgetConfig
    from .manager import BudgetManager as BudgetManager
    from .reservation import Reservation as Reservation
    from .status import BudgetStatus as BudgetStatus
    from .status import WindowStatus as WindowStatus
    from .thresholds import BUDGET_THRESHOLDS as BUDGET_THRESHOLDS
    from .thresholds import check_budget as check_budget
    from .thresholds import log_budget_alert as log_budget_alert
    from .token_budget_manager import BudgetCheckResult as BudgetCheckResult
    from .token_budget_manager import TokenBudgetManager as TokenBudgetManager

_MODULES = {
    "BUDGET_THRESHOLDS": "thresholds",
    "Budget": "budget",
    "BudgetAlert": "alerts",
    "BudgetCheckResult": "token_budget_manager",
    "BudgetManager": "manager",
    "BudgetStatus": "status",
    "Reservation": "reservation",
    "TokenBudgetConfig": "budget",
    "TokenBudgetManager": "token_budget_manager",
    "WindowStatus": "status",
    "check_budget": "thresholds",
    "log_budget_alert": "thresholds",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> object:
    """Import a public name when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value
