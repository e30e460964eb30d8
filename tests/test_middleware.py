"""TokenMiddleware around callables of every kind, against a provider on loopback."""

from __future__ import annotations

import asyncio
import functools
import gc
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import openai
import pytest

from agentsight_tokens import (
    Budget,
    BudgetExceededError,
    BudgetManager,
    ContextMonitor,
    ConversationTracker,
    TokenConfig,
    TokenMiddleware,
    TokenUsage,
    cheaper_model,
    faults,
)
from agentsight_tokens.budgets.status import WindowStatus
from agentsight_tokens.errors import InvalidScopeError
from agentsight_tokens.middleware import RouteRequest
from agentsight_tokens.middleware.run import Run
from agentsight_tokens.testing import LoopbackProvider, Reply
from tests.test_context import conversation

HELLO = [{"role": "user", "content": "Say hello."}]
ASK = {"model": "gpt-4o", "messages": HELLO, "max_tokens": 100}


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    with LoopbackProvider(keep_alive=False) as provider:
        yield provider


@pytest.fixture
def client(provider: LoopbackProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=provider.openai_url, api_key="k", max_retries=0) as client:
        yield client


@pytest.fixture
def manager() -> BudgetManager:
    manager = BudgetManager()
    manager.set_budget(Budget(daily_token_limit=20_000, cost_limit_usd=5))
    return manager


@pytest.fixture
def middleware(tracker: ConversationTracker, manager: BudgetManager) -> TokenMiddleware:
    return TokenMiddleware(tracker, budgets=manager)


def day(manager: BudgetManager) -> WindowStatus:
    return manager.status().windows[0]


def exhausted(manager: BudgetManager) -> None:
    """Leave a budget with room for nothing."""
    manager.set_budget(Budget(daily_token_limit=1))


def test_a_call_is_counted_priced_and_settled(
    client: openai.OpenAI,
    provider: LoopbackProvider,
    middleware: TokenMiddleware,
    tracker: ConversationTracker,
    manager: BudgetManager,
) -> None:
    """What the provider billed is what the tracker and the budget have."""
    create = middleware.wrap(client.chat.completions.create, agent="writer", user_id="alice")

    answer = create(**ASK)

    (record,) = tracker.get_usage_history()
    assert answer.choices[0].message.content
    assert record.usage.total_tokens == provider.billed().total_tokens == 18
    assert (record.model, record.handler, record.status) == ("gpt-4o", "middleware", "ok")
    assert (record.scope.agent, record.scope.user_id) == ("writer", "alice")
    assert record.duration_seconds > 0
    assert (day(manager).used_tokens, day(manager).held_tokens) == (18, 0)
    assert day(manager).used_cost == record.cost > 0


def test_with_the_budget_spent_the_provider_gets_nothing(
    client: openai.OpenAI,
    provider: LoopbackProvider,
    middleware: TokenMiddleware,
    tracker: ConversationTracker,
    manager: BudgetManager,
) -> None:
    """The error comes before the request, in every form of a call."""
    exhausted(manager)
    create = middleware.wrap(client.chat.completions.create)

    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="k") as asynchronous:
            acreate = middleware.wrap(asynchronous.chat.completions.create)
            for stream in (False, True):
                with pytest.raises(BudgetExceededError):
                    await acreate(**ASK, stream=stream)

    for stream in (False, True):
        with pytest.raises(BudgetExceededError):
            create(**ASK, stream=stream)
    asyncio.run(main())

    assert provider.requests == 0
    assert tracker.get_usage_history() == []
    assert day(manager).held_tokens == 0


@pytest.mark.parametrize("reports", [True, False])
def test_streams_are_counted_to_their_end(
    client: openai.OpenAI,
    provider: LoopbackProvider,
    middleware: TokenMiddleware,
    tracker: ConversationTracker,
    manager: BudgetManager,
    reports: bool,
) -> None:
    """By the usage that the last chunk reports; without one the hold is kept as an estimate."""
    create = middleware.wrap(client.chat.completions.create)
    options = {"stream_options": {"include_usage": True}} if reports else {}

    with create(**ASK, stream=True, **options) as stream:
        assert stream.response.status_code == 200
        held = day(manager).held_tokens
        chunks = list(stream)

    (record,) = tracker.get_usage_history()
    assert len(chunks) > 2
    assert held > 100
    assert day(manager).held_tokens == 0
    assert record.time_to_first_token_seconds is not None
    if reports:
        assert record.usage.total_tokens == provider.billed().total_tokens
        assert day(manager).used_tokens == 18
    else:
        assert record.unreported_reason == "provider_silent"
        assert day(manager).used_tokens == held


