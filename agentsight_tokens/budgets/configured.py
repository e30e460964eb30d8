"""The budget and the manager that a configuration asks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from agentsight_tokens.config import TokenConfig
from agentsight_tokens.errors import ConfigurationError
from agentsight_tokens.privacy import hashed_user_id

from .budget import Budget
from .manager import BudgetManager
from .memory import MemoryStore
from .outage import OnStoreError
from .spool import AlertSpool
from .sqlite import BUDGETS_FILE
from .store import BudgetStore
from .webhook import AlertOutbox, AlertWebhook

__all__ = ["configured_budget", "configured_manager"]


def configured_budget(config: TokenConfig) -> Budget | None:
    """
    Return the budget of all calls together; None where there is no limit or it is off.

    Raises:
        ConfigurationError: For a time zone that does not exist.
    """
    if not config.limits_calls:
        return None
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
    try:
        return Budget(
            **limits,
            enforce_limits=config.on_limit == "error",
            alert_at=config.alert_at,
            timezone=config.budget_timezone,
        )
    except ValueError as error:
        raise ConfigurationError(f"the budget of the configuration cannot be: {error}") from None


def configured_manager(
    config: TokenConfig, *, outbox: AlertOutbox | None = None
) -> BudgetManager | None:
    """
    Return the manager of the configured budget; None where there is none.

    The same settings have the same manager for as long as the process lives, so that a second
    tracker does not begin again at 0.

    Args:
        config: The settings.
        outbox: What delivers alerts to the webhook; a folder of the data directory when None.

    Raises:
        ConfigurationError: For a setting that cannot be used.
    """
    budget = configured_budget(config)
    if budget is None:
        return None
    settings = _Settings(
        budget,
        config.directory,
        config.budget_store,
        config.on_store_error,
        config.alert_webhook_url,
        config.alert_webhook_secret,
        config.hash_key if config.hash_user_ids else None,
        config.outbox_max_days * 86_400,
        outbox,
    )
    manager = _managers.get(settings)
    if manager is None:
        try:
            made = _manager_of(settings, lambda user: hashed_user_id(user, config) or user)
        except (ValueError, ImportError) as error:
            raise ConfigurationError(f"budgets cannot be kept as configured: {error}") from None
        manager = _managers.setdefault(settings, made)
    return manager


class _Settings(NamedTuple):
    """What tells one configured manager from another."""

    budget: Budget
    directory: Path
    store: str | None
    on_store_error: OnStoreError
    webhook_url: str | None
    webhook_secret: str | None
    hash_key: str | None
    longest_wait_seconds: float
    outbox: AlertOutbox | None


_managers: Final[dict[_Settings, BudgetManager]] = {}
_memories: Final[dict[Path, MemoryStore]] = {}


def _manager_of(settings: _Settings, conceal: Callable[[str], str]) -> BudgetManager:
    store: BudgetStore | str | Path = settings.store or settings.directory / BUDGETS_FILE
    if store == "memory":  # a new limit finds what was used under the old one, here too
        store = _memories.setdefault(settings.directory, MemoryStore())
    manager = BudgetManager(store, on_store_error=settings.on_store_error, conceal=conceal)
    manager.set_budget(settings.budget)
    if settings.webhook_url:
        outbox = settings.outbox or AlertSpool(
            settings.directory / "alerts", longest_wait_seconds=settings.longest_wait_seconds
        )
        manager.on_alert(
            AlertWebhook(settings.webhook_url, secret=settings.webhook_secret, outbox=outbox)
        )
    return manager
