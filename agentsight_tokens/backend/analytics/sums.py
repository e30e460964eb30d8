"""Sums of calls, group by group, from whatever tables know them best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timezone, tzinfo
from importlib.util import find_spec
from itertools import chain
from typing import Any, Final, NamedTuple

from agentsight_tokens.backend.store import Reader
from agentsight_tokens.backend.store.dialect import Dialect
from agentsight_tokens.backend.store.pack import COST, NAMED, RANKING
from agentsight_tokens.backend.store.packs import Pack
from agentsight_tokens.backend.store.rollup import SUM_COLUMNS
from agentsight_tokens.calls import SUMMARY_COLUMNS

from .dimensions import PERIODS, key_of
from .filters import condition_of
from .gathering import Gathering, Group
from .names import PackedNames, UntoldError
from .packed import gather, packs_for
from .places import Among, Prints
from .plan import Part, Piece, Query, can_be_packed, part_of, pieces_of
from .zones import offsets

__all__ = ["Group", "Sums", "gathered", "sums_by", "sums_over_time"]


_HAS_NUMPY: Final = find_spec("numpy") is not None
"""Where the server is installed it is there; without it, packs are left and calls are read."""

_NAMED_ALONE: Final = {(name,) for name in NAMED}
_MOST_ROWS: Final = 700_000
"""Of packs, that are kept with all of their sums."""

_MOST_LEVEL: Final = 5_000
"""Conversations or sessions that cost as much as one another, beyond which none are told apart."""


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
    columns: Sequence[str] = SUM_COLUMNS,
) -> Sums:
    """
    Add up the calls that a filter selects, group by group.

    Groups come in the order of time where time is a dimension, else the costliest first. What is
    asked of whole UTC days, and of one dimension at most, is answered from the tables of sums; what
    else is asked of a day or more from packs, where there are any; the rest from the calls.

    Args:
        reader: Where the calls are.
        by: Names or keys of `DIMENSIONS`.
        where: The filter, as `calls.selection` takes it, and `environment`.
        zone: The time zone in which hours and days begin.
        limit: How many groups to return at most; all when not given.
        columns: The sums that are asked for; the others may be 0.

    Raises:
        InvalidScopeError: For an unknown dimension or filter.
    """
    query = _query(reader, by, where, zone)._replace(columns=columns)
    pieces = pieces_of(reader, query)
    if not pieces:
        return Sums(query.keys, [], (0,) * len(SUM_COLUMNS))
    try:
        if limit is not None and query.keys in _NAMED_ALONE:
            found = _of_the_costliest(reader, query, pieces, limit)
        else:
            gathering = _gathered(reader, query, pieces)
            found = None if gathering is None else _of(gathering, query.keys, limit)
    except UntoldError:
        found = None
    return found or _asked(reader, query, pieces, limit)


def _asked(reader: Reader, query: Query, pieces: Sequence[Piece], limit: int | None) -> Sums:
    """Return what the database adds up."""
    if limit is not None and len(query.keys) == 1 and not query.is_by_time:
        statement, values = _of_the_first(reader, query, pieces, limit)
    else:
        statement, values = _of_all(reader, query, pieces, limit)
    *rows, last = sorted(reader.rows(statement, values), key=lambda row: row[0])
    width = 1 + len(query.keys)
    groups = [Group(row[1:width], row[width:]) for row in rows]
    groups.sort(key=_by_time if query.is_by_time else _by_cost)
    return Sums(query.keys, groups, last[width:])


def sums_over_time(
    reader: Reader,
    by: tuple[str, str],
    *,
    where: Mapping[str, Any],
    zone: tzinfo,
    limit: int,
    most: int,
) -> tuple[Sums, Sums]:
    """
    Add up the calls that a filter selects by a dimension, and by that and the time.

    Both are found in one reading of packs, where packs answer them so. Of the sums, `TIMING_COLUMNS`
    may be 0, and of those by time what is not in `RANKING`.

    Args:
        reader: Where the calls are.
        by: One of `PERIODS`, and the name or key of one of `DIMENSIONS`.
        where: The filter, as `sums_by` takes it.
        zone: The time zone in which hours and days begin.
        limit: How many groups to return at most.
        most: With more groups than this or the limit, and by a period, the second sums are by time
            alone.

    Raises:
        InvalidScopeError: For an unknown dimension or filter.
    """
    step, name = by
    query = _query(reader, [name], where, zone)
    [key] = query.keys
    pieces = pieces_of(reader, query)
    split = _query(reader, [step, key], where, zone)._replace(columns=SUMMARY_COLUMNS)
    gathering = None if _is_apart(reader, query, pieces) else _gathered(reader, split, pieces)
    if gathering is None:
        found = sums_by(reader, [key], where=where, zone=zone, limit=limit, columns=SUMMARY_COLUMNS)
        steps = [step, key] if _are_few(found, key, limit, most) else [step]
        return found, sums_by(reader, steps, where=where, zone=zone, columns=RANKING)
    found = _of(gathering, (key,), limit)
    is_split = _are_few(found, key, limit, most)
    return found, _of(gathering, (step, key) if is_split else (step,), None)


def _is_apart(reader: Reader, query: Query, pieces: Sequence[Piece]) -> bool:
    """
    Tell whether groups are found quicker without adding up each by the time.

    Conversations and sessions are, for they are many, and so are users where months know them:
    most periods cut these.
    """
    [key] = query.keys
    if key == "user_id":
        packs = chain.from_iterable(_packs(reader, query, pieces))
        return any(pack.period == "month" for pack in packs)
    return key in NAMED


def _are_few(found: Sums, key: str, limit: int, most: int) -> bool:
    """Tell whether groups by a key are all there, and so few that each is looked at over time."""
    return key not in PERIODS and len(found.groups) < limit and len(found.groups) <= most


def gathered(
    reader: Reader, by: Sequence[str], where: Mapping[str, Any], columns: Sequence[str]
) -> Gathering | None:
    """
    Add up the calls that a filter selects in memory, or return None where no pack helps.

    Args:
        reader: Where the calls are.
        by: Names or keys of `DIMENSIONS`; periods are of UTC.
        where: The filter, as `sums_by` takes it.
        columns: The sums that are asked for; the others may be 0.
    """
    query = _query(reader, by, where, timezone.utc)._replace(columns=columns)
    return _gathered(reader, query, pieces_of(reader, query))


def _query(
    reader: Reader, by: Sequence[str], where: Mapping[str, Any] | None, zone: tzinfo
) -> Query:
    keys = tuple(dict.fromkeys(key_of(name) for name in by))
    asked = where or {}
    condition_of(reader, asked)  # it raises before anything is asked
    is_by_time = bool(set(keys) & set(PERIODS))
    segments = offsets(
        reader, asked.get("since"), asked.get("until"), zone if is_by_time else timezone.utc
    )
    return Query(keys, asked, segments)


def _packs(reader: Reader, query: Query, pieces: Sequence[Piece]) -> list[list[Pack]]:
    """Return the packs that answer each piece of a query."""
    return [
        packs_for(reader, query, piece.span) if _HAS_NUMPY and can_be_packed(query, piece) else []
        for piece in pieces
    ]


def _gathered(
    reader: Reader, query: Query, pieces: Sequence[Piece], among: Among | None = None
) -> Gathering | None:
    """Put together what packs know, and the rest; None where no pack helps, or it is too much."""
    packs = _packs(reader, query, pieces)
    if not any(packs):
        return None
    found = Gathering(query.keys, PackedNames(reader, list(chain.from_iterable(packs))))
    for piece, packs_of_piece in zip(pieces, packs, strict=True):
        rest = [piece]
        if packs_of_piece:
            try:
                left = gather(reader, query, piece.span, packs_of_piece, found, among)
            except UntoldError:
                return None
            if left is None:
                return None
            rest = [piece._replace(span=span) for span in left]
        for each in rest:
            found.add_rows(reader.rows(*part_of(reader, query, each)), among)
    return found


def _of_the_costliest(
    reader: Reader, query: Query, pieces: Sequence[Piece], limit: int
) -> Sums | None:
    """
    Return the sums of the costliest conversations or sessions, of which there are many.

    Which they are is found by what orders them; of theirs alone all sums are then added up, unless
    all calls are few enough to be kept.
    """
    packs = chain.from_iterable(_packs(reader, query, pieces))
    if query.filters and sum(pack.head.rows for pack in packs) < _MOST_ROWS:
        gathering = _gathered(reader, query, pieces)
        return None if gathering is None else _of(gathering, query.keys, limit)
    for columns in (COST, RANKING):
        ranked = _gathered(reader, query._replace(columns=columns), pieces)
        if ranked is None:
            return None
        prints = ranked.costliest(limit, columns)
        if len(prints) <= limit + _MOST_LEVEL:
            found = _gathered(reader, query, pieces, Among(query.keys[0], Prints(prints)))
            if found is None:
                return None
            total = sums_by(reader, (), where=query.where, columns=query.columns).total
            return _of(found, query.keys, limit)._replace(total=total)
    return None


def _of(gathering: Gathering, keys: Sequence[str], limit: int | None) -> Sums:
    """Return sums that were gathered, by some of their keys."""
    is_by_time = bool(set(keys) & set(PERIODS))
    groups = gathering.groups(keys, None if is_by_time else limit)
    groups.sort(key=_by_time if is_by_time else _by_cost)
    return Sums(tuple(keys), groups[:limit], gathering.total())


def _of_all(
    reader: Reader, query: Query, pieces: Sequence[Piece], limit: int | None
) -> tuple[str, list[Any]]:
    """Return the query whose rows are 0, a group and its sums; the last one is 1 and the total."""
    parts = [part_of(reader, query, piece) for piece in pieces]
    names = [f"key_{i}" for i in range(len(query.keys))]
    cut, values = "", [value for part in parts for value in part.values]
    if limit is not None:
        order = _order(reader.dialect, names, is_by_time=query.is_by_time)
        cut = f" ORDER BY {', '.join(order)} LIMIT ?"
        values.append(limit)
    nothing = [f"NULL AS {name}" for name in names]
    statement = (
        f"WITH found AS ({_together(names, parts)}) "  # noqa: S608  # our own names
        f"SELECT 0 AS is_total, few.* FROM (SELECT * FROM found{cut}) AS few "
        f"UNION ALL SELECT {', '.join(['1', *nothing, *_summed(SUM_COLUMNS)])} FROM found"
    )
    return statement, values


def _of_the_first(
    reader: Reader, query: Query, pieces: Sequence[Piece], limit: int
) -> tuple[str, list[Any]]:
    """
    Return such a query for the first groups of many.

    Who they are is found by what orders them, which is a part of the sums, and only theirs are
    then added up; the total is asked for by itself.
    """
    ranked = [part_of(reader, query, piece, RANKING) for piece in pieces]
    among = "SELECT COALESCE(key_0, '') FROM ranks"
    chosen = [part_of(reader, query, piece, among=among) for piece in pieces]
    all_of_them = query._replace(keys=())
    whole = [part_of(reader, all_of_them, piece) for piece in pieces_of(reader, all_of_them)]
    order = ", ".join(_order(reader.dialect, ["key_0"], is_by_time=False))
    first = _together(["key_0"], ranked, RANKING)
    statement = (
        "WITH ranks AS MATERIALIZED "  # noqa: S608  # our own names
        f"(SELECT key_0 FROM ({first}) AS found ORDER BY {order} LIMIT ?) "
        f"SELECT 0 AS is_total, few.* FROM ({_together(['key_0'], chosen)}) AS few "
        f"UNION ALL SELECT 1, NULL, whole.* FROM ({_together([], whole)}) AS whole"
    )
    values = [value for part in ranked for value in part.values]
    values.append(limit)
    values += [value for part in (*chosen, *whole) for value in part.values]
    return statement, values


def _together(
    names: Sequence[str], parts: Sequence[Part], columns: Sequence[str] = SUM_COLUMNS
) -> str:
    """Return the query that puts the groups of parts together."""
    if len(parts) == 1:
        return parts[0].statement
    groups = f" GROUP BY {', '.join(names)}" if names else ""
    union = " UNION ALL ".join(part.statement for part in parts)
    return f"SELECT {', '.join([*names, *_summed(columns)])} FROM ({union}) AS part{groups}"  # noqa: S608  # our own names


def _summed(columns: Sequence[str]) -> list[str]:
    return [f"CAST(COALESCE(SUM({name}), 0) AS BIGINT) AS {name}" for name in columns]


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
