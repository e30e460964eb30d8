"""The table of calls: how a record lies in SQLite, and how calls are selected and summed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, Final

import msgspec
from msgspec.structs import astuple

from .errors import InvalidScopeError
from .summary import UsageSummary
from .usage import COUNTERS, USAGE_FIELDS, Scope, TokenUsage, UsageRecord

__all__ = [
    "CALL_COLUMNS",
    "GROUPABLE",
    "HAS_TAG",
    "SUMMARY_COLUMNS",
    "SUMS",
    "calls_table",
    "group_statement",
    "grouped",
    "insert_calls",
    "microseconds",
    "record_values",
    "records",
    "selection",
    "summarise",
    "summarise_by_model",
    "summary_columns",
    "summary_of_row",
]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_SCOPE_FIELDS: Final = tuple(f for f in Scope.__struct_fields__ if f != "tags")
_PLAIN_FIELDS: Final = tuple(
    f for f in UsageRecord.__struct_fields__ if f not in {"id", "at", "usage", "scope"}
)
_INTEGERS: Final = {*USAGE_FIELDS, *(f for f in _PLAIN_FIELDS if f.endswith("_pico_usd"))}
_REALS: Final = {"duration_seconds", "time_to_first_token_seconds"}

CALL_COLUMNS: Final[tuple[str, ...]] = (
    "id",
    "at",
    *_SCOPE_FIELDS,
    "tags",
    *_PLAIN_FIELDS,
    *USAGE_FIELDS,
)
"""The columns of a call; `at` is in microseconds since 1970 UTC, `tags` a JSON array."""

GROUPABLE: Final[tuple[str, ...]] = (
    *_SCOPE_FIELDS,
    "model",
    "provider",
    "operation",
    "status",
    "source",
    "handler",
    "tool_name",
    "service_tier",
)
"""The columns by which calls are filtered and grouped."""


_PERIODS: Final = {
    "day": "strftime('%Y-%m-%d', at / 1000000, 'unixepoch')",
    "month": "strftime('%Y-%m', at / 1000000, 'unixepoch')",
}
"""Times in UTC by which calls are grouped, in SQLite."""

HAS_TAG: Final = "EXISTS (SELECT 1 FROM json_each(tags) WHERE value = ?)"
"""The condition that a call has a tag, in SQLite."""


def microseconds(at: datetime) -> int:
    """Return an aware time as microseconds since 1970 UTC."""
    since = at - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def calls_table(*extra: str, unique: Sequence[str] = ("id",)) -> str:
    """
    Return the statement that creates the table.

    Args:
        extra: Definitions of more columns; they come first.
        unique: The columns of which no two calls have the same values.
    """
    kinds = {**dict.fromkeys(_INTEGERS, "INTEGER"), **dict.fromkeys(_REALS, "REAL")}
    columns = [
        *extra,
        "id TEXT NOT NULL",
        "at INTEGER NOT NULL",
        *(f"{name} {kinds.get(name, 'TEXT')}" for name in CALL_COLUMNS[2:]),
        f"UNIQUE ({', '.join(unique)})",
    ]
    return f"CREATE TABLE IF NOT EXISTS calls ({', '.join(columns)}) STRICT"


def insert_calls(*extra: str, unique: Sequence[str] = ("id",)) -> str:
    """Return the statement that inserts a call once; the extra columns come first."""
    names = (*extra, *CALL_COLUMNS)
    marks = ", ".join("?" * len(names))
    return (
        f"INSERT INTO calls ({', '.join(names)}) VALUES ({marks}) "  # noqa: S608  # our own names
        f"ON CONFLICT ({', '.join(unique)}) DO NOTHING"
    )


def record_values(record: UsageRecord) -> tuple[Any, ...]:
    """Return a record's values in the order of `CALL_COLUMNS`."""
    id, at, usage, scope, *plain = astuple(record)
    *names, tags = astuple(scope)
    return (
        id,
        microseconds(at),
        *names,
        msgspec.json.encode(tags).decode() if tags else None,
        *plain,
        *astuple(usage)[COUNTERS],
    )


def records(rows: Iterable[Sequence[Any]]) -> Iterator[UsageRecord]:
    """Turn rows of `CALL_COLUMNS` back into records."""
    scopes, plain = len(_SCOPE_FIELDS), len(_PLAIN_FIELDS)
    # One scope and one model come many times in a row.
    scope_values: tuple[Any, ...] = ()
    scope = Scope()
    for row in rows:
        if row[2 : 3 + scopes] != scope_values:
            scope_values = tuple(row[2 : 3 + scopes])
            *names, tags = scope_values
            scope = Scope(
                **dict(zip(_SCOPE_FIELDS, names, strict=True)),
                tags=msgspec.json.decode(tags, type=tuple[str, ...]) if tags else (),
            )
        counts = zip(USAGE_FIELDS, row[3 + scopes + plain :], strict=True)
        yield UsageRecord(
            id=row[0],
            at=_EPOCH + timedelta(microseconds=row[1]),
            scope=scope,
            usage=TokenUsage(**{name: count for name, count in counts if count}),
            **dict(zip(_PLAIN_FIELDS, row[3 + scopes :], strict=False)),
        )


