"""The table of cycles: how a cycle lies in it."""

from __future__ import annotations

from typing import Any, Final

from agentsight_tokens.calls import microseconds
from agentsight_tokens.cycle import Cycle

__all__ = ["CYCLE_COLUMNS", "cycle_values"]

CYCLE_COLUMNS: Final[tuple[str, ...]] = (
    "key",
    "conversation_id",
    "sealed_by",
    "opened_at",
    "sealed_at",
    "environment",
    "calls",
)


def cycle_values(cycle: Cycle) -> tuple[Any, ...]:
    """Return a cycle's values in the order of `CYCLE_COLUMNS`."""
    return (
        cycle.key,
        cycle.conversation_id,
        cycle.sealed_by,
        microseconds(cycle.opened_at),
        microseconds(cycle.sealed_at),
        cycle.environment,
        cycle.calls,
    )
