"""The conversation tracker."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import sqlite3
import threading
import warnings
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from threading import Event

import pytest

from agentsight_tokens import (
    ConversationTracker,
    InvalidCountError,
    TokenConfig,
    TokenUsage,
    UnknownHandlerError,
    UnknownResponseError,
    get_global_usage,
)
from agentsight_tokens.caretaker import Caretaker
from agentsight_tokens.errors import (
    InvalidScopeError,
    TrackerClosedError,
    UnpricedModelWarning,
)
from agentsight_tokens.faults import fault_counts
from agentsight_tokens.meter import meter
from agentsight_tokens.process_folder import ProcessFolder
from tests.records import Collector

KEYS = (
    "prompt_llm_token_count",
    "completion_llm_token_count",
    "total_llm_token_count",
    "total_embedding_token_count",
)
OPENAI_CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-4o",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}],
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "total_tokens": 120,
        "prompt_tokens_details": {"cached_tokens": 40},
    },
}


@pytest.fixture
def collector() -> Collector:
    return Collector()


@pytest.fixture
def collected(collector: Collector) -> Iterator[ConversationTracker]:
    with ConversationTracker(destination=collector) as tracker:
        yield tracker


def counts(tracker: ConversationTracker) -> tuple[int, ...]:
    return tuple(tracker.get_token_usage().values())


def stored(directory: str, column: str) -> int:
    connection = sqlite3.connect(Path(directory) / "store.db")
    try:
        return connection.execute(f"SELECT SUM({column}) FROM calls").fetchone()[0]
    finally:
        connection.close()


def test_counters_add_up_and_a_send_resets_them(tracker: ConversationTracker) -> None:
    """The samples of the document, to the letter."""
    tracker.track_token_usage(prompt_tokens=50, completion_tokens=20, total_tokens=70)
    assert tracker.get_token_usage() == dict(zip(KEYS, (50, 20, 70, 0), strict=True))
    assert tuple(tracker.get_token_usage()) == KEYS
    tracker.track_token_usage(prompt_tokens=30, completion_tokens=15, total_tokens=45)
    assert counts(tracker) == (80, 35, 115, 0)

    result = tracker.send_tracked_data(wait=10)

    assert (result.status, result.pending, result.error) == ("delivered", 0, None)
    assert result.totals == TokenUsage(input_tokens=80, output_tokens=35)
    assert counts(tracker) == (0, 0, 0, 0)
    assert tracker.send_tracked_data().status == "empty"
    assert stored(tracker.config.data_dir, "input_tokens") == 80


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, (0, 0, 0, 0)),
        ({"prompt_tokens": None, "completion_tokens": 4}, (0, 4, 4, 0)),
        ({"prompt_tokens": 3, "completion_tokens": 4}, (3, 4, 7, 0)),
        ({"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 9}, (3, 4, 9, 0)),
        ({"total_tokens": 9}, (0, 0, 9, 0)),
        ({"embedding_tokens": 5}, (0, 0, 0, 5)),
        ({"prompt_tokens": 1, "embedding_tokens": 5}, (1, 0, 1, 5)),
    ],
)
def test_counts_are_completed(
    tracker: ConversationTracker, given: dict[str, int | None], expected: tuple[int, ...]
) -> None:
    """None is 0, a missing total is the sum, embeddings stand apart."""
    tracker.track_token_usage(**given)

    assert counts(tracker) == expected


def test_counts_may_be_given_by_position(tracker: ConversationTracker) -> None:
    """The four documented arguments keep their order."""
    tracker.track_token_usage(1, 2, 4, 8)

    assert counts(tracker) == (1, 2, 4, 8)


@pytest.mark.parametrize("name", ["prompt_tokens", "embedding_tokens", "reasoning_tokens"])
@pytest.mark.parametrize("value", [-1, 1.5, "7", 10**16])
def test_a_refused_call_changes_nothing(
    tracker: ConversationTracker, name: str, value: object
) -> None:
    """A bad count raises and leaves no trace."""
    tracker.track_token_usage(prompt_tokens=1)
    with pytest.raises(InvalidCountError, match=name):
        tracker.track_token_usage(**{"completion_tokens": 5, name: value})

    assert counts(tracker) == (1, 0, 1, 0)
    assert tracker.get_usage().request_count == 1


def test_conversations_never_mix(collected: ConversationTracker, collector: Collector) -> None:
    """Each conversation has its own counters, its own cycles and its own key."""
    collected.track_token_usage(1)
    with collected.conversation("a") as inside:
        assert inside is collected
        collected.track_token_usage(10)
        with collected.conversation("b", user_id="u"):
            collected.track_token_usage(100)
        assert counts(collected) == (10, 0, 10, 0)
        assert collected.send_tracked_data(wait=10).status == "delivered"
        assert counts(collected) == (0, 0, 0, 0)
    assert counts(collected) == (1, 0, 1, 0)

    (cycle,) = collector.cycles
    assert (cycle.conversation_id, cycle.totals.input_tokens) == ("a", 10)


def test_scopes_reach_the_record(collected: ConversationTracker, collector: Collector) -> None:
    """Attribution is kept with each call; a conversation is its own session by default."""
    with (
        collected.conversation("c", user_id="u", tags=["x"]),
        collected.attribution(agent="planner", feature="search", org_id="o"),
    ):
        collected.track_token_usage(1, model="gpt-4o", tool_name="browser")
        collected.send_tracked_data(wait=10)

    (record,) = collector.cycles[0].records
    assert (record.scope.session_id, record.scope.user_id, record.scope.org_id) == ("c", "u", "o")
    assert (record.scope.agent, record.scope.feature, record.scope.tags) == (
        "planner",
        "search",
        ("x",),
    )
    assert (record.tool_name, record.source) == ("browser", "manual")


def test_scopes_are_checked(tracker: ConversationTracker) -> None:
    """An unknown field or an empty id raises where it is written."""
    with pytest.raises(InvalidScopeError):
        tracker.conversation("")
    with pytest.raises(InvalidScopeError):
        tracker.attribution(team="x")


def test_usage_outlives_the_send(tracker: ConversationTracker) -> None:
    """`get_usage` covers all conversations and cycles of the tracker."""
    tracker.track_token_usage(1_000_000, 0, model="gpt-4o")
    tracker.send_tracked_data()
    with tracker.conversation("b"):
        tracker.track_token_usage(0, 1_000_000, model="gpt-4o-mini")
        with pytest.warns(UnpricedModelWarning, match="no-such-model-9"):
            tracker.track_token_usage(7, 0, model="no-such-model-9")

    usage = tracker.get_usage()

    assert usage.request_count == 3
    assert (usage.prompt_tokens, usage.completion_tokens) == (1_000_007, 1_000_000)
    assert usage.total_tokens == 2_000_007
    assert usage.cost == usage.total_cost == tracker.get_cost() == Decimal("3.1")
    assert usage.by_model["gpt-4o"].cost == Decimal("2.5")
    assert (usage.unpriced_tokens, usage.cost_is_complete) == (7, False)
    assert tracker.get_usage(conversation_id="b").request_count == 2
    assert tracker.get_session_usage("b").cost == Decimal("0.6")
    assert [r.model for r in tracker.get_usage_history(model="gpt-4o")] == ["gpt-4o"]
    breakdown = tracker.get_cost_breakdown()
    assert (breakdown.prompt_cost, breakdown.completion_cost) == (Decimal("2.5"), Decimal("0.6"))
    assert breakdown.total_cost == Decimal("3.1")
    assert breakdown.model == "gpt-4o, gpt-4o-mini, no-such-model-9"


def test_trackers_see_what_they_recorded(tracker: ConversationTracker) -> None:
    """Two trackers of a process count apart; the global usage covers both."""
    with ConversationTracker() as other:
        tracker.track_token_usage(1)
        other.track_token_usage(2)

        assert tracker.get_usage().input_tokens == 1
        assert other.get_usage().input_tokens == 2
        assert get_global_usage().input_tokens == 3
        assert get_global_usage(conversation_id="none").request_count == 0


def test_calls_go_to_the_tracker_constructed_last(tracker: ConversationTracker) -> None:
    """A handler's call outside any scope is the newest tracker's, inside it is the scope's."""
    with ConversationTracker() as other:
        meter.begin("test").finish(TokenUsage(input_tokens=1))
        with tracker.conversation("a"):
            call = meter.begin("test")
        call.finish(TokenUsage(input_tokens=2))

        assert counts(other) == (1, 0, 1, 0)
        with tracker.conversation("a"):
            assert counts(tracker) == (2, 0, 2, 0)
    assert meter.begin("test").finish(TokenUsage(input_tokens=1)) is None


