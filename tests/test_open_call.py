"""Calls for one request are counted once, by whoever is nearest the wire."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from agentsight_tokens import ConversationTracker, TokenUsage, UsageRecord
from agentsight_tokens.meter import meter
from agentsight_tokens.open_call import MOST_CALLS_AROUND, _newest


def usage(tokens: int) -> TokenUsage:
    return TokenUsage(input_tokens=tokens)


@pytest.fixture(autouse=True)
def no_calls_around() -> Iterator[None]:
    token = _newest.set(None)
    yield
    _newest.reset(token)


@pytest.fixture
def history(tracker: ConversationTracker) -> list[UsageRecord]:
    """The records of the test, read when it looks."""

    class History(list):
        def __iter__(self) -> Iterator[UsageRecord]:
            return iter(tracker.get_usage_history())

    return History()


def told(history: list[UsageRecord]) -> list[tuple[str | None, int, int]]:
    return [(r.handler, r.input_tokens, int(r.is_unreported)) for r in history]


def test_the_tap_tells_the_usage_and_the_framework_the_rest(
    tracker: ConversationTracker, history: list[UsageRecord]
) -> None:
    """One record: usage from the wire, scope, tool and handler from the outermost call."""
    with tracker.conversation("a"):
        framework = meter.begin("framework", agent="planner", tool_name="search")
        client = meter.begin("client")
        wire = meter.begin_on_wire("sdk", model="gpt-4o")
    wire.first_token()
    wire.finish(usage(10), model="gpt-4o-2024-08-06")
    client.finish(usage(99))
    framework.finish(usage(98))

    (record,) = history
    assert (record.handler, record.input_tokens, record.model) == (
        "framework",
        10,
        "gpt-4o-2024-08-06",
    )
    assert (record.scope.conversation_id, record.scope.agent) == ("a", "planner")
    assert record.tool_name == "search"
    assert record.time_to_first_token_seconds is not None


def test_where_the_tap_knows_nothing_the_framework_tells(history: list[UsageRecord]) -> None:
    """A tap without usage leaves it to the calls around it, the innermost first."""
    framework = meter.begin("framework")
    client = meter.begin("client")
    meter.begin_on_wire("sdk").finish(None)
    client.finish(None)
    framework.finish(usage(5))

    assert told(history) == [("framework", 5, 0)]


def test_what_nobody_knows_is_unreported_once(history: list[UsageRecord]) -> None:
    """A request of which nobody knows the usage is one unreported call."""
    framework = meter.begin("framework")
    meter.begin_on_wire("sdk").finish(None)
    framework.finish(None, unreported_reason="cancelled")

    (record,) = history
    assert record.unreported_reason == "cancelled"


@pytest.mark.parametrize("known", [True, False])
def test_a_late_inner_call_is_waited_for(history: list[UsageRecord], known: bool) -> None:
    """A client that tells after its framework is through still counts once."""
    framework = meter.begin("framework")
    client = meter.begin("client")
    assert framework.finish(usage(5)) is None
    client.finish(usage(7) if known else None)

    assert told(history) == [("framework", 7 if known else 5, 0)]


def test_a_dropped_call_drops_those_around_it(history: list[UsageRecord]) -> None:
    """A client that answered from its cache sent nothing, whatever its framework says."""
    framework = meter.begin("framework")
    meter.begin("client").drop()
    framework.finish(usage(5))

    assert told(history) == []


def test_requests_of_a_batch_go_to_their_own_calls(history: list[UsageRecord]) -> None:
    """Calls that begin together take the requests in their order."""
    first, second = meter.begin("framework"), meter.begin("framework")
    for tokens in (1, 2):
        meter.begin_on_wire("sdk").finish(usage(tokens))
    first.finish(usage(99))
    second.finish(usage(99))

    assert told(history) == [("framework", 1, 0), ("framework", 2, 0)]


def test_a_second_request_of_a_call_counts_too(history: list[UsageRecord]) -> None:
    """A framework that asks twice for one call is billed twice."""
    framework = meter.begin("framework")
    meter.begin_on_wire("sdk").finish(TokenUsage(), status="error")
    meter.begin_on_wire("sdk").finish(usage(3))
    framework.finish(usage(3))

    assert told(history) == [("framework", 0, 0), ("framework", 3, 0)]


def test_a_stream_that_rests_holds_no_other_request(history: list[UsageRecord]) -> None:
    """Once a call has answered without a tap, a request in its context is not its own."""
    framework = meter.begin("framework")
    framework.first_token()
    meter.begin_on_wire("sdk").finish(usage(3))
    framework.finish(usage(5))

    assert told(history) == [("sdk", 3, 0), ("framework", 5, 0)]


def test_embeddings_are_not_inside_chats(history: list[UsageRecord]) -> None:
    """An embedding request belongs to no chat call around it."""
    framework = meter.begin("framework")
    meter.begin_on_wire("sdk", "embedding").finish(TokenUsage(embedding_tokens=3))
    framework.finish(usage(5))

    assert [record.embedding_tokens for record in history] == [3, 0]
    assert [record.handler for record in history] == ["sdk", "framework"]


def test_taps_may_keep_to_frameworks(history: list[UsageRecord]) -> None:
    """A tap that serves a framework leaves other requests alone."""
    assert meter.begin_on_wire("sdk", only_inside=True) is None
    framework = meter.begin("framework")
    meter.begin_on_wire("sdk", only_inside=True).finish(usage(1))
    framework.finish(None)

    assert told(history) == [("framework", 1, 0)]


def test_tasks_share_the_calls_that_began_before_them(history: list[UsageRecord]) -> None:
    """Requests that are sent in tasks find the calls of their parent, each its own."""

    async def send(tokens: int) -> None:
        wire = meter.begin_on_wire("sdk")
        await asyncio.sleep(0)
        wire.finish(usage(tokens))

    async def main() -> None:
        calls = [meter.begin("framework") for _ in range(3)]
        await asyncio.gather(*(send(tokens) for tokens in (1, 2, 4)))
        for call in calls:
            call.finish(usage(99))

    asyncio.run(main())
    assert sorted(told(history)) == [("framework", n, 0) for n in (1, 2, 4)]


def test_calls_are_found_where_the_context_does_not_tell(
    history: list[UsageRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler's finder names the call around a request."""
    framework = meter.begin("framework")
    _newest.set(None)
    monkeypatch.setattr(meter, "finders", [lambda: None, lambda: framework])
    meter.begin_on_wire("sdk").finish(usage(2))

    assert told(history) == [("framework", 2, 0)]