def test_a_handler_asks_wrapped_streams_for_their_usage(
    client: openai.OpenAI, provider: LoopbackProvider, manager: BudgetManager
) -> None:
    """As it does without the middleware; the chunk that tells it stays out of the stream."""
    with ConversationTracker(token_handler="openai") as tracker:
        create = TokenMiddleware(tracker, budgets=manager).wrap(client.chat.completions.create)

        chunks = list(create(**ASK, stream=True))
        (record,) = tracker.get_usage_history()

    assert provider.received[0].body["stream_options"] == {"include_usage": True}
    assert all(chunk.choices for chunk in chunks)
    assert record.total_tokens == day(manager).used_tokens == 18


@pytest.mark.parametrize("how", ["close", "collected", "leave", "unread"])
def test_an_abandoned_stream_costs_its_prompt(
    client: openai.OpenAI,
    middleware: TokenMiddleware,
    tracker: ConversationTracker,
    manager: BudgetManager,
    how: str,
) -> None:
    """However it is abandoned, the hold returns to 0 and the prompt's part is kept."""
    create = middleware.wrap(client.chat.completions.create)
    stream = create(**ASK, stream=True)
    original = stream.__wrapped__

    if how != "unread":
        next(stream)
    if how == "leave":
        with stream:
            pass
    elif how in ("close", "unread"):
        stream.close()
    del stream
    gc.collect()
    original.close()

    (record,) = tracker.get_usage_history()
    assert (record.status, record.unreported_reason) == ("cancelled", "cancelled")
    assert day(manager).held_tokens == 0
    assert 0 < day(manager).used_tokens < 30


def test_a_stream_that_breaks_keeps_what_it_told(
    provider: LoopbackProvider,
    middleware: TokenMiddleware,
    tracker: ConversationTracker,
    manager: BudgetManager,
) -> None:
    """Usage that came before the end is a partial record; without any, the prompt is kept."""

    def told(prompt: str) -> Iterator[dict[str, Any]]:
        yield {
            "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11},
            "choices": [],
            "object": "chat.completion.chunk",
            "model": "gpt-4o",
            "id": "r",
        }
        raise OSError("broke")

    with pytest.raises(OSError, match="broke"):
        list(middleware.wrap(told, model="gpt-4o")("Say hello."))

    (record,) = tracker.get_usage_history()
    assert (record.status, record.usage.total_tokens, record.error_type) == (
        "partial",
        11,
        "OSError",
    )
    assert (day(manager).used_tokens, day(manager).held_tokens) == (11, 0)


def test_asynchronous_clients_and_streams(
    provider: LoopbackProvider,
    middleware: TokenMiddleware,
    tracker: ConversationTracker,
    manager: BudgetManager,
) -> None:
    """Awaited calls, streams to their end and abandoned ones."""

    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="k") as client:
            create = middleware.wrap(client.chat.completions.create, feature="chat")
            await create(**ASK)
            options = {"stream": True, "stream_options": {"include_usage": True}}
            async for _ in await create(**ASK, **options):
                pass
            async with await create(**ASK, **options) as stream:
                await anext(aiter(stream))
            closed = await create(**ASK, **options)
            await anext(closed)
            await closed.close()
            unread = await create(**ASK, **options)
            await unread.aclose()

    asyncio.run(main())

    records = tracker.get_usage_history()
    assert [r.status for r in records] == ["ok", "ok", "cancelled", "cancelled", "cancelled"]
    assert [r.total_tokens for r in records[:2]] == [18, 18]
    assert {r.scope.feature for r in records} == {"chat"}
    assert day(manager).held_tokens == 0


def managed(client: openai.OpenAI | openai.AsyncOpenAI) -> list[tuple[Any, dict[str, Any]]]:
    """Return the helpers of the SDK that send their request when they are entered."""
    return [
        (client.chat.completions.stream, ASK),
        (client.responses.stream, {"model": "gpt-4o", "input": "Hi.", "max_output_tokens": 99}),
    ]