def test_responses_are_recorded(tracker: ConversationTracker) -> None:
    """A provider's response is counted, once for each response id."""
    record = tracker.record(OPENAI_CHAT, agent="a")
    tracker.record(OPENAI_CHAT)

    assert counts(tracker) == (100, 20, 120, 0)
    assert record.cached_tokens == 40
    assert (record.model, record.provider, record.scope.agent) == ("gpt-4o", "openai", "a")
    assert record.cost == Decimal("0.0004")


def test_a_response_without_usage_is_unreported(tracker: ConversationTracker) -> None:
    """What the provider did not say is not counted as zero."""
    tracker.record({**OPENAI_CHAT, "usage": None})

    usage = tracker.get_usage()
    assert (usage.unreported_calls, usage.input_tokens, usage.cost_is_complete) == (1, 0, False)


def test_unknown_responses_are_refused(tracker: ConversationTracker) -> None:
    """A response of no known shape raises, and nothing is counted."""
    with pytest.raises(UnknownResponseError):
        tracker.record({"hello": "world"})

    assert tracker.get_usage().request_count == 0


def test_a_handlers_call_is_not_counted_again_by_hand(tracker: ConversationTracker) -> None:
    """The response's id tells that it is the same call."""
    meter.begin("test").finish(TokenUsage(input_tokens=1), response_id="r")
    tracker.track_token_usage(1, response_id="r")

    assert counts(tracker) == (1, 0, 1, 0)


