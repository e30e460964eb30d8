"""The middleware of LangChain's agents, with a real agent and a provider on loopback."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import Iterator
from typing import Any

import pytest

from agentsight_tokens import (
    Budget,
    BudgetExceededError,
    BudgetManager,
    ContextMonitor,
    ConversationTracker,
    TokenMiddleware,
    cheaper_model,
)
from agentsight_tokens.testing import LoopbackProvider, Reply, ToolCall

agents = pytest.importorskip("langchain.agents")
langchain_openai = pytest.importorskip("langchain_openai")
messages = pytest.importorskip("langchain_core.messages")
QUESTION = {"messages": [{"role": "user", "content": "What is the weather?"}]}


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    with LoopbackProvider(keep_alive=False) as provider:
        yield provider


@pytest.fixture
def manager() -> BudgetManager:
    manager = BudgetManager()
    manager.set_budget(Budget(daily_token_limit=100_000, cost_limit_usd=5))
    return manager


def weather(place: str) -> str:
    """Tell the weather."""
    return "sunny in " + place


def agent(provider: LoopbackProvider, middleware: TokenMiddleware, **model: object) -> Any:
    chat = langchain_openai.ChatOpenAI(
        model="gpt-4o", base_url=provider.openai_url, api_key="k", max_retries=0, **model
    )
    return agents.create_agent(
        chat, tools=[weather], system_prompt="Be brief.", middleware=[middleware.langchain_agent()]
    )


@pytest.mark.parametrize("handler", ["", "langchain"])
@pytest.mark.parametrize("is_async", [False, True])
def test_every_call_of_an_agent_is_held_and_settled(
    provider: LoopbackProvider, manager: BudgetManager, handler: str, is_async: bool
) -> None:
    """With LangChain's handler on or off: as many records as calls, each settled once."""
    provider.enqueue(
        Reply(tool_calls=(ToolCall("weather", {"place": "Rome"}),)), Reply(text="Sunny.")
    )
    with ConversationTracker(token_handler=handler or None) as tracker:
        running = agent(provider, TokenMiddleware(tracker, budgets=manager))

        answer = asyncio.run(running.ainvoke(QUESTION)) if is_async else running.invoke(QUESTION)
        records = tracker.get_usage_history()

    assert answer["messages"][-1].content == "Sunny."
    assert len(records) == provider.requests == 2
    (window,) = manager.status()
    assert (
        window.used_tokens == sum(r.total_tokens for r in records) == provider.billed().total_tokens
    )
    assert window.held_tokens == 0
    assert answer["messages"][-1].response_metadata["token_usage"]["cost_usd"] == records[1].cost


@pytest.mark.parametrize("is_async", [False, True])
def test_a_spent_budget_stops_an_agent(
    provider: LoopbackProvider, tracker: ConversationTracker, manager: BudgetManager, is_async: bool
) -> None:
    """The provider receives nothing, and the error is the user's."""
    manager.set_budget(Budget(daily_token_limit=10))
    running = agent(provider, TokenMiddleware(tracker, budgets=manager))

    with pytest.raises(BudgetExceededError):
        asyncio.run(running.ainvoke(QUESTION)) if is_async else running.invoke(QUESTION)

    assert provider.requests == 0
    assert manager.status().windows[0].held_tokens == 0


def test_a_budget_that_clamps_and_a_cheaper_model(
    provider: LoopbackProvider, tracker: ConversationTracker, manager: BudgetManager
) -> None:
    """The request goes out with what is left, to the model that the route chose."""
    manager.set_budget(Budget(daily_token_limit=500, clamp=True))
    manager.add(200)
    route = cheaper_model({"gpt-4o": "gpt-4o-mini"}, at=0.3)
    running = agent(provider, TokenMiddleware(tracker, budgets=manager, route=route))

    running.invoke(QUESTION)

    (request,) = provider.received
    assert request.body["model"] == "gpt-4o-mini"
    assert 100 < (request.body.get("max_tokens") or request.body["max_completion_tokens"]) < 300
    assert tracker.get_usage_history()[0].model == "gpt-4o-mini"


