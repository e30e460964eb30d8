"""The tally: what calls that have come add to the tables of sums."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from itertools import compress
from operator import itemgetter
from typing import Any, Final, NamedTuple

from agentsight_tokens.calls import CALL_COLUMNS
from agentsight_tokens.usage import USAGE_FIELDS

from .rollup import (
    CONVERSATION_FACTS,
    CONVERSATION_KEY,
    DAY,
    DIMENSION_KEY,
    HOUR,
    HOURLY_DIMENSION,
    HOURLY_KEY,
    LONGEST_SECONDS,
    MODEL_KEY,
    ROLLED_DIMENSIONS,
    SUM_COLUMNS,
)

__all__ = ["Additions", "Entry", "Tally", "entry_of"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICRO: Final = 1_000_000
_MONEY: Final = slice(5, 8)
"""Where the three sums of money are among a call's numbers."""

_NAMES: Final = tuple(name for name in ROLLED_DIMENSIONS if name in CALL_COLUMNS)
_FACTS: Final = tuple(name for name in CONVERSATION_FACTS if name in CALL_COLUMNS)
_MEMBERS: Final = (*_FACTS, *_NAMES, "environment")
"""What calls of one group have in common, beside the project, the conversation and the hour."""

_KIND: Final = tuple(name for name in ROLLED_DIMENSIONS if name != "user_id")
_STATUS: Final = _KIND.index(HOURLY_DIMENSION)
_HOURLY: Final = tuple(_KIND.index(name) for name in HOURLY_KEY[2:])
_BEFORE_MEMBERS: Final = 3
_USER: Final = _BEFORE_MEMBERS + _MEMBERS.index("user_id")
_kind_of: Final = itemgetter(*(_BEFORE_MEMBERS + _MEMBERS.index(name) for name in _KIND))
_facts_of: Final = itemgetter(
    *(_BEFORE_MEMBERS + _MEMBERS.index(name) for name in CONVERSATION_FACTS)
)
_members_of: Final = itemgetter(*(CALL_COLUMNS.index(name) for name in (*_FACTS, *_NAMES)))
_facts_of_call: Final = itemgetter(
    *map(
        CALL_COLUMNS.index,
        (
            *("at", "conversation_id", "unreported_reason", "source"),
            *("duration_seconds", "time_to_first_token_seconds"),
        ),
    )
)
_costs_of: Final = itemgetter(
    *map(CALL_COLUMNS.index, ("cost_pico_usd", "prompt_cost_pico_usd", "completion_cost_pico_usd"))
)
_USAGE: Final = slice(-len(USAGE_FIELDS), None)
_OUTPUT, _TOTAL, _EMBEDDING = (
    USAGE_FIELDS.index(name) for name in ("output_tokens", "total_tokens", "embedding_tokens")
)
_NOT_TIMED: Final = (0, 0, 0)
_NOT_STREAMED: Final = (0, 0)

_Numbers = tuple[int, ...]
_Key = tuple[Any, ...]
_Groups = defaultdict[_Key, list[_Numbers]]


class Entry(NamedTuple):
    """What a call adds, and to what."""

    group: _Key
    """The project, the conversation, the hour and `_MEMBERS`."""
    at: int
    numbers: _Numbers
    """`SUM_COLUMNS`, but money whole."""


class Additions(NamedTuple):
    """What is added to a table of sums."""

    table: str
    columns: tuple[str, ...]
    """Its key and facts, and the sums to which something is added."""
    rows: list[tuple[Any, ...]]
    """In the order of the key, so that transactions never wait for one another in a circle."""

    def without(self, names: Container[str]) -> Additions:
        """Return the same without some columns."""
        kept = [name not in names for name in self.columns]
        rows = [tuple(compress(row, kept)) for row in self.rows]
        return Additions(self.table, tuple(compress(self.columns, kept)), rows)


