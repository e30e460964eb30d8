"""What follows from usage, over HTTP: caches, speed, forecasts, anomalies, recommendations."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final

import msgspec
from starlette.responses import Response

from agentsight_tokens.backend.analytics import (
    Anomalies,
    CacheReport,
    Forecast,
    Recommendations,
    Sample,
    SpeedGroup,
    anomalies,
    cache_use,
    forecast,
    recommendations,
    speed,
)
from agentsight_tokens.backend.endpoint import Asked, Endpoint, answer
from agentsight_tokens.backend.wire import wire, wire_type

from .selection import Selection, asked_for, names_of

__all__ = ["ENDPOINTS"]


class SpeedQuery(Selection, kw_only=True):
    """Speed and efficiency, group by group."""

    by: Annotated[
        list[str], msgspec.Meta(description="What a row stands for; the whole is told anyway.")
    ] = msgspec.field(default_factory=list)


class SpeedRows(msgspec.Struct):
    """Speed and efficiency by group, and of all."""

    by: list[str]
    """The names of what each row's `key` holds."""
    groups: list[wire_type(SpeedGroup)]  # type: ignore[valid-type]  # made at run time
    total: wire_type(SpeedGroup)  # type: ignore[valid-type]  # the same
    sample: wire_type(Sample)  # type: ignore[valid-type]  # the same


class AnomaliesQuery(Selection, kw_only=True):
    """Anomalous days; without `since` of the last 30."""

    by: Annotated[
        str | None, msgspec.Meta(description="Judge each value of this dimension by itself.")
    ] = None


async def get_speed(asked: Asked) -> Response:
    """Tell how quick, how reliable and how costly calls are."""
    query = asked.query(SpeedQuery)
    names = names_of(query.by)
    ask = partial(speed, asked.project, names, where=query.where, zone=query.zone)
    return answer(wire(await asked_for(ask)))


async def get_cache(asked: Asked) -> Response:
    """Tell what prompt caches did."""
    query = asked.query(Selection)
    ask = partial(
        cache_use, asked.project, where=query.where, estimator=asked.server.meter.estimator
    )
    return answer(wire(await asked_for(ask)))


async def get_forecast(asked: Asked) -> Response:
    """Tell what this month will have cost."""
    query = asked.query(Selection)
    ask = partial(forecast, asked.project, where=query.where, zone=query.zone)
    return answer(wire(await asked_for(ask)))


async def get_anomalies(asked: Asked) -> Response:
    """Tell which days cost unusually much or little."""
    query = asked.query(AnomaliesQuery)
    ask = partial(anomalies, asked.project, where=query.where, by=query.by or None, zone=query.zone)
    return answer(wire(await asked_for(ask)))


async def get_recommendations(asked: Asked) -> Response:
    """Tell what could cost less or be known better."""
    query = asked.query(Selection)
    ask = partial(
        recommendations, asked.project, where=query.where, estimator=asked.server.meter.estimator
    )
    return answer(wire(await asked_for(ask)))


ENDPOINTS: Final = (
    Endpoint(
        "GET",
        "/v1/speed",
        get_speed,
        "read",
        "Tell how quick, how reliable and how costly calls are.",
        query=SpeedQuery,
        result=SpeedRows,
    ),
    Endpoint(
        "GET",
        "/v1/cache",
        get_cache,
        "read",
        "Tell how much came from prompt caches, and what that saved.",
        query=Selection,
        result=wire_type(CacheReport),
    ),
    Endpoint(
        "GET",
        "/v1/forecast",
        get_forecast,
        "read",
        "Tell what this month will have cost and used when it ends.",
        query=Selection,
        result=wire_type(Forecast),
    ),
    Endpoint(
        "GET",
        "/v1/anomalies",
        get_anomalies,
        "read",
        "Tell which days cost unusually much or little.",
        query=AnomaliesQuery,
        result=wire_type(Anomalies),
    ),
    Endpoint(
        "GET",
        "/v1/recommendations",
        get_recommendations,
        "read",
        "Tell what could cost less or be known better.",
        query=Selection,
        result=wire_type(Recommendations),
    ),
)
