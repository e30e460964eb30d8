"""The leading conversations: those that can be on a page, found in packs before calls are read."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any, Final

from agentsight_tokens.backend.store import Reader
from agentsight_tokens.backend.store.pack import COST, print_of

from .gathering import Gathering
from .names import UntoldError
from .sums import gathered

__all__ = ["leading_conversations"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICRO: Final = 1_000_000
_MOST: Final = 5_000
"""That are worth to be looked at one by one."""


def leading_conversations(
    reader: Reader,
    where: Mapping[str, Any],
    measure: str | None,
    after: tuple[int, ...] | None,
    limit: int,
) -> list[str] | None:
    """
    Return the conversations among which the next ones of an order are.

    Packs know the hour of a call and not its time: all that end in one hour are among them.

    Args:
        reader: Where the calls are.
        where: The filter, which selects calls.
        measure: `cost_micro_usd` or `total_tokens`, if the largest one comes first; of the same,
            and without it, the newest.
        after: The measure, if there is one, and the last time of the conversation before.
        limit: How many are asked for.

    Returns:
        None if packs do not tell, or not enough.
    """
    columns = {"cost_micro_usd": COST, "total_tokens": ("total_tokens",)}.get(measure or "", ())
    try:
        found = gathered(reader, ("conversation_id", "hour"), where, columns)
        return None if found is None else _leading(found, columns, after, limit)
    except UntoldError:
        return None


def _leading(
    found: Gathering, columns: Sequence[str], after: tuple[int, ...] | None, limit: int
) -> list[str] | None:
    import numpy

    if columns and after is None:
        # Calls without a conversation may be among those that lead.
        found = found.leading("conversation_id", columns, limit + 1)
    which, first = found.distinct(["conversation_id"])
    values = numpy.zeros(len(first), numpy.int64)
    for name in columns:
        values += found.summed(name, which, len(first)) // (_MICRO if name == COST[1] else 1)
    hours = found.values("hour")
    in_order = sorted(name or "" for name in hours)
    rank_of = {name: rank for rank, name in enumerate(in_order)}
    ranks = numpy.array([rank_of[name or ""] for name in hours], numpy.int64)
    last = numpy.zeros(len(first), numpy.int64)
    numpy.maximum.at(last, which, ranks[found.numbers("hour")])
    prints = found.numbers("conversation_id")[first]
    chosen = prints != print_of(None)
    if after is not None:
        *of_measure, at = after
        value = of_measure[0] if of_measure else 0
        rank = bisect_right(in_order, _hour_of(at)) - 1
        is_level = (values == value) & (last == rank)
        limit += int(is_level.sum())  # they may all come before
        chosen &= (values < value) | ((values == value) & (last <= rank))
    rows = numpy.flatnonzero(chosen)
    rows = rows[numpy.lexsort((last[rows], values[rows]))[::-1]]
    if limit < len(rows):
        end = rows[limit - 1]
        is_within = (values[rows] > values[end]) | (
            (values[rows] == values[end]) & (last[rows] >= last[end])
        )
        rows = rows[is_within]
    if len(rows) > _MOST:
        return None
    return [name or "" for name in found.texts("conversation_id", prints[rows])]


def _hour_of(at: int) -> str:
    """Return the name of the hour of a time, as packs and queries name it in UTC."""
    return f"{_EPOCH + timedelta(microseconds=at):%Y-%m-%dT%H:00}+00:00"
