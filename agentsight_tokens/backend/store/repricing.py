"""Repricing: calls get another cost, the old one stays beside it, and the sums follow."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from agentsight_tokens.calls import microseconds
from agentsight_tokens.usage import UsageRecord

from .base import Transaction
from .budget_counting import Counted
from .call_row import ROW_COLUMNS
from .packs import drop_packs
from .rollup import HOUR
from .tally import Tally

__all__ = ["COST_COLUMNS", "reprice"]

COST_COLUMNS: Final[tuple[str, ...]] = (
    "cost_pico_usd",
    "prompt_cost_pico_usd",
    "completion_cost_pico_usd",
    "cost_status",
    "price_key",
    "price_version",
)
_CALL: Final = "project_id = ? AND at = ? AND id = ?"
_COLUMNS: Final = ", ".join(COST_COLUMNS)
_KEEP: Final = (
    f"INSERT INTO repricings (project_id, call_id, repriced_at, {_COLUMNS}) "  # noqa: S608  # our own names
    f"SELECT project_id, id, CAST(? AS BIGINT), {_COLUMNS} FROM calls WHERE {_CALL}"
)
_CHANGE: Final = (
    f"UPDATE calls SET {', '.join(f'{name} = ?' for name in COST_COLUMNS)} WHERE {_CALL}"  # noqa: S608  # our own names
)
_OLD: Final = f"SELECT {', '.join(ROW_COLUMNS)} FROM calls WHERE {_CALL}"  # noqa: S608  # our own names
_FIRST_COST: Final = ROW_COLUMNS.index(COST_COLUMNS[0])
_COSTS: Final = slice(_FIRST_COST, _FIRST_COST + len(COST_COLUMNS))
_CALLS_A_TALLY: Final = 10_000


def reprice(
    transaction: Transaction,
    records: Iterable[UsageRecord],
    *,
    repriced_at: datetime,
    project_id: int,
    counted: Counted | None,
) -> int:
    """
    Give calls the cost of these records; return how many have changed.

    Args:
        transaction: Where.
        records: The calls, with their new cost.
        repriced_at: When.
        project_id: Whose calls.
        counted: The project's budgets, whose windows follow; alerts that were given stay.
    """
    changed = 0
    at = microseconds(repriced_at)
    times = set()
    step = HOUR if counted is None else counted.step
    tally = Tally(step=step)

    def write() -> None:
        transaction.add(tally)
        if counted is not None:
            counted.add(tally.groups)

    for record in records:
        call = (project_id, microseconds(record.at), record.id)
        found = transaction.rows(_OLD, call)
        if not found:
            continue
        [old] = found
        costs = tuple(getattr(record, name) for name in COST_COLUMNS)
        transaction.run(_KEEP, (at, *call))
        transaction.run(_CHANGE, (*costs, *call))
        tally.add([old], sign=-1)
        tally.add([(*old[: _COSTS.start], *costs, *old[_COSTS.stop :])])
        times.add(call[1])
        changed += 1
        if changed % _CALLS_A_TALLY == 0:
            write()
            tally = Tally(step=step)
    write()
    drop_packs(transaction, project_id, times)
    if counted is not None:
        counted.write(repriced_at)
    return changed
