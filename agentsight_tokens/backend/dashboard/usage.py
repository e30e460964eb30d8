"""Usage by any dimension: a chart, a table that can be sorted, and the same as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse

from agentsight_tokens.backend.analytics import (
    DIMENSIONS,
    PERIODS,
    UsageReport,
    usage_by,
    usage_over_time,
)
from agentsight_tokens.backend.endpoint import Asked, Endpoint
from agentsight_tokens.backend.problem import Problem
from agentsight_tokens.backend.store.pack import NAMED
from agentsight_tokens.rows import USAGE_ROW_FIELDS, csv_cell, written
from agentsight_tokens.summary import UsageSummary

from .figures import NOTHING, Figure, cost_of, count, decimals_of, share
from .page import page, telling_queries
from .selection import FILTERS, Selection, SelectionQuery, address, selection_of
from .trend import METRICS, Chart, chart_of

__all__ = ["ENDPOINTS"]

_ROWS_OF_PAGE: Final = 100
_MOST_GROUPS: Final = 1_000
_MOST_DRAWN: Final = 200
"""With more groups than these the chart shows their sum, not each."""
_LINES_AT_ONCE: Final = 1_000
_MAIN: Final = ("model", "provider", "user", "org", "agent", "feature", "environment", "day")
_SUM: Final = "all"
_NEXT: Final = {"model": "user", "user": "feature", "org": "user"}
"""What a group is broken down by when it is opened; by model if nothing is said."""


def _tokens(usage: UsageSummary) -> int:
    return usage.total_tokens + usage.embedding_tokens


_COLUMNS: Final[dict[str, tuple[str, Callable[[UsageSummary], int]]]] = {
    "calls": ("Calls", lambda u: u.request_count),
    "input": ("Input", lambda u: u.input_tokens),
    "cached": ("Cached", lambda u: u.cache_read_tokens),
    "output": ("Output", lambda u: u.output_tokens),
    "tokens": ("Tokens", _tokens),
    "unpriced": ("Unpriced", lambda u: u.unpriced_tokens),
    "unreported": ("Unreported", lambda u: u.unreported_calls),
    "cost": ("Cost", lambda u: u.cost_pico_usd),
}
"""The columns of numbers: their titles and values."""

_ONLY_IF_ANY: Final = {"unpriced", "unreported"}


class UsageQuery(SelectionQuery, frozen=True, kw_only=True):
    """The parameters of the page."""

    by: str = "model"
    metric: Literal["cost", "tokens", "calls"] = "cost"
    sort: Literal[
        "", "name", "calls", "input", "cached", "output", "tokens", "unpriced", "unreported", "cost"
    ] = ""
    order: Literal["desc", "asc"] = "desc"
    page: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] = 1


class Column(NamedTuple):
    """A column that can be sorted."""

    name: str
    title: str
    link: str
    sorted: str
    """ascending, descending, or nothing."""


class Row(NamedTuple):
    """A group of calls."""

    name: str | None
    link: str
    cells: tuple[Figure, ...]
    share: Figure
    width: str


class Usage(NamedTuple):
    """What the page shows."""

    by: str
    dimensions: tuple[tuple[str, str, bool], ...]
    """Name, address, and whether it is the one that is shown."""
    more_dimensions: tuple[tuple[str, str, bool], ...]
    metrics: tuple[tuple[str, str, bool], ...]
    chart: Chart
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    total: tuple[Figure, ...]
    sum: UsageSummary
    group_count: int
    is_cut: bool
    """Whether there are more groups, which cost less than these."""
    first: int
    """The number of the first row, from 1."""
    earlier: str
    later: str
    """The addresses of the pages before and after; empty without."""
    csv: str


def view_of(asked: Asked, query: UsageQuery) -> Mapping[str, Any]:
    """Read usage by a dimension."""
    selection = selection_of("/usage", query, asked.server.accounts.now())
    by = _dimension(query.by)
    period = selection.period
    limit = _limit(query)
    report, steps = usage_over_time(
        asked.project,
        (period.step, by),
        where=selection.where,
        zone=period.zone,
        limit=limit,
        most=_MOST_DRAWN,
    )
    names = [name for name in _COLUMNS if name not in _ONLY_IF_ANY or _value(name, report.total)]
    groups = _sorted(report, query)
    first = (query.page - 1) * _ROWS_OF_PAGE
    shown = groups[first : first + _ROWS_OF_PAGE]
    decimals = decimals_of(usage.cost_pico_usd for _, usage in shown)
    weigh = METRICS[query.metric].value
    longest = max((weigh(usage) for _, usage in groups), default=0) or 1
    rows = tuple(
        Row(
            name=name,
            link=_link(selection, by, name),
            cells=_cells(names, usage, decimals),
            share=share(weigh(usage), weigh(report.total)),
            width=f"{100 * weigh(usage) / longest:.2f}",
        )
        for (name,), usage in shown
    )
    others = [name for name in DIMENSIONS if name not in _MAIN]
    pages = {
        n: selection.link(page=str(n) if n > 1 else None) for n in (query.page - 1, query.page + 1)
    }
    return {
        "selection": selection,
        "metric": METRICS[query.metric].title,
        "view": Usage(
            by=by,
            dimensions=_dimensions(selection, _MAIN, by),
            more_dimensions=_dimensions(selection, others, by),
            metrics=tuple(
                (metric.title, selection.link(metric=name), name == query.metric)
                for name, metric in METRICS.items()
            ),
            chart=_chart(selection, steps, query.metric),
            columns=tuple(_column(selection, query, name, by) for name in ("name", *names)),
            rows=rows,
            total=_cells(names, report.total, decimals_of([report.total.cost_pico_usd])),
            sum=report.total,
            group_count=len(groups),
            is_cut=len(groups) == limit,
            first=first + 1,
            earlier=pages[query.page - 1] if query.page > 1 else "",
            later=pages[query.page + 1] if len(groups) > first + _ROWS_OF_PAGE else "",
            csv=address("/usage.csv", {**selection.given, "page": None}),
        ),
    }


async def get_csv(asked: Asked) -> Response:
    """Send usage by a dimension as CSV, a line for each group."""

    def read() -> Response:
        query = asked.query(UsageQuery)
        selection = selection_of("/usage.csv", query, asked.server.accounts.now())
        by, zone = _dimension(query.by), selection.period.zone
        report = usage_by(asked.project, [by], where=selection.where, zone=zone)
        report = report._replace(groups=tuple(_sorted(report, query)))
        headers = {"Content-Disposition": f'attachment; filename="usage-by-{by}.csv"'}
        return StreamingResponse(_lines(report), headers=headers, media_type="text/csv")

    return await run_in_threadpool(telling_queries(read))


def _lines(report: UsageReport) -> Iterator[str]:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow([*report.by, *USAGE_ROW_FIELDS])
    for number, row in enumerate(report.rows(), 1):
        writer.writerow(csv_cell(value) for value in written(row).values())
        if number % _LINES_AT_ONCE == 0:
            yield text.getvalue()
            text.seek(0)
            text.truncate()
    yield text.getvalue()


def _dimension(name: str) -> str:
    if name not in DIMENSIONS:
        raise Problem(400, f"by is {name[:80]!r}, and must be one of {', '.join(DIMENSIONS)}")
    return name


def _dimensions(
    selection: Selection, names: Iterable[str], by: str
) -> tuple[tuple[str, str, bool], ...]:
    # Conversations have a page of their own, which is quicker where there are millions of them.
    return tuple(
        (
            name,
            selection.link("/conversations", order="costliest")
            if name == "conversation"
            else selection.link(by=name, page=None),
            name == by,
        )
        for name in names
    )


def _value(name: str, usage: UsageSummary) -> int:
    return _COLUMNS[name][1](usage)


def _limit(query: UsageQuery) -> int:
    """
    Return how many groups are read: as many as can be sorted.

    Of conversations and sessions, of which there may be millions, it is one more than are shown,
    if these are in the order in which they are found.
    """
    is_in_order = query.sort in ("", "cost") and query.order == "desc"
    if DIMENSIONS[query.by] in NAMED and is_in_order:
        return min(query.page * _ROWS_OF_PAGE + 1, _MOST_GROUPS)
    return _MOST_GROUPS


def _sorted(report: UsageReport, query: UsageQuery) -> list[Any]:
    groups = list(report.groups)
    is_down = query.order == "desc"
    if query.sort == "name":
        groups.sort(key=lambda group: group.key[0] or "", reverse=is_down)
    elif query.sort:
        groups.sort(key=lambda group: _value(query.sort, group.usage), reverse=is_down)
    elif query.by in PERIODS:
        groups.reverse()
    return groups


def _cells(names: list[str], usage: UsageSummary, decimals: int) -> tuple[Figure, ...]:
    figures = []
    for name in names:
        if name == "cost":
            figures.append(cost_of(usage, decimals=decimals))
        else:
            value = _value(name, usage)
            figures.append(count(value) if value or name not in _ONLY_IF_ANY else NOTHING)
    return tuple(figures)


def _column(selection: Selection, query: UsageQuery, name: str, by: str) -> Column:
    is_sorted = query.sort == name
    is_down = query.order == "desc"
    turned = "asc" if (is_down if is_sorted else name == "name") else None
    return Column(
        name=name,
        title=by.capitalize() if name == "name" else _COLUMNS[name][0],
        link=selection.link(sort=name, order=turned, page=None),
        sorted=("descending" if is_down else "ascending") if is_sorted else "",
    )


def _link(selection: Selection, by: str, name: str | None) -> str:
    """Return where a group is shown by itself; nowhere without a name."""
    if name is None or name == "":
        return ""
    if by == "conversation":
        return address("/conversations/one", {"id": name})
    if by == "day":
        return selection.link("/usage", range="custom", since=name, until=name)
    if by not in FILTERS:
        return ""
    return selection.link("/usage", by=_NEXT.get(by), **{by: name})


def _chart(selection: Selection, found: UsageReport, metric: str) -> Chart:
    period = selection.period
    step, *names = found.by
    if not names:
        groups = tuple(each._replace(key=(each.key[0], _SUM)) for each in found.groups)
        found = found._replace(groups=groups)
    title = f"{METRICS[metric].title} by {step}"
    chart = chart_of(found, metric, step=step, steps=period.steps())
    return chart._replace(title=" and ".join([title, *(n.removesuffix("_id") for n in names)]))


ENDPOINTS: Final = (
    page("/usage", view_of, UsageQuery, template="usage.html", title="Usage"),
    Endpoint(
        "GET", "/usage.csv", get_csv, "read", "Send usage as CSV.", query=UsageQuery, kind="page"
    ),
)
