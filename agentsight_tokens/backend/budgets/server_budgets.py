"""Budgets: making, changing and reading those of a project."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal
from typing import Annotated, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType

from agentsight_tokens.backend.store import Store
from agentsight_tokens.backend.store.budget_alerts import give_alerts
from agentsight_tokens.backend.store.budget_counting import (
    begin_change,
    budgets_of,
    reached_now,
)
from agentsight_tokens.backend.store.budget_usage import Reads, add_usage
from agentsight_tokens.backend.store.server_budget import (
    BUDGET_COLUMNS,
    DEFAULT_LEVELS,
    EACH,
    ServerBudget,
    ServerBudgetScope,
    at_of,
    check_secret,
    checked_budget,
)
from agentsight_tokens.calls import microseconds
from agentsight_tokens.errors import InvalidBudgetError
from agentsight_tokens.ids import time_ordered_id

from .alert_history import AlertPage, alert_page
from .burn_down import BurnDown, burn_down
from .standing import BudgetStanding, standing_of
from .stored_usage import stored_usage

__all__ = ["BudgetChange", "Budgets", "NewBudget"]

_MOST_BUDGETS: Final = 100
_MARKS: Final = ", ".join("?" * (1 + len(BUDGET_COLUMNS)))

_Limit = Annotated[int, Meta(ge=0, le=10**15)]


class NewBudget(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A budget to be made. It needs a limit of tokens, of cost, or both."""

    name: str
    scope: ServerBudgetScope = "global"
    value: str = EACH
    """Whose use is limited; `*` for each value by itself."""
    window: str = "month"
    """hour, day, week, month, total, or `rolling` and a duration, such as `rolling 7d`."""
    timezone: str = "UTC"
    token_limit: _Limit | None = None
    cost_limit_usd: Decimal | None = None
    levels: tuple[float, ...] = DEFAULT_LEVELS
    webhook_urls: tuple[str, ...] = ()
    webhook_secret: str | None = None
    enabled: bool = True


