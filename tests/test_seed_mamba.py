"""
The samples of Mamba Agents' document on token tracking, each with its twin.

The document's text stands in the docstrings. Its agent is the program's own function around a
model here, which the OpenAI handler counts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest

from agentsight_tokens import (
    ConversationTracker,
    CostEstimator,
    TokenCounter,
    TokenMiddleware,
    UsageTracker,
)
from agentsight_tokens.testing import LoopbackProvider, Reply

RunSync = Callable[..., str]


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    with LoopbackProvider(keep_alive=False) as provider:
        yield provider


@pytest.fixture
def tracker() -> Iterator[ConversationTracker]:
    with ConversationTracker(token_handler="openai") as tracker:
        yield tracker


@pytest.fixture
def run_sync(provider: LoopbackProvider) -> Iterator[RunSync]:
    """What `agent.run_sync` was: a function that asks a model."""
    with openai.OpenAI(base_url=provider.openai_url, api_key="k", max_retries=0) as client:

        def run_sync(query: str, model: str = "gpt-4o") -> str:
            messages = [{"role": "user", "content": query}]
            answer = client.chat.completions.create(model=model, messages=messages)
            return str(answer.choices[0].message.content)

        yield run_sync


def test_built_in_tracking(
    tracker: ConversationTracker, run_sync: RunSync, provider: LoopbackProvider
) -> None:
    """
    Token tracking is always enabled.

        agent = Agent("gpt-4o")
        agent.run_sync("Hello!")
        agent.run_sync("Tell me about Python")
        agent.run_sync("What are decorators?")
        usage = agent.get_usage()
        print(f"Total tokens: {usage.total_tokens}")
        print(f"Prompt tokens: {usage.prompt_tokens}")
        print(f"Completion tokens: {usage.completion_tokens}")
        print(f"Requests: {usage.request_count}")
    """
    run_sync("Hello!")
    run_sync("Tell me about Python")
    run_sync("What are decorators?")
    usage = tracker.get_usage()

    assert f"Total tokens: {usage.total_tokens}" == "Total tokens: 54"
    assert f"Prompt tokens: {usage.prompt_tokens}" == "Prompt tokens: 33"
    assert f"Completion tokens: {usage.completion_tokens}" == "Completion tokens: 21"
    assert f"Requests: {usage.request_count}" == "Requests: 3"
    assert usage.total_tokens == provider.billed().total_tokens


def test_cost_estimation(
    tracker: ConversationTracker, run_sync: RunSync, provider: LoopbackProvider
) -> None:
    """
    The cost of what was used.

        cost = agent.get_cost()
        print(f"Estimated cost: ${cost:.4f}")
        breakdown = agent.get_cost_breakdown()
        print(f"Prompt cost: ${breakdown.prompt_cost:.4f}")
        print(f"Completion cost: ${breakdown.completion_cost:.4f}")
        print(f"Total cost: ${breakdown.total_cost:.4f}")
        print(f"Model: {breakdown.model}")
    """
    provider.enqueue(Reply(input_tokens=1000, output_tokens=500))
    run_sync("Hello!")
    cost = tracker.get_cost()
    breakdown = tracker.get_cost_breakdown()

    assert f"Estimated cost: ${cost:.4f}" == "Estimated cost: $0.0075"
    assert f"Prompt cost: ${breakdown.prompt_cost:.4f}" == "Prompt cost: $0.0025"
    assert f"Completion cost: ${breakdown.completion_cost:.4f}" == "Completion cost: $0.0050"
    assert f"Total cost: ${breakdown.total_cost:.4f}" == "Total cost: $0.0075"
    assert f"Model: {breakdown.model}" == "Model: gpt-4o"


@pytest.mark.parametrize(
    ("model", "prompt", "completion"),
    [
        ("gpt-4o", "2.50", "10.00"),
        ("gpt-4o-mini", "0.15", "0.60"),
        ("gpt-4-turbo", "10.00", "30.00"),
        ("gpt-3.5-turbo", "0.50", "1.50"),
        ("claude-3-5-sonnet", "3.00", "15.00"),
        ("claude-3-opus", "15.00", "75.00"),
        ("ollama/llama3", "0.00", "0.00"),
    ],
)
def test_default_pricing(model: str, prompt: str, completion: str) -> None:
    """
    The document's table, per million tokens.

        | gpt-4o | $2.50 | $10.00 |  ...  | Local models | $0.00 | $0.00 |
    """
    cost = CostEstimator().estimate(1_000_000, 1_000_000, model)

    assert (f"{cost.prompt_cost:.2f}", f"{cost.completion_cost:.2f}") == (prompt, completion)


def test_custom_cost_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """
    By settings, and by the environment under its old name.

        settings = AgentSettings(cost_rates={"my-custom-model": 0.001})  # Per 1000 tokens
        MAMBA_COST_RATES__MY_MODEL=0.001
    """
    monkeypatch.setenv("MAMBA_COST_RATES__MY_MODEL", "0.001")

    by_settings = CostEstimator(cost_rates={"my-custom-model": 0.001})
    with ConversationTracker() as tracker:
        tracker.track_token_usage(1000, 1000, model="my-model")
        assert f"{tracker.get_cost():.3f}" == "0.002"

    assert f"{by_settings.estimate(1000, 1000, 'my-custom-model').total_cost:.3f}" == "0.002"


def test_usage_history(tracker: ConversationTracker, run_sync: RunSync) -> None:
    """
    Per-request usage details.

        for record in agent.get_usage_history():
            print(f"Time: {record.timestamp}")
            print(f"Prompt tokens: {record.prompt_tokens}")
            print(f"Completion tokens: {record.completion_tokens}")
            print(f"Total: {record.total_tokens}")
            print(f"Model: {record.model}")
            if record.tool_name:
                print(f"Tool: {record.tool_name}")
    """
    run_sync("Hello!")
    tracker.track_token_usage(5, 5, model="gpt-4o", tool_name="search")

    first, second = tracker.get_usage_history()

    assert first.timestamp.tzinfo is not None
    assert (first.prompt_tokens, first.completion_tokens, first.total_tokens) == (11, 7, 18)
    assert (first.model, first.tool_name) == ("gpt-4o", None)
    assert second.tool_name == "search"


def test_token_counting(tracker: ConversationTracker, run_sync: RunSync) -> None:
    """
    Of a text, and of the current context.

        count = agent.get_token_count("Hello, how are you today?")
        context_tokens = agent.get_token_count()  # No argument = current context
    """
    run_sync("Hello!")

    assert tracker.get_token_count("Hello, how are you today?") == 7
    assert tracker.get_token_count() == 18


def test_reset_tracking(tracker: ConversationTracker, run_sync: RunSync) -> None:
    """
    Two resets.

        # Reset usage tracking (keeps context)
        agent.reset_tracking()
        # Reset everything (context + tracking)
        agent.reset_all()
    """
    run_sync("Hello!")

    tracker.reset_tracking()
    assert (tracker.get_usage().request_count, tracker.get_token_count()) == (0, 18)
    tracker.reset_all()
    assert tracker.get_token_count() == 0


def test_token_counter() -> None:
    """
    Stand-alone counting.

        from mamba_agents.tokens import TokenCounter
        counter = TokenCounter(encoding="cl100k_base")
        count = counter.count("Hello, world!")
        messages = [
            {"role": "user", "content": "Hello"},
            {"role": "assistant", "content": "Hi there!"},
        ]
        count = counter.count_messages(messages)
    """
    counter = TokenCounter(encoding="cl100k_base")
    messages = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Hi there!"},
    ]

    assert counter.count("Hello, world!") == 4
    # 3 a message, their roles and texts (1 + 1 and 1 + 3), 3 for the reply
    assert counter.count_messages(messages) == 15


def test_usage_tracker() -> None:
    """
    Stand-alone tracking.

        tracker = UsageTracker()
        tracker.record_usage(input_tokens=100, output_tokens=50, model="gpt-4o")
        summary = tracker.get_summary()
        print(f"Total: {summary.total_tokens}")
        history = tracker.get_history()
        tracker.reset()
    """
    with UsageTracker() as tracker:
        tracker.record_usage(input_tokens=100, output_tokens=50, model="gpt-4o")
        summary = tracker.get_summary()
        history = tracker.get_history()
        tracker.reset()

        assert f"Total: {summary.total_tokens}" == "Total: 150"
        assert [record.model for record in history] == ["gpt-4o"]
        assert tracker.get_history() == []


def test_cost_estimator() -> None:
    """
    Stand-alone pricing.

        estimator = CostEstimator()
        cost = estimator.estimate(input_tokens=1000, output_tokens=500, model="gpt-4o")
        print(f"Cost: ${cost.total_cost:.4f}")
        rate = estimator.get_rate("gpt-4o")
        estimator.set_rate("my-model", 0.002)
        all_rates = estimator.get_all_rates()
    """
    estimator = CostEstimator()
    cost = estimator.estimate(input_tokens=1000, output_tokens=500, model="gpt-4o")
    rate = estimator.get_rate("gpt-4o")
    estimator.set_rate("my-model", 0.002)

    assert f"Cost: ${cost.total_cost:.4f}" == "Cost: $0.0075"
    assert (float(rate.input), float(rate.output)) == (2.5, 10)
    assert float(estimator.get_rate("my-model")) == 0.002
    assert {"my-model", "gpt-4o"} <= estimator.get_all_rates().keys()


def test_workflows(tracker: ConversationTracker, run_sync: RunSync) -> None:
    """
    A workflow is a block whose calls are attributed to it.

        workflow = ReActWorkflow(agent=agent)
        result = await workflow.run("Research Python best practices")
        usage = workflow.get_token_usage()
        cost = workflow.get_cost()
        print(f"Workflow cost: ${cost:.4f}")
    """
    run_sync("Before it.")

    async def workflow(query: str) -> None:
        with tracker.attribution(feature="research"):
            for _ in range(2):
                await asyncio.to_thread(run_sync, query)

    asyncio.run(workflow("Research Python best practices"))
    usage = tracker.get_usage(feature="research")

    assert (usage.request_count, usage.total_tokens) == (2, 36)
    assert f"Workflow cost: ${usage.cost:.4f}" == "Workflow cost: $0.0002"


def test_logging_usage(
    tracker: ConversationTracker,
    run_sync: RunSync,
    provider: LoopbackProvider,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """
    Usage is logged automatically.

        logging.basicConfig(level=logging.INFO)
        agent.run_sync("Hello")
        # INFO: Request completed: 45 tokens, $0.0001
    """
    caplog.set_level(logging.INFO)
    provider.enqueue(Reply(input_tokens=41, output_tokens=4))

    run_sync("Hello")

    messages = [(r.levelname, r.getMessage()) for r in caplog.records]
    assert ("INFO", "Request completed: 45 tokens, $0.0001") in messages


def test_usage_callbacks(tracker: ConversationTracker, run_sync: RunSync) -> None:
    """
    Usage in real time.

        def log_usage(state, step):
            usage = state.context.get("usage", {})
            print(f"Step {step.step_number} used {usage.get('tokens', 0)} tokens")
        hooks = WorkflowHooks(on_step_complete=log_usage)
    """
    printed = []

    def log_usage(state: Any, step: Any) -> None:
        usage = state.context.get("usage", {})
        printed.append(f"Step {step.step_number} used {usage.get('tokens', 0)} tokens")

    tracker.on_step_complete(log_usage)
    run_sync("Hello!")
    run_sync("Hello again!")

    assert printed == ["Step 1 used 18 tokens", "Step 2 used 18 tokens"]


def test_monitor_costs_in_production(
    tracker: ConversationTracker,
    run_sync: RunSync,
    provider: LoopbackProvider,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """
    The first best practice.

        result = agent.run_sync(query)
        cost = agent.get_cost()
        if cost > budget_limit:
            logger.warning(f"Cost ${cost:.4f} exceeded budget ${budget_limit}")
    """
    budget_limit = 0.005
    provider.enqueue(Reply(input_tokens=1000, output_tokens=500))

    run_sync("Hello!")
    cost = tracker.get_cost()
    if cost > budget_limit:
        logging.getLogger("program").warning(
            "%s", f"Cost ${cost:.4f} exceeded budget ${budget_limit}"
        )

    assert "Cost $0.0075 exceeded budget $0.005" in caplog.text


def test_reset_tracking_periodically(tracker: ConversationTracker, run_sync: RunSync) -> None:
    """
    The second best practice.

        def handle_session(user_id):
            agent.reset_tracking()
            # Process requests...
            usage = agent.get_usage()
            log_user_usage(user_id, usage)
    """
    logged = {}

    def handle_session(user_id: str, requests: int) -> None:
        tracker.reset_tracking()
        for _ in range(requests):
            run_sync("Hello!")
        logged[user_id] = tracker.get_usage().total_tokens

    handle_session("alice", 1)
    handle_session("bob", 2)

    assert logged == {"alice": 18, "bob": 36}


def test_cheaper_models_for_high_volume(
    tracker: ConversationTracker, run_sync: RunSync, provider: LoopbackProvider
) -> None:
    """
    The third best practice.

        if is_simple_task(query):
            agent = Agent("gpt-4o-mini")  # Cheaper
        else:
            agent = Agent("gpt-4o")  # More capable
    """
    middleware = TokenMiddleware(
        tracker, route=lambda request: "gpt-4o-mini" if len(request.prompt) < 20 else None
    )

    def ask(prompt: str, *, model: str) -> str:
        return run_sync(prompt, model)

    routed = middleware.wrap(ask)
    routed("Hi.", model="gpt-4o")
    routed("Prove the theorem of Fermat.", model="gpt-4o")

    assert [r.body["model"] for r in provider.received] == ["gpt-4o-mini", "gpt-4o"]
    assert tracker.get_usage().by_model.keys() == {"gpt-4o-mini", "gpt-4o"}
