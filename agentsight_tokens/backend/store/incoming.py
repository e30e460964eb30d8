"""Calls that have come, made ready to be written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from agentsight_tokens.calls import CALL_COLUMNS, record_values
from agentsight_tokens.cycle import Cycle
from agentsight_tokens.errors import UnstorableError
from agentsight_tokens.usage import UsageRecord

from .tally import Entry, entry_of

__all__ = ["ROW_COLUMNS", "IncomingCall", "incoming_calls"]

ROW_COLUMNS: Final[tuple[str, ...]] = ("project_id", "cycle_key", "environment", *CALL_COLUMNS)
"""A call as it lies in its table."""


class IncomingCall(NamedTuple):
    """A call, its row and what it adds to the sums."""

    cycle: Cycle
    record: UsageRecord
    row: Any
    """`ROW_COLUMNS`, as the store writes them."""
    entry: Entry


def incoming_calls(
    project_id: int,
    cycles: Sequence[Cycle],
    *,
    written: Callable[[tuple[Any, ...]], Any] = tuple,
) -> list[IncomingCall]:
    """
    Make the calls of cycles ready.

    Args:
        project_id: Whose they are.
        cycles: The cycles.
        written: Makes a row what the store writes.

    Raises:
        UnstorableError: For what no store can hold.
    """
    try:
        calls = []
        for cycle in cycles:
            of_cycle = (project_id, cycle.key, cycle.environment)
            for record in cycle.records:
                values = record_values(record)
                entry = entry_of(project_id, cycle.environment, values)
                calls.append(IncomingCall(cycle, record, written(of_cycle + values), entry))
    except (OverflowError, TypeError, ValueError) as error:
        raise UnstorableError(str(error)) from error
    return calls
