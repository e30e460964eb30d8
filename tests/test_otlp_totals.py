"""Totals of agents, whose calls come before, with or after them, or never."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

from agentsight_tokens.backend.otlp import Meter, spans_in_json, take_spans
from agentsight_tokens.backend.otlp.trace_log import (
    SECONDS_A_TOTAL_WAITS,
    SECONDS_A_TRACE_STAYS,
    TraceLog,
)
from agentsight_tokens.backend.store import SQLiteStore, Store
from agentsight_tokens.config import TokenConfig
from agentsight_tokens.cycle import Cycle
from agentsight_tokens.errors import UnstorableError
from agentsight_tokens.pricing import CostEstimator
from tests.otlp_kit import chat, request, span, total
from tests.store_kit import postgresql, store

__all__ = ["postgresql", "store"]

METER = Meter(CostEstimator(), TokenConfig())

both_stores = pytest.mark.parametrize(
    "store",
    ["sqlite", pytest.param("postgresql", marks=pytest.mark.services)],
    indirect=True,
)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[SQLiteStore]:
    with SQLiteStore(tmp_path / "store.db") as store:
        yield store


class Server:
    """A store that takes requests, at a time that is set."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.seconds = 1_000_000.0
        self.log = TraceLog(store, clock=lambda: self.seconds)

    def take(self, *spans: dict[str, Any], project_id: int = 1) -> None:
        """Take a request."""
        answer = take_spans(
            self.store, spans_in_json(request(*spans)), METER, project_id=project_id, log=self.log
        )
        assert answer.rejected == 0, answer.reason

    def counted(self) -> list[int]:
        """Return the input tokens of the calls that are stored."""
        rows = self.store.rows("SELECT input_tokens FROM calls ORDER BY input_tokens")
        return [count for (count,) in rows]

    def wait(self) -> list[int]:
        """Let the time come at which totals are decided; return what is stored then."""
        self.seconds += SECONDS_A_TOTAL_WAITS
        self.log.settle()
        return self.counted()


@both_stores
def test_a_total_without_calls_counts_when_its_time_has_come(store: Store) -> None:
    """No call within the agent has come, so its total is all that is known."""
    server = Server(store)
    server.take(total(9, 100))
    assert server.counted() == []
    server.seconds += SECONDS_A_TOTAL_WAITS - 1
    server.log.settle()
    assert server.counted() == []

    assert server.wait() == [100]
    assert store.rows("SELECT agent, operation, cost_status FROM calls") == [
        ("planner", "chat", "priced")
    ]
    assert store.rows("SELECT * FROM held_totals") == []


@both_stores
@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_total_and_its_calls_in_any_order(store: Store, order: Sequence[int]) -> None:
    """The calls count, and the total does not, whichever comes in which request."""
    server = Server(store)
    spans = [total(9, 12), span(5, parent=9), chat(4, parent=5)]
    for number in order:
        server.take(spans[number])

    assert server.wait() == [4]
    assert store.rows("SELECT * FROM held_totals") == []


@both_stores
def test_what_comes_after_the_total_has_counted_is_covered_by_it(store: Store) -> None:
    """Nothing counts twice, however late it comes."""
    server = Server(store)
    server.take(total(9, 12))
    assert server.wait() == [12]
    server.take(chat(4, parent=9), chat(8, parent=9))
    server.take(total(9, 12))

    assert server.wait() == [12]


def test_the_inner_of_two_totals_counts(file: SQLiteStore) -> None:
    """A workflow around an agent shows the agent's tokens again."""
    server = Server(file)
    server.take(total(9, 12))
    server.seconds += 60
    server.take(total(8, 11, parent=9))
    server.seconds += 60
    server.log.settle()
    assert server.counted() == []

    assert server.wait() == [11]
    server.take(total(7, 10, parent=8))
    assert server.wait() == [11]


def test_a_total_within_a_call_that_has_counted_is_covered(file: SQLiteStore) -> None:
    """A call may have told of it."""
    server = Server(file)
    server.take(chat(5))
    server.take(total(9, 12, parent=5))

    assert server.wait() == [5]