def test_the_sdks_stream_helpers_are_counted_once(
    client: openai.OpenAI, provider: LoopbackProvider, manager: BudgetManager
) -> None:
    """Held until the stream is left, and settled by what the handler was told."""

    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="k") as asynchronous:
            for helper, asked in managed(asynchronous):
                async with middleware.wrap(helper)(**asked) as stream:
                    assert day(manager).held_tokens > 100
                    assert [event async for event in stream]

    with ConversationTracker(token_handler="openai") as tracker:
        middleware = TokenMiddleware(tracker, budgets=manager)
        for helper, asked in managed(client):
            with middleware.wrap(helper, agent="writer")(**asked) as stream:
                assert day(manager).held_tokens > 100
                assert list(stream)
        asyncio.run(main())
        records = tracker.get_usage_history()

    assert [(r.status, r.total_tokens) for r in records] == [("ok", 18)] * 4
    assert [r.scope.agent for r in records] == ["writer", "writer", None, None]
    assert (day(manager).used_tokens, day(manager).held_tokens) == (72, 0)


def test_stream_helpers_end_however_they_are_left(
    client: openai.OpenAI,
    provider: LoopbackProvider,
    middleware: TokenMiddleware,
    tracker: ConversationTracker,
    manager: BudgetManager,
) -> None:
    """Refused, failed, left by an error, never entered: nothing is held any more."""
    (helper, asked), *_ = managed(client)
    wrapped = middleware.wrap(helper)

    async def main() -> None:
        async with openai.AsyncOpenAI(
            base_url=provider.openai_url, api_key="k", max_retries=0
        ) as asynchronous:
            provider.enqueue(Reply(status=400))
            with pytest.raises(openai.BadRequestError):
                async with middleware.wrap(asynchronous.chat.completions.stream)(**asked):
                    pass

    provider.enqueue(Reply(status=400))
    with pytest.raises(openai.BadRequestError), wrapped(**asked):
        pass
    asyncio.run(main())
    with pytest.raises(ZeroDivisionError), wrapped(**asked):
        raise ZeroDivisionError
    never = wrapped(**asked)
    del never
    gc.collect()
    assert [r.status for r in tracker.get_usage_history()] == ["error", "error", "error"]
    assert day(manager).held_tokens == 0

    exhausted(manager)
    requests = provider.requests
    with pytest.raises(BudgetExceededError):
        wrapped(**asked)
    assert provider.requests == requests


def test_a_cancelled_task_gives_its_hold_back(
    middleware: TokenMiddleware, tracker: ConversationTracker, manager: BudgetManager
) -> None:
    """A timeout in the middle of a call keeps the prompt's part."""

    async def slow(prompt: str) -> str:
        await asyncio.sleep(60)
        return "never"

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(middleware.wrap(slow, model="gpt-4o")("Hello."), 0.01)

    asyncio.run(main())

    (record,) = tracker.get_usage_history()
    assert record.status == "cancelled"
    assert (day(manager).held_tokens, day(manager).used_tokens) == (0, 2)


def test_functions_generators_and_their_asynchronous_twins(
    middleware: TokenMiddleware, tracker: ConversationTracker, manager: BudgetManager
) -> None:
    """Text answers are counted by a tokenizer and marked as estimates."""

    @middleware.wrap(model="gpt-4o")
    def function(prompt: str) -> str:
        """Answer."""
        return "hello there"

    @middleware.wrap(model="gpt-4o")
    def generator(prompt: str) -> Iterator[str]:
        yield from ("hello ", "there")

    @middleware.wrap(model="gpt-4o")
    async def coroutine(prompt: str) -> str:
        return "hello there"

    @middleware.wrap(model="gpt-4o")
    async def asynchronous(prompt: str) -> AsyncIterator[str]:
        for word in ("hello ", "there"):
            yield word

    async def main() -> None:
        assert await coroutine("Say it.") == "hello there"
        assert [word async for word in asynchronous("Say it.")] == ["hello ", "there"]
        late = functools.partial(middleware.wrap(lambda prompt: coroutine(prompt), model="gpt-4o"))
        assert await late("Say it.") == "hello there"

    assert function("Say it.") == "hello there"
    assert list(generator("Say it.")) == ["hello ", "there"]
    asyncio.run(main())

    assert function.__doc__ == "Answer."
    records = tracker.get_usage_history()
    assert [(r.source, r.input_tokens, r.output_tokens) for r in records] == [
        ("estimated", 3, 2)
    ] * 5
    assert (day(manager).used_tokens, day(manager).held_tokens) == (25, 0)


