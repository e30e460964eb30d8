"""
The samples of LangSwarm's two documents on token tracking, each with its twin.

The documents' text stands in the docstrings. Its agents are LangChain's here, and its pipelines
the middleware.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from agentsight_tokens import (
    Budget,
    BudgetExceededError,
    ContextMonitor,
    ConversationTracker,
    CostEstimator,
    TokenBudgetConfig,
    TokenConfig,
    TokenMiddleware,
    get_global_usage,
)
from agentsight_tokens.testing import LoopbackProvider, Reply

agents = pytest.importorskip("langchain.agents")
langchain_openai = pytest.importorskip("langchain_openai")


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    with LoopbackProvider(keep_alive=False) as provider:
        yield provider


class Agent:
    """What an agent of LangSwarm was: LangChain's, and the way in which it is asked."""

    def __init__(
        self, provider: LoopbackProvider, middleware: TokenMiddleware, model: str = "gpt-4o"
    ) -> None:
        chat = langchain_openai.ChatOpenAI(
            model=model, base_url=provider.openai_url, api_key="k", max_retries=0
        )
        self._agent = agents.create_agent(chat, middleware=[middleware.langchain_agent()])

    def chat(self, text: str) -> Any:
        question = {"messages": [{"role": "user", "content": text}]}
        return self._agent.invoke(question)["messages"][-1]


def test_quick_enable(provider: LoopbackProvider, tracker: ConversationTracker) -> None:
    """
    Tracking is enabled by the middleware.

        agent = await (AgentBuilder("analyst")
            .openai()
            .model("gpt-4o")
            .cost_tracking(True)  # Enable tracking
            .build())
        await agent.chat("Analyze this report...")
        stats = await agent.get_usage_stats()
        print(f"Total Cost: ${stats.total_cost:.4f}")
        print(f"Tokens Used: {stats.total_tokens}")
    """
    agent = Agent(provider, TokenMiddleware(tracker))
    provider.enqueue(Reply(input_tokens=1000, output_tokens=500))

    agent.chat("Analyze this report...")
    stats = tracker.get_usage()

    assert f"Total Cost: ${stats.total_cost:.4f}" == "Total Cost: $0.0075"
    assert f"Tokens Used: {stats.total_tokens}" == "Tokens Used: 1500"


@pytest.mark.parametrize("limits", [{"cost_limit_usd": 5.00}, {"daily_token_limit": 100_000}])
@pytest.mark.parametrize("on_limit", ["error", "warning"])
def test_budget_enforcement(
    provider: LoopbackProvider, tracker: ConversationTracker, limits: dict[str, Any], on_limit: str
) -> None:
    """
    A daily limit that raises, or only warns.

        agent = await (AgentBuilder("bounded_agent")
            .openai()
            .model("gpt-4o")
            .cost_tracking(enabled=True)
            # Budget Configuration
            .cost_limit_daily(5.00)      # $5.00 USD per day
            .token_limit_daily(100_000)  # 100k tokens per day
            # Actions on limit reached
            .on_limit_reached("error")   # or "warning"
            .build())

    If a limit is exceeded, the agent will raise a `BudgetExceededError`.
    """
    middleware = TokenMiddleware(tracker, budgets=Budget(on_limit=on_limit, **limits))
    agent = Agent(provider, middleware)
    provider.enqueue(Reply(input_tokens=900_000, output_tokens=290_000))

    agent.chat("Analyze this report...")
    assert tracker.get_cost() == Decimal("5.15")
    if on_limit == "error":
        with pytest.raises(BudgetExceededError, match="day"):
            agent.chat("And this one...")
        assert provider.requests == 1
    else:
        agent.chat("And this one...")
        assert provider.requests == 2


