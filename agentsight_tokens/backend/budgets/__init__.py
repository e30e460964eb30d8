"""Budgets of the server's projects: made and changed here, counted by the store."""

from agentsight_tokens.backend.store.server_budget import ServerBudget, ServerBudgetScope

from .alert_history import Alert, AlertPage, Delivery
from .server_budgets import BudgetChange, Budgets, NewBudget
from .standing import BudgetStanding, KeyStanding, Projection

__all__ = [
    "Alert",
    "AlertPage",
    "BudgetChange",
    "BudgetStanding",
    "Budgets",
    "Delivery",
    "KeyStanding",
    "NewBudget",
    "Projection",
    "ServerBudget",
    "ServerBudgetScope",
]
