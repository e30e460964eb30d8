"""The budget and the manager that a configuration asks for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from agentsight_tokens.config import TokenConfig
from agentsight_tokens.errors import ConfigurationError

from .budget import Budget
from .manager import BudgetManager
from .sqlite import BUDGETS_FILE
from .webhook import AlertOutbox, AlertWebhook

__all__ = ["configured_budget", "configured_manager"]


def configured_budget(config: TokenConfig) -> Budget | None:
    """
    Return the budget of all calls together; None where there is no limit or it is off.

    Raises:
        ConfigurationError: For a time zone that does not exist.
    """
    limits: dict[str, Any] = {
        "hourly_token_limit": config.hourly_token_limit,
        "daily_token_limit": config.daily_token_limit,
        "monthly_token_limit": config.monthly_token_limit,
        "session_token_limit": config.session_token_limit,
        "per_call_token_limit": config.per_call_token_limit,
        "hourly_cost_limit": config.hourly_cost_limit_usd,
        "cost_limit_usd": config.daily_cost_limit_usd,
        "monthly_cost_limit": config.monthly_cost_limit_usd,
        "session_cost_limit": config.session_cost_limit_usd,
        "per_call_cost_limit": config.per_call_cost_limit_usd,
    }
    if config.on_limit == "off" or all(limit is None for limit in limits.values()):
        return None
    try:
        return Budget(
            **limits,
            on_limit=config.on_limit,
            alert_at=config.alert_at,
            timezone=config.budget_timezone,
        )
    except ValueError as error:
        raise ConfigurationError(f"the budget of the configuration cannot be: {error}") from None


def configured_manager(
    config: TokenConfig,
    *,
    conceal: Callable[[str], str] | None = None,
    outbox: AlertOutbox | None = None,
) -> BudgetManager | None:
    """
    Return the manager of the configured budget; None where there is none.

    Args:
        config: The settings.
        conceal: What replaces a user's id in the store and in alerts.
        outbox: What delivers alerts to the webhook.

    Raises:
        ConfigurationError: For a setting that cannot be used.
    """
    budget = configured_budget(config)
    if budget is None:
        return None
    try:
        manager = BudgetManager(
            config.budget_store or config.directory / BUDGETS_FILE,
            on_store_error=config.on_store_error,
            conceal=conceal,
        )
        manager.set_budget(budget)
        if config.alert_webhook_url:
            webhook = AlertWebhook(
                config.alert_webhook_url, secret=config.alert_webhook_secret, outbox=outbox
            )
            manager.on_alert(webhook)
    except (ValueError, ImportError) as error:
        raise ConfigurationError(f"budgets cannot be kept as configured: {error}") from None
    return manager
