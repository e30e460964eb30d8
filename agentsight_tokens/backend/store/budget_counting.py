"""
Counting calls in the server's budgets, in the transaction that takes the calls.

Calls are summed by whose they are and by window first, so that a budget costs a row for each of
its keys and windows that a batch has calls of, however many calls these are.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from operator import itemgetter
from typing import Any, Final, NamedTuple

from .base import Transaction
from .budget_alerts import Reached, give_alerts
from .budget_usage import (
    EVER,
    BudgetUsage,
    Place,
    Reads,
    UsageSums,
    add_usage,
    total_of,
    usage_between,
)
from .dialect import Dialect
from .rollup import HOUR
from .server_budget import BUDGET_COLUMNS, EACH, SCOPE_COLUMNS, ServerBudget, budget_of_row
from .tally import GROUP_COLUMNS, Group

__all__ = [
    "PROJECTS_WITH_BUDGETS",
    "Counted",
    "Counting",
    "begin_change",
    "budgets_of",
    "forget_windows",
    "reached_now",
]

PROJECTS_WITH_BUDGETS: Final = "SELECT DISTINCT project_id FROM budgets ORDER BY project_id"
_MICROSECONDS: Final = 1_000_000
_LOCK: Final = 0x6167_6562 << 32
"""Added to a project: of those who count its calls, shared, and of who changes its budgets."""


_COLUMNS: Final = tuple(column for column in SCOPE_COLUMNS.values() if column is not None)
_whose: Final = itemgetter(*map(GROUP_COLUMNS.index, ("project_id", *_COLUMNS)))

_Alike = tuple[int, tuple[Any, ...]]
"""The step of time in which calls are, their project and `_COLUMNS`."""


class _Known(NamedTuple):
    """The budgets of a project, as of a version of them."""

    version: int
    budgets: tuple[ServerBudget, ...]


def _lock(
    transaction: Transaction, dialect: Dialect, project_ids: Iterable[int], *, is_change: bool
) -> None:
    """
    Keep a project's budgets as they are until the transaction ends.

    Before any row is touched, so that nobody who waits here keeps others waiting elsewhere. In
    SQLite one transaction writes at a time.

    Args:
        transaction: Which of them.
        dialect: Its SQL.
        project_ids: Whose budgets.
        is_change: Whether they are to be changed: nobody counts calls meanwhile, and what is in
            the store is all that the changed budget has not been told of.
    """
    if dialect.name != "postgresql":
        return
    function = "pg_advisory_xact_lock" if is_change else "pg_advisory_xact_lock_shared"
    for project_id in sorted(project_ids):
        transaction.rows(f"SELECT {function}(?)", (_LOCK + project_id,))


def begin_change(transaction: Transaction, dialect: Dialect, project_id: int) -> None:
    """Begin to change a project's budgets; every server reads them anew when it has ended."""
    _lock(transaction, dialect, [project_id], is_change=True)
    transaction.run(
        "INSERT INTO budget_versions (project_id, version) VALUES (?, 1) "
        "ON CONFLICT (project_id) DO UPDATE SET version = budget_versions.version + 1",
        (project_id,),
    )


def forget_windows(
    transaction: Transaction, dialect: Dialect, project_id: int, before: datetime
) -> None:
    """
    Forget the windows that were over before a time; what comes late does not begin them anew.

    The window of that time is kept whole, and all that came after.
    """
    begin_change(transaction, dialect, project_id)
    for budget in budgets_of(transaction, project_id):
        since = budget.span.counts_since(int(before.timestamp()))
        if since is None or budget.earliest is None or since <= budget.earliest:
            continue
        whose = (project_id, budget.id)
        first = since * _MICROSECONDS
        of_budget = "project_id = ? AND budget_id = ?"
        transaction.run(
            "UPDATE budgets SET counts_since = ? WHERE project_id = ? AND id = ?", (first, *whose)
        )
        transaction.run(
            "DELETE FROM budget_usage "  # noqa: S608  # our own names
            f"WHERE {of_budget} AND window_start >= 0 AND window_start < ?",
            (*whose, first),
        )
        transaction.run(
            f"DELETE FROM budget_usage WHERE {of_budget} AND window_start = {EVER} "  # noqa: S608  # our own names
            f"AND key NOT IN (SELECT key FROM budget_usage WHERE {of_budget} AND window_start >= 0)",
            (*whose, *whose),
        )


