"""The tally: what calls that have come add to the tables of sums."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from itertools import compress
from operator import attrgetter
from typing import Any, Final, NamedTuple

from agentsight_tokens.calls import microseconds
from agentsight_tokens.usage import USAGE_FIELDS, UsageRecord

from .rollup import (
    CONVERSATION_FACTS,
    CONVERSATION_KEY,
    DAY,
    DIMENSION_KEY,
    HOUR,
    HOURLY_DIMENSION,
    HOURLY_KEY,
    LONGEST_SECONDS,
    ROLLED_DIMENSIONS,
    SUM_COLUMNS,
)

__all__ = ["Additions", "Tally"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICRO: Final = 1_000_000
_MONEY_AT: Final = 5
"""Where the three sums of money are among a call's numbers."""

_usage_values: Final = attrgetter(*USAGE_FIELDS)
_scope_of: Final = attrgetter(*(name for name in CONVERSATION_FACTS if name != "environment"))
_NAMES: Final = tuple(name for name in ROLLED_DIMENSIONS if name in UsageRecord.__struct_fields__)
_names_of: Final = attrgetter(*_NAMES)
_MEMBERS: Final = (*CONVERSATION_FACTS, *_NAMES)
"""What calls of one group have in common, beside the project and the hour."""

_DIMENSIONS: Final = tuple((name, _MEMBERS.index(name)) for name in ROLLED_DIMENSIONS)
_STATUS: Final = _MEMBERS.index(HOURLY_DIMENSION)
_HOURLY: Final = tuple(_MEMBERS.index(name) for name in HOURLY_KEY[2:])

_Numbers = tuple[int, ...]


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
        self._groups: defaultdict[tuple[Any, ...], list[_Numbers]] = defaultdict(list)
        self._spans: dict[tuple[int, str], _Span] = {}
        self._conversations: defaultdict[tuple[int, str], list[_Numbers]] = defaultdict(list)

    def add(
        self, project_id: int, environment: str | None, record: UsageRecord, *, sign: int = 1
    ) -> None:
        """Add a call; with the sign -1, take it away."""
        at = microseconds(record.at)
        scope = record.scope
        numbers = _numbers(record)
        if sign < 0:
            numbers = tuple([-number for number in numbers])
        facts = (*_scope_of(scope), environment)
        group = (project_id, at - at % HOUR, *facts, *_names_of(record))
        self._groups[group].append(numbers)
        if scope.conversation_id:
            conversation = (project_id, scope.conversation_id)
            self._conversations[conversation].append(numbers)
            span = self._spans.get(conversation)
            if span is None:
                self._spans[conversation] = _Span(at, facts)
            else:
                span.take(at, facts)

    def additions(self) -> Iterator[Additions]:
        """Return what has come together, for each table to which it adds something."""
        hours: defaultdict[tuple[Any, ...], list[_Numbers]] = defaultdict(list)
        days: defaultdict[tuple[Any, ...], list[_Numbers]] = defaultdict(list)
        statuses: defaultdict[tuple[Any, ...], list[_Numbers]] = defaultdict(list)
        months: defaultdict[tuple[Any, ...], list[_Numbers]] = defaultdict(list)
        for (project_id, hour, *members), found in self._groups.items():
            numbers = _sum(found)
            model, provider, environment = (members[index] or "" for index in _HOURLY)
            hours[project_id, hour, model, provider, environment].append(numbers)
            statuses[project_id, HOURLY_DIMENSION, "hour", hour, members[_STATUS]].append(numbers)
            day = hour - hour % DAY
            for name, index in _DIMENSIONS:
                days[project_id, name, "day", day, members[index] or ""].append(numbers)
        sums_by_day = {key: _sum(found) for key, found in days.items()}
        for (project_id, name, _, day, value), numbers in sums_by_day.items():
            months[project_id, name, "month", _month(day), value].append(numbers)
        by_dimension = [*sums_by_day.items(), *_summed(months), *_summed(statuses)]
        yield from _additions("hourly_usage", HOURLY_KEY, sorted(_summed(hours)))
        yield from _additions("dimension_usage", DIMENSION_KEY, sorted(by_dimension))
        yield from _additions(
            "conversations",
            (*CONVERSATION_KEY, "first_at", "last_at", *CONVERSATION_FACTS),
            [
                ((*key, span.first, span.last, *span.facts), _sum(self._conversations[key]))
                for key, span in sorted(self._spans.items(), key=lambda item: item[0])
            ],
        )


