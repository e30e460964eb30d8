"""Budgets of the server's projects: made and changed here, counted by the store."""

from agentsight_tokens.backend.store.server_budget import (
    DEFAULT_LEVELS,
    ServerBudget,
    ServerBudgetScope,
)

from .alert_history import Alert, AlertPage, Delivery
from .burn_down import BurnDown, BurnPoint, burn_down
from .server_budgets import BudgetChange, Budgets, NewBudget
from .standing import BudgetStanding, KeyStanding, Projection

__all__ = [
    "DEFAULT_LEVELS",
    "Alert",
    "AlertPage",
    "BudgetChange",
    "BudgetStanding",
    "Budgets",
    "BurnDown",
    "BurnPoint",
    "Delivery",
    "KeyStanding",
    "NewBudget",
    "Projection",
    "ServerBudget",
    "ServerBudgetScope",
    "burn_down",
]
