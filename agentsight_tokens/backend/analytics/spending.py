"""Spending: who spends most, and which operations are expensive."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from statistics import median
from typing import Any, Final, NamedTuple

from agentsight_tokens.backend.store import Reader
from agentsight_tokens.calls import CALL_COLUMNS, records, summary_columns, summary_of_row
from agentsight_tokens.summary import UsageSummary
from agentsight_tokens.usage import UsageRecord

from .conversations import conversations
from .dimensions import PERIODS, key_of
from .filters import condition_of
from .page import checked_limit
from .sample import Sample, newest_sample
from .usage import usage_by

__all__ = [
    "CostlyCall",
    "ExpensiveOperations",
    "OperationCost",
    "Spender",
    "TopSpenders",
    "expensive_operations",
    "top_spenders",
]

_OPERATION: Final = ("feature", "agent", "tool_name", "model", "operation")


class Spender(NamedTuple):
    """One of those that cause costs."""

    name: str | None
    """None for the calls that name none."""
    usage: UsageSummary
    cost_share: float | None
    """Its part of the whole cost; None where that is nothing."""
    cost_per_call_pico_usd: int | None
    """The mean over its calls that have a price."""


class TopSpenders(NamedTuple):
    """Who spends most."""

    by: str
    """The key: `user_id`, `model`, ..."""
    spenders: tuple[Spender, ...]
    """The costliest first."""
    total: UsageSummary
    """Of all, those that are not listed too."""


class CostlyCall(NamedTuple):
    """One expensive call."""

    call: UsageRecord
    times_median: float | None
    """Its cost as a multiple of the median cost of the same model's calls in the sample."""


class OperationCost(NamedTuple):
    """What calls of one kind cost."""

    feature: str | None
    agent: str | None
    tool_name: str | None
    model: str | None
    operation: str | None
    usage: UsageSummary
    cost_share: float | None
    """Its part of the cost of the sample."""
    cost_per_call_pico_usd: int | None
    """The mean over the calls that have a price."""
    costliest_call_pico_usd: int | None


class ExpensiveOperations(NamedTuple):
    """The costliest calls, and the costliest kinds of calls."""

    calls: tuple[CostlyCall, ...]
    groups: tuple[OperationCost, ...]
    sample: Sample
    """The calls that were looked at."""


def top_spenders(
    reader: Reader,
    by: str = "user",
    *,
    where: Mapping[str, Any] | None = None,
    limit: int = 10,
) -> TopSpenders:
    """
    Return who of a dimension spends most.

    Conversations are selected, and counted, as `conversations` does.

    Args:
        reader: Where the calls are.
        by: A name or key of `DIMENSIONS`.
        where: The filter, as `usage_by` takes it.
        limit: How many to return at most.

    Raises:
        InvalidScopeError: For an unknown dimension or filter.
        InvalidQueryError: For a limit that cannot be one.
    """
    checked_limit(limit)
    key = key_of(by)
    spenders: list[tuple[str | None, UsageSummary]]
    if key == "conversation_id":
        total = usage_by(reader, (), where=where).total
        page = conversations(reader, where=where, order="costliest", limit=limit)
        spenders = [(row.conversation_id, row.usage) for row in page.rows]
    else:
        # Periods come in the order of time, so that the limit would cut off the last of them.
        report = usage_by(reader, [key], where=where, limit=None if key in PERIODS else limit)
        total = report.total
        groups = sorted(report.groups, key=lambda group: -group.usage.cost_pico_usd)[:limit]
        spenders = [(name, usage) for (name,), usage in groups]
    return TopSpenders(
        key,
        tuple(
            Spender(
                name, usage, _share(usage.cost_pico_usd, total.cost_pico_usd), _mean_cost(usage)
            )
            for name, usage in spenders
        ),
        total,
    )


def expensive_operations(
    reader: Reader, *, where: Mapping[str, Any] | None = None, limit: int = 10
) -> ExpensiveOperations:
    """
    Return the costliest of the newest 20,000 selected calls, one by one and by kind.

    Args:
        reader: Where the calls are.
        where: The filter, as `usage_by` takes it.
        limit: How many calls, and how many kinds, to return at most.

    Raises:
        InvalidScopeError: For an unknown filter.
        InvalidQueryError: For a limit that cannot be one.
    """
    checked_limit(limit)
    sample, bounded = newest_sample(reader, where or {})
    condition, values = condition_of(reader, bounded)
    costs: dict[str | None, list[int]] = defaultdict(list)
    for model, cost in reader.rows(
        f"SELECT model, cost_pico_usd FROM calls WHERE {condition} AND cost_pico_usd > 0",  # noqa: S608  # our own names
        values,
    ):
        costs[model].append(cost)
    typical = {model: median(of_model) for model, of_model in costs.items()}
    calls = records(
        reader.rows(
            f"SELECT {', '.join(CALL_COLUMNS)} FROM calls "  # noqa: S608  # our own names
            f"WHERE {condition} AND cost_pico_usd > 0 "
            "ORDER BY cost_pico_usd DESC, at DESC, id DESC LIMIT ?",
            [*values, limit],
        )
    )
    return ExpensiveOperations(
        tuple(CostlyCall(c, (c.cost_pico_usd or 0) / typical[c.model]) for c in calls),
        _groups(reader, condition, values, limit),
        sample,
    )


def _groups(
    reader: Reader, condition: str, values: list[Any], limit: int
) -> tuple[OperationCost, ...]:
    rows = reader.rows(
        f"SELECT {', '.join(_OPERATION)}, MAX(cost_pico_usd), {summary_columns()} "  # noqa: S608  # our own names
        f"FROM calls WHERE {condition} GROUP BY {', '.join(_OPERATION)}",
        values,
    )
    width = len(_OPERATION)
    found = [(row[:width], row[width], summary_of_row(row[width + 1 :])) for row in rows]
    whole = sum(usage.cost_pico_usd for _, _, usage in found)
    found.sort(key=lambda each: (-each[2].cost_pico_usd, [str(name or "") for name in each[0]]))
    return tuple(
        OperationCost(
            **dict(zip(_OPERATION, key, strict=True)),
            usage=usage,
            cost_share=_share(usage.cost_pico_usd, whole),
            cost_per_call_pico_usd=_mean_cost(usage),
            costliest_call_pico_usd=costliest,
        )
        for key, costliest, usage in found[:limit]
        if usage.cost_pico_usd
    )


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _mean_cost(usage: UsageSummary) -> int | None:
    priced = usage.request_count - usage.unreported_calls - usage.unpriced_calls
    return round(usage.cost_pico_usd / priced) if priced > 0 else None
