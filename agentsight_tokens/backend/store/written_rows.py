"""Many rows written by one statement, in PostgreSQL, or one by one, where that costs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .base import Transaction
from .dialect import Dialect

__all__ = ["write_rows"]


def write_rows(
    transaction: Transaction,
    dialect: Dialect,
    into: str,
    kinds: Sequence[str],
    rows: Sequence[Sequence[object]],
    *,
    then: str,
) -> list[tuple[Any, ...]]:  # fmt: skip
    """
    Insert rows in their order; return what the statement returns.

    Args:
        transaction: Where.
        dialect: Its SQL.
        into: The table and its columns: `table (a, b)`.
        kinds: The columns' types in PostgreSQL.
        rows: Values in the order of the columns.
        then: The rest of the statement: `ON CONFLICT ... RETURNING ...`.
    """
    if not rows:
        return []
    if dialect.name == "postgresql":
        arrays = ", ".join(f"?::{kind}[]" for kind in kinds)
        return transaction.rows(
            f"INSERT INTO {into} SELECT * FROM unnest({arrays}) {then}",  # noqa: S608  # our own names
            [[row[i] for row in rows] for i in range(len(kinds))],
        )
    marks = ", ".join("?" * len(kinds))
    statement = f"INSERT INTO {into} VALUES ({marks}) {then}"  # noqa: S608  # our own names
    return [found for row in rows for found in transaction.rows(statement, row)]
