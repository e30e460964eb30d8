"""What the tables of sums hold, and the same added up from the calls."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from agentsight_tokens.backend.store import Reader
from agentsight_tokens.backend.store.rollup import (
    CONVERSATION_FACTS,
    ROLLED_DIMENSIONS,
    ROLLUPS,
    SUM_COLUMNS,
    sums_of_calls,
)

Sums = dict[tuple[Any, ...], list[int]]

_HALVES = [
    (SUM_COLUMNS.index(f"{name}_micro_usd"), SUM_COLUMNS.index(f"{name}_rest_pico_usd"))
    for name in ("cost", "prompt_cost", "completion_cost")
]


def kept(reader: Reader, table: str) -> Sums:
    """Return the sums of a table by its key, those of nothing left out."""
    key = ROLLUPS[table]
    rows = reader.rows(f"SELECT {', '.join((*key, *SUM_COLUMNS))} FROM {table} WHERE calls <> 0")
    return _by_key(rows, len(key))


def added_up(reader: Reader, table: str) -> Sums:
    """Return the same, from the calls."""
    found: Sums = {}
    for keys, condition in _groups(reader, table):
        rows = reader.rows(
            f"SELECT {', '.join((*keys, *sums_of_calls(reader.dialect)))} FROM calls "
            f"WHERE {condition} GROUP BY {', '.join(str(i + 1) for i in range(len(keys)))}"
        )
        found |= _by_key(rows, len(keys))
    return found


def spans(reader: Reader) -> list[tuple[Any, ...]]:
    """Return what is known of each conversation, beside its sums."""
    return reader.rows(
        "SELECT project_id, conversation_id, first_at, last_at, "
        f"{', '.join(CONVERSATION_FACTS)} FROM conversations ORDER BY 1, 2"
    )


def _groups(reader: Reader, table: str) -> Sequence[tuple[tuple[str, ...], str]]:
    def start(length: str) -> str:
        return f"at - ((at % {length}) + {length}) % {length}"

    if table == "hourly_usage":
        names = [f"COALESCE({name}, '')" for name in ("model", "provider", "environment")]
        return [(("project_id", start("3600000000"), *names), "1 = 1")]
    if table == "conversations":
        return [(("project_id", "conversation_id"), "conversation_id <> ''")]
    day = start("86400000000")
    if reader.dialect.name == "sqlite":
        second = "CAST(strftime('%s', ({}) / 1000000, 'unixepoch', 'start of month') AS INTEGER)"
        month = f"{second.format(day)} * 1000000"
    else:
        date = f"date_trunc('month', timezone('UTC', to_timestamp(({day}) / 1000000)))"
        month = f"CAST(EXTRACT(epoch FROM {date}) AS BIGINT) * 1000000"
    if table == "model_usage":
        names = [f"COALESCE({name}, '')" for name in ("model", "provider", "environment")]
        return [
            (("project_id", f"'{period}'", time, *names), "1 = 1")
            for period, time in (("day", day), ("month", month))
        ]
    hourly = ("project_id", "'status'", "'hour'", start("3600000000"), "status")
    return [
        (hourly, "1 = 1"),
        *(
            (("project_id", f"'{name}'", f"'{period}'", time, f"COALESCE({name}, '')"), "1 = 1")
            for name in ROLLED_DIMENSIONS
            for period, time in (("day", day), ("month", month))
        ),
    ]


def _by_key(rows: list[tuple[Any, ...]], width: int) -> Sums:
    return {row[:width]: _whole_money(row[width:]) for row in rows}


def _whole_money(sums: tuple[int, ...]) -> list[int]:
    """Bring the two halves of each sum of money to one form."""
    found = list(sums)
    for high, low in _HALVES:
        found[high], found[low] = divmod(found[high] * 10**6 + found[low], 10**6)
    return found
