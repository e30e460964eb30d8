"""Count, price and budget the tokens of every conversation."""

from __future__ import annotations

import importlib

# Not from `typing`, whose import would cost more than all the rest of this module.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from .attributes import CallDetails as CallDetails
    from .attributes import span_attributes as span_attributes
    from .budgets import BUDGET_THRESHOLDS as BUDGET_THRESHOLDS
    from .budgets import Budget as Budget
    from .budgets import BudgetAlert as BudgetAlert
    from .budgets import BudgetCheckResult as BudgetCheckResult
    from .budgets import BudgetManager as BudgetManager
    from .budgets import BudgetStatus as BudgetStatus
    from .budgets import Reservation as Reservation
    from .budgets import TokenBudgetConfig as TokenBudgetConfig
    from .budgets import TokenBudgetManager as TokenBudgetManager
    from .budgets import check_budget as check_budget
    from .budgets import log_budget_alert as log_budget_alert
    from .config import TokenConfig as TokenConfig
    from .context import CompressionResult as CompressionResult
    from .context import ContextMonitor as ContextMonitor
    from .context import ContextReport as ContextReport
    from .context import auto_compress_context as auto_compress_context
    from .counting import TokenCounter as TokenCounter
    from .cycle import Cycle as Cycle
    from .errors import AgentSightError as AgentSightError
    from .errors import AgentSightWarning as AgentSightWarning
    from .errors import BudgetExceededError as BudgetExceededError
    from .errors import ConfigurationError as ConfigurationError
    from .errors import HandlerSkippedWarning as HandlerSkippedWarning
    from .errors import InvalidCountError as InvalidCountError
    from .errors import UnknownHandlerError as UnknownHandlerError
    from .errors import UnknownModelError as UnknownModelError
    from .errors import UnknownResponseError as UnknownResponseError
    from .global_usage import get_global_usage as get_global_usage
    from .middleware import TokenMiddleware as TokenMiddleware
    from .middleware import cheaper_model as cheaper_model
    from .pricing import MODEL_PRICING as MODEL_PRICING
    from .pricing import CostBreakdown as CostBreakdown
    from .pricing import CostEstimator as CostEstimator
    from .pricing import ModelPrice as ModelPrice
    from .pricing import calculate_cost as calculate_cost
    from .send_result import SendResult as SendResult
    from .summary import UsageSummary as UsageSummary
    from .tracker import ConversationTracker as ConversationTracker
    from .usage import Scope as Scope
    from .usage import TokenUsage as TokenUsage
    from .usage import UsageRecord as UsageRecord
    from .usage_analytics import UsageAnalytics as UsageAnalytics
    from .usage_tracker import UsageTracker as UsageTracker

__version__ = "0.1.0"

_MODULES = {
    "AgentSightError": "errors",
    "AgentSightWarning": "errors",
    "BUDGET_THRESHOLDS": "budgets",
    "Budget": "budgets",
    "BudgetAlert": "budgets",
    "BudgetCheckResult": "budgets",
    "BudgetExceededError": "errors",
    "BudgetManager": "budgets",
    "BudgetStatus": "budgets",
    "CallDetails": "attributes",
    "CompressionResult": "context",
    "ConfigurationError": "errors",
    "ContextMonitor": "context",
    "ContextReport": "context",
    "ConversationTracker": "tracker",
    "CostBreakdown": "pricing",
    "CostEstimator": "pricing",
    "Cycle": "cycle",
    "HandlerSkippedWarning": "errors",
    "InvalidCountError": "errors",
    "MODEL_PRICING": "pricing",
    "ModelPrice": "pricing",
    "Reservation": "budgets",
    "Scope": "usage",
    "SendResult": "send_result",
    "TokenBudgetConfig": "budgets",
    "TokenBudgetManager": "budgets",
    "TokenConfig": "config",
    "TokenCounter": "counting",
    "TokenMiddleware": "middleware",
    "TokenUsage": "usage",
    "UnknownHandlerError": "errors",
    "UnknownModelError": "errors",
    "UnknownResponseError": "errors",
    "UsageAnalytics": "usage_analytics",
    "UsageRecord": "usage",
    "UsageSummary": "summary",
    "UsageTracker": "usage_tracker",
    "auto_compress_context": "context",
    "calculate_cost": "pricing",
    "cheaper_model": "middleware",
    "check_budget": "budgets",
    "get_global_usage": "global_usage",
    "log_budget_alert": "budgets",
    "span_attributes": "attributes",
}

__all__ = sorted(_MODULES)


def __getattr__(name: str) -> object:
    # Every name is imported when it is first used, so that the import itself costs nothing.
    module = _MODULES.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