def budgets_of(reads: Reads, project_id: int) -> tuple[ServerBudget, ...]:
    """Return the budgets of a project, the oldest first."""
    rows = reads.rows(
        f"SELECT {', '.join(BUDGET_COLUMNS)} FROM budgets WHERE project_id = ? "  # noqa: S608  # our own names
        "ORDER BY created_at, id",
        (project_id,),
    )
    return tuple(map(budget_of_row, rows))


class Counting:
    """Counts the calls of a store's transactions; budgets are read when they have changed."""

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._known: dict[int, _Known] = {}

    def begin(self, transaction: Transaction, project_ids: Iterable[int]) -> Counted | None:
        """
        Begin to count for some projects, before anything else is done in a transaction.

        Returns:
            What takes the calls; None if none of these projects has a budget.
        """
        ids = sorted({*project_ids})
        _lock(transaction, self._dialect, ids, is_change=False)
        versions = transaction.rows(
            "SELECT project_id, version FROM budget_versions "  # noqa: S608  # marks only
            f"WHERE project_id IN ({', '.join('?' * len(ids))})",
            ids,
        )
        found = {}
        for project_id, version in versions:
            known = self._known.get(project_id)
            if known is None or known.version != version:
                known = _Known(version, budgets_of(transaction, project_id))
                self._known[project_id] = known
            if known.budgets:
                found[project_id] = known.budgets
        return Counted(transaction, self._dialect, found) if found else None


class Counted:
    """The sums of the calls of one transaction, until they are written."""

    def __init__(
        self,
        transaction: Transaction,
        dialect: Dialect,
        budgets: Mapping[int, Sequence[ServerBudget]],
    ) -> None:
        self._transaction = transaction
        self._dialect = dialect
        self._budgets = budgets
        self._groups: defaultdict[_Alike, list[BudgetUsage]] = defaultdict(list)
        self.step: Final = _step(each for of_project in budgets.values() for each in of_project)
        """What the groups may last at most, in microseconds, and an hour is a multiple of."""

    def add(self, groups: Iterable[Group]) -> None:
        """Take calls into the sums."""
        for group in groups:
            whose = _whose(group.members)
            if whose[0] in self._budgets:
                start = group.start // _MICROSECONDS
                self._groups[start, whose].append(BudgetUsage.of(group.numbers))

    def write(self, at: datetime) -> None:
        """Add everything to the windows, and give the alerts of the levels that it reaches."""
        sums = self._by_window()
        budgets = {
            (project_id, budget.id): budget
            for project_id, of_project in self._budgets.items()
            for budget in of_project
        }
        reached: list[Reached] = []
        sliding: dict[tuple[int, str], set[str]] = {}
        for place, usage in add_usage(self._transaction, self._dialect, sums).items():
            budget = budgets[place.project_id, place.budget_id]
            if not _is_near(budget, usage):
                continue
            if budget.span.period != "rolling":
                reached += _reached(budget, place, usage, usage.less(sums[place]))
            elif place.start == EVER:
                sliding.setdefault((place.project_id, place.budget_id), set()).add(place.key)
        for (project_id, budget_id), keys in sliding.items():
            starts: dict[str, list[int]] = {key: [] for key in keys}
            for place in sums:
                if place[:2] == (project_id, budget_id) and place.start != EVER:
                    starts.get(place.key, []).append(place.start)
            budget = budgets[project_id, budget_id]
            reached += _reached_sliding(self._transaction, project_id, budget, starts)
        give_alerts(self._transaction, self._dialect, reached, at)

    def _by_window(self) -> UsageSums:
        """Turn the sums by column into those of the budgets' windows."""
        columns = {
            project_id: [(column, column and _COLUMNS.index(column) + 1) for column in found]
            for project_id, found in (
                (project_id, {budget.column for budget in budgets})
                for project_id, budgets in self._budgets.items()
            )
        }
        found: dict[tuple[int, str | None], dict[tuple[str, int], BudgetUsage]] = {}
        for (at, whose), each in self._groups.items():
            usage = total_of(each)
            project_id = whose[0]
            for column, index in columns[project_id]:
                key = whose[index] if index else EACH
                if key:  # an empty one is nobody's
                    by_key = found.setdefault((project_id, column), {})
                    known = by_key.get((key, at))
                    by_key[key, at] = usage if known is None else known.plus(usage)
        sums = UsageSums()
        for project_id, budgets in self._budgets.items():
            for budget in budgets:
                for (key, at), usage in found.get((project_id, budget.column), {}).items():
                    if budget.value in (EACH, key):
                        sums.put(project_id, budget, key, at, usage)
        return sums


