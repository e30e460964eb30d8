"""What holds a tracker's budgets, if it has any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .config import TokenConfig

if TYPE_CHECKING:
    from .budgets import Budget, BudgetManager
    from .budgets.guard import BudgetGuard
    from .pricing import CostEstimator

__all__ = ["guard_of"]


def guard_of(
    budgets: BudgetManager | Budget | None,
    config: TokenConfig,
    *,
    estimator: CostEstimator,
    session_id: str,
) -> BudgetGuard | None:
    """
    Return what holds budgets for the calls of a tracker; None where nothing is limited.

    Args:
        budgets: A manager, or a budget of all calls together, kept in this process's memory;
            None for what is configured.
        config: The settings.
        estimator: Prices calls before they are sent.
        session_id: The session of calls that name none.

    Raises:
        ConfigurationError: For a setting of the budgets that cannot be used.
    """
    if budgets is None and not config.limits_calls:
        return None
    # Imported here: a program without budgets need not load them.
    from .budgets import Budget, BudgetManager
    from .budgets.configured import configured_manager
    from .budgets.guard import BudgetGuard

    if isinstance(budgets, Budget):
        manager = BudgetManager()
        manager.set_budget(budgets)
    else:
        found = budgets or configured_manager(config)
        if found is None:
            return None
        manager = found
    return BudgetGuard(
        manager,
        estimator=estimator,
        output_tokens=config.budget_output_tokens,
        session_id=session_id,
    )
