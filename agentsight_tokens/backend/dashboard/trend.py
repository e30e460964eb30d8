"""Trends: usage over time by model, as a chart that is also a table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from agentsight_tokens.backend.analytics import UsageReport
from agentsight_tokens.summary import UsageSummary

from .figures import Figure, cost_of, count, decimals_of, money, plain_usd
from .period import months_of

__all__ = ["METRICS", "Chart", "Metric", "Series", "chart_of"]

_MOST_SERIES: Final = 5
_NO_NAME: Final = "(none)"


class Metric(NamedTuple):
    """Something that is summed."""

    title: str
    value: Callable[[UsageSummary], int]
    figure: Callable[[UsageSummary], Figure]


METRICS: Final[dict[str, Metric]] = {
    "cost": Metric("Spend", lambda u: u.cost_pico_usd, cost_of),
    "tokens": Metric(
        "Tokens",
        lambda u: u.total_tokens + u.embedding_tokens,
        lambda u: count(u.total_tokens + u.embedding_tokens),
    ),
    "calls": Metric("Calls", lambda u: u.request_count, lambda u: count(u.request_count)),
}


class Series(NamedTuple):
    """A line or a colour of the chart."""

    name: str
    values: tuple[tuple[str, Figure], ...]
    """For each step the plain number, in USD, tokens or calls, and how it is shown; the number
    is empty where there is none."""


class Chart(NamedTuple):
    """A chart, step by step."""

    title: str
    unit: str
    """usd or count."""
    kind: str
    """bars or lines."""
    steps: tuple[str, ...]
    series: tuple[Series, ...]


def chart_of(report: UsageReport, metric: str, *, step: str, steps: Sequence[str]) -> Chart:
    """
    Return the chart of a report by step and model: its greatest models, and the others as one.

    Args:
        report: By a dimension of time, and by another one.
        metric: One of `METRICS`.
        step: The dimension of time, for the title.
        steps: All steps, those without usage too; all months of the report if there are none.
    """
    value = METRICS[metric].value
    numbers: dict[str, dict[str, int]] = {}
    for (at, name), usage in report.groups:
        of_name = numbers.setdefault(name or _NO_NAME, {})
        of_name[at or ""] = of_name.get(at or "", 0) + value(usage)
    names = sorted(numbers, key=lambda name: -sum(numbers[name].values()))
    steps = steps or months_of({at for of_name in numbers.values() for at in of_name})
    rows = {name: [numbers[name].get(at, 0) for at in steps] for name in names}
    if len(names) > _MOST_SERIES + 1:
        rest = [rows.pop(name) for name in names[_MOST_SERIES:]]
        rows[f"{len(rest)} others"] = [sum(column) for column in zip(*rest, strict=True)]
    is_money = metric == "cost"
    shown = _money_shown(rows) if is_money else _count_shown
    return Chart(
        title=f"{METRICS[metric].title} by {step} and model",
        unit="usd" if is_money else "count",
        kind="bars",
        steps=tuple(steps),
        series=tuple(Series(name, tuple(map(shown, row))) for name, row in rows.items()),
    )


def _money_shown(rows: dict[str, list[int]]) -> Callable[[int], tuple[str, Figure]]:
    decimals = decimals_of(cost for row in rows.values() for cost in row)
    return lambda pico_usd: (plain_usd(pico_usd), money(pico_usd, decimals=decimals))


def _count_shown(number: int) -> tuple[str, Figure]:
    return str(number), count(number)
