"""What is used of the server's budgets, by key and window, and how it lies in its table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from operator import add, itemgetter, sub
from typing import Any, Final, NamedTuple, Protocol

from agentsight_tokens.budgets.windows import Unit

from .base import Transaction
from .dialect import Dialect
from .server_budget import ServerBudget
from .tally import GROUP_SUMS
from .written_rows import write_rows

__all__ = [
    "EVER",
    "USAGE_COLUMNS",
    "BudgetUsage",
    "Place",
    "Reads",
    "UsageSums",
    "add_usage",
    "total_of",
    "usage_between",
    "usage_of_row",
]

EVER: Final = -1
"""
The start of the row that has what a key of a sliding budget ever used.

Transactions that add to different slices of one window wait for one another at it, so that one
of them sees that a level is reached.
"""

USAGE_COLUMNS: Final[tuple[str, ...]] = (
    "calls",
    "unreported_calls",
    "unpriced_calls",
    "estimated_calls",
    "cost_micro_usd",
    "cost_rest_pico_usd",
    "tokens",
)
"""The sums of a window. Money is summed in two halves, for 64 bits of pico-USD are not enough."""

_used_of: Final = itemgetter(
    *map(
        GROUP_SUMS.index,
        (*USAGE_COLUMNS[:4], "total_tokens", "embedding_tokens", "cost_pico_usd"),
    )
)
_MICROSECONDS: Final = 1_000_000
_MICRO_USD: Final = 1_000_000
_KEY: Final = ("project_id", "budget_id", "key", "window_start")
_KINDS: Final = ("bigint", "text", "text", "bigint", *("bigint" for _ in USAGE_COLUMNS))
_ADD: Final = (
    f"ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET "
    + ", ".join(f"{name} = budget_usage.{name} + excluded.{name}" for name in USAGE_COLUMNS)
    + f" RETURNING {', '.join((*_KEY, *USAGE_COLUMNS))}"
)


class Reads(Protocol):
    """What answers queries, in a transaction or not."""

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query; `?` stands for a value."""


class BudgetUsage(NamedTuple):
    """What the calls of one key have used in one window."""

    calls: int = 0
    unreported_calls: int = 0
    """Calls of which nobody knows what they used: not in the sums below."""
    unpriced_calls: int = 0
    """Calls of models without a known price: not in the cost."""
    estimated_calls: int = 0
    tokens: int = 0
    """Embedded ones included."""
    cost_pico_usd: int = 0

    def plus(self, other: BudgetUsage) -> BudgetUsage:
        """Return the sum."""
        return BudgetUsage(*map(add, self, other))

    def less(self, other: BudgetUsage) -> BudgetUsage:
        """Return the difference."""
        return BudgetUsage(*map(sub, self, other))

    def amount(self, unit: Unit) -> int:
        """Return the tokens or the pico-USD."""
        return self.tokens if unit == "tokens" else self.cost_pico_usd

    @staticmethod
    def of(sums: Sequence[int]) -> BudgetUsage:
        """
        Return the usage of calls.

        Args:
            sums: `GROUP_SUMS`.
        """
        calls, unreported, unpriced, estimated, total, embedding, cost = _used_of(sums)
        return BudgetUsage(calls, unreported, unpriced, estimated, total + embedding, cost)


def total_of(usages: Sequence[BudgetUsage]) -> BudgetUsage:
    """Return the sum of usages, of which there is one at least."""
    if len(usages) == 1:
        return usages[0]
    return BudgetUsage(*map(sum, zip(*usages, strict=True)))


class Place(NamedTuple):
    """Where usage lies; the order is that in which transactions take rows."""

    project_id: int
    budget_id: str
    key: str
    start: int
    """Of the window or slice, in seconds since 1970 UTC, or `EVER`."""


class UsageSums(defaultdict[Place, BudgetUsage]):
    """Usage by where it is to lie."""

    def __init__(self) -> None:
        super().__init__(BudgetUsage)

    def put(
        self, project_id: int, budget: ServerBudget, key: str, at: int, usage: BudgetUsage
    ) -> None:
        """Add usage of a moment to its window, and of one that slides to what it ever used."""
        if budget.earliest is not None and at < budget.earliest:
            return
        starts = [budget.span.stored_start(at)]
        if budget.span.period == "rolling":
            starts.append(EVER)
        for start in starts:
            place = Place(project_id, budget.id, key, start)
            self[place] = self[place].plus(usage)


def add_usage(
    transaction: Transaction, dialect: Dialect, sums: Mapping[Place, BudgetUsage]
) -> dict[Place, BudgetUsage]:
    """Add sums to what is stored; return what is there then."""
    rows = []
    for place in sorted(sums):
        usage = sums[place]
        # Of what is taken away, both halves are negative.
        sign = -1 if usage.cost_pico_usd < 0 else 1
        micro, rest = divmod(abs(usage.cost_pico_usd), _MICRO_USD)
        start = place.start if place.start == EVER else place.start * _MICROSECONDS
        rows.append((*place[:3], start, *usage[:4], sign * micro, sign * rest, usage.tokens))
    written = write_rows(
        transaction,
        dialect,
        f"budget_usage ({', '.join((*_KEY, *USAGE_COLUMNS))})",
        _KINDS,
        rows,
        then=_ADD,
    )
    return {
        Place(project_id, budget_id, key, _seconds(start)): usage_of_row(usage)
        for project_id, budget_id, key, start, *usage in written
    }


def usage_between(
    reads: Reads,
    project_id: int,
    budget_id: str,
    *,
    first: int,
    last: int | None = None,
    keys: Iterable[str] | None = None,
) -> dict[str, dict[int, BudgetUsage]]:
    """
    Return what is stored, by key and by the start of the window or slice.

    Args:
        reads: Where.
        project_id: Whose budget.
        budget_id: Which one.
        first: The earliest start, included.
        last: The latest start, included; None for all.
        keys: Which keys; None for all.
    """
    condition = "project_id = ? AND budget_id = ? AND window_start >= ?"
    values: list[object] = [project_id, budget_id, first * _MICROSECONDS]
    if last is not None:
        condition += " AND window_start <= ?"
        values.append(last * _MICROSECONDS)
    if keys is not None:
        wanted = sorted(keys)
        condition += f" AND key IN ({', '.join('?' * len(wanted))})"
        values += wanted
    found: dict[str, dict[int, BudgetUsage]] = {}
    for key, start, *sums in reads.rows(
        f"SELECT key, window_start, {', '.join(USAGE_COLUMNS)} FROM budget_usage "  # noqa: S608  # our own names
        f"WHERE {condition} ORDER BY key, window_start",
        values,
    ):
        found.setdefault(key, {})[_seconds(start)] = usage_of_row(sums)
    return found


def usage_of_row(row: Sequence[Any]) -> BudgetUsage:
    """Return the usage of a row of `USAGE_COLUMNS`."""
    calls, unreported, unpriced, estimated, micro, rest, tokens = row
    cost = micro * _MICRO_USD + rest
    return BudgetUsage(calls, unreported, unpriced, estimated, tokens, cost)


def _seconds(start: int) -> int:
    return EVER if start == EVER else start // _MICROSECONDS
