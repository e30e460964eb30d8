"""Alerts of the server's budgets, given once each, and the messages that are to tell of them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from agentsight_tokens.calls import microseconds

from .base import Transaction
from .dialect import Dialect
from .server_budget import ServerBudget, Threshold
from .written_rows import write_rows

__all__ = ["ALERT_COLUMNS", "LEVEL_PARTS", "Reached", "give_alerts"]

LEVEL_PARTS: Final = 1_000_000
"""Levels are stored in millionths."""

_MICROSECONDS: Final = 1_000_000
_KEY: Final = ("project_id", "budget_id", "key", "window_start", "unit", "level_millionths")

ALERT_COLUMNS: Final[tuple[str, ...]] = (
    *_KEY,
    "id",
    "budget_name",
    "scope",
    "period",
    "resets_at",
    "used",
    "limit_amount",
    "at",
)
"""As an alert lies in its table; the amounts are texts, for pico-USD may not fit 64 bits."""

_KINDS: Final = (
    *("bigint", "text", "text", "bigint", "text", "bigint"),
    *("text", "text", "text", "text", "bigint", "text", "text", "bigint"),
)
_DELIVERY_COLUMNS: Final = (
    "project_id",
    "alert_id",
    "number",
    "url",
    "state",
    "attempts",
    "due_at",
)
_DELIVERY_KINDS: Final = ("bigint", "text", "bigint", "text", "text", "bigint", "bigint")


class Reached(NamedTuple):
    """A level that the use of a window has reached."""

    project_id: int
    budget: ServerBudget
    key: str
    start: int
    """Of the window, or of its newest slice, in seconds since 1970 UTC."""
    threshold: Threshold
    used: int
    """Tokens or pico-USD."""

    @property
    def place(self) -> tuple[int, str, str, int, str, int]:
        """What no two alerts have in common."""
        start = self.budget.span.alert_start(self.start) * _MICROSECONDS
        level = round(self.threshold.level * LEVEL_PARTS)
        return self.project_id, self.budget.id, self.key, start, self.threshold.unit, level

    def values(self, at: int) -> tuple[object, ...]:
        """Return the values of the alert in the order of `ALERT_COLUMNS`."""
        budget = self.budget
        resets_at = budget.span.resets_at(self.start)
        # The same for the same level of the same window, whoever finds that it is reached.
        id = hashlib.sha256(repr(self.place).encode()).hexdigest()[:24]
        return (
            *self.place,
            id,
            budget.name,
            budget.scope,
            budget.window,
            None if resets_at is None else resets_at * _MICROSECONDS,
            str(self.used),
            str(budget.limit_of(self.threshold.unit)),
            at,
        )


def give_alerts(
    transaction: Transaction, dialect: Dialect, reached: Sequence[Reached], at: datetime
) -> None:
    """Write down the levels that are reached, and whom to tell; what is written stays as it is."""
    now = microseconds(at)
    found = {each.place: each for each in reversed(reached) if each.budget.enabled}
    if not found:
        return
    budgets = {(each.project_id, each.budget.id): each.budget for each in found.values()}
    new = write_rows(
        transaction,
        dialect,
        f"alerts ({', '.join(ALERT_COLUMNS)})",
        _KINDS,
        # The levels of one moment stand in the history in their order.
        [found[place].values(now + number) for number, place in enumerate(sorted(found))],
        then=f"ON CONFLICT ({', '.join(_KEY)}) DO NOTHING RETURNING project_id, budget_id, id",
    )
    transaction.alerts += len(new)
    write_rows(
        transaction,
        dialect,
        f"webhook_deliveries ({', '.join(_DELIVERY_COLUMNS)})",
        _DELIVERY_KINDS,
        [
            (project_id, alert_id, number, url, "waiting", 0, now)
            for project_id, budget_id, alert_id in new
            for number, url in enumerate(budgets[project_id, budget_id].webhook_urls)
        ],
        then="ON CONFLICT DO NOTHING RETURNING number",
    )
