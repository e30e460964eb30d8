"""One budget: its burn-down, who is how near to the limit, its alerts, and changing it."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import accumulate
from typing import Any, Final, NamedTuple

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from agentsight_tokens.backend.analytics import usage_by
from agentsight_tokens.backend.budgets import Budgets, BudgetStanding, KeyStanding
from agentsight_tokens.backend.endpoint import Asked, Endpoint
from agentsight_tokens.backend.problem import Problem
from agentsight_tokens.errors import InvalidBudgetError

from .budget_card import BudgetCard, LimitBar, bars_of, card_of
from .budget_form import BudgetForm, change_of, filled
from .budgets import AlertRow, alert_rows
from .figures import NOTHING, Figure, count, money, plain_usd
from .page import page, rendered, to_page
from .period import steps_between, zone_of
from .selection import address
from .trend import METRICS, Chart, Series

__all__ = ["ENDPOINTS"]

_TITLE: Final = "Budget"
_MOST_KEYS: Final = 100
_ALERTS: Final = 25
_STEPS: Final = {"day": "hour", "week": "day", "month": "day"}
"""The steps in which the windows that have a burn-down are drawn."""


class BudgetQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of the page."""

    id: str


class KeyRow(NamedTuple):
    """What one key has used."""

    name: str
    link: str
    calls: Figure
    bars: tuple[LimitBar, ...]
    gaps: int
    """Calls that are not in the sums, or only by an estimate."""


class BudgetView(NamedTuple):
    """What the page shows."""

    card: BudgetCard
    chart: Chart | None
    chart_of: str
    """Whose burn-down it is."""
    keys: tuple[KeyRow, ...]
    alerts: tuple[AlertRow, ...]
    webhooks: tuple[str, ...]
    is_signed: bool
    method: str


def view_of(asked: Asked, query: BudgetQuery) -> Mapping[str, Any]:
    """Read a budget."""
    return _view(asked, query.id)


async def post_change(asked: Asked) -> Response:
    """Change a budget."""
    form = await asked.form(BudgetForm)
    return await run_in_threadpool(_changed, asked, _id(asked), form)


async def post_delete(asked: Asked) -> Response:
    """Forget a budget."""
    delete = Budgets(asked.server.store).delete
    if not await run_in_threadpool(delete, asked.access.project_id, _id(asked)):
        raise _unknown()
    return to_page("/budgets")


def _id(asked: Asked) -> str:
    budget_id: str = asked.request.path_params["budget_id"]
    return budget_id


def _changed(asked: Asked, budget_id: str, form: BudgetForm) -> Response:
    budgets = Budgets(asked.server.store)
    try:
        if budgets.change(asked.access.project_id, budget_id, change_of(form)) is None:
            raise _unknown()
    except InvalidBudgetError as error:
        view = _view(asked, budget_id, form=form, fault=str(error))
        return rendered(asked, "budget.html", title=_TITLE, status=400, **view)
    return to_page(address("/budgets/one", {"id": budget_id}))


def _view(
    asked: Asked, budget_id: str, *, form: BudgetForm | None = None, fault: str | None = None
) -> dict[str, Any]:
    budgets, project_id = Budgets(asked.server.store), asked.access.project_id
    standing = budgets.status(project_id, budget_id, asked.server.accounts.now(), limit=_MOST_KEYS)
    if standing is None:
        raise _unknown()
    budget = standing.budget
    alerts = budgets.alerts(project_id, limit=_ALERTS, budget_id=budget.id).alerts
    first = standing.keys[0] if standing.keys else None
    return {
        "form": form or filled(budget),
        "fault": fault,
        "view": BudgetView(
            card=card_of(standing),
            chart=None if first is None else _burn_down(asked, standing, first),
            chart_of="" if first is None or budget.scope == "global" else first.key,
            keys=tuple(_key(standing, key) for key in standing.keys),
            alerts=alert_rows(alerts),
            webhooks=budget.concealed.webhook_urls,
            is_signed=budget.is_signed,
            method=standing.projection_method,
        ),
    }


def _key(standing: BudgetStanding, key: KeyStanding) -> KeyRow:
    scope = standing.budget.scope
    return KeyRow(
        name="all calls" if scope == "global" else key.key,
        link="" if scope == "global" else address("/usage", {scope: key.key}),
        calls=count(key.calls),
        bars=bars_of(standing.budget, key),
        gaps=key.unpriced_calls + key.unreported_calls + key.estimated_calls,
    )


def _burn_down(asked: Asked, standing: BudgetStanding, key: KeyStanding) -> Chart | None:
    """Return what is left of a limit step by step; None for windows that do not end."""
    budget = standing.budget
    step = _STEPS.get(budget.window)
    if step is None or standing.starts_at is None or standing.resets_at is None:
        return None
    zone = zone_of(budget.timezone)
    steps = steps_between(step, standing.starts_at, standing.resets_at, zone)
    where: dict[str, Any] = {"since": standing.starts_at, "until": standing.resets_at}
    if budget.column is not None:
        where[budget.column] = key.key
    found = usage_by(asked.project, [step], where=where, zone=zone)
    metric = "cost" if budget.cost_limit_usd is not None else "tokens"
    value = METRICS[metric].value
    used = {name: value(usage) for (name,), usage in found.groups}
    limit = (budget.cost_limit_pico_usd if metric == "cost" else budget.token_limit) or 0
    now = steps_between(step, standing.starts_at, asked.server.accounts.now(), zone)
    left = [limit - sum_ for sum_ in accumulate(used.get(name, 0) for name in now)]
    pace = [limit - limit * (i + 1) // len(steps) for i in range(len(steps))]
    shown = _money_shown if metric == "cost" else _count_shown
    return Chart(
        title=f"What is left by {step}",
        unit="usd" if metric == "cost" else "count",
        kind="lines",
        steps=tuple(steps),
        series=(
            Series("Left", (*map(shown, left), *[("", NOTHING)] * (len(steps) - len(left)))),
            Series("Even pace", tuple(map(shown, pace))),
        ),
    )


def _money_shown(pico_usd: int) -> tuple[str, Figure]:
    figure = money(abs(pico_usd))
    sign = "-" if pico_usd < 0 else ""
    return plain_usd(pico_usd), Figure(f"{sign}{figure.text}", f"{sign}{figure.exact}")


def _count_shown(number: int) -> tuple[str, Figure]:
    return str(number), count(number)


def _unknown() -> Problem:
    return Problem(404, "this project has no such budget")


ENDPOINTS: Final = (
    page("/budgets/one", view_of, BudgetQuery, template="budget.html", title=_TITLE),
    Endpoint(
        "POST",
        "/budgets/{budget_id}",
        post_change,
        "admin",
        "Change a budget.",
        body=BudgetForm,
        kind="page",
    ),
    Endpoint(
        "POST", "/budgets/{budget_id}/delete", post_delete, "admin", "Forget a budget.", kind="page"
    ),
)
