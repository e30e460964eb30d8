"""The table of a usage report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.text import Text

from agentsight_tokens.backend.analytics import PERIODS, UsageGroup, UsageReport
from agentsight_tokens.summary import UsageSummary

from .screen import cell, cost_decimals, cost_text, plural
from .sheet import Column, print_sheet

__all__ = ["print_age_of_prices", "print_usage", "print_what_is_missing"]


@dataclass(frozen=True)
class _Column:
    """A column of numbers, and how much it matters that it is seen."""

    title: str
    value: Callable[[UsageSummary], int]
    rank: int
    """Columns of a higher rank are left out first where the terminal is narrow."""
    is_always_shown: bool = False
    """Whether it is there although every value is 0."""
    is_warning: bool = False

    def cell(self, usage: UsageSummary) -> Text:
        """Return the value as a cell."""
        value = self.value(usage)
        style = "yellow" if self.is_warning else ""
        return Text(f"{value:,}", style=style if value else "dim")


_COLUMNS: Final = (
    _Column("calls", lambda u: u.request_count, 0, is_always_shown=True),
    _Column("input", lambda u: u.input_tokens, 0, is_always_shown=True),
    _Column("cached", lambda u: u.cache_read_tokens, 4),
    _Column("output", lambda u: u.output_tokens, 0, is_always_shown=True),
    _Column("reasoning", lambda u: u.reasoning_tokens, 6),
    _Column("total", lambda u: u.total_tokens, 5),
    _Column("embedded", lambda u: u.embedding_tokens, 3),
    _Column("unpriced", lambda u: u.unpriced_tokens, 1, is_warning=True),
    _Column("unreported", lambda u: u.unreported_calls, 1, is_warning=True),
    _Column("estimated", lambda u: u.estimated_calls, 2, is_warning=True),
)


def print_usage(console: Console, report: UsageReport, *, title: str | None = None) -> None:
    """Print a report, a row for each group and one for the sum of all that were found."""
    has_total = any(usage != report.total for _, usage in report.groups)
    rows = [*report.groups, *([UsageGroup(_total_key(report), report.total)] if has_total else [])]
    usages = [usage for _, usage in rows]
    decimals = cost_decimals(usage.cost_pico_usd for usage in usages)
    columns = [
        Column(
            key.removesuffix("_id").replace("_", " "),
            [cell(values[position]) for values, _ in rows],
            "word" if key in PERIODS else "id",
        )
        for position, key in enumerate(report.by)
    ]
    columns += [
        Column(each.title, [each.cell(usage) for usage in usages], "number", each.rank)
        for each in _COLUMNS
        if each.is_always_shown or each.value(report.total)
    ]
    columns.append(Column("cost", [_cost(usage, decimals) for usage in usages], "number"))
    if title is not None:
        console.print(cell(title, style="bold"))
    print_sheet(console, columns, has_total=has_total, folds=True)


def _total_key(report: UsageReport) -> tuple[str, ...]:
    return ("total", *[""] * (len(report.by) - 1))


def print_age_of_prices(console: Console, prices_file: str | None) -> None:
    """Say how old the prices are, once they are old."""
    from agentsight_tokens.pricing import CostEstimator
    from agentsight_tokens.pricing.catalog import OLD_AFTER_DAYS

    catalog = CostEstimator(prices_file=prices_file).catalog
    if catalog.age_days() > OLD_AFTER_DAYS:
        console.print(
            f"[yellow]prices[/]: of {catalog.version}, {catalog.age_days()} days old; "
            "`agentsight-tokens prices update` takes newer ones over"
        )


def print_what_is_missing(console: Console, usage: UsageSummary) -> None:
    """Say what the cost and the counts do not hold, and what can be done about it."""
    if usage.unpriced_calls:
        console.print(
            f"[yellow]unpriced[/]: {plural(usage.unpriced_tokens, 'token')} of "
            f"{plural(usage.unpriced_calls, 'call')} have no known price and are not in the cost; "
            "`report --by model` shows whose, AGENTSIGHT_COST_RATES__<MODEL> or "
            "AGENTSIGHT_PRICES_FILE sets one for later calls."
        )
    if usage.unreported_calls:
        console.print(
            f"[yellow]unreported[/]: of {plural(usage.unreported_calls, 'call')} the provider "
            "never said what they used; they are counted as calls, not as tokens."
        )
    if usage.estimated_calls:
        console.print(
            f"[yellow]estimated[/]: the tokens of {plural(usage.estimated_calls, 'call')} "
            "were counted here, not by the provider."
        )


def _cost(usage: UsageSummary, decimals: int) -> Text:
    if not usage.cost_pico_usd and usage.unpriced_calls:
        return Text(cost_text(None, decimals), style="yellow")
    if usage.request_count and usage.unreported_calls == usage.request_count:
        return Text("?", style="yellow")
    return Text(cost_text(usage.cost_pico_usd, decimals))