def test_a_generator_that_never_starts_costs_nothing(
    middleware: TokenMiddleware, tracker: ConversationTracker, manager: BudgetManager
) -> None:
    """Its body has not run, so nothing was sent."""

    @middleware.wrap(model="gpt-4o")
    def generator(prompt: str) -> Iterator[str]:
        yield "never"

    @middleware.wrap(model="gpt-4o")
    async def asynchronous(prompt: str) -> AsyncIterator[str]:
        yield "never"

    stream = generator("Say it.")
    held = day(manager).held_tokens
    del stream
    never = asynchronous("Say it.")
    del never
    gc.collect()

    assert held > 0
    assert (day(manager).held_tokens, day(manager).used_tokens) == (0, 0)
    assert tracker.get_usage_history() == []


def test_answers_of_your_own_are_read_by_your_function(
    middleware: TokenMiddleware, tracker: ConversationTracker
) -> None:
    """An answer of no provider's shape is unreported, unless somebody can read it."""

    def mine(question: str) -> dict[str, int]:
        return {"read": 10, "written": 5}

    def read(answer: dict[str, int]) -> TokenUsage:
        return TokenUsage(input_tokens=answer["read"], output_tokens=answer["written"])

    plain = TokenMiddleware(tracker)
    plain.wrap(mine, model="gpt-4o-mini")("Why?")
    middleware.wrap(mine, usage=read, model="gpt-4o")("Why?")
    plain.wrap(lambda: None)()
    plain.wrap(lambda: "text without a prompt")()

    reasons = [r.unreported_reason for r in tracker.get_usage_history()]
    assert reasons == ["provider_silent", None, "provider_silent", "provider_silent"]
    assert tracker.get_usage_history()[1].total_tokens == 15


def test_embeddings_are_counted_as_such(
    client: openai.OpenAI,
    provider: LoopbackProvider,
    middleware: TokenMiddleware,
    tracker: ConversationTracker,
    manager: BudgetManager,
) -> None:
    """Texts are held for, and the embedded tokens settled."""
    embed = middleware.wrap(client.embeddings.create, operation="embedding")

    embed(model="text-embedding-3-small", input=["one two", "three"])

    (record,) = tracker.get_usage_history()
    assert record.operation == "embedding"
    assert record.embedding_tokens == provider.billed().embedding_tokens == day(manager).used_tokens
    assert day(manager).used_cost == record.cost


@pytest.mark.parametrize(("status", "kept"), [(400, 0), (500, 0)])
def test_what_a_provider_refuses_is_not_billed(
    client: openai.OpenAI,
    provider: LoopbackProvider,
    middleware: TokenMiddleware,
    tracker: ConversationTracker,
    manager: BudgetManager,
    status: int,
    kept: int,
) -> None:
    """An HTTP error gives the hold back; the record says what it was."""
    provider.enqueue(Reply(status=status))

    with pytest.raises(openai.APIStatusError):
        middleware.wrap(client.chat.completions.create)(**ASK)

    (record,) = tracker.get_usage_history()
    assert (record.status, record.total_tokens, record.is_unreported) == ("error", 0, False)
    assert (day(manager).used_tokens, day(manager).held_tokens) == (kept, 0)


def test_what_fails_in_other_ways_keeps_its_prompt(
    middleware: TokenMiddleware, tracker: ConversationTracker, manager: BudgetManager
) -> None:
    """Nobody knows whether it was billed: the prompt's part stays, the call is unreported."""

    def broken(prompt: str) -> str:
        raise ConnectionResetError("gone")

    with pytest.raises(ConnectionResetError):
        middleware.wrap(broken, model="gpt-4o")("Say hello.")

    (record,) = tracker.get_usage_history()
    assert (record.status, record.unreported_reason) == ("error", "error_without_usage")
    assert 0 < day(manager).used_tokens < 10