def selection(where: Mapping[str, Any], *, has_tag: str = HAS_TAG) -> tuple[str, list[Any]]:
    """
    Return the SQL condition, and its values, of a filter.

    Args:
        where: Values by column of `GROUPABLE`, `tags` (all of them must be there), `since`
            (inclusive) and `until` (exclusive), both aware; what is None does not filter.
        has_tag: The condition that a call has a tag, in the database's SQL.

    Raises:
        InvalidScopeError: For a name that is no filter, or a naive time.
    """
    conditions = ["1 = 1"]
    values: list[Any] = []
    for name, value in where.items():
        if value is None:
            continue
        if name in {"since", "until"}:
            if value.tzinfo is None:
                raise InvalidScopeError(f"{name} must be an aware time, not {value!r}")
            conditions.append(f"at {'>=' if name == 'since' else '<'} ?")
            values.append(microseconds(value))
        elif name == "tags":
            for tag in (value,) if isinstance(value, str) else value:
                conditions.append(has_tag)
                values.append(tag)
        elif name in GROUPABLE:
            conditions.append(f"{name} = ?")
            values.append(value)
        else:
            raise InvalidScopeError(
                f"{name!r} is no filter; known are {', '.join(GROUPABLE)}, tags, since, until"
            )
    return " AND ".join(conditions), values


def group_statement(dimensions: Sequence[str], condition: str) -> str:
    """
    Return the statement that adds up calls by group, in SQLite; `grouped` reads its rows.

    Args:
        dimensions: Columns of `GROUPABLE`, `day` or `month`.
        condition: What calls must fulfil.

    Raises:
        InvalidScopeError: For a dimension that calls are not grouped by.
    """
    for name in dimensions:
        if name not in GROUPABLE and name not in _PERIODS:
            known = ", ".join((*GROUPABLE, *_PERIODS))
            raise InvalidScopeError(f"calls are not grouped by {name!r}; known are {known}")
    names = "".join(f"{_PERIODS.get(name, name)}, " for name in dimensions)
    order = ", ".join(str(number + 1) for number in range(len(dimensions))) or "NULL"
    return f"SELECT {names}{summary_columns()} FROM calls WHERE {condition} GROUP BY {order}"  # noqa: S608  # our own names


def grouped(
    rows: Iterable[Sequence[Any]], width: int
) -> dict[str | tuple[str | None, ...] | None, UsageSummary]:
    """Return the sum of each group, by the values of its dimensions, which begin each row."""
    return {
        row[0] if width == 1 else tuple(row[:width]): summary_of_row(row[width:]) for row in rows
    }


def _whole_sum(expression: str) -> str:
    # PostgreSQL's sums of bigint are numeric.
    return f"CAST(COALESCE(SUM({expression}), 0) AS BIGINT)"


_MONEY: Final = ("cost_pico_usd", "prompt_cost_pico_usd", "completion_cost_pico_usd")
_IS_UNPRICED: Final = "cost_pico_usd IS NULL AND unreported_reason IS NULL"
_TOKENS: Final = "total_tokens + embedding_tokens"


SUMMARY_COLUMNS: Final[tuple[str, ...]] = (
    "calls",
    "unreported_calls",
    "unpriced_calls",
    "unpriced_tokens",
    "estimated_calls",
    *(f"{name.removesuffix('_pico_usd')}_micro_usd" for name in _MONEY),
    *(f"{name.removesuffix('_pico_usd')}_rest_pico_usd" for name in _MONEY),
    *USAGE_FIELDS,
)
"""
The names of what `summary_columns` sums.

Money is summed in two halves, because 64 bits of pico-USD end at 9.2 million USD.
"""


SUMS: Final[tuple[str, ...]] = (
    "COUNT(*)",
    "COUNT(unreported_reason)",
    f"COUNT(CASE WHEN {_IS_UNPRICED} AND {_TOKENS} > 0 THEN 1 END)",
    _whole_sum(f"CASE WHEN {_IS_UNPRICED} THEN {_TOKENS} END"),
    "COUNT(CASE WHEN source = 'estimated' THEN 1 END)",
    *(_whole_sum(f"{name} / 1000000") for name in _MONEY),
    *(_whole_sum(f"{name} % 1000000") for name in _MONEY),
    *(_whole_sum(name) for name in USAGE_FIELDS),
)
"""The SQL of `SUMMARY_COLUMNS` over calls, for SQLite and PostgreSQL."""


def summary_columns() -> str:
    """Return the SQL columns that `summary_of_row` reads."""
    return ", ".join(SUMS)


def summary_of_row(
    row: Sequence[int], by_model: dict[str, UsageSummary] | None = None
) -> UsageSummary:
    """Turn a row of `summary_columns` into a summary."""
    requests, unreported, unpriced, unpriced_tokens, estimated = row[:5]
    money = {
        name: high * 1_000_000 + low
        for name, high, low in zip(_MONEY, row[5:8], row[8:11], strict=True)
    }
    return UsageSummary(
        request_count=requests,
        unreported_calls=unreported,
        unpriced_calls=unpriced,
        unpriced_tokens=unpriced_tokens,
        estimated_calls=estimated,
        by_model=by_model or {},
        **money,
        **dict(zip(USAGE_FIELDS, row[11:], strict=True)),
    )


def summarise(rows: Iterable[Sequence[int]], by_model: dict[str, UsageSummary]) -> UsageSummary:
    """Add up rows of `summary_columns`."""
    total = [0] * (11 + len(USAGE_FIELDS))
    for row in rows:
        total = [a + b for a, b in zip(total, row, strict=True)]
    return summary_of_row(total, by_model)


def summarise_by_model(rows: Iterable[Sequence[Any]]) -> UsageSummary:
    """Add up rows of a model and `summary_columns`, and keep the sum of each model."""
    found = list(rows)
    by_model = {row[0] or "unknown": summary_of_row(row[1:]) for row in found}
    return summarise([row[1:] for row in found], by_model)