class Tally:
    """
    Adds calls up, for all tables of sums at once.

    Calls that are alike in everything are added up first, and those sums then once for each
    table: the calls of one conversation are mostly alike.
    """

    def __init__(self) -> None:
        self._groups: _Groups = defaultdict(list)
        self._spans: dict[tuple[int, str], _Span] = {}

    def add(self, entry: Entry, *, sign: int = 1) -> None:
        """Add a call; with the sign -1 take one away, whose conversation lasts all the same."""
        group, at, numbers = entry
        if sign < 0:
            numbers = tuple([-number for number in numbers])
        self._groups[group].append(numbers)
        if group[1]:
            span = self._spans.get(group[:2])
            if span is None:
                self._spans[group[:2]] = _Span(at, group)
            else:
                span.take(at, group)

    def additions(self) -> Iterator[Additions]:
        """Return what has come together, for each table to which it adds something."""
        sums = [_columns(_sum(found)) for found in self._groups.values()]
        used = [any(column) for column in zip(*sums, strict=True)]
        if not any(used):
            return
        columns = tuple(compress(SUM_COLUMNS, used))
        kinds: _Groups = defaultdict(list)
        hours: _Groups = defaultdict(list)
        days: _Groups = defaultdict(list)
        longer: _Groups = defaultdict(list)
        conversations: _Groups = defaultdict(list)
        for group, sums_of_group in zip(self._groups, sums, strict=True):
            numbers = tuple(compress(sums_of_group, used))
            project_id, conversation_id, hour, *_ = group
            user = group[_USER]
            kinds[project_id, hour, _kind_of(group)].append(numbers)
            days[project_id, "user_id", "day", hour - hour % DAY, user or ""].append(numbers)
            if conversation_id:
                conversations[project_id, conversation_id].append(numbers)
        # Those who call are many, and what they do is much the same.
        for (project_id, hour, members), numbers in _summed(kinds):
            names = [member or "" for member in members]
            model, provider, environment = [names[index] for index in _HOURLY]
            hours[project_id, hour, model, provider, environment].append(numbers)
            longer[project_id, HOURLY_DIMENSION, "hour", hour, names[_STATUS]].append(numbers)
            day = hour - hour % DAY
            for name, value in zip(_KIND, names, strict=True):
                days[project_id, name, "day", day, value].append(numbers)
        of_days = _summed(days)
        for (project_id, name, _, day, value), numbers in of_days:
            longer[project_id, name, "month", _month(day), value].append(numbers)
        of_hours = _summed(hours)
        facts = ("first_at", "last_at", *CONVERSATION_FACTS)
        for table, key, rows in (
            ("hourly_usage", HOURLY_KEY, of_hours),
            ("model_usage", MODEL_KEY, _summed(_longer(of_hours))),
            ("dimension_usage", DIMENSION_KEY, [*of_days, *_summed(longer)]),
            (
                "conversations",
                (*CONVERSATION_KEY, *facts),
                [
                    ((*key, *self._spans[key].values()), numbers)
                    for key, numbers in _summed(conversations)
                ],
            ),
        ):
            yield Additions(table, (*key, *columns), sorted([(*a, *b) for a, b in rows]))


class _Span:
    """When a conversation's calls ended, and what the latest of them say."""

    __slots__ = ("_facts", "_first", "_group", "_last")

    def __init__(self, at: int, group: _Key) -> None:
        self._first = self._last = at
        self._group = group
        self._facts: tuple[str | None, ...] = _facts_of(group)

    def take(self, at: int, group: _Key) -> None:
        """Take another call in."""
        is_later = at >= self._last
        if is_later:
            self._last = at
        elif at < self._first:
            self._first = at
        if group != self._group:
            facts = _facts_of(group)
            earlier, later = (self._facts, facts) if is_later else (facts, self._facts)
            self._facts = tuple(
                [old if new is None else new for old, new in zip(earlier, later, strict=True)]
            )
            self._group = group

    def values(self) -> tuple[Any, ...]:
        """Return the first and the last time, then `CONVERSATION_FACTS`."""
        return (self._first, self._last, *self._facts)


def entry_of(project_id: int, environment: str | None, values: Sequence[Any]) -> Entry:
    """
    Return what a call adds.

    Args:
        project_id: Whose it is.
        environment: Where it was made.
        values: `CALL_COLUMNS`.
    """
    at, conversation_id, unreported_reason, source, seconds, first_token = _facts_of_call(values)
    cost, prompt_cost, completion_cost = _costs_of(values)
    usage = values[_USAGE]
    unpriced = 0
    if cost is None and unreported_reason is None:
        unpriced = usage[_TOTAL] + usage[_EMBEDDING]
    timed, streamed = _NOT_TIMED, _NOT_STREAMED
    if seconds is not None and 0 <= seconds <= LONGEST_SECONDS:
        timed = (1, usage[_OUTPUT], int(seconds * _MICRO))
    if first_token is not None and 0 <= first_token <= LONGEST_SECONDS:
        streamed = (1, int(first_token * _MICRO))
    return Entry(
        (project_id, conversation_id, at - at % HOUR, *_members_of(values), environment),
        at,
        (
            1,
            0 if unreported_reason is None else 1,
            1 if unpriced else 0,
            unpriced,
            1 if source == "estimated" else 0,
            cost or 0,
            prompt_cost or 0,
            completion_cost or 0,
            *usage,
            *timed,
            *streamed,
        ),
    )


def _sum(found: list[_Numbers]) -> _Numbers:
    return found[0] if len(found) == 1 else tuple(map(sum, zip(*found, strict=True)))


def _summed(groups: _Groups) -> list[tuple[_Key, _Numbers]]:
    return [(key, _sum(found)) for key, found in groups.items()]


def _longer(of_hours: Sequence[tuple[_Key, _Numbers]]) -> _Groups:
    """Return sums by hour as those of their days and months."""
    found: _Groups = defaultdict(list)
    for (project_id, hour, model, provider, environment), numbers in of_hours:
        day = hour - hour % DAY
        for period, start in (("day", day), ("month", _month(day))):
            found[project_id, period, start, model, provider, environment].append(numbers)
    return found


def _columns(numbers: _Numbers) -> _Numbers:
    """Return a call's numbers as they lie in the tables: money in two halves."""
    cost, prompt, completion = numbers[_MONEY]
    return (
        *numbers[: _MONEY.start],
        cost // _MICRO,
        prompt // _MICRO,
        completion // _MICRO,
        cost % _MICRO,
        prompt % _MICRO,
        completion % _MICRO,
        *numbers[_MONEY.stop :],
    )


def _month(day: int) -> int:
    """Return when the month of a day begins."""
    date = _EPOCH + timedelta(microseconds=day)
    return day - (date.day - 1) * DAY