def test_calls_below_a_span_that_never_came_may_be_the_agents(file: SQLiteStore) -> None:
    """Then the total does not count; but it does if that span is around the agent too."""
    server = Server(file)
    server.take(total(9, 12, parent=1), chat(4, parent=77))
    assert server.wait() == [4]

    server.take(total(19, 12, trace="1" * 32, parent=77), chat(5, trace="1" * 32, parent=77))
    assert server.wait() == [4, 5, 12]


def test_two_agents_of_one_trace(file: SQLiteStore) -> None:
    """The one whose calls are known, and the one that only shows its sum."""
    server = Server(file)
    server.take(total(9, 12, parent=1), total(8, 7, parent=1), chat(4, parent=9), span(1))

    assert server.wait() == [4, 7]


def test_projects_have_their_own_traces(file: SQLiteStore) -> None:
    """The same trace of another project is another."""
    server = Server(file)
    server.take(total(9, 12))
    server.take(chat(4, parent=9), project_id=7)

    assert server.wait() == [4, 12]


def test_a_process_that_dies_while_it_settles_loses_nothing(file: SQLiteStore) -> None:
    """What was decided is stored by the next one, once."""
    server = Server(file)
    server.take(total(9, 12))
    server.seconds += SECONDS_A_TOTAL_WAITS
    with pytest.raises(KeyboardInterrupt):
        TraceLog(Dying(file), clock=lambda: server.seconds).settle()  # type: ignore[arg-type]
    assert file.rows("SELECT is_counted FROM held_totals") == [(1,)]
    server.take(chat(4, parent=9))

    assert server.wait() == [12]
    assert file.rows("SELECT * FROM held_totals") == []
    assert server.wait() == [12]


class Dying:
    """A store whose process ends when it is to ingest."""

    def __init__(self, store: Store, error: type[BaseException] = KeyboardInterrupt) -> None:
        self._store = store
        self._error = error

    def ingest(self, cycles: Sequence[Cycle], *, project_id: int) -> None:
        raise self._error("no")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def test_a_total_that_cannot_be_stored_is_logged(
    file: SQLiteStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody waits for an answer any more, so the log has it, and it is tried no more."""
    server = Server(file)
    server.take(total(9, 12))
    server.seconds += SECONDS_A_TOTAL_WAITS
    TraceLog(Dying(file, UnstorableError), clock=lambda: server.seconds).settle()  # type: ignore[arg-type]

    assert "the total of an agent cannot be stored: no" in caplog.text
    assert file.rows("SELECT * FROM held_totals") == []


@both_stores
def test_traces_are_forgotten_a_day_after_their_last_span(store: Store) -> None:
    """What is known of them is needed no more."""
    server = Server(store)
    server.take(chat(1))
    server.seconds += SECONDS_A_TRACE_STAYS
    server.take(chat(2))
    server.take(chat(3, trace="1" * 32))
    assert server.log.forget() == 0
    server.seconds += SECONDS_A_TRACE_STAYS
    server.take(chat(4, trace="1" * 32))
    server.seconds += 7200

    assert server.log.forget() == 1
    [(trace_id,)] = store.rows("SELECT trace_id FROM span_traces")
    assert trace_id == "1" * 32


TREE = st.lists(st.integers(0, 100), min_size=1, max_size=12)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(TREE, st.randoms(use_true_random=False))
def test_whatever_the_tree_and_the_order_nothing_counts_twice(
    tmp_path: Path, parents: list[int], random: Any
) -> None:
    """Leaves are calls, what is around them totals; in whatever requests they come, twice."""
    import uuid

    inner = {parent % number for number, parent in enumerate(parents, start=1) if parent % number}
    spans = [
        (total if number in inner else chat)(
            number,
            **({"tokens": 1000} if number in inner else {}),
            parent=parent % number or None,
        )
        for number, parent in enumerate(parents, start=1)
    ]
    leaves = sorted(set(range(1, len(parents) + 1)) - inner)
    sent = [*spans, *spans]
    random.shuffle(sent)
    with SQLiteStore(tmp_path / f"{uuid.uuid4()}.db") as store:
        server = Server(store)
        while sent:
            size = random.randint(1, 4)
            server.take(*sent[:size])
            sent = sent[size:]

        assert server.wait() == leaves
