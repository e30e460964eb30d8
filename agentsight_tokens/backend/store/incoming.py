"""Calls that have come, made ready to be written."""

from __future__ import annotations

from collections.abc import Sequence
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
    row: tuple[Any, ...]
    """`ROW_COLUMNS`."""
    entry: Entry


def incoming_calls(project_id: int, cycles: Sequence[Cycle]) -> list[IncomingCall]:
    """
    Make the calls of cycles ready.

    Raises:
        UnstorableError: For what no store can hold.
    """
    try:
        return [
            _incoming(project_id, cycle, record) for cycle in cycles for record in cycle.records
        ]
    except (OverflowError, TypeError, ValueError) as error:
        raise UnstorableError(str(error)) from error


def _incoming(project_id: int, cycle: Cycle, record: UsageRecord) -> IncomingCall:
    values = record_values(record)
    return IncomingCall(
        cycle,
        record,
        (project_id, cycle.key, cycle.environment, *values),
        entry_of(project_id, cycle.environment, values),
    )
