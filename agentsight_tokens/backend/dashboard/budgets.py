"""Budgets and alerts: how near the limits are, what was told of it, and making one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timezone
from typing import Any, Final, NamedTuple, get_args

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from agentsight_tokens.backend.budgets import Alert, Budgets, ServerBudgetScope
from agentsight_tokens.backend.endpoint import Asked, Endpoint
from agentsight_tokens.errors import InvalidBudgetError
from agentsight_tokens.usage import pico_usd

from .budget_card import BudgetCard, card_of
from .budget_form import WINDOW_CHOICES, BudgetForm, new_budget_of
from .figures import Figure, count, moment, money
from .page import page, rendered, to_page
from .selection import address

__all__ = ["ENDPOINTS", "AlertRow", "alert_rows"]

_TITLE: Final = "Budgets"
_ALERTS_OF_PAGE: Final = 25


class BudgetsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of the page."""

    cursor: str = ""


class AlertRow(NamedTuple):
    """A level that was reached."""

    at: Figure
    budget: str
    link: str
    key: str
    level: str
    is_over: bool
    used: Figure
    limit: Figure
    deliveries: tuple[tuple[str, str, str], ...]
    """Of each webhook its state, its host, and why it was not accepted."""


class BudgetsView(NamedTuple):
    """What the page shows."""

    cards: tuple[BudgetCard, ...]
    alerts: tuple[AlertRow, ...]
    older: str
    """The address of older alerts; empty without."""
    is_first: bool


def view_of(asked: Asked, query: BudgetsQuery) -> Mapping[str, Any]:
    """Read the budgets and the newest alerts."""
    return _view(asked, query.cursor)


async def post_budget(asked: Asked) -> Response:
    """Make a budget."""
    form = await asked.form(BudgetForm)
    return await run_in_threadpool(_made, asked, form)


def alert_rows(alerts: tuple[Alert, ...]) -> tuple[AlertRow, ...]:
    """Return alerts as rows of a table."""
    return tuple(_alert(alert) for alert in alerts)


def _made(asked: Asked, form: BudgetForm) -> Response:
    try:
        budget = Budgets(asked.server.store).create(asked.access.project_id, new_budget_of(form))
    except InvalidBudgetError as error:
        view = _view(asked, "", form=form, fault=str(error))
        return rendered(asked, "budgets.html", title=_TITLE, status=400, **view)
    return to_page(address("/budgets/one", {"id": budget.id}))


def _view(
    asked: Asked, cursor: str, *, form: BudgetForm | None = None, fault: str | None = None
) -> dict[str, Any]:
    budgets, project_id = Budgets(asked.server.store), asked.access.project_id
    page_of_alerts = budgets.alerts(project_id, limit=_ALERTS_OF_PAGE, cursor=cursor or None)
    cards = [card_of(each) for each in budgets.statuses(project_id)]
    cards.sort(key=lambda card: -card.fraction)
    return {
        "form": form or BudgetForm(),
        "fault": fault,
        "scopes": get_args(ServerBudgetScope),
        "windows": WINDOW_CHOICES,
        "view": BudgetsView(
            cards=tuple(cards),
            alerts=alert_rows(page_of_alerts.alerts),
            older=address("/budgets", {"cursor": page_of_alerts.next_cursor})
            if page_of_alerts.next_cursor
            else "",
            is_first=not cursor,
        ),
    }


def _alert(alert: Alert) -> AlertRow:
    is_tokens = alert.unit == "tokens"
    used, limit = (
        count(int(amount)) if is_tokens else money(pico_usd(amount))
        for amount in (alert.used, alert.limit)
    )
    return AlertRow(
        at=moment(alert.at, timezone.utc),
        budget=alert.budget_name,
        link=address("/budgets/one", {"id": alert.budget_id}),
        key=alert.key,
        level=f"{alert.level * 100:g}%",
        is_over=alert.level >= 1,
        used=used,
        limit=limit,
        deliveries=tuple(
            (each.state.replace("_", " "), each.url, each.error or "") for each in alert.deliveries
        ),
    )


ENDPOINTS: Final = (
    page("/budgets", view_of, BudgetsQuery, template="budgets.html", title=_TITLE),
    Endpoint(
        "POST", "/budgets", post_budget, "admin", "Make a budget.", body=BudgetForm, kind="page"
    ),
)
