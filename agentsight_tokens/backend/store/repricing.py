"""Repricing: calls get another cost, the old one stays beside it, and the sums follow."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Final

from agentsight_tokens.calls import microseconds
from agentsight_tokens.usage import UsageRecord

from .base import Transaction
from .rollup import add_to_rollup

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
_TAKE_AWAY: Final = add_to_rollup("calls", _CALL, sign=-1)
_ADD: Final = add_to_rollup("calls", _CALL)


def reprice(
    transaction: Transaction,
    records: Iterable[UsageRecord],
    *,
    repriced_at: datetime,
    project_id: int,
) -> int:
    """Give calls the cost of these records; return how many have changed."""
    changed = 0
    at = microseconds(repriced_at)
    for record in records:
        call = (project_id, microseconds(record.at), record.id)
        if not transaction.run(_KEEP, (at, *call)):
            continue
        transaction.run(_TAKE_AWAY, call)
        transaction.run(_CHANGE, (*(getattr(record, name) for name in COST_COLUMNS), *call))
        transaction.run(_ADD, call)
        changed += 1
    return changed
