"""
What is known of traces whose spans come in several requests, and the totals that wait for them.

It is in the store, so that every process of a server decides alike, and decides alike again when
a request comes again because its answer was lost.
"""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple

import msgspec

from agentsight_tokens.backend.store import Store, Transaction
from agentsight_tokens.cycle import Cycle
from agentsight_tokens.errors import UnstorableError

from .response import FORGET_RESPONSES, Response, own_responses
from .trace import Member, Trace
from .trace_text import counted_text, group_text, trace_of

__all__ = ["SECONDS_A_TOTAL_WAITS", "SECONDS_A_TRACE_STAYS", "Total", "TraceLog"]

_logger: Final = logging.getLogger("agentsight_tokens.server")

SECONDS_A_TOTAL_WAITS: Final = 120
"""How long the calls within an agent have, from when its total came, to come themselves."""
SECONDS_A_TRACE_STAYS: Final = 24 * 3600
_HOUR: Final = 3600
_MOST_AT_ONCE: Final = 500
_MOST_FORGOTTEN: Final = 5000

_ON_KNOWN: Final = (
    "ON CONFLICT (project_id, trace_id) DO UPDATE SET touched_at = excluded.touched_at, "
    "members = span_traces.members || excluded.members RETURNING trace_id, members"
)
_APPEND: Final = {
    "sqlite": "INSERT INTO span_traces (project_id, trace_id, touched_at, members) "  # noqa: S608
    "SELECT ?, json_extract(value, '$[0]'), ?, json_extract(value, '$[1]') FROM json_each(?) "
    f"WHERE true {_ON_KNOWN}",
    # In the order of the key: those who bring the same traces wait for one another, and never in
    # a circle.
    "postgresql": "INSERT INTO span_traces (project_id, trace_id, touched_at, members) "  # noqa: S608
    "SELECT ?, trace_id, ?, members FROM unnest(?::text[], ?::text[]) AS t (trace_id, members) "
    f"ORDER BY trace_id {_ON_KNOWN}",
}
_HOLD: Final = (
    "INSERT INTO held_totals (project_id, trace_id, span_id, due_at, cycle, is_counted) "
    "VALUES (?, ?, ?, ?, ?, 0) ON CONFLICT (project_id, trace_id, span_id) DO NOTHING"
)
_DUE: Final = (
    "SELECT project_id, trace_id, span_id, cycle, is_counted FROM held_totals WHERE due_at <= ? "  # noqa: S608
    f"ORDER BY project_id, trace_id, due_at, span_id LIMIT {_MOST_AT_ONCE}"
)
_TRACE: Final = "SELECT members FROM span_traces WHERE project_id = ? AND trace_id = ?"
_LOCK: Final = {"sqlite": "", "postgresql": " FOR UPDATE"}
_NOTE_COUNTED: Final = (
    "UPDATE span_traces SET members = members || ? WHERE project_id = ? AND trace_id = ?"
)
_IT: Final = "WHERE project_id = ? AND trace_id = ? AND span_id = ?"
_MARK: Final = f"UPDATE held_totals SET is_counted = 1 {_IT}"  # noqa: S608  # our own
_DROP: Final = f"DELETE FROM held_totals {_IT}"  # noqa: S608  # our own
_IS_OLD: Final = (
    "SELECT 1 WHERE EXISTS (SELECT 1 FROM span_traces WHERE touched_at < ?) "
    "OR EXISTS (SELECT 1 FROM span_responses WHERE touched_at < ?)"
)
_FORGET: Final = (
    "DELETE FROM span_traces WHERE (project_id, trace_id) IN (SELECT project_id, trace_id "
    "FROM span_traces WHERE touched_at < ? LIMIT ?)"
)


class Total(NamedTuple):
    """The total of a span, and what is stored if it counts."""

    trace_id: str
    span_id: str
    cycle: Cycle


class _Due(NamedTuple):
    project_id: int
    trace_id: str
    span_id: str
    cycle: str
    is_counted: int

    @property
    def key(self) -> tuple[object, ...]:
        return (self.project_id, self.trace_id, self.span_id)