def test_a_budget_that_clamps_limits_the_output(
    client: openai.OpenAI,
    provider: LoopbackProvider,
    middleware: TokenMiddleware,
    manager: BudgetManager,
) -> None:
    """The call is made with as much output as there is left."""
    manager.set_budget(Budget(daily_token_limit=60, clamp=True))
    create = middleware.wrap(client.chat.completions.create)

    create(**ASK)
    create(model="gpt-4o", messages=HELLO, max_completion_tokens=500)

    asked = [request.body for request in provider.received]
    assert 40 < asked[0]["max_tokens"] < 60
    assert 20 < asked[1]["max_completion_tokens"] < 42


def test_what_cannot_be_clamped_is_refused(
    middleware: TokenMiddleware, manager: BudgetManager
) -> None:
    """A function that takes no largest output cannot be held to a smaller one."""
    manager.set_budget(Budget(daily_token_limit=60, clamp=True))

    with pytest.raises(BudgetExceededError):
        middleware.wrap(lambda prompt: "hi", model="gpt-4o")("Say hello.")
    answer = middleware.wrap(lambda prompt, max_tokens=50: f"{max_tokens}", model="gpt-4o")(
        "Hello."
    )

    named = middleware.wrap(
        lambda ask, most: f"{ask} {most}", model="gpt-4o", prompt="ask", max_output="most"
    )("Hello.", 1000)

    assert int(answer) == 50
    assert int(named.removeprefix("Hello. ")) < 60


def test_three_phases_of_adoption(
    client: openai.OpenAI,
    provider: LoopbackProvider,
    tracker: ConversationTracker,
    manager: BudgetManager,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Track only, then warn, then enforce: the budget counts in all of them."""
    exhausted(manager)
    track = TokenMiddleware(tracker, budgets=manager, enforcement="track")
    warn = TokenMiddleware(tracker, budgets=manager, enforcement="warn")
    enforce = TokenMiddleware(tracker, budgets=manager)

    track.wrap(client.chat.completions.create)(**ASK)
    caplog.clear()
    warn.wrap(client.chat.completions.create)(**ASK)
    with pytest.raises(BudgetExceededError):
        enforce.wrap(client.chat.completions.create)(**ASK)

    assert provider.requests == 2
    assert "not enforced: the budget of all calls does not allow this call" in caplog.text
    assert day(manager).used_tokens == 36
    with pytest.raises(ValueError, match="enforcement is track, warn or enforce"):
        TokenMiddleware(tracker, enforcement="maybe")


@pytest.mark.parametrize("handler", ["", "openai"])
def test_without_budgets_the_trackers_hold(
    client: openai.OpenAI, provider: LoopbackProvider, handler: str
) -> None:
    """They are settled once, limit the output, choose a model, and come in three phases."""
    budget = Budget(daily_token_limit=60, clamp=True)
    with ConversationTracker(budgets=budget, token_handler=handler or None) as tracker:
        route = cheaper_model({"gpt-4o": "gpt-4o-mini"}, at=0.5)
        middleware = TokenMiddleware(tracker, route=route)
        create = middleware.wrap(client.chat.completions.create)
        lenient = TokenMiddleware(tracker, enforcement="warn")

        create(**ASK)
        create(**ASK)
        create(**ASK)
        with pytest.raises(BudgetExceededError):
            create(**ASK)
        assert middleware.budgets is lenient.budgets is tracker.guard.manager
        assert (day(middleware.budgets).used_tokens, provider.requests) == (54, 3)
        lenient.wrap(client.chat.completions.create)(**ASK)
        assert day(middleware.budgets).used_tokens == 72

    asked = [request.body for request in provider.received]
    assert [body["model"] for body in asked[:3]] == ["gpt-4o", "gpt-4o", "gpt-4o-mini"]
    assert asked[2]["max_tokens"] < asked[1]["max_tokens"] < asked[0]["max_tokens"] < 60
    assert tracker.guard.manager.status().windows[0].held_tokens == 0


def test_long_contexts_are_compressed(
    client: openai.OpenAI,
    provider: LoopbackProvider,
    tracker: ConversationTracker,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Before the call, with the window of its model; short ones are left alone."""
    caplog.set_level("INFO")
    messages = conversation(10)
    monitor = ContextMonitor(max_tokens=3000)
    middleware = TokenMiddleware(tracker, context=monitor)

    middleware.wrap(client.chat.completions.create)(model="gpt-4o", messages=messages)
    middleware.wrap(client.chat.completions.create)(**ASK)

    sent = [request.body["messages"] for request in provider.received]
    assert monitor.inspect(sent[0], model="gpt-4o").tokens <= 2100
    assert sent[0][-1] == messages[-1]
    assert sent[1] == HELLO
    assert "Context compressed" in caplog.text


def test_long_contexts_are_compressed_asynchronously(
    provider: LoopbackProvider, tracker: ConversationTracker
) -> None:
    """A summary may be awaited; its own calls are counted as the compression's."""

    async def main() -> None:
        async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="k") as client:

            async def summarize(old: list[Any]) -> str:
                text = [{"role": "user", "content": f"Summarise {len(old)} messages"}]
                answer = await plain(model="gpt-4o-mini", messages=text)
                return str(answer.choices[0].message.content)

            plain = TokenMiddleware(tracker).wrap(client.chat.completions.create)
            middleware = TokenMiddleware(
                tracker, context=ContextMonitor(max_tokens=3000, summarize=summarize)
            )
            create = middleware.wrap(client.chat.completions.create)
            await create(model="gpt-4o", messages=conversation(10))

    asyncio.run(main())

    first, second = tracker.get_usage_history()
    assert (first.model, first.tool_name) == ("gpt-4o-mini", "context_compression")
    assert (second.model, second.tool_name) == ("gpt-4o", None)
    assert "Summary of the conversation" in provider.received[1].body["messages"][1]["content"]


