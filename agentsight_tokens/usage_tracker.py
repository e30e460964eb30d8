"""The stand-alone usage tracker: a ledger of calls that belongs to no conversation."""

from __future__ import annotations

import sqlite3
import weakref
from collections.abc import Mapping
from datetime import datetime, timezone
from threading import RLock
from typing import Any, Final

from .calls import (
    CALL_COLUMNS,
    calls_table,
    group_statement,
    grouped,
    insert_calls,
    record_values,
    records,
    selection,
    summarise_by_model,
    summary_columns,
)
from .ids import time_ordered_id
from .pricing import CostEstimator
from .scope import current_attribution
from .summary import UsageSummary
from .usage import TokenUsage, UsageRecord, checked_count
from .usage_analytics import UsageQuestions
from .usage_history import UsageHistory

__all__ = ["UsageTracker", "usage_trackers"]

_COLUMNS: Final = ", ".join(CALL_COLUMNS)
_INSERT: Final = insert_calls()
_trackers: Final[weakref.WeakSet[UsageTracker]] = weakref.WeakSet()


class UsageTracker(UsageQuestions):
    """
    Keeps calls that are recorded by hand, for sums and groups; it delivers nothing.

    The calls lie in a temporary file, so that memory stays flat however many there are.

    Args:
        estimator: What prices the calls.
    """

    def __init__(self, *, estimator: CostEstimator | None = None) -> None:
        self._estimator = estimator or CostEstimator()
        self._lock = RLock()
        self._connection = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA synchronous=OFF")
        self._connection.execute(calls_table("number INTEGER PRIMARY KEY"))
        self._closer = weakref.finalize(self, self._connection.close)
        _trackers.add(self)

    def record_usage(
        self,
        input_tokens: int | None = 0,
        output_tokens: int | None = 0,
        model: str | None = None,
        *,
        usage: TokenUsage | None = None,
        tool_name: str | None = None,
        response_id: str | None = None,
        **scope: object,
    ) -> UsageRecord:
        """
        Record one call.

        Args:
            input_tokens: The input, cache included.
            output_tokens: The output, reasoning included.
            model: The model, by which the call is priced.
            usage: All counters, in place of the first two.
            tool_name: The tool inside which the call was made.
            response_id: The provider's id of the response; each is recorded once.
            **scope: Scope fields: conversation_id, session_id, user_id, ...

        Raises:
            InvalidCountError: For a count that is negative or no integer; nothing is recorded.
            InvalidScopeError: For an unknown scope field.
        """
        record = self._estimator.priced(
            UsageRecord(
                id=time_ordered_id(),
                at=datetime.now(timezone.utc),
                usage=usage
                or TokenUsage(
                    input_tokens=checked_count("input_tokens", input_tokens),
                    output_tokens=checked_count("output_tokens", output_tokens),
                ),
                scope=current_attribution().scope.replace(**scope),
                model=model,
                source="manual",
                tool_name=tool_name,
                response_id=response_id,
            )
        )
        with self._lock:
            known = response_id and self._rows("response_id = ?", [response_id])
            if known:
                return next(records(known))
            self._connection.execute(_INSERT, record_values(record))
        return record

    def get_summary(self, **where: Any) -> UsageSummary:
        """Return the sum of the calls that the filters select, by model too."""
        condition, values = selection(where)
        with self._lock:
            return summarise_by_model(
                self._connection.execute(
                    f"SELECT model, {summary_columns()} FROM calls WHERE {condition} GROUP BY 1",  # noqa: S608
                    values,
                )
            )

    def get_history(self, **where: Any) -> UsageHistory:
        """Return the calls that the filters select, oldest first."""
        condition, values = selection(where)
        with self._lock:
            return UsageHistory(records(self._rows(condition, values)))

    def get_usage(self, **where: Any) -> UsageSummary:
        """Do what `get_summary` does, by the name that it has elsewhere."""
        return self.get_summary(**where)

    def group_by(
        self, *dimensions: str, **where: Any
    ) -> Mapping[str | tuple[str | None, ...] | None, UsageSummary]:
        """
        Return the sum of each group; keys are values, tuples of them for several dimensions.

        Args:
            *dimensions: Scope fields, model, provider, operation, status, source, handler,
                tool_name, service_tier, or `day` and `month` in UTC.
            **where: Filters; see `get_summary`.

        Raises:
            InvalidScopeError: For a dimension that calls are not grouped by.
        """
        condition, values = selection(where)
        statement = group_statement(dimensions, condition)
        with self._lock:
            return grouped(self._connection.execute(statement, values), len(dimensions))

    def reset(self) -> None:
        """Forget every call."""
        with self._lock:
            self._connection.execute("DELETE FROM calls")

    def close(self) -> None:
        """Delete the temporary file."""
        _trackers.discard(self)
        self._closer()

    def __enter__(self) -> UsageTracker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rows(self, condition: str, values: list[Any]) -> list[tuple[Any, ...]]:
        return self._connection.execute(
            f"SELECT {_COLUMNS} FROM calls WHERE {condition} ORDER BY number",  # noqa: S608
            values,
        ).fetchall()


def usage_trackers() -> list[UsageTracker]:
    """Return the usage trackers that are in use."""
    return list(_trackers)
