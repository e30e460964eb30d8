"""
The sums by hour, model, provider and environment, kept in the transaction that takes the calls.

By the hour, and not by the day, so that days can be cut in the zones whose offset is whole hours;
the few dimensions have few values, so the table stays small beside the calls.
"""

from __future__ import annotations

from typing import Final

from agentsight_tokens.calls import SUMMARY_COLUMNS, SUMS

__all__ = ["HOUR", "ROLLUP_COLUMNS", "ROLLUP_KEY", "add_to_rollup"]

HOUR: Final = 3_600_000_000
"""Microseconds."""

ROLLUP_KEY: Final[tuple[str, ...]] = ("project_id", "hour", "model", "provider", "environment")
"""`hour` is when it begins; what a call does not say is an empty text, for it is in the key."""

ROLLUP_COLUMNS: Final[tuple[str, ...]] = (*ROLLUP_KEY, *SUMMARY_COLUMNS)


def add_to_rollup(source: str, condition: str, *, sign: int = 1) -> str:
    """
    Return the statement that adds calls to the table `hourly_usage`.

    Args:
        source: The table of the calls.
        condition: Which of them.
        sign: -1 to take them away.
    """
    sums = SUMS if sign > 0 else [f"-{each}" for each in SUMS]
    # Rounded down, as integer division is not for times before 1970.
    hour = f"at - ((at % {HOUR}) + {HOUR}) % {HOUR}"
    additions = ", ".join(
        f"{name} = hourly_usage.{name} + excluded.{name}" for name in SUMMARY_COLUMNS
    )
    # In the order of the key, so that transactions that touch the same rows do not block each
    # other for ever.
    return (
        f"INSERT INTO hourly_usage ({', '.join(ROLLUP_COLUMNS)}) "  # noqa: S608  # our own names
        f"SELECT project_id, {hour}, COALESCE(model, ''), COALESCE(provider, ''), "
        f"COALESCE(environment, ''), {', '.join(sums)} FROM {source} WHERE {condition} "
        "GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3, 4, 5 "
        f"ON CONFLICT ({', '.join(ROLLUP_KEY)}) DO UPDATE SET {additions}"
    )