def test_servers_that_repeat_their_ids_are_counted(tracker: ConversationTracker) -> None:
    """Calls with the same id count, unless two handlers saw one at the same time."""
    other = meter.begin("other")
    for _ in range(2):
        meter.begin("test").finish(TokenUsage(input_tokens=1), response_id="r")
    other.finish(TokenUsage(input_tokens=1), response_id="r")
    meter.begin("other").finish(TokenUsage(input_tokens=5), response_id="r")

    assert counts(tracker) == (7, 0, 7, 0)


def test_resets_keep_what_was_billed(collected: ConversationTracker, collector: Collector) -> None:
    """A reset begins the views at zero; the backend still gets what was used."""
    collected.track_token_usage(5, 3)
    assert collected.get_token_count() == 8
    collected.reset_tracking()

    assert counts(collected) == (0, 0, 0, 0)
    assert collected.get_usage().request_count == 0
    assert collected.get_usage_history() == []
    assert collected.get_token_count() == 8
    assert collected.send_tracked_data().status == "empty"
    collected.reset_all()
    assert collected.get_token_count() == 0
    assert collected.flush(10)
    assert collector.input_tokens() == 5


def test_step_hooks_are_told(tracker: ConversationTracker) -> None:
    """A hook gets the usage and the number of each call; its own trouble is contained."""
    seen = []
    tracker.on_step_complete(
        lambda state, step: seen.append((state.context["usage"]["tokens"], step.step_number))
    )
    tracker.track_token_usage(1, 2)
    tracker.track_token_usage(3)

    assert seen == [(3, 1), (3, 2)]


