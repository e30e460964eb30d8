"""The overview: what a project uses, and what stands out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple

from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from agentsight_tokens.backend.analytics import (
    UsageGroup,
    UsageReport,
    anomalies,
    forecast,
    usage_by,
)
from agentsight_tokens.backend.budgets import Budgets
from agentsight_tokens.backend.endpoint import Asked, Endpoint
from agentsight_tokens.summary import UsageSummary

from .budget_card import BudgetCard, nearest_first
from .figures import Change, Figure, change, count, share, sparkline
from .outlook import AnomalyRow, Outlook, anomaly_row, outlook_of
from .page import page, part, telling_queries
from .ranking import Ranking, ranking_of
from .selection import Selection, SelectionQuery, selection_of
from .trend import METRICS, Chart, chart_of

__all__ = ["ENDPOINTS"]

_MOST_RANKS: Final = 6
_MOST_BUDGETS: Final = 3
_MOST_ANOMALIES: Final = 3
_MOST_DAYS: Final = 31
"""Of which rankings come with the page."""
_RANKED: Final = ("user", "feature")


class OverviewQuery(SelectionQuery, frozen=True, kw_only=True):
    """The parameters of the overview."""

    metric: Literal["cost", "tokens", "calls"] = "cost"


class RankingQuery(SelectionQuery, frozen=True, kw_only=True):
    """The parameters of a ranking."""

    by: Literal["user", "feature"] = "user"


class Tile(NamedTuple):
    """A number over the whole span, beside the one before."""

    title: str
    figure: Figure
    change: Change | None
    link: str
    """Where the chart shows this number; empty where it cannot."""
    is_charted: bool
    line: str
    """The path of its sparkline."""
    note: str


class Overview(NamedTuple):
    """What the overview shows."""

    tiles: tuple[Tile, ...]
    total: UsageSummary
    chart: Chart
    rankings: tuple[Ranking, ...]
    later: tuple[str, ...]
    """What the rankings are by that the browser asks for when it has this page."""
    outlook: Outlook | None
    """Of the whole project, in UTC; None where the page is filtered."""
    anomalies: tuple[AnomalyRow, ...]
    judged_days: int
    needed_days: int
    budgets: tuple[BudgetCard, ...]
    """Those that are nearest to their limits."""
    has_calls: bool
    """Whether the project has any call at all."""


def view_of(asked: Asked, query: OverviewQuery) -> Mapping[str, Any]:
    """Read the overview of a selection."""
    selection = selection_of("/", query, asked.server.accounts.now())
    reader, period = asked.project, selection.period
    report = usage_by(reader, [period.step, "model"], where=selection.where, zone=period.zone)
    before = None
    if period.previous is not None:
        where = selection.filter_of(*period.previous)
        before = usage_by(reader, [], where=where).total
    steps = period.steps()
    # The tables of sums answer what is not filtered, of a few weeks at once.
    is_plain = not selection.filters and selection.zone_name == "UTC"
    is_quick = is_plain and period.step == "day" and len(steps) <= _MOST_DAYS
    rankings = [_models(report)]
    if is_quick:
        rankings += [
            usage_by(reader, [by], where=selection.where, limit=_MOST_RANKS) for by in _RANKED
        ]
    judged = anomalies(reader, now=period.now) if is_plain else None
    return {
        "selection": selection,
        "origin": f"{asked.request.base_url}".rstrip("/"),
        "view": Overview(
            tiles=tuple(_tiles(report, before, selection, query.metric, steps)),
            total=report.total,
            chart=chart_of(report, query.metric, step=period.step, steps=steps),
            rankings=tuple(ranking_of(each, selection, most=_MOST_RANKS) for each in rankings),
            later=() if is_quick else _RANKED,
            outlook=outlook_of(forecast(reader, now=period.now)) if is_plain else None,
            anomalies=tuple(anomaly_row(each, None) for each in judged.found[:_MOST_ANOMALIES])
            if judged
            else (),
            judged_days=judged.judged_days if judged else 0,
            needed_days=judged.needed_days if judged else 0,
            budgets=nearest_first(
                Budgets(asked.server.store).statuses(asked.access.project_id), most=_MOST_BUDGETS
            ),
            has_calls=bool(
                report.total.request_count or asked.project.rows("SELECT 1 FROM calls LIMIT 1")
            ),
        ),
    }


async def get_ranking(asked: Asked) -> Response:
    """Send one ranking of the overview."""

    def read() -> Response:
        query = asked.query(RankingQuery)
        selection = selection_of("/", query, asked.server.accounts.now())
        report = usage_by(asked.project, [query.by], where=selection.where, limit=_MOST_RANKS)
        return part("ranking.html", ranking=ranking_of(report, selection, most=_MOST_RANKS))

    return await run_in_threadpool(telling_queries(read))


def _models(report: UsageReport) -> UsageReport:
    """Return a report by step and model as one by model."""
    parts: dict[str | None, list[UsageSummary]] = {}
    for (_, model), usage in report.groups:
        parts.setdefault(model, []).append(usage)
    groups = [UsageGroup((model,), UsageSummary.merged(each)) for model, each in parts.items()]
    groups.sort(key=lambda group: -group.usage.cost_pico_usd)
    return UsageReport(("model",), tuple(groups), report.total)


def _tiles(
    report: UsageReport,
    before: UsageSummary | None,
    selection: Selection,
    charted: str,
    steps: Sequence[str],
) -> list[Tile]:
    total = report.total
    by_step: dict[str, list[UsageSummary]] = {step: [] for step in steps}
    for (at, _), usage in report.groups:
        by_step.setdefault(at or "", []).append(usage)
    sums = [UsageSummary.merged(parts) for _, parts in sorted(by_step.items())]
    tiles = []
    for name, metric in METRICS.items():
        now, was = metric.value(total), metric.value(before) if before else 0
        tiles.append(
            Tile(
                title=metric.title,
                figure=metric.figure(total),
                change=change(now, was, metric.figure(before)) if before else None,
                link=selection.link(metric=name if name != "cost" else None),
                is_charted=name == charted,
                line=sparkline([metric.value(each) for each in sums]),
                note="",
            )
        )
    tiles.append(
        Tile(
            title="Cached input",
            figure=share(total.cache_read_tokens, total.input_tokens),
            change=None,
            link="",
            is_charted=False,
            line=sparkline(
                [1000 * each.cache_read_tokens // max(each.input_tokens, 1) for each in sums]
            ),
            note=f"{count(total.cache_read_tokens).text} tokens read from a cache",
        )
    )
    return tiles


ENDPOINTS: Final = (
    page("/", view_of, OverviewQuery, template="overview.html", title="Overview"),
    Endpoint(
        "GET", "/ranking", get_ranking, "read", "Send a ranking.", query=RankingQuery, kind="page"
    ),
)
