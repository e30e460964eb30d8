"""The table of calls: how a call that has come lies in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from agentsight_tokens.calls import CALL_COLUMNS, record_values
from agentsight_tokens.cycle import Cycle
from agentsight_tokens.errors import UnstorableError

__all__ = ["ROW_COLUMNS", "CallRow", "call_rows"]

ROW_COLUMNS: Final[tuple[str, ...]] = ("project_id", "cycle_key", "environment", *CALL_COLUMNS)
"""A call as it lies in its table."""

CallRow = tuple[Any, ...]
"""The values of `ROW_COLUMNS`."""


def call_rows(project_id: int, cycles: Sequence[Cycle]) -> list[CallRow]:
    """
    Return the rows of the calls of cycles.

    Args:
        project_id: Whose they are.
        cycles: The cycles.

    Raises:
        UnstorableError: For what no store can hold.
    """
    rows = []
    try:
        for cycle in cycles:
            of_cycle = (project_id, cycle.key, cycle.environment)
            rows += [of_cycle + record_values(record) for record in cycle.records]
    except (OverflowError, TypeError, ValueError) as error:
        raise UnstorableError(str(error)) from error
    return rows
