"""The tally: what calls that have come add to the tables of sums."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import compress
from operator import attrgetter, itemgetter
from typing import Any, Final, NamedTuple

from agentsight_tokens.calls import CALL_COLUMNS
from agentsight_tokens.usage import USAGE_FIELDS

from .call_row import ROW_COLUMNS, CallRow
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
    TIMING_COLUMNS,
)
from .unit import begin_of

__all__ = ["GROUP_COLUMNS", "GROUP_SUMS", "Additions", "Group", "Tally"]

_MICRO: Final = 1_000_000
_NAMES: Final = tuple(name for name in ROLLED_DIMENSIONS if name in CALL_COLUMNS)
_FACTS: Final = tuple(name for name in CONVERSATION_FACTS if name in CALL_COLUMNS)
GROUP_COLUMNS: Final[tuple[str, ...]] = (
    *("project_id", "conversation_id"),
    *dict.fromkeys((*_FACTS, *_NAMES, "environment")),
)
"""What the calls of a group have in common, beside the step of time in which they are."""

_MONEY_COLUMNS: Final = ("cost_pico_usd", "prompt_cost_pico_usd", "completion_cost_pico_usd")
GROUP_SUMS: Final[tuple[str, ...]] = (
    *SUM_COLUMNS[:5],
    *_MONEY_COLUMNS,
    *USAGE_FIELDS,
    *TIMING_COLUMNS,
)
"""What is summed of them: `SUM_COLUMNS`, but money whole."""

_KIND: Final = tuple(name for name in ROLLED_DIMENSIONS if name != "user_id")
_STATUS: Final = _KIND.index(HOURLY_DIMENSION)
_HOURLY: Final = tuple(_KIND.index(name) for name in HOURLY_KEY[2:])
_USER: Final = GROUP_COLUMNS.index("user_id")
_kind_of: Final = itemgetter(*map(GROUP_COLUMNS.index, _KIND))
_facts_of: Final = itemgetter(*map(GROUP_COLUMNS.index, CONVERSATION_FACTS))
_AT: Final = ROW_COLUMNS.index("at")
_group_of_row: Final = itemgetter(*map(ROW_COLUMNS.index, GROUP_COLUMNS))
_MONEY: Final = slice(5, 8)
_summed_of_row: Final = itemgetter(
    *map(
        ROW_COLUMNS.index,
        (
            *("unreported_reason", "source", "duration_seconds", "time_to_first_token_seconds"),
            *_MONEY_COLUMNS,
            *USAGE_FIELDS,
        ),
    )
)
_OUTPUT, _TOTAL, _EMBEDDING = (
    USAGE_FIELDS.index(name) for name in ("output_tokens", "total_tokens", "embedding_tokens")
)

_Numbers = tuple[int, ...]
_Key = tuple[Any, ...]
_Groups = defaultdict[_Key, list[_Numbers]]


class Group(NamedTuple):
    """Calls that are alike."""

    start: int
    """Of the step of time in which they are."""
    members: _Key
    """`GROUP_COLUMNS`."""
    first_at: int
    last_at: int
    numbers: _Numbers
    """`GROUP_SUMS`."""


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

    def __init__(self, *, step: int = HOUR) -> None:
        """
        Begin with nothing.

        Args:
            step: The calls of a group lie between two multiples of it, in microseconds; an hour
                is a multiple of it.
        """
        self._step = step
        self._groups: list[Group] | None = None
        self._added: list[Group] = []
        self._rows: defaultdict[tuple[int, int, _Key], list[CallRow]] = defaultdict(list)

    def add(self, rows: Iterable[CallRow], *, sign: int = 1) -> None:
        """Add calls; with the sign -1 take them away, whose conversations last all the same."""
        self._groups = None
        for row in rows:
            self._rows[sign, row[_AT] // self._step, _group_of_row(row)].append(row)

    def add_groups(self, groups: Iterable[Group]) -> None:
        """Add calls that have come together in another tally, of the same step."""
        self._groups = None
        self._added += groups

    @property
    def groups(self) -> Sequence[Group]:
        """What has come together, by what is alike; some of it may be alike, too."""
        if self._groups is None:
            self._groups = self._added.copy()
            for (sign, step, members), rows in self._rows.items():
                times = [row[_AT] for row in rows]
                numbers = _numbers(rows)
                if sign < 0:
                    numbers = tuple([-number for number in numbers])
                self._groups.append(
                    Group(step * self._step, members, min(times), max(times), numbers)
                )
        return self._groups

    def additions(self) -> Iterator[Additions]:
        """Return what has come together, for each table to which it adds something."""
        sums = [_columns(group.numbers) for group in self.groups]
        used = [any(column) for column in zip(*sums, strict=True)]
        if not any(used):
            return
        columns = tuple(compress(SUM_COLUMNS, used))
        kinds: _Groups = defaultdict(list)
        hours: _Groups = defaultdict(list)
        days: _Groups = defaultdict(list)
        longer: _Groups = defaultdict(list)
        conversations: _Groups = defaultdict(list)
        spans: defaultdict[_Key, list[Group]] = defaultdict(list)
        for group, sums_of_group in zip(self.groups, sums, strict=True):
            numbers = tuple(compress(sums_of_group, used))
            members = group.members
            project_id, conversation_id = whose = members[:2]
            hour = group.start - group.start % HOUR
            kinds[project_id, hour, _kind_of(members)].append(numbers)
            user = members[_USER] or ""
            days[project_id, "user_id", "day", hour - hour % DAY, user].append(numbers)
            if conversation_id:
                conversations[whose].append(numbers)
                spans[whose].append(group)
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
            longer[project_id, name, "month", begin_of("month", day), value].append(numbers)
        of_hours = _summed(hours)
        for table, key, rows in (
            ("hourly_usage", HOURLY_KEY, of_hours),
            ("model_usage", MODEL_KEY, _summed(_longer(of_hours))),
            ("dimension_usage", DIMENSION_KEY, [*of_days, *_summed(longer)]),
            (
                "conversations",
                (*CONVERSATION_KEY, "first_at", "last_at", *CONVERSATION_FACTS),
                [
                    ((*whose, *_span(spans[whose])), numbers)
                    for whose, numbers in _summed(conversations)
                ],
            ),
        ):
            yield Additions(table, (*key, *columns), sorted([(*a, *b) for a, b in rows]))


def _numbers(rows: Sequence[CallRow]) -> _Numbers:
    """Return `GROUP_SUMS` of calls."""
    columns = list(zip(*map(_summed_of_row, rows), strict=True))
    reasons, sources, durations, first_tokens, *money = columns[: -len(USAGE_FIELDS)]
    usage = columns[-len(USAGE_FIELDS) :]
    unpriced = []
    if None in money[0]:
        unpriced = [
            total + embedding
            for cost, reason, total, embedding in zip(
                money[0], reasons, usage[_TOTAL], usage[_EMBEDDING], strict=True
            )
            if cost is None and reason is None and total + embedding
        ]
    timed = timed_output = duration = streamed = first_token = 0
    for seconds, first_seconds, output in zip(durations, first_tokens, usage[_OUTPUT], strict=True):
        if seconds is not None and 0 <= seconds <= LONGEST_SECONDS:
            timed += 1
            timed_output += output
            duration += int(seconds * _MICRO)
        if first_seconds is not None and 0 <= first_seconds <= LONGEST_SECONDS:
            streamed += 1
            first_token += int(first_seconds * _MICRO)
    return (
        *(len(rows), len(rows) - reasons.count(None)),
        *(len(unpriced), sum(unpriced)),
        sources.count("estimated"),
        *[sum(filter(None, amounts)) for amounts in money],
        *map(sum, usage),
        *(timed, timed_output, duration),
        *(streamed, first_token),
    )


def _span(groups: Sequence[Group]) -> _Key:
    """Return when a conversation's calls ended, and what the latest of them say."""
    if len(groups) == 1:
        [group] = groups
        return (group.first_at, group.last_at, *_facts_of(group.members))
    by_time = sorted(groups, key=attrgetter("last_at"))
    facts = _facts_of(by_time[0].members)
    for group in by_time[1:]:
        facts = tuple(
            [
                old if new is None else new
                for old, new in zip(facts, _facts_of(group.members), strict=True)
            ]
        )
    return (min(group.first_at for group in groups), by_time[-1].last_at, *facts)


def _sum(found: list[_Numbers]) -> _Numbers:
    return found[0] if len(found) == 1 else tuple(map(sum, zip(*found, strict=True)))


def _summed(groups: _Groups) -> list[tuple[_Key, _Numbers]]:
    return [(key, _sum(found)) for key, found in groups.items()]


def _longer(of_hours: Sequence[tuple[_Key, _Numbers]]) -> _Groups:
    """Return sums by hour as those of their days and months."""
    found: _Groups = defaultdict(list)
    for (project_id, hour, model, provider, environment), numbers in of_hours:
        day = hour - hour % DAY
        for period, start in (("day", day), ("month", begin_of("month", day))):
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