def test_per_session_stats(provider: LoopbackProvider, tracker: ConversationTracker) -> None:
    """
    A session's own usage.

        response = await agent.chat("Hello", session_id="session_123")
        session_stats = await agent.get_session_usage("session_123")
        print(f"Session Cost: ${session_stats.cost}")
    """
    agent = Agent(provider, TokenMiddleware(tracker))
    provider.enqueue(Reply(input_tokens=1000, output_tokens=500))

    with tracker.conversation("session_123"):
        agent.chat("Hello")
    agent.chat("Outside of it")
    session_stats = tracker.get_session_usage("session_123")

    assert f"Session Cost: ${session_stats.cost}" == "Session Cost: $0.0075"
    assert session_stats.request_count == 1


def test_global_aggregation(provider: LoopbackProvider, tracker: ConversationTracker) -> None:
    """
    The usage of all agents of the process.

        from langswarm.core.observability import get_global_usage
        global_stats = get_global_usage()
        for model, usage in global_stats.by_model.items():
            print(f"{model}: {usage.cost:.4f}")
    """
    with ConversationTracker() as other:
        provider.enqueue(Reply(input_tokens=1000, output_tokens=500), Reply(input_tokens=10_000))
        Agent(provider, TokenMiddleware(tracker)).chat("Hello")
        Agent(provider, TokenMiddleware(other), "gpt-4o-mini").chat("Hello")
        global_stats = get_global_usage()

    lines = [f"{model}: {usage.cost:.4f}" for model, usage in global_stats.by_model.items()]
    assert sorted(lines) == ["gpt-4o-mini: 0.0015", "gpt-4o: 0.0075"]


def test_context_management(provider: LoopbackProvider, tracker: ConversationTracker) -> None:
    """
    A context that is compressed when it gets full.

        agent = await (AgentBuilder("memory_agent")
            .openai()
            .memory_enabled(True)
            .max_tokens(4096)
            # Auto-summarize when context gets full
            .auto_compress_context(True)
            .build())
    """
    checkpoint = pytest.importorskip("langgraph.checkpoint.memory")
    chat = langchain_openai.ChatOpenAI(
        model="gpt-4o", base_url=provider.openai_url, api_key="k", max_retries=0
    )
    monitor = ContextMonitor("gpt-4o", max_tokens=4096, summarize=chat)
    agent = agents.create_agent(
        chat,
        middleware=[TokenMiddleware(tracker, context=monitor).langchain_agent()],
        checkpointer=checkpoint.InMemorySaver(),  # the memory
    )
    thread = {"configurable": {"thread_id": "t1"}}

    for number in range(12):
        question = f"Question {number}: " + "and why is that so? " * 100
        agent.invoke({"messages": [{"role": "user", "content": question}]}, thread)

    sent = [request.body["messages"] for request in provider.received]
    assert len(sent) > 12  # and summaries
    assert all(monitor.inspect(messages).tokens < 4096 for messages in sent)
    assert any("Summary of the conversation" in str(m[0]["content"]) for m in sent)
    assert len(agent.get_state(thread).values["messages"]) < 24


@pytest.mark.parametrize(
    "model",
    [
        "gpt-4o",
        "gpt-4-turbo",
        "gpt-3.5-turbo",
        "claude-3-5-sonnet",
        "claude-3-opus",
        "claude-3-5-haiku",
        "gemini-1.5-pro",
        "gemini-1.5-flash",
        "command-r-plus",
        "mistral-large",
        "mistral-small",
    ],
)
def test_supported_providers(model: str) -> None:
    """
    Every model that the document names has a price.

        - **OpenAI**: GPT-4o, GPT-4-Turbo, GPT-3.5
        - **Anthropic**: Claude 3.5 Sonnet, Opus, Haiku
        - **Google**: Gemini 1.5 Pro, Flash
        - **Cohere**: Command R+
        - **Mistral**: Mistral Large, Small
    """
    assert CostEstimator().estimate(1000, 1000, model).total_cost > 0