def history(turns: int) -> list[Any]:
    said: list[Any] = []
    for number in range(turns):
        said += [
            messages.HumanMessage(f"Question {number}. " + "Why? " * 50, id=f"h{number}"),
            messages.AIMessage("Because. " * 60, id=f"a{number}"),
        ]
    return [*said, messages.HumanMessage("And now?", id="last")]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_long_history_is_compressed(
    provider: LoopbackProvider, tracker: ConversationTracker, is_async: bool
) -> None:
    """What is sent fits; from the second call on the agent's own messages are shorter too."""
    summaries: list[int] = []

    def summarize(old: list[Any]) -> str:
        summaries.append(len(old))
        return "They asked why."

    monitor = ContextMonitor(max_tokens=1500, summarize=summarize)
    running = agent(provider, TokenMiddleware(tracker, context=monitor))
    provider.enqueue(
        Reply(tool_calls=(ToolCall("weather", {"place": "Rome"}),)), Reply(text="Sunny.")
    )

    state = {"messages": history(20)}
    answer = asyncio.run(running.ainvoke(state)) if is_async else running.invoke(state)

    sent = [request.body["messages"] for request in provider.received]
    assert all(monitor.inspect(each, model="gpt-4o").tokens < 1300 for each in sent)
    assert [each[0]["content"] for each in sent] == ["Be brief."] * 2
    assert "They asked why." in sent[0][1]["content"]
    assert len(answer["messages"]) < 30
    assert answer["messages"][-1].content == "Sunny."
    assert len(summaries) <= 2


def test_a_known_model_compresses_before_the_first_call(
    provider: LoopbackProvider, tracker: ConversationTracker
) -> None:
    """A monitor that knows its window needs no call to tell it; a summary is made once."""
    summaries: list[int] = []

    def summarize(old: list[Any]) -> str:
        summaries.append(len(old))
        return "They asked why."

    monitor = ContextMonitor("gpt-4o", max_tokens=1500, summarize=summarize)
    running = agent(provider, TokenMiddleware(tracker, context=monitor))
    provider.enqueue(
        Reply(tool_calls=(ToolCall("weather", {"place": "Rome"}),)), Reply(text="Sunny.")
    )

    running.invoke({"messages": history(20)})

    assert len(summaries) == 1


@pytest.mark.parametrize("is_async", [False, True])
def test_a_summary_is_no_part_of_what_an_agent_streams(
    provider: LoopbackProvider, tracker: ConversationTracker, is_async: bool
) -> None:
    """A model that summarises inside the agent's graph says nothing to its user."""
    provider.respond = lambda request: (
        Reply(text="They asked why.")
        if "Summarise the following" in str(request.body)
        else Reply(text="Sunny.")
    )
    summarize = langchain_openai.ChatOpenAI(
        model="gpt-4o-mini", base_url=provider.openai_url, api_key="k", max_retries=0
    )
    monitor = ContextMonitor("gpt-4o", max_tokens=1500, summarize=summarize)
    running = agent(provider, TokenMiddleware(tracker, context=monitor))
    state = {"messages": history(20)}

    async def collect() -> list[str]:
        stream = running.astream(state, stream_mode="messages")
        return [str(chunk.content) async for chunk, _ in stream if chunk.type != "human"]

    if is_async:
        said = asyncio.run(collect())
    else:
        stream = running.stream(state, stream_mode="messages")
        said = [str(chunk.content) for chunk, _ in stream if chunk.type != "human"]

    assert provider.requests == 2
    assert "Sunny." in "".join(said)
    assert "They asked" not in "".join(said)


def test_short_histories_are_left_alone(
    provider: LoopbackProvider, tracker: ConversationTracker
) -> None:
    """Nothing is changed that need not be; tools may be dicts."""
    middleware = TokenMiddleware(tracker, context=ContextMonitor("gpt-4o"))
    chat = langchain_openai.ChatOpenAI(
        model="gpt-4o", base_url=provider.openai_url, api_key="k", max_retries=0
    )
    running = agents.create_agent(
        chat, tools=[{"type": "web_search"}], middleware=[middleware.langchain_agent()]
    )

    answer = asyncio.run(running.ainvoke(QUESTION))

    assert [m.type for m in answer["messages"]] == ["human", "ai"]


def test_what_a_provider_refuses_ends_the_agents_call(
    provider: LoopbackProvider, tracker: ConversationTracker, manager: BudgetManager
) -> None:
    """The error is the user's, the hold is given back."""
    running = agent(provider, TokenMiddleware(tracker, budgets=manager))
    provider.enqueue(Reply(status=400), Reply(status=400))

    with pytest.raises(Exception, match="400"):
        running.invoke(QUESTION)
    with pytest.raises(Exception, match="400"):
        asyncio.run(running.ainvoke(QUESTION))

    assert [r.status for r in tracker.get_usage_history()] == ["error", "error"]
    assert manager.status().windows[0].held_tokens == 0


def test_without_langchain_the_way_out_is_named(
    tracker: ConversationTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error says what to install."""
    real = builtins.__import__

    def missing(name: str, *args: Any) -> Any:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("agentsight_tokens.middleware.agent.import_module", missing)

    with pytest.raises(ImportError, match="pip install langchain"):
        TokenMiddleware(tracker).langchain_agent()
    assert builtins.__import__ is real
