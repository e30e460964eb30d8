"""Usage, over HTTP: sums, trends and who spends most."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Final

import msgspec
from starlette.responses import Response

from agentsight_tokens.backend.analytics import (
    ExpensiveOperations,
    PeriodName,
    TopSpenders,
    Trend,
    expensive_operations,
    top_spenders,
    trend,
    usage_by,
)
from agentsight_tokens.backend.endpoint import Asked, Endpoint, answer
from agentsight_tokens.backend.wire import UsageRow, wire, wire_type
from agentsight_tokens.rows import written

from .selection import Limit, Selection, asked_for, names_of

__all__ = ["ENDPOINTS"]


class UsageQuery(Selection, kw_only=True):
    """Usage, group by group."""

    by: Annotated[
        list[str],
        msgspec.Meta(description="What a row stands for, several with commas or one by one."),
    ] = msgspec.field(default_factory=lambda: ["model"])
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1_000


class UsageRows(msgspec.Struct):
    """Rows by group, and their sum."""

    by: list[str]
    """The keys that each row has besides its counters."""
    rows: list[dict[str, Any]]
    total: UsageRow  # type: ignore[valid-type]  # made at run time
    """Of all groups, those beyond the limit too."""


class TrendQuery(Selection, kw_only=True):
    """A trend; without `since` over the last periods."""

    period: PeriodName = "day"


class TopQuery(Selection, kw_only=True):
    """Who spends most."""

    by: str = "user"
    limit: Limit = 10


class ExpensiveQuery(Selection, kw_only=True):
    """What is expensive."""

    limit: Limit = 10


async def get_usage(asked: Asked) -> Response:
    """Add up the calls of the project."""
    query = asked.query(UsageQuery)
    names = names_of(query.by)
    report = await asked_for(
        partial(
            usage_by,
            asked.project,
            names,
            where=query.where,
            zone=query.zone,
            limit=query.limit,
        )
    )
    rows = [written(row) for row in report.rows()]
    return answer({"by": report.by, "rows": rows, "total": wire(report.total)})


async def get_trend(asked: Asked) -> Response:
    """Add them up period by period."""
    query = asked.query(TrendQuery)
    ask = partial(trend, asked.project, where=query.where, period=query.period, zone=query.zone)
    return answer(wire(await asked_for(ask)))


async def get_top(asked: Asked) -> Response:
    """Tell who spends most."""
    query = asked.query(TopQuery)
    ask = partial(top_spenders, asked.project, query.by, where=query.where, limit=query.limit)
    return answer(wire(await asked_for(ask)))


async def get_expensive(asked: Asked) -> Response:
    """Tell which calls, and which kinds of calls, cost most."""
    query = asked.query(ExpensiveQuery)
    ask = partial(expensive_operations, asked.project, where=query.where, limit=query.limit)
    return answer(wire(await asked_for(ask)))


ENDPOINTS: Final = (
    Endpoint(
        "GET",
        "/v1/usage",
        get_usage,
        "read",
        "Add up calls by anything that is known of them.",
        query=UsageQuery,
        result=UsageRows,
    ),
    Endpoint(
        "GET",
        "/v1/trend",
        get_trend,
        "read",
        "Add up calls period by period, and compare with the time before.",
        query=TrendQuery,
        result=wire_type(Trend),
    ),
    Endpoint(
        "GET",
        "/v1/top",
        get_top,
        "read",
        "Tell who of a dimension spends most.",
        query=TopQuery,
        result=wire_type(TopSpenders),
    ),
    Endpoint(
        "GET",
        "/v1/expensive",
        get_expensive,
        "read",
        "Tell which calls, and which kinds of calls, cost most.",
        query=ExpensiveQuery,
        result=wire_type(ExpensiveOperations),
    ),
)