class TraceLog:
    """The traces of a store."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.time) -> None:
        """
        Look into a store.

        Args:
            store: Where the traces are.
            clock: Seconds since 1970.
        """
        self._store = store
        self._clock = clock
        self._dialect = store.dialect.name

    def add(
        self,
        groups: Mapping[str, Sequence[Member]],
        totals: Sequence[Total],
        responses: Mapping[tuple[str, str], Response],
        *,
        project_id: int,
    ) -> dict[str, set[str]]:
        """
        Note the spans of a request durably, and return the ids of those that count.

        Args:
            groups: The spans, by their traces' ids.
            totals: Those among them that are decided later.
            responses: What the spans of calls say of responses, by their traces' and own ids.
            project_id: Whose they are.

        Returns:
            The ids by trace; others may be among them that came before.
        """
        now = int(self._clock())
        texts = {trace_id: group_text(members) for trace_id, members in groups.items()}
        due_at = now + SECONDS_A_TOTAL_WAITS
        with self._store.transaction() as transaction:
            rows = transaction.rows(*self._append(texts, now, project_id))
            for total in totals:
                cycle = msgspec.json.encode(total.cycle).decode()
                values = (project_id, total.trace_id, total.span_id, due_at, cycle)
                transaction.run(_HOLD, values)
            counted = {
                trace_id: _trace(text, texts[trace_id], groups[trace_id]).counted
                for trace_id, text in rows
            }
            inner = [each for (t, span), each in responses.items() if span in counted[t]]
            own = own_responses(
                transaction,
                inner,
                dialect=self._dialect,
                project_id=project_id,
                touched_at=_hour(now),
            )
        for (trace_id, span_id), each in responses.items():
            if (each.digest, each.library) not in own:
                counted[trace_id].discard(span_id)
        return counted

    def settle(self) -> int:
        """
        Decide the totals whose time has come, store those that count, and return how many.

        What is decided is written down first: a process that dies before the total is stored
        leaves it to the next.
        """
        now = int(self._clock())
        if not self._store.rows("SELECT 1 FROM held_totals WHERE due_at <= ? LIMIT 1", (now,)):
            return 0
        with self._store.transaction() as transaction:
            due = [_Due(*row) for row in transaction.rows(_DUE, (now,))]
            by_trace: dict[tuple[int, str], list[_Due]] = defaultdict(list)
            for each in due:
                by_trace[each.project_id, each.trace_id].append(each)
            counted = list(
                chain.from_iterable(
                    self._decide(transaction, key, its) for key, its in by_trace.items()
                )
            )
        for each in counted:
            self._keep(each)
        return len(counted)

    def forget(self) -> int:
        """Forget some of the traces and responses untouched for a day; return how many."""
        last = int(self._clock()) - SECONDS_A_TRACE_STAYS - _HOUR
        if not self._store.rows(_IS_OLD, (last, last)):
            return 0
        with self._store.transaction() as transaction:
            responses = transaction.run(FORGET_RESPONSES, (last, _MOST_FORGOTTEN))
            return responses + transaction.run(_FORGET, (last, _MOST_FORGOTTEN))

    def _append(
        self, texts: Mapping[str, str], now: int, project_id: int
    ) -> tuple[str, tuple[Any, ...]]:
        hour = _hour(now)
        if self._dialect == "sqlite":
            pairs = msgspec.json.encode(list(texts.items())).decode()
            return _APPEND["sqlite"], (project_id, hour, pairs)
        return _APPEND[self._dialect], (project_id, hour, list(texts), list(texts.values()))

    def _decide(
        self, transaction: Transaction, key: tuple[int, str], due: Sequence[_Due]
    ) -> list[_Due]:
        """Return which totals of a trace count, and forget the others."""
        found = transaction.rows(_TRACE + _LOCK[self._dialect], key)
        trace = trace_of(found[0][0]) if found else Trace()
        counted = []
        for each in due:
            if each.is_counted:
                counted.append(each)
            elif trace.counts_total(each.span_id):
                trace.count_total(each.span_id)
                transaction.run(_NOTE_COUNTED, (counted_text(each.span_id), *key))
                transaction.run(_MARK, each.key)
                counted.append(each)
            else:
                transaction.run(_DROP, each.key)
        return counted

    def _keep(self, total: _Due) -> None:
        cycle = msgspec.json.decode(total.cycle, type=Cycle)
        try:
            self._store.ingest([cycle], project_id=total.project_id)
        except UnstorableError as error:
            facts = {"trace": total.trace_id, "span": total.span_id, "project": total.project_id}
            message = "the total of an agent cannot be stored: %s"
            _logger.error(message, error, extra={"facts": facts})
        with self._store.transaction() as transaction:
            transaction.run(_DROP, total.key)


def _trace(text: str, added: str, members: Sequence[Member]) -> Trace:
    """Return the trace of a text, to which these members were added."""
    if text != added:
        return trace_of(text)
    trace = Trace()
    trace.add(members)
    return trace


def _hour(seconds: int) -> int:
    # By the hour, so that most changes of a row leave its index as it is.
    return seconds // _HOUR * _HOUR
