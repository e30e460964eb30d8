"""Insights: what could cost less, the days that stand out, and what is expensive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from agentsight_tokens.backend.analytics import (
    OperationCost,
    Recommendation,
    Sample,
    anomalies,
    expensive_operations,
    recommendations,
)
from agentsight_tokens.backend.endpoint import Asked, Endpoint

from .figures import NOTHING, Figure, count, decimals_of, money
from .outlook import AnomalyRow, anomaly_row
from .page import page, part, telling_queries
from .selection import SelectionQuery, selection_of

__all__ = ["ENDPOINTS", "sample_text"]

_KINDS: Final = {
    "could_downgrade": "A smaller model may do",
    "caching_would_pay": "Caching would pay",
    "price_models": "Models without a price",
    "report_streams": "Use that is not told",
    "paid_failures": "Failures that were paid",
}
_MOST_ADVICE: Final = 12
_MOST_ANOMALIES: Final = 12


class Advice(NamedTuple):
    """A recommendation."""

    kind: str
    about: tuple[str, ...]
    """Its model, provider and feature."""
    advice: str
    evidence: str
    calls: Figure
    cost: Figure
    saving: Figure | None


class Costly(NamedTuple):
    """A kind of calls that costs much."""

    feature: str | None
    agent: str | None
    tool: str | None
    model: str | None
    calls: Figure
    per_call: Figure
    cost: Figure


class Insights(NamedTuple):
    """What the page shows."""

    advice: tuple[Advice, ...]
    more_advice: int
    anomalies: tuple[AnomalyRow, ...]
    judged_days: int
    needed_days: int
    sample: str


def sample_text(sample: Sample) -> str:
    """Return in words which calls were looked at."""
    if sample.since is None:
        return f"All {sample.calls:,} calls were looked at."
    return f"The newest {sample.calls:,} of {sample.of_calls:,} calls were looked at."


def view_of(asked: Asked, query: SelectionQuery) -> Mapping[str, Any]:
    """Read the insights of a selection."""
    now = asked.server.accounts.now()
    selection = selection_of("/insights", query, now)
    reader, where = asked.project, selection.where
    advised = recommendations(reader, where=where, estimator=asked.server.meter.estimator, now=now)
    # Their own span is what days are judged by.
    filters = {name: value for name, value in where.items() if name not in {"since", "until"}}
    judged = anomalies(reader, where=filters, by="model", zone=selection.period.zone, now=now)
    return {
        "selection": selection,
        "view": Insights(
            advice=tuple(map(_advice, advised.found[:_MOST_ADVICE])),
            more_advice=max(len(advised.found) - _MOST_ADVICE, 0),
            anomalies=tuple(anomaly_row(a, "model") for a in judged.found[:_MOST_ANOMALIES]),
            judged_days=judged.judged_days,
            needed_days=judged.needed_days,
            sample=sample_text(advised.sample),
        ),
    }


async def get_costly(asked: Asked) -> Response:
    """Send the expensive operations, for which the browser asks when it has the page."""

    def read() -> Response:
        query = asked.query(SelectionQuery)
        selection = selection_of("/insights", query, asked.server.accounts.now())
        found = expensive_operations(asked.project, where=selection.where)
        decimals = decimals_of(each.usage.cost_pico_usd for each in found.groups)
        return part("costly.html", costly=[_costly(each, decimals) for each in found.groups])

    return await run_in_threadpool(telling_queries(read))


def _advice(found: Recommendation) -> Advice:
    about = (found.model, found.provider, found.feature)
    return Advice(
        kind=_KINDS[found.kind],
        about=tuple(each for each in about if each),
        advice=found.advice,
        evidence=found.evidence,
        calls=count(found.calls),
        cost=money(found.cost_pico_usd),
        saving=None if found.saving_pico_usd is None else money(found.saving_pico_usd),
    )


def _costly(found: OperationCost, decimals: int) -> Costly:
    per_call = found.cost_per_call_pico_usd
    return Costly(
        feature=found.feature,
        agent=found.agent,
        tool=found.tool_name,
        model=found.model,
        calls=count(found.usage.request_count),
        per_call=NOTHING if per_call is None else money(per_call),
        cost=money(found.usage.cost_pico_usd, decimals=decimals),
    )


ENDPOINTS: Final = (
    page("/insights", view_of, SelectionQuery, template="insights.html", title="Insights"),
    Endpoint(
        "GET",
        "/insights/costly",
        get_costly,
        "read",
        "Send expensive operations.",
        query=SelectionQuery,
        kind="page",
    ),
)