@pytest.mark.parametrize("budgets_of", ["middleware", "tracker", "both"])
@pytest.mark.parametrize("enforcement", ["track", "enforce"])
@pytest.mark.parametrize("summarizer", ["captured", "wrapped"])
def test_what_a_summary_uses_counts_in_the_budget(
    client: openai.OpenAI,
    provider: LoopbackProvider,
    budgets_of: str,
    enforcement: str,
    summarizer: str,
) -> None:
    """A call that a handler captures or that is wrapped: every budget meets it, and once."""
    ours, theirs = BudgetManager(), BudgetManager()
    for manager in (ours, theirs):
        manager.set_budget(Budget(daily_token_limit=10**6))
    handler = "openai" if summarizer == "captured" else None
    with ConversationTracker(
        budgets=None if budgets_of == "middleware" else theirs, token_handler=handler
    ) as tracker:
        plain = client.chat.completions.create
        if summarizer == "wrapped":
            plain = TokenMiddleware(tracker).wrap(plain)
        middleware = TokenMiddleware(
            tracker,
            budgets=None if budgets_of == "tracker" else ours,
            enforcement=enforcement,
            context=ContextMonitor(
                max_tokens=3000,
                summarize=lambda old: (
                    plain(model="gpt-4o-mini", messages=HELLO).choices[0].message.content
                ),
            ),
        )
        create = middleware.wrap(client.chat.completions.create)

        middleware.wrap(lambda: create(model="gpt-4o", messages=conversation(10)))()

    used = [day(manager).used_tokens for manager in (ours, theirs)]
    assert provider.requests == 2
    assert used == [
        0 if budgets_of == "tracker" else 36,
        0 if budgets_of == "middleware" else 36,
    ]
    assert [day(manager).held_tokens for manager in (ours, theirs)] == [0, 0]


def test_a_summary_that_a_budget_refuses_is_not_made(
    client: openai.OpenAI, provider: LoopbackProvider, manager: BudgetManager
) -> None:
    """No call evades a limit."""
    exhausted(manager)
    with ConversationTracker(token_handler="openai") as tracker:
        summarize = client.chat.completions.create
        monitor = ContextMonitor(
            max_tokens=3000,
            summarize=lambda old: summarize(model="gpt-4o-mini", messages=HELLO),
        )
        middleware = TokenMiddleware(tracker, budgets=manager, context=monitor)
        with pytest.raises(BudgetExceededError):
            middleware.wrap(client.chat.completions.create)(
                model="gpt-4o", messages=conversation(10)
            )

    assert provider.requests == 0