def test_a_faulty_hook_is_contained(
    tracker: ConversationTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a hook raises is counted and does not reach the program."""
    monkeypatch.setattr("agentsight_tokens.faults._raises", False)
    tracker.on_step_complete(lambda state, step: 1 / 0)
    before = fault_counts().get("a step hook", 0)

    tracker.track_token_usage(1)

    assert fault_counts()["a step hook"] == before + 1
    assert counts(tracker) == (1, 0, 1, 0)


def test_calls_are_logged(tracker: ConversationTracker, caplog: pytest.LogCaptureFixture) -> None:
    """At INFO each call is one line, as the documents show it."""
    with caplog.at_level(logging.INFO, logger="agentsight_tokens"):
        tracker.track_token_usage(25, 20, model="gpt-4o-mini")
        with pytest.warns(UnpricedModelWarning):
            tracker.track_token_usage(25, 20, model="no-such-model-8")

    assert [r.message for r in caplog.records if r.levelno == logging.INFO] == [
        "Request completed: 45 tokens, $0.0000",
        "Request completed: 45 tokens, unpriced",
    ]


def test_strict_warning_filters_cost_no_count(tracker: ConversationTracker) -> None:
    """Where warnings are errors, a call without a price still counts and raises nothing."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tracker.track_token_usage(7, 0, model="no-such-model-7")

    assert counts(tracker) == (7, 0, 7, 0)


def test_settings_win_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument wins over the environment, which wins over the default."""
    monkeypatch.setenv("AGENTSIGHT_CONVERSATION_ID", "from-environment")
    with ConversationTracker() as tracker:
        assert tracker.send_tracked_data().key is None
        tracker.track_token_usage(1)
        assert ":from-environment:" in tracker.send_tracked_data().key
    with ConversationTracker(conversation_id="given") as tracker:
        tracker.track_token_usage(1)
        assert ":given:" in tracker.send_tracked_data().key


def test_unknown_handlers_are_refused() -> None:
    """The error lists the handlers that there are."""
    with pytest.raises(UnknownHandlerError, match=r"'longchain'.*langchain"):
        ConversationTracker(token_handler="longchain")


def test_user_ids_are_hashed(tmp_path: Path) -> None:
    """With hashing on, no user id reaches the disk, and filters still find it."""
    config = TokenConfig(hash_user_ids=True, hash_key="secret")
    with ConversationTracker(config=config) as tracker:
        with tracker.attribution(user_id="alice@example.org"):
            tracker.track_token_usage(1)
        assert tracker.get_usage(user_id="alice@example.org").request_count == 1
        tracker.send_tracked_data(wait=10)
        found = [f for f in Path(config.data_dir).rglob("*") if f.is_file()]
        assert len(found) > 3
        assert not [f for f in found if b"alice" in f.read_bytes()]


def test_a_closed_tracker_says_so(tracker: ConversationTracker) -> None:
    """After close() every use raises, and closing again is fine."""
    tracker.track_token_usage(3)
    tracker.close()
    tracker.close()

    for use in (tracker.get_usage, tracker.send_tracked_data, tracker.flush):
        with pytest.raises(TrackerClosedError):
            use()
    with pytest.raises(TrackerClosedError):
        tracker.track_token_usage(1)
    assert stored(tracker.config.data_dir, "input_tokens") == 3


def test_what_was_not_sent_is_sent_at_the_end(collector: Collector) -> None:
    """Closing seals every open conversation."""
    with ConversationTracker(destination=collector) as tracker:
        for name in ("a", "b"):
            with tracker.conversation(name):
                tracker.track_token_usage(1)

    assert {(c.conversation_id, c.sealed_by) for c in collector.cycles} == {
        ("a", "close"),
        ("b", "close"),
    }
    assert collector.is_closed


def test_a_tracker_that_is_dropped_loses_nothing(collector: Collector) -> None:
    """What a collected tracker left open is sealed when its process ends."""
    with ConversationTracker(destination=collector) as kept:
        dropped = ConversationTracker(destination=collector)
        dropped.track_token_usage(5)
        meter.default_recorder = kept
        del dropped
        gc.collect()
    from agentsight_tokens.runtime import runtimes

    for runtime in runtimes():
        runtime.close()
    assert collector.input_tokens() == 5


def test_sends_while_threads_record_lose_nothing(
    collected: ConversationTracker, collector: Collector
) -> None:
    """Eight threads record while a ninth sends all the time: the sum is exact."""
    stop = threading.Event()

    def work(number: int) -> None:
        with collected.conversation(f"c{number % 3}"):
            for _ in range(300):
                collected.track_token_usage(1, 2)

    def send() -> None:
        while not stop.wait(0.003):
            for number in range(3):
                with collected.conversation(f"c{number}"):
                    collected.send_tracked_data()

    sender = threading.Thread(target=send)
    workers = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    sender.start()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    stop.set()
    sender.join()
    collected.close()

    assert collector.input_tokens() == 2400
    assert {c.conversation_id for c in collector.cycles} == {"c0", "c1", "c2"}
    for name, share in (("c0", 900), ("c1", 900), ("c2", 600)):
        sums = [c.totals.input_tokens for c in collector.cycles if c.conversation_id == name]
        assert sum(sums) == share


def test_async_sends_keep_their_conversation(
    collected: ConversationTracker, collector: Collector
) -> None:
    """A hundred tasks each send their own conversation."""

    async def talk(number: int) -> None:
        with collected.conversation(f"c{number}"):
            for _ in range(4):
                await asyncio.sleep(0)
                collected.track_token_usage(number)
            result = await collected.asend_tracked_data()
            assert result.totals.input_tokens == 4 * number

    async def main() -> None:
        await asyncio.gather(*(talk(number) for number in range(1, 101)))

    asyncio.run(main())
    assert collected.flush(20)
    assert {c.conversation_id: c.totals.input_tokens for c in collector.cycles} == {
        f"c{number}": 4 * number for number in range(1, 101)
    }


def recorded(name: str) -> dict[str, object]:
    return json.loads((Path(__file__).parent / "recorded" / name).read_text())


def test_a_cost_that_the_provider_states_wins(tracker: ConversationTracker) -> None:
    """What the provider says that it charges is the cost."""
    record = tracker.record(recorded("openrouter_chat.json"))

    assert record.cost == Decimal("0.0041304")
    assert (record.cost_status, record.price_key) == ("priced", "stated by the provider")


def test_other_models_within_a_response_are_counted(tracker: ConversationTracker) -> None:
    """A response that billed two models gives two calls, and once."""
    for _ in range(2):
        tracker.record(recorded("anthropic_message_advised.json"))

    models = [record.model for record in tracker.get_usage_history()]
    assert len(models) == len(set(models)) == 2


def test_closed_while_the_files_are_looked_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a hanging sender would still do with the files is left, and is no fault."""
    looking, closed, ended = Event(), Event(), Event()

    def look(self: Caretaker, folder: ProcessFolder, trackers: object) -> None:
        looking.set()
        closed.wait(10)
        try:
            folder.ledger.pending_bytes()
        finally:
            ended.set()

    monkeypatch.setattr("agentsight_tokens.caretaker.LOOK_SECONDS", 0.0)
    monkeypatch.setattr(Caretaker, "_look", look)
    tracker = ConversationTracker(
        config=TokenConfig(data_dir=str(tmp_path / "data"), exit_flush_seconds=0)
    )
    tracker.track_token_usage(1)
    tracker.send_tracked_data()
    assert looking.wait(10)

    tracker.close()
    closed.set()

    assert ended.wait(10)
    assert fault_counts().get("looking after the files", 0) == 0
