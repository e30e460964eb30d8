"""What a new budget finds in the store: the use of its current window, from calls and sums."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from agentsight_tokens.backend.analytics import usage_by
from agentsight_tokens.backend.store import ProjectReader, Transaction
from agentsight_tokens.backend.store.budget_usage import BudgetUsage, UsageSums, usage_of_row
from agentsight_tokens.backend.store.dialect import Dialect
from agentsight_tokens.backend.store.server_budget import EACH, ServerBudget, at_of
from agentsight_tokens.calls import SUMMARY_COLUMNS, SUMS, microseconds
from agentsight_tokens.summary import UsageSummary

__all__ = ["stored_usage", "usage_of_summary"]

_MICROSECONDS: Final = 1_000_000
_SUMMED: Final = (
    "calls",
    "unreported_calls",
    "unpriced_calls",
    "estimated_calls",
    "cost_micro_usd",
    "cost_rest_pico_usd",
    "total_tokens",
    "embedding_tokens",
)
_SUMS: Final = ", ".join(SUMS[SUMMARY_COLUMNS.index(name)] for name in _SUMMED)


class _Reading:
    """Reads within a transaction."""

    def __init__(self, transaction: Transaction, dialect: Dialect) -> None:
        self._transaction = transaction
        self.dialect = dialect

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query; `?` stands for a value."""
        return self._transaction.rows(statement, values)


def stored_usage(
    transaction: Transaction, dialect: Dialect, project_id: int, budget: ServerBudget, now: datetime
) -> UsageSums:
    """
    Return what is stored of a budget's windows, the current one and later ones.

    Sums of the store answer for the current window where they can, so that calls wait for a new
    budget no longer than they must.
    """
    reader = ProjectReader(_Reading(transaction, dialect), project_id)
    sums = UsageSums()
    since = budget.counts_since
    if budget.span.period != "rolling":
        at = int(now.timestamp())
        span = budget.span.span(at)
        until = None if span is None else at_of(span.end * _MICROSECONDS)
        for key, usage in _of_window(reader, budget, until):
            sums.put(project_id, budget, key, at, usage)
        since = until
    step = budget.span.step_seconds
    if step is not None and since is not None:
        for key, at, usage in _by_step(reader, budget, since, step):
            sums.put(project_id, budget, key, at, usage)
    return sums


def usage_of_summary(summary: UsageSummary) -> BudgetUsage:
    """Return usage as budgets count it."""
    return BudgetUsage(
        calls=summary.request_count,
        unreported_calls=summary.unreported_calls,
        unpriced_calls=summary.unpriced_calls,
        estimated_calls=summary.estimated_calls,
        tokens=summary.total_tokens + summary.embedding_tokens,
        cost_pico_usd=summary.cost_pico_usd,
    )


def _of_window(
    reader: ProjectReader, budget: ServerBudget, until: datetime | None
) -> list[tuple[str, BudgetUsage]]:
    where: dict[str, Any] = {"since": budget.counts_since, "until": until}
    column = budget.column
    if column is None:
        total = usage_by(reader, (), where=where).total
        return [(EACH, usage_of_summary(total))] if total.request_count else []
    if budget.value != EACH:
        where[column] = budget.value
    groups = usage_by(reader, (column,), where=where).groups
    return [(key, usage_of_summary(usage)) for (key,), usage in groups if key]


def _by_step(
    reader: ProjectReader, budget: ServerBudget, since: datetime, step: int
) -> list[tuple[str, int, BudgetUsage]]:
    """Return usage by key and by a moment of the window or slice in which it is."""
    condition, values = "at >= ?", list[object]([microseconds(since)])
    if budget.column is not None and budget.value != EACH:
        condition += f" AND {budget.column} = ?"
        values.append(budget.value)
    key = f"'{EACH}'" if budget.column is None else budget.column
    rows = reader.rows(
        f"SELECT {key}, at / {step * _MICROSECONDS} * {step}, {_SUMS} FROM calls "  # noqa: S608  # our own names
        f"WHERE {condition} GROUP BY 1, 2",
        values,
    )
    return [
        (key, at, usage_of_row((*head, tokens + embedded)))
        for key, at, *head, tokens, embedded in rows
        if key
    ]