def test_a_cheaper_model_takes_over(
    client: openai.OpenAI,
    provider: LoopbackProvider,
    tracker: ConversationTracker,
    manager: BudgetManager,
) -> None:
    """From a part of the nearest budget on, calls are routed; others keep their model."""
    route = cheaper_model({"gpt-4o": "gpt-4o-mini"}, at=0.5)
    middleware = TokenMiddleware(tracker, budgets=manager, route=route)
    create = middleware.wrap(client.chat.completions.create)

    create(**ASK)
    manager.set_budget(Budget(daily_token_limit=200_000))
    manager.add(120_000)
    create(**ASK)
    create(model="gpt-4.1", messages=HELLO, max_tokens=5)
    middleware.wrap(lambda prompt: "hi", model="gpt-4o")("Hello.")

    assert [r.body["model"] for r in provider.received] == ["gpt-4o", "gpt-4o-mini", "gpt-4.1"]
    assert route(RouteRequest("gpt-4o", None, None)) is None
    unbudgeted = TokenMiddleware(tracker, route=lambda request: "gpt-4o-mini")
    assert unbudgeted.wrap(client.chat.completions.create)(**ASK).model == "gpt-4o-mini"


class Answer:
    """An agent's own answer, with a place for metadata."""

    def __init__(self, metadata: object) -> None:
        self.metadata = metadata


def test_the_answer_tells_what_it_used(middleware: TokenMiddleware, client: openai.OpenAI) -> None:
    """`metadata["token_usage"]`, as the seed reads it; provider's objects are left alone."""

    def read(answer: Answer) -> TokenUsage:
        return TokenUsage(input_tokens=30, output_tokens=15)

    answer = middleware.wrap(lambda text: Answer({}), usage=read, model="gpt-4o")("Hello.")
    plain = TokenMiddleware(middleware.tracker)
    unpriced = plain.wrap(lambda text: Answer({"token_usage": {"x": 1}}), usage=read)("Hello.")
    without = plain.wrap(lambda text: Answer(None), usage=read)("Hello.")
    responses = middleware.wrap(client.responses.create)(model="gpt-4o", input="Hello.")

    assert answer.metadata["token_usage"] == {
        "input_tokens": 30,
        "output_tokens": 15,
        "total_tokens": 45,
        "cost_usd": Decimal("0.000225"),
        "model": "gpt-4o",
    }
    assert unpriced.metadata["token_usage"]["x"] == 1
    assert unpriced.metadata["token_usage"]["cost_usd"] is None
    assert without.metadata is None
    assert "token_usage" not in (responses.metadata or {})


def test_scopes_around_and_on_the_wrapper(
    middleware: TokenMiddleware,
    client: openai.OpenAI,
    tracker: ConversationTracker,
    manager: BudgetManager,
) -> None:
    """The wrapper's fields add to those in force; nothing is left behind."""
    manager.set_budget(Budget(session_token_limit=10**6), scope="user")
    create = middleware.wrap(client.chat.completions.create, agent="writer")

    with tracker.conversation("c1", user_id="alice"):
        create(**ASK)
        list(create(**ASK, stream=True, stream_options={"include_usage": True}))
    create(**ASK)

    scopes = [r.scope for r in tracker.get_usage_history()]
    assert [(s.conversation_id, s.user_id, s.agent) for s in scopes[:2]] == [
        ("c1", "alice", "writer")
    ] * 2
    assert scopes[2].user_id is None
    assert manager.status(user_id="alice", session_id="c1").windows[1].used_tokens == 36
    with pytest.raises(InvalidScopeError):
        middleware.wrap(client.chat.completions.create, planet="earth")


def test_a_call_that_a_handler_captures_is_counted_once(
    provider: LoopbackProvider, manager: BudgetManager
) -> None:
    """Around LangChain with its handler on: one record, one settlement, the handler's."""
    langchain = pytest.importorskip("langchain_openai")
    with ConversationTracker(token_handler="langchain") as tracker:
        middleware = TokenMiddleware(tracker, budgets=manager)
        model = langchain.ChatOpenAI(
            model="gpt-4o", base_url=provider.openai_url, api_key="k", max_retries=0
        )

        answer = middleware.wrap(model.invoke, model="gpt-4o")("Say hello.")
        chunks = list(middleware.wrap(model.stream, model="gpt-4o")("Say hello."))
        records = tracker.get_usage_history()

    assert [r.total_tokens for r in records] == [18, 18]
    assert len(chunks) > 2
    assert day(manager).used_tokens == 36
    assert day(manager).held_tokens == 0
    assert answer.response_metadata["token_usage"]["total_tokens"] == 18
    assert answer.response_metadata["token_usage"]["cost_usd"] == records[0].cost


