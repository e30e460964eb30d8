"""Sums of calls, group by group, from whatever tables know them best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timezone, tzinfo
from typing import Any, NamedTuple

from agentsight_tokens.backend.store import Reader
from agentsight_tokens.backend.store.dialect import Dialect
from agentsight_tokens.backend.store.rollup import SUM_COLUMNS

from .dimensions import PERIODS, key_of
from .filters import condition_of
from .plan import parts_of
from .zones import offsets

__all__ = ["Group", "Sums", "sums_by"]


class Group(NamedTuple):
    """What the calls that have the same key add up to."""

    key: tuple[str | None, ...]
    """One value for each dimension; None where the calls say nothing."""
    sums: tuple[int, ...]
    """`SUM_COLUMNS`."""


class Sums(NamedTuple):
    """What the calls of each group add up to, and what all of them do."""

    by: tuple[str, ...]
    """The keys, in the order of each group's values: `conversation_id`, `day`, ..."""
    groups: list[Group]
    total: tuple[int, ...]
    """`SUM_COLUMNS` over all groups, also over those that are beyond the limit."""


def sums_by(
    reader: Reader,
    by: Sequence[str],
    *,
    where: Mapping[str, Any] | None = None,
    zone: tzinfo = timezone.utc,
    limit: int | None = None,
) -> Sums:
    """
    Add up the calls that a filter selects, group by group.

    Groups come in the order of time where time is a dimension, else the costliest first. What is
    asked of whole UTC days, and of one dimension at most, is answered without reading a call.

    Args:
        reader: Where the calls are.
        by: Names or keys of `DIMENSIONS`.
        where: The filter, as `calls.selection` takes it, and `environment`.
        zone: The time zone in which hours and days begin.
        limit: How many groups to return at most; all when not given.

    Raises:
        InvalidScopeError: For an unknown dimension or filter.
    """
    keys = tuple(dict.fromkeys(key_of(name) for name in by))
    asked = where or {}
    condition_of(reader, asked)  # it raises before anything is asked
    is_by_time = bool(set(keys) & set(PERIODS))
    segments = offsets(
        reader, asked.get("since"), asked.get("until"), zone if is_by_time else timezone.utc
    )
    parts = parts_of(reader, keys, asked, segments)
    if not parts:
        return Sums(keys, [], (0,) * len(SUM_COLUMNS))
    values = [value for part in parts for value in part.values]
    if limit is not None:
        values.append(limit)
    statement = _statement(reader.dialect, keys, [part.statement for part in parts], limit=limit)
    *rows, total = sorted(reader.rows(statement, values), key=lambda row: row[0])
    width = 1 + len(keys)
    groups = [Group(row[1:width], row[width:]) for row in rows]
    groups.sort(key=_by_time if set(keys) & set(PERIODS) else _by_cost)
    return Sums(keys, groups, total[width:])


def _statement(
    dialect: Dialect, keys: Sequence[str], parts: Sequence[str], *, limit: int | None
) -> str:
    """Return the query whose rows are 0, a group and its sums; the last one is 1 and the total."""
    names = [f"key_{i}" for i in range(len(keys))]
    sums = [f"CAST(COALESCE(SUM({name}), 0) AS BIGINT) AS {name}" for name in SUM_COLUMNS]
    groups = f" GROUP BY {', '.join(names)}" if names else ""
    together = " UNION ALL ".join(parts)
    if len(parts) > 1:
        together = f"SELECT {', '.join([*names, *sums])} FROM ({together}) AS part{groups}"  # noqa: S608  # our own names
    cut = ""
    if limit is not None:
        order = _order(dialect, names, is_by_time=bool(set(keys) & set(PERIODS)))
        cut = f" ORDER BY {', '.join(order)} LIMIT ?"
    nothing = [f"NULL AS {name}" for name in names]
    return (
        f"WITH found AS ({together}) "  # noqa: S608  # our own names
        f"SELECT 0 AS is_total, few.* FROM (SELECT * FROM found{cut}) AS few "
        f"UNION ALL SELECT {', '.join(['1', *nothing, *sums])} FROM found"
    )


def _order(dialect: Dialect, names: Sequence[str], *, is_by_time: bool) -> list[str]:
    """Return how groups are ordered in SQL, the same as in Python."""
    by_name = [
        term for name in names for term in (f"{name} IS NULL", f"{name}{dialect.by_code_point}")
    ]
    by_cost = (
        "cost_micro_usd + cost_rest_pico_usd / 1000000 DESC",
        "cost_rest_pico_usd % 1000000 DESC",
        "total_tokens + embedding_tokens DESC",
        "calls DESC",
    )
    return by_name if is_by_time else [*by_cost, *by_name]


def _by_time(group: Group) -> tuple[Any, ...]:
    return tuple((value is None, value or "") for value in group.key)


def _by_cost(group: Group) -> tuple[Any, ...]:
    sums = dict(zip(SUM_COLUMNS, group.sums, strict=True))
    cost = sums["cost_micro_usd"] * 1_000_000 + sums["cost_rest_pico_usd"]
    tokens = sums["total_tokens"] + sums["embedding_tokens"]
    return -cost, -tokens, -sums["calls"], _by_time(group)