def reached_now(
    reads: Reads, project_id: int, budget: ServerBudget, now: datetime
) -> list[Reached]:
    """Return the levels that the current window of each key, or a later one, has reached."""
    window = budget.span
    start = window.stored_start(int(now.timestamp()))
    found: list[Reached] = []
    for key, usage in usage_between(
        reads, project_id, budget.id, first=start - window.reach_seconds
    ).items():
        if window.period == "rolling":
            found += _reached_by_slices(project_id, budget, key, usage, since=start)
            continue
        for each, of_window in usage.items():
            place = Place(project_id, budget.id, key, each)
            found += _reached(budget, place, of_window, BudgetUsage())
    return found


def _reached(
    budget: ServerBudget, place: Place, after: BudgetUsage, before: BudgetUsage
) -> Iterator[Reached]:
    for each in budget.thresholds:
        used = after.amount(each.unit)
        if before.amount(each.unit) < each.amount <= used:
            yield Reached(place.project_id, budget, place.key, place.start, each, used)


def _reached_sliding(
    reads: Reads, project_id: int, budget: ServerBudget, added: Mapping[str, Sequence[int]]
) -> Iterator[Reached]:
    """Return the levels that are reached by windows with slices to which something was added."""
    reach = budget.span.reach_seconds
    starts = [start for each in added.values() for start in each]
    slices = usage_between(
        reads,
        project_id,
        budget.id,
        first=min(starts) - reach,
        last=max(starts) + reach,
        keys=added,
    )
    for key, usage in slices.items():
        last = max(added[key]) + reach
        found = _reached_by_slices(project_id, budget, key, usage, since=min(added[key]))
        yield from (each for each in found if each.start <= last)


def _reached_by_slices(
    project_id: int,
    budget: ServerBudget,
    key: str,
    slices: Mapping[int, BudgetUsage],
    *,
    since: int,
) -> Iterator[Reached]:
    """Return the levels that windows have reached whose newest slice has usage and is not earlier."""
    reach = budget.span.reach_seconds
    if budget.counts_since is not None:  # the windows before were over when it was made
        since = max(since, int(budget.counts_since.timestamp()) + reach)
    for newest in slices:
        if newest >= since:
            used = BudgetUsage()
            for start, usage in slices.items():
                if newest - reach <= start <= newest:
                    used = used.plus(usage)
            yield from _reached(
                budget, Place(project_id, budget.id, key, newest), used, BudgetUsage()
            )


def _is_near(budget: ServerBudget, ever: BudgetUsage) -> bool:
    """Return whether a level is reached; of all windows together, whether any may have one."""
    tokens, cost = budget.lowest
    return (tokens is not None and ever.tokens >= tokens) or (
        cost is not None and ever.cost_pico_usd >= cost
    )


def _step(budgets: Iterable[ServerBudget]) -> int:
    """Return a length at whose multiples alone windows of any of these budgets begin, and hours."""
    steps = [step for step in (each.span.step_seconds for each in budgets) if step is not None]
    return math.gcd(HOUR, *(step * _MICROSECONDS for step in steps))