class BudgetChange(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """
    What is to be changed of a budget; what is not given stays.

    Whose budget it is and its windows stay for ever: what was counted is counted by them.
    """

    name: str | UnsetType = UNSET
    token_limit: _Limit | UnsetType | None = UNSET
    cost_limit_usd: Decimal | UnsetType | None = UNSET
    levels: tuple[float, ...] | UnsetType = UNSET
    webhook_urls: tuple[str, ...] | UnsetType = UNSET
    webhook_secret: str | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET


class Budgets:
    """
    The budgets of a store's projects.

    From the moment in which a budget is made, each call that is stored counts in it, once, in
    the window of the call's own time; what was stored before of its current window counts too.
    """

    def __init__(
        self,
        store: Store,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._store = store
        self._now = now

    def create(self, project_id: int, new: NewBudget) -> ServerBudget:
        """
        Make a budget, and count what is stored of its current window.

        Raises:
            InvalidBudgetError: For a field that none can have, or a budget too many.
        """
        now = self._now()
        fields = {f: getattr(new, f) for f in new.__struct_fields__ if f != "webhook_secret"}
        budget = checked_budget(
            ServerBudget(
                id=time_ordered_id(),
                is_signed=new.webhook_secret is not None,
                counts_since=None,
                created_at=now,
                updated_at=now,
                **fields,
            )
        )
        check_secret(new.webhook_secret)
        since = budget.span.counts_since(int(now.timestamp()))
        if since is not None:
            budget = msgspec.structs.replace(budget, counts_since=at_of(since * 1_000_000))
        with self._store.transaction() as transaction:
            begin_change(transaction, self._store.dialect, project_id)
            if len(budgets_of(transaction, project_id)) >= _MOST_BUDGETS:
                raise InvalidBudgetError(
                    f"a project has at most {_MOST_BUDGETS} budgets; one with the value '*' is "
                    "of each user, model, ... by itself"
                )
            transaction.run(
                f"INSERT INTO budgets (project_id, {', '.join(BUDGET_COLUMNS)}) VALUES ({_MARKS})",  # noqa: S608  # our own names
                (project_id, *budget.values(new.webhook_secret)),
            )
            dialect = self._store.dialect
            stored = stored_usage(transaction, dialect, project_id, budget, now)
            add_usage(transaction, dialect, stored)
            give_alerts(
                transaction, dialect, reached_now(transaction, project_id, budget, now), now
            )
        return budget

    def change(self, project_id: int, budget_id: str, change: BudgetChange) -> ServerBudget | None:
        """
        Change a budget; what it has counted stays, and levels that are reached now give alerts.

        Returns:
            The budget, or None if the project has none of that id.

        Raises:
            InvalidBudgetError: For a field that none can have.
        """
        now = self._now()
        given = {
            name: value
            for name in change.__struct_fields__
            if (value := getattr(change, name)) is not UNSET
        }
        has_secret = "webhook_secret" in given
        secret = given.pop("webhook_secret", None)
        check_secret(secret)
        with self._store.transaction() as transaction:
            begin_change(transaction, self._store.dialect, project_id)
            old = self._found(transaction, project_id, budget_id)
            if old is None:
                return None
            if has_secret:
                given["is_signed"] = secret is not None
            else:
                [(secret,)] = transaction.rows(
                    "SELECT webhook_secret FROM budgets WHERE project_id = ? AND id = ?",
                    (project_id, budget_id),
                )
            new = checked_budget(msgspec.structs.replace(old, updated_at=now, **given))
            assignments = ", ".join(f"{name} = ?" for name in BUDGET_COLUMNS)
            transaction.run(
                f"UPDATE budgets SET {assignments} WHERE project_id = ? AND id = ?",  # noqa: S608  # our own names
                (*new.values(secret), project_id, budget_id),
            )
            reached = reached_now(transaction, project_id, new, now)
            give_alerts(transaction, self._store.dialect, reached, now)
        return new

    def delete(self, project_id: int, budget_id: str) -> bool:
        """
        Forget a budget and what it has counted; its alerts stay, what is not told never is.

        Returns:
            Whether the project had a budget of that id.
        """
        budget = (project_id, budget_id)
        with self._store.transaction() as transaction:
            begin_change(transaction, self._store.dialect, project_id)
            if not transaction.run("DELETE FROM budgets WHERE project_id = ? AND id = ?", budget):
                return False
            transaction.run(
                "DELETE FROM budget_usage WHERE project_id = ? AND budget_id = ?", budget
            )
            transaction.run(
                "UPDATE webhook_deliveries SET state = 'cancelled', ended_at = ? "
                "WHERE project_id = ? AND state = 'waiting' AND alert_id IN "
                "(SELECT id FROM alerts WHERE project_id = ? AND budget_id = ?)",
                (microseconds(self._now()), project_id, *budget),
            )
        return True

    def list(self, project_id: int) -> tuple[ServerBudget, ...]:
        """Return the budgets of a project, the oldest first."""
        return budgets_of(self._store, project_id)

    def get(self, project_id: int, budget_id: str) -> ServerBudget | None:
        """Return the budget of an id, or None if the project has none."""
        return self._found(self._store, project_id, budget_id)

    def status(
        self, project_id: int, budget_id: str, now: datetime | None = None, *, limit: int = 100
    ) -> BudgetStanding | None:
        """
        Return what is used and left in a budget's current window.

        Args:
            project_id: Whose budget.
            budget_id: Which one.
            now: The moment whose window is meant.
            limit: Of how many keys to tell, those first that have used most of their limit.

        Returns:
            None if the project has no budget of that id.
        """
        budget = self.get(project_id, budget_id)
        if budget is None:
            return None
        return standing_of(
            self._store.of_project(project_id), budget, now or self._now(), limit=limit
        )

    def burn_down(
        self,
        project_id: int,
        budget_id: str,
        now: datetime | None = None,
        *,
        key: str | None = None,
    ) -> BurnDown | None:
        """
        Return how the current window has filled; None if the project has no such budget.

        Raises:
            InvalidBudgetError: If the key is needed and not said, or is none of the budget's.
        """
        budget = self.get(project_id, budget_id)
        if budget is None:
            return None
        return burn_down(self._store.of_project(project_id), budget, now or self._now(), key=key)

    def statuses(
        self, project_id: int, now: datetime | None = None, *, limit: int = 1
    ) -> tuple[BudgetStanding, ...]:
        """Return the status of every budget of a project, the oldest first; see `status`."""
        reader = self._store.of_project(project_id)
        at = now or self._now()
        return tuple(standing_of(reader, each, at, limit=limit) for each in self.list(project_id))

    def alerts(
        self,
        project_id: int,
        *,
        limit: int = 50,
        cursor: str | None = None,
        budget_id: str | None = None,
    ) -> AlertPage:
        """
        Return the alerts that were given, the newest first.

        Args:
            project_id: Whose alerts.
            limit: How many at most.
            cursor: What the page before named as the next one.
            budget_id: The budget of which alone to tell.

        Raises:
            InvalidBudgetError: For a cursor that no page has named.
        """
        return alert_page(
            self._store.of_project(project_id), limit=limit, cursor=cursor, budget_id=budget_id
        )

    @staticmethod
    def _found(reading: Reads, project_id: int, budget_id: str) -> ServerBudget | None:
        found = (each for each in budgets_of(reading, project_id) if each.id == budget_id)
        return next(found, None)
