"""The history of alerts, and what became of the messages that tell of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, Literal

import msgspec

from agentsight_tokens.backend.store import Reader
from agentsight_tokens.backend.store.budget_alerts import ALERT_COLUMNS, LEVEL_PARTS
from agentsight_tokens.backend.store.server_budget import (
    ServerBudgetScope,
    at_of,
    concealed_url,
)
from agentsight_tokens.budgets.alerts import BudgetAlert
from agentsight_tokens.budgets.windows import Unit
from agentsight_tokens.errors import InvalidBudgetError
from agentsight_tokens.usage import usd

__all__ = ["Alert", "AlertPage", "Delivery", "DeliveryState", "alert_of_row", "alert_page"]

DeliveryState = Literal["waiting", "delivered", "given_up", "cancelled"]

_CURSOR: Final = re.compile(r"(-?[0-9]{1,18})\.([0-9a-f]{1,64})")


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the message to one webhook."""

    url: str
    """Its host; the path would let its reader post there."""
    state: DeliveryState
    attempts: int
    due_at: datetime
    """When it is tried next, if it is waiting."""
    ended_at: datetime | None
    error: str | None
    """Why it was not accepted the last time."""


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """A level that a key's use of a budget has reached, once in each window."""

    id: str
    budget_id: str
    budget_name: str
    """As it was called then."""
    scope: ServerBudgetScope
    key: str
    window: str
    starts_at: datetime
    """Of the window; of one that slides, the time from which it gives a level's alert once."""
    resets_at: datetime | None
    unit: Unit
    level: float
    used: Decimal
    """Whole tokens or USD, by the unit, when the level was reached."""
    limit: Decimal
    at: datetime
    message: str
    """The alert in one sentence."""
    deliveries: tuple[Delivery, ...] = ()

    @property
    def told(self) -> BudgetAlert:
        """The alert in the form in which the library's own budgets give it."""
        is_tokens = self.unit == "tokens"
        return BudgetAlert(
            level=self.level,
            scope=self.scope,
            entity_id=self.key,
            window=self.window,
            unit=self.unit,
            used=int(self.used) if is_tokens else self.used,
            limit=int(self.limit) if is_tokens else self.limit,
            resets_at=self.resets_at,
            at=self.at,
            key=self.id,
        )


class AlertPage(msgspec.Struct, frozen=True, kw_only=True):
    """Alerts, the newest first."""

    alerts: tuple[Alert, ...]
    next_cursor: str | None
    """Names the page of older ones; None if there are none."""


def alert_page(
    reader: Reader, *, limit: int, cursor: str | None, budget_id: str | None
) -> AlertPage:
    """Return a page of a project's alerts; see `Budgets.alerts`."""
    condition, values = "1 = 1", list[object]()
    if cursor is not None:
        found = _CURSOR.fullmatch(cursor)
        if found is None:
            raise InvalidBudgetError(f"cursor {cursor[:40]!r} is none that a page has named")
        condition += " AND (at, id) < (?, ?)"
        values += (int(found[1]), found[2])
    if budget_id is not None:
        condition += " AND budget_id = ?"
        values.append(budget_id.replace("\0", ""))  # which PostgreSQL does not take, and no id has
    rows = reader.rows(
        f"SELECT {', '.join(ALERT_COLUMNS)} FROM alerts WHERE {condition} "  # noqa: S608  # our own names
        "ORDER BY at DESC, id DESC LIMIT ?",
        (*values, limit + 1),
    )
    shown = [alert_of_row(row) for row in rows[:limit]]
    deliveries = _deliveries(reader, [alert.id for alert in shown])
    alerts = tuple(
        msgspec.structs.replace(alert, deliveries=tuple(deliveries.get(alert.id, ())))
        for alert in shown
    )
    at = ALERT_COLUMNS.index("at")
    more = f"{rows[limit - 1][at]}.{alerts[-1].id}" if len(rows) > limit else None
    return AlertPage(alerts=alerts, next_cursor=more)


def alert_of_row(row: Sequence[Any]) -> Alert:
    """Return the alert of a row of `ALERT_COLUMNS`, without its deliveries."""
    fields = dict(zip(ALERT_COLUMNS, row, strict=True))
    unit: Unit = fields["unit"]
    used, limit = (int(fields[name]) for name in ("used", "limit_amount"))
    resets_at = fields["resets_at"]
    alert = Alert(
        id=fields["id"],
        budget_id=fields["budget_id"],
        budget_name=fields["budget_name"],
        scope=fields["scope"],
        key=fields["key"],
        window=fields["period"],
        starts_at=at_of(fields["window_start"]),
        resets_at=None if resets_at is None else at_of(resets_at),
        unit=unit,
        level=fields["level_millionths"] / LEVEL_PARTS,
        used=Decimal(used) if unit == "tokens" else usd(used),
        limit=Decimal(limit) if unit == "tokens" else usd(limit),
        at=at_of(fields["at"]),
        message="",
    )
    return msgspec.structs.replace(alert, message=alert.told.message)


def _deliveries(reader: Reader, alert_ids: Sequence[str]) -> dict[str, list[Delivery]]:
    found: dict[str, list[Delivery]] = {}
    if not alert_ids:
        return found
    for alert_id, url, state, attempts, due_at, ended_at, error in reader.rows(
        "SELECT alert_id, url, state, attempts, due_at, ended_at, error "  # noqa: S608  # marks only
        f"FROM webhook_deliveries WHERE alert_id IN ({', '.join('?' * len(alert_ids))}) "
        "ORDER BY alert_id, number",
        alert_ids,
    ):
        found.setdefault(alert_id, []).append(
            Delivery(
                url=concealed_url(url),
                state=state,
                attempts=attempts,
                due_at=at_of(due_at),
                ended_at=None if ended_at is None else at_of(ended_at),
                error=error,
            )
        )
    return found
