"""The budgets of a project and their alerts, over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Final, TypeVar

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from agentsight_tokens.backend.budgets import (
    AlertPage,
    BudgetChange,
    Budgets,
    BudgetStanding,
    BurnDown,
    NewBudget,
    ServerBudget,
)
from agentsight_tokens.backend.endpoint import Asked, Endpoint, answer
from agentsight_tokens.backend.problem import Problem
from agentsight_tokens.errors import InvalidBudgetError

__all__ = ["ENDPOINTS"]

_T = TypeVar("_T")


class ProjectBudgets(msgspec.Struct):
    """The budgets of a project, the oldest first."""

    budgets: tuple[ServerBudget, ...]


class StatusQuery(msgspec.Struct):
    """Of how many keys to tell."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 100


class BurnDownQuery(msgspec.Struct):
    """Whose use is told."""

    key: str | None = None
    """Needed where each user, model, ... has the limit by itself."""


class AlertQuery(msgspec.Struct):
    """Which alerts to tell of."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 50
    cursor: str | None = None
    budget_id: str | None = None


async def get_budgets(asked: Asked) -> Response:
    """List the budgets of the project."""
    budgets = await _done(Budgets(asked.server.store).list, asked.access.project_id)
    return answer(ProjectBudgets(tuple(each.concealed for each in budgets)))


async def post_budget(asked: Asked) -> Response:
    """Make a budget of the project."""
    new = await asked.json(NewBudget)
    budget = await _done(Budgets(asked.server.store).create, asked.access.project_id, new)
    return answer(budget.concealed, status=201)


async def get_budget(asked: Asked) -> Response:
    """Tell of one budget."""
    budget = await _done(Budgets(asked.server.store).get, *_named(asked))
    return answer(_found(budget).concealed)


async def patch_budget(asked: Asked) -> Response:
    """Change a budget."""
    change = await asked.json(BudgetChange)
    budget = await _done(Budgets(asked.server.store).change, *_named(asked), change)
    return answer(_found(budget).concealed)


async def delete_budget(asked: Asked) -> Response:
    """Forget a budget; its alerts stay."""
    budgets = Budgets(asked.server.store)
    budget = _found(await _done(budgets.get, *_named(asked)))
    if not await _done(budgets.delete, *_named(asked)):
        raise _unknown()
    return answer(budget.concealed)


async def get_budget_status(asked: Asked) -> Response:
    """Tell what is used and left in a budget's current window, key by key."""
    limit = asked.query(StatusQuery).limit
    status = await _done(partial(Budgets(asked.server.store).status, limit=limit), *_named(asked))
    standing = _found(status)
    return answer(msgspec.structs.replace(standing, budget=standing.budget.concealed))


async def get_budget_burn_down(asked: Asked) -> Response:
    """Tell how a budget's current window has filled."""
    key = asked.query(BurnDownQuery).key
    if key is not None and "\0" in key:
        raise Problem(400, "the query: no key has a NUL character")
    found = await _done(partial(Budgets(asked.server.store).burn_down, key=key), *_named(asked))
    return answer(_found(found))


async def get_alerts(asked: Asked) -> Response:
    """List the alerts that were given, the newest first."""
    query = asked.query(AlertQuery)
    list_alerts = partial(
        Budgets(asked.server.store).alerts,
        limit=query.limit,
        cursor=query.cursor,
        budget_id=query.budget_id,
    )
    return answer(await _done(list_alerts, asked.access.project_id))


async def _done(do: Callable[..., _T], *arguments: object) -> _T:
    """Do something with the store, in a thread."""
    try:
        return await run_in_threadpool(do, *arguments)
    except InvalidBudgetError as error:
        raise Problem(400, str(error)) from None


def _named(asked: Asked) -> tuple[int, str]:
    budget_id: str = asked.request.path_params["budget_id"]
    if "\0" in budget_id:
        raise _unknown()
    return asked.access.project_id, budget_id


def _found(found: _T | None) -> _T:
    if found is None:
        raise _unknown()
    return found


def _unknown() -> Problem:
    return Problem(404, "this project has no such budget")


ENDPOINTS: Final = (
    Endpoint(
        "GET",
        "/v1/budgets",
        get_budgets,
        "read",
        "List the project's budgets.",
        result=ProjectBudgets,
    ),
    Endpoint(
        "POST",
        "/v1/budgets",
        post_budget,
        "admin",
        "Make a budget of the project.",
        body=NewBudget,
        result=ServerBudget,
        status=201,
    ),
    Endpoint(
        "GET",
        "/v1/budgets/{budget_id}",
        get_budget,
        "read",
        "Tell of a budget.",
        result=ServerBudget,
    ),
    Endpoint(
        "PATCH",
        "/v1/budgets/{budget_id}",
        patch_budget,
        "admin",
        "Change a budget; what is not given stays.",
        body=BudgetChange,
        result=ServerBudget,
    ),
    Endpoint(
        "DELETE",
        "/v1/budgets/{budget_id}",
        delete_budget,
        "admin",
        "Forget a budget; its alerts stay.",
        result=ServerBudget,
    ),
    Endpoint(
        "GET",
        "/v1/budgets/{budget_id}/status",
        get_budget_status,
        "read",
        "Tell what is used and left of a budget, key by key.",
        query=StatusQuery,
        result=BudgetStanding,
    ),
    Endpoint(
        "GET",
        "/v1/budgets/{budget_id}/burn-down",
        get_budget_burn_down,
        "read",
        "Tell how a budget's current window has filled, and where it leads to.",
        query=BurnDownQuery,
        result=BurnDown,
    ),
    Endpoint(
        "GET",
        "/v1/alerts",
        get_alerts,
        "read",
        "List the alerts that were given, the newest first.",
        query=AlertQuery,
        result=AlertPage,
    ),
)