def test_basic_tracking(provider: LoopbackProvider, tracker: ConversationTracker) -> None:
    """
    The answer says what it used.

        pipeline = create_enhanced_pipeline(enable_token_tracking=True)
        agent.use_pipeline(pipeline)
        # Token usage is now automatically tracked
        response = await agent.chat("Hello, world!")
        print(f"Tokens used: {response.metadata['token_usage']}")
    """
    agent = Agent(provider, TokenMiddleware(tracker))

    response = agent.chat("Hello, world!")

    usage = response.response_metadata["token_usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (11, 7, 18)
    assert usage["cost_usd"] == tracker.get_cost()


def test_budget_config(provider: LoopbackProvider, tracker: ConversationTracker) -> None:
    """
    A budget under the document's own keywords.

        budget = TokenBudgetConfig(
            daily_token_limit=100000,
            cost_limit_usd=50.0,
            enforce_limits=True
        )
        pipeline = create_enhanced_pipeline(
            enable_token_tracking=True,
            enable_budget_enforcement=True
        )
    """
    budget = TokenBudgetConfig(daily_token_limit=100000, cost_limit_usd=50.0, enforce_limits=True)
    middleware = TokenMiddleware(tracker, budgets=budget)
    provider.enqueue(Reply(input_tokens=99_990, output_tokens=5))
    agent = Agent(provider, middleware)

    agent.chat("Hello!")
    with pytest.raises(BudgetExceededError):
        agent.chat("Hello again!")

    assert provider.requests == 1
    assert middleware.budgets.status().windows[0].used_tokens == 99_995


def test_production_configuration(provider: LoopbackProvider) -> None:
    """
    Production settings, through a dictionary.

        config = get_production_config()
        pipeline = create_pipeline_from_config(config.to_dict())
        # Features enabled:
        # - Token tracking and analytics
        # - Budget enforcement with alerts
        # - Context monitoring and compression
        # - Performance optimization
    """
    config = TokenConfig.production()
    middleware = TokenMiddleware.from_config(config.to_dict())
    agent = Agent(provider, middleware)

    with middleware.tracker, middleware.tracker.conversation("c1"):
        for _ in range(2):
            provider.enqueue(Reply(input_tokens=20_000, output_tokens=4_000))
            agent.chat("Hello!")
        with pytest.raises(BudgetExceededError, match="50,000 tokens per session"):
            agent.chat("Hello!")  # the session's 50,000 tokens
        assert middleware.tracker.get_usage().total_tokens == 48_000
    middleware.budgets.close()

    assert provider.requests == 2
    assert middleware.context.threshold == 0.85


def test_new_and_existing_projects(
    provider: LoopbackProvider, tracker: ConversationTracker
) -> None:
    """
    Everything at once, or tracking first.

        pipeline = create_production_pipeline()
        # Phase 1: Add tracking only
        pipeline = create_enhanced_pipeline(
            enable_token_tracking=True,
            enable_budget_enforcement=False
        )
    """
    new = TokenMiddleware.from_config("production", tracker=tracker)
    budget = Budget(daily_token_limit=10)
    existing = TokenMiddleware(tracker, budgets=budget, enforcement="track")

    Agent(provider, existing).chat("Hello!")

    assert new.budgets.get_budget().is_hard
    assert existing.budgets.status().windows[0].used_tokens == 18  # counted, not stopped
    new.budgets.close()


def test_configuration_for_your_environment() -> None:
    """
    Three environments.

        config = get_development_config()  # Low limits, no enforcement
        config = get_production_config()   # Full features, enforcement
        config = get_enterprise_config()   # High-volume optimization
    """
    development = TokenConfig.development()
    production = TokenConfig.production()
    enterprise = TokenConfig.enterprise()

    assert (development.daily_token_limit, development.on_limit) == (100_000, "warning")
    assert (production.daily_token_limit, production.on_limit) == (1_000_000, "error")
    assert (enterprise.daily_token_limit, enterprise.on_limit) == (10_000_000, "error")
    assert (production.compress_context, enterprise.compression_threshold) == (True, 0.8)