class _Span:
    """When a conversation's calls ended, and what the latest of them say."""

    __slots__ = ("facts", "first", "last")

    def __init__(self, at: int, facts: tuple[str | None, ...]) -> None:
        self.first = self.last = at
        self.facts = facts

    def take(self, at: int, facts: tuple[str | None, ...]) -> None:
        is_later = at >= self.last
        if is_later:
            self.last = at
        elif at < self.first:
            self.first = at
        if facts != self.facts:
            earlier, later = (self.facts, facts) if is_later else (facts, self.facts)
            self.facts = tuple(
                [old if new is None else new for old, new in zip(earlier, later, strict=True)]
            )


def _numbers(record: UsageRecord) -> _Numbers:
    """Return what a call adds: `SUM_COLUMNS`, but money whole."""
    usage = record.usage
    cost = record.cost_pico_usd
    is_unreported = record.unreported_reason is not None
    unpriced = 0
    if cost is None and not is_unreported:
        unpriced = usage.total_tokens + usage.embedding_tokens
    seconds, first_token = record.duration_seconds, record.time_to_first_token_seconds
    is_timed = seconds is not None and 0 <= seconds <= LONGEST_SECONDS
    has_first_token = first_token is not None and 0 <= first_token <= LONGEST_SECONDS
    return (
        1,
        int(is_unreported),
        int(unpriced > 0),
        unpriced,
        int(record.source == "estimated"),
        cost or 0,
        record.prompt_cost_pico_usd or 0,
        record.completion_cost_pico_usd or 0,
        *_usage_values(usage),
        *((1, usage.output_tokens, int(seconds * _MICRO)) if is_timed else (0, 0, 0)),  # type: ignore[operator]  # it is a number
        *((1, int(first_token * _MICRO)) if has_first_token else (0, 0)),  # type: ignore[operator]  # it is a number
    )


def _sum(found: list[_Numbers]) -> _Numbers:
    return found[0] if len(found) == 1 else tuple(map(sum, zip(*found, strict=True)))


def _summed(
    groups: dict[tuple[Any, ...], list[_Numbers]],
) -> list[tuple[tuple[Any, ...], _Numbers]]:
    return [(key, _sum(found)) for key, found in groups.items()]


def _additions(
    table: str, names: tuple[str, ...], sums: Sequence[tuple[tuple[Any, ...], _Numbers]]
) -> Iterator[Additions]:
    """Return the rows of sums, without the columns in which all are 0; nothing if that is all."""
    rows = [(*key, *_columns(numbers)) for key, numbers in sums]
    sums_of_columns = list(zip(*rows, strict=True))[len(names) :]
    used = [True] * len(names) + [any(column) for column in sums_of_columns]
    if any(used[len(names) :]):
        columns = tuple(compress((*names, *SUM_COLUMNS), used))
        yield Additions(table, columns, [tuple(compress(row, used)) for row in rows])


def _columns(numbers: _Numbers) -> _Numbers:
    """Return numbers as they lie in the table: money in two halves."""
    cost, prompt, completion = numbers[_MONEY_AT : _MONEY_AT + 3]
    return (
        *numbers[:_MONEY_AT],
        cost // _MICRO,
        prompt // _MICRO,
        completion // _MICRO,
        cost % _MICRO,
        prompt % _MICRO,
        completion % _MICRO,
        *numbers[_MONEY_AT + 3 :],
    )


def _month(day: int) -> int:
    """Return when the month of a day begins."""
    date = _EPOCH + timedelta(microseconds=day)
    return day - (date.day - 1) * DAY
