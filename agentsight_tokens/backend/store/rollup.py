"""
The tables of sums, and the SQL that fills them: kept in the transaction that takes the calls.

- `hourly_usage`: by hour, model, provider and environment. By the hour, and not by the day, so
  that days can be cut in the zones whose offset is whole hours.
- `model_usage`: the same by UTC day and by UTC month, for long times.
- `dimension_usage`: by UTC day and by UTC month, one dimension at a time. Dimensions together
  would have nearly as many rows as there are calls. By the hour, too, for `status`, which has
  the fewest values: all calls of a long time are added up from it.
- `conversations`: by conversation, with when it began and ended and who took part.

Sessions have no sums: a session is a conversation unless it is told apart, so that its sums
would be as many rows again. Neither have tags, of which a call has several.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from agentsight_tokens.calls import SUMMARY_COLUMNS, SUMS

from .dialect import Dialect

__all__ = [
    "CONVERSATION_FACTS",
    "CONVERSATION_KEY",
    "DAY",
    "DIMENSION_KEY",
    "HOUR",
    "HOURLY_DIMENSION",
    "HOURLY_KEY",
    "LONGEST_SECONDS",
    "MODEL_KEY",
    "ROLLED_DIMENSIONS",
    "ROLLUPS",
    "SUM_COLUMNS",
    "TIMING_COLUMNS",
    "sums_of_calls",
    "upsert",
]

HOUR: Final = 3_600_000_000
"""Microseconds."""

DAY: Final = 24 * HOUR
"""Microseconds."""

TIMING_COLUMNS: Final[tuple[str, ...]] = (
    "timed_calls",
    "timed_output_tokens",
    "duration_microseconds",
    "first_token_calls",
    "first_token_microseconds",
)
"""
What tokens a second and the time to the first token are made of.

The calls that say how long they took, their output tokens and their time; the calls that say when
their first token came, and the sum of that.
"""

SUM_COLUMNS: Final[tuple[str, ...]] = (*SUMMARY_COLUMNS, *TIMING_COLUMNS)
"""What every table of sums holds; each is 0 unless something was added."""

HOURLY_KEY: Final[tuple[str, ...]] = ("project_id", "hour", "model", "provider", "environment")
"""`hour` is when it begins; what a call does not say is an empty text, for it is in the key."""

MODEL_KEY: Final[tuple[str, ...]] = ("project_id", "period", "start", *HOURLY_KEY[2:])
"""`period` is day or month, `start` when it begins."""

DIMENSION_KEY: Final[tuple[str, ...]] = ("project_id", "dimension", "period", "start", "value")
"""`dimension` is one of `ROLLED_DIMENSIONS`; `period` hour, day or month; `start` when it begins."""

ROLLED_DIMENSIONS: Final[tuple[str, ...]] = (
    "model",
    "provider",
    "environment",
    "user_id",
    "org_id",
    "agent",
    "feature",
    "operation",
    "status",
    "source",
    "handler",
    "tool_name",
    "service_tier",
)
"""The columns of calls that `dimension_usage` sums by."""

HOURLY_DIMENSION: Final = "status"
"""The one that it sums by the hour as well."""

CONVERSATION_KEY: Final[tuple[str, ...]] = ("project_id", "conversation_id")

CONVERSATION_FACTS: Final[tuple[str, ...]] = (
    "session_id",
    "user_id",
    "org_id",
    "agent",
    "feature",
    "environment",
)
"""What is known of a conversation: what its latest call that says so has said."""

ROLLUPS: Final[dict[str, tuple[str, ...]]] = {
    "hourly_usage": HOURLY_KEY,
    "model_usage": MODEL_KEY,
    "dimension_usage": DIMENSION_KEY,
    "conversations": CONVERSATION_KEY,
}
"""The key of each table of sums."""


LONGEST_SECONDS: Final = 1_000_000
"""A call that says it took longer (eleven days), or less than nothing, says nothing."""


def sums_of_calls(dialect: Dialect) -> tuple[str, ...]:
    """Return the SQL of `SUM_COLUMNS` over calls."""
    duration, first_token = (
        (f"{name} BETWEEN 0 AND {LONGEST_SECONDS}", dialect.whole(f"{name} * 1000000"))
        for name in ("duration_seconds", "time_to_first_token_seconds")
    )
    return (
        *SUMS,
        f"COUNT(CASE WHEN {duration[0]} THEN 1 END)",
        *(
            f"CAST(COALESCE(SUM(CASE WHEN {condition} THEN {what} END), 0) AS BIGINT)"
            for condition, what in (
                (duration[0], "output_tokens"),
                duration,
            )
        ),
        f"COUNT(CASE WHEN {first_token[0]} THEN 1 END)",
        f"CAST(COALESCE(SUM(CASE WHEN {first_token[0]} THEN {first_token[1]} END), 0) AS BIGINT)",
    )


def upsert(table: str, columns: Sequence[str], source: str) -> str:
    """
    Return the statement that adds sums to a table.

    Args:
        table: One of `ROLLUPS`.
        columns: Its columns that the source has; sums that nothing is added to may be left out.
        source: What comes after the names of the columns: VALUES or a query.
    """
    key = ROLLUPS[table]
    changes = ", ".join(f"{name} = {_merged(table, name)}" for name in columns if name not in key)
    return (
        f"INSERT INTO {table} ({', '.join(columns)}) {source} "  # our own names
        f"ON CONFLICT ({', '.join(key)}) DO UPDATE SET {changes}"
    )


def _merged(table: str, name: str) -> str:
    old, new = f"{table}.{name}", f"excluded.{name}"
    if name == "first_at":
        return f"CASE WHEN {new} < {old} THEN {new} ELSE {old} END"
    if name == "last_at":
        return f"CASE WHEN {new} > {old} THEN {new} ELSE {old} END"
    if name in CONVERSATION_FACTS:
        return (
            f"CASE WHEN excluded.last_at >= {table}.last_at "
            f"THEN COALESCE({new}, {old}) ELSE COALESCE({old}, {new}) END"
        )
    return f"{old} + {new}"