def test_a_call_that_never_ends_holds_nothing_of_others(
    tracker: ConversationTracker, history: list[UsageRecord]
) -> None:
    """A request of another conversation, or for another tracker, is not a stale call's."""
    with tracker.conversation("a"):
        meter.begin("framework")
    with tracker.conversation("b"):
        meter.begin_on_wire("sdk").finish(usage(1))
    with ConversationTracker() as other:
        meter.begin_on_wire("sdk").finish(usage(2))
        assert other.get_usage().input_tokens == 2

    (record,) = history
    assert (record.handler, record.scope.conversation_id) == ("sdk", "b")


def test_calls_without_a_tracker_are_nobodys() -> None:
    """Where there is no tracker, nothing is recorded and nothing fails."""
    framework = meter.begin("framework")
    meter.begin_on_wire("sdk").finish(usage(1))

    assert framework.finish(usage(1)) is None


def test_a_context_remembers_few_calls_that_never_end(tracker: ConversationTracker) -> None:
    """A framework that closes nothing makes neither memory nor the next call grow."""
    for _ in range(3 * MOST_CALLS_AROUND):
        meter.begin("framework")

    remembered, call = 0, _newest.get()
    while call is not None:
        remembered, call = remembered + 1, call.earlier
    assert remembered <= MOST_CALLS_AROUND + 1


def test_calls_that_have_ended_leave_their_context(tracker: ConversationTracker) -> None:
    """Also those that began before one that has not."""
    calls = [meter.begin("framework") for _ in range(9)]
    for call in calls[:-1]:
        call.finish(usage(1))

    meter.begin_on_wire("sdk")

    assert calls[-1].earlier is None