def test_without_a_handler_langchains_answers_are_read(
    provider: LoopbackProvider, tracker: ConversationTracker, manager: BudgetManager
) -> None:
    """The message says what it used; streamed chunks say it together."""
    langchain = pytest.importorskip("langchain_openai")
    middleware = TokenMiddleware(tracker, budgets=manager)
    model = langchain.ChatOpenAI(
        model="gpt-4o", base_url=provider.openai_url, api_key="k", max_retries=0, stream_usage=True
    )

    middleware.wrap(model.invoke)("Say hello.")
    list(middleware.wrap(model.stream)("Say hello."))

    assert [r.total_tokens for r in tracker.get_usage_history()] == [18, 18]
    assert day(manager).used_tokens == 36


def test_an_agent_with_several_calls_settles_each(
    provider: LoopbackProvider, manager: BudgetManager
) -> None:
    """Around a whole agent: every call that a handler captures counts in the budget."""
    langchain = pytest.importorskip("langchain_openai")
    with ConversationTracker(token_handler="langchain") as tracker:
        model = langchain.ChatOpenAI(
            model="gpt-4o", base_url=provider.openai_url, api_key="k", max_retries=0
        )

        def agent(question: str) -> str:
            first = model.invoke(question)
            return str(model.invoke([first]).content)

        TokenMiddleware(tracker, budgets=manager).wrap(agent, model="gpt-4o")("Say hello.")
        records = tracker.get_usage_history()

    assert len(records) == 2
    assert day(manager).used_tokens == sum(r.total_tokens for r in records) == 36


def test_our_own_trouble_stops_no_call(
    client: openai.OpenAI, tracker: ConversationTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever fails in here is logged; the call is made and its answer returned."""
    monkeypatch.setattr(faults, "_raises", False)

    def broken(*args: object, **kwargs: object) -> Any:
        raise RuntimeError("a bug of ours")

    for name in ("begin", "_read", "_count", "_settle"):
        with monkeypatch.context() as patch:
            patch.setattr(Run, name, broken)
            middleware = TokenMiddleware(tracker, budgets=Budget(daily_token_limit=10**6))
            create = middleware.wrap(client.chat.completions.create)
            assert create(**ASK).choices
            assert list(create(**ASK, stream=True))


def test_what_was_counted_before_is_settled_all_the_same(
    client: openai.OpenAI,
    tracker: ConversationTracker,
    middleware: TokenMiddleware,
    manager: BudgetManager,
) -> None:
    """A response that the tracker knows already is no second record, but was used."""
    answer = client.chat.completions.create(**ASK)
    tracker.record(answer)

    middleware.wrap(lambda messages: answer, model="gpt-4o")(HELLO)

    assert len(tracker.get_usage_history()) == 1
    assert (day(manager).used_tokens, day(manager).held_tokens) == (18, 0)


def test_middleware_from_a_configuration(tmp_path: Any) -> None:
    """A preset, a dictionary, a configuration, or what the environment is."""
    production = TokenMiddleware.from_config(TokenConfig.production())
    from_dict = TokenMiddleware.from_config(TokenConfig.development().to_dict())
    named = TokenMiddleware.from_config("enterprise")
    detected = TokenMiddleware.from_config()
    mine = ConversationTracker()
    given = TokenMiddleware.from_config("minimal", tracker=mine, enforcement="track")

    limits = production.budgets.get_budget()
    assert (limits.daily_token_limit, limits.cost_limit_usd, limits.on_limit) == (
        10**6,
        100,
        "error",
    )
    assert production.context.threshold == 0.85
    assert from_dict.budgets.get_budget().on_limit == "warning"
    assert from_dict.context is None
    assert named.context.threshold == 0.8
    assert detected.budgets is None  # under pytest
    assert given.tracker is mine
    for middleware in (production, from_dict, named, detected, given):
        middleware.tracker.close()
        if middleware.budgets:
            middleware.budgets.close()


def test_a_remote_store_keeps_no_event_loop_waiting(
    tracker: ConversationTracker, manager: BudgetManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reserving over a network happens in a thread."""
    monkeypatch.setattr(manager._store, "is_remote", True)
    middleware = TokenMiddleware(tracker, budgets=manager)

    @middleware.wrap(model="gpt-4o")
    async def ask(prompt: str) -> str:
        return "hello there"

    asyncio.run(ask("Say it."))

    assert day(manager).used_tokens == 5
