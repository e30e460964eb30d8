"""
The samples of the skill "token-cost-tracking", each with its twin.

The skill's text stands in the docstrings. Where it sets attributes by hand, they are read here
from the spans that the real SDK of OpenTelemetry exports.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import openai
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agentsight_tokens import (
    BUDGET_THRESHOLDS,
    MODEL_PRICING,
    ConversationTracker,
    CostEstimator,
    TokenConfig,
    TokenMiddleware,
    calculate_cost,
    check_budget,
    span_attributes,
)
from agentsight_tokens.testing import LoopbackProvider, Reply
from tests.faults.backend import running_backend
from tests.test_destinations_otlp import spans

SONNET = {"model": "claude-3-5-sonnet", "messages": [{"role": "user", "content": "Analyse it."}]}


class Traces:
    """The skill's tracer, and the spans that it has exported."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("agent")

    def attributes(self) -> Mapping[str, Any]:
        (span,) = self._exporter.get_finished_spans()
        return span.attributes or {}


@pytest.fixture
def traces() -> Iterator[Traces]:
    traces = Traces()
    yield traces
    traces.provider.shutdown()


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    with LoopbackProvider(keep_alive=False) as provider:
        yield provider


@pytest.fixture
def create(provider: LoopbackProvider) -> Iterator[Any]:
    with openai.OpenAI(base_url=provider.openai_url, api_key="k", max_retries=0) as client:
        yield client.chat.completions.create


def test_essential_attributes(
    create: Any, provider: LoopbackProvider, traces: Traces, tracker: ConversationTracker
) -> None:
    """
    A call's tokens, cost and attribution.

        span.set_attribute("llm.tokens.input", 1500)
        span.set_attribute("llm.tokens.output", 350)
        span.set_attribute("llm.tokens.total", 1850)
        span.set_attribute("llm.cost_usd", 0.025)
        span.set_attribute("cost.feature", "document_analysis")
        span.set_attribute("cost.agent", "researcher")
        span.set_attribute("cost.user_id", "user_abc")  # Hashed
        span.set_attribute("cost.org_id", "org_123")
    """
    provider.enqueue(Reply(input_tokens=1500, output_tokens=350))
    ask = TokenMiddleware(tracker, spans="seed").wrap(
        create,
        feature="document_analysis",
        agent="researcher",
        user_id="user_abc",
        org_id="org_123",
    )

    with traces.tracer.start_as_current_span("llm_call"):
        ask(**SONNET)

    attributes = traces.attributes()
    assert attributes["llm.tokens.input"] == 1500
    assert attributes["llm.tokens.output"] == 350
    assert attributes["llm.tokens.total"] == 1850
    assert attributes["llm.cost_usd"] == 0.00975  # of Claude 3.5 Sonnet
    assert attributes["cost.feature"] == "document_analysis"
    assert attributes["cost.agent"] == "researcher"
    assert attributes["cost.user_id"] == "9cfc09aa76ff341a02ddecbf0bb1bff2"
    assert attributes["cost.org_id"] == "org_123"


@pytest.mark.parametrize(
    ("model", "input_usd", "output_usd"),
    [
        ("claude-3-opus", 15.00, 75.00),
        ("claude-3-5-sonnet", 3.00, 15.00),
        ("claude-3-5-haiku", 0.80, 4.00),
        ("claude-3-haiku", 0.25, 1.25),
        ("gpt-4-turbo", 10.00, 30.00),
        ("gpt-4o", 2.50, 10.00),
        ("gpt-4o-mini", 0.15, 0.60),
        ("gpt-3.5-turbo", 0.50, 1.50),
        ("text-embedding-3-large", 0.13, 0),
        ("text-embedding-3-small", 0.02, 0),
        ("text-embedding-ada-002", 0.10, 0),
    ],
)
def test_the_price_table(model: str, input_usd: float, output_usd: float) -> None:
    """
    The same names and figures, as a view of the dated catalog.

        MODEL_PRICING = {
            "claude-3-opus": {"input": 15.00, "output": 75.00},
            ...
            "text-embedding-ada-002": {"input": 0.10, "output": 0},
        }
    """
    assert MODEL_PRICING[model] == {"input": input_usd, "output": output_usd}


def test_cost_calculation() -> None:
    """
    The formula, its discount and its rounding.

        def calculate_cost(
            model: str,
            input_tokens: int,
            output_tokens: int,
            cached_tokens: int = 0,
            cache_discount: float = 0.9  # 90% discount for cached
        ) -> float:
    """
    plain = calculate_cost("claude-3-5-sonnet", 1500, 350)
    discounted = calculate_cost("claude-3-5-sonnet", 1500, 350, 1000, cache_discount=0.9)

    assert plain == 0.00975
    assert discounted == 0.00705  # 500 + 1000 / 10 tokens of input
    with pytest.warns(UserWarning, match="nobodys-model"):
        assert calculate_cost("nobodys-model", 1500, 350) == 0.0


def test_aggregation_levels(
    create: Any, provider: LoopbackProvider, tracker: ConversationTracker
) -> None:
    """
    Per call, per agent run, per session.

        span.set_attribute("llm.cost_usd", 0.025)
        span.set_attribute("agent.total_tokens", 15000)
        span.set_attribute("agent.total_cost_usd", 0.45)
        span.set_attribute("agent.llm_calls", 5)
        span.set_attribute("session.total_tokens", 45000)
        span.set_attribute("session.total_cost_usd", 1.35)
        span.set_attribute("session.agent_runs", 3)
    """
    provider.default_reply = Reply(input_tokens=2000, output_tokens=1000)
    ask = TokenMiddleware(tracker).wrap(create)
    with tracker.attribution(session_id="s1"):
        for run in ("one", "two", "three"):
            with tracker.attribution(agent=run):
                for _ in range(5):
                    ask(**SONNET)

    call = span_attributes(tracker.get_usage_history()[0])
    agent = span_attributes(tracker.get_usage(agent="one"), "agent")
    session = span_attributes(tracker.get_session_usage("s1"), "session", agent_runs=3)

    assert call["llm.cost_usd"] == 0.021
    assert agent == {
        "agent.total_tokens": 15000,
        "agent.total_cost_usd": 0.105,
        "agent.llm_calls": 5,
    }
    assert session["session.total_tokens"] == 45000
    assert session["session.total_cost_usd"] == 0.315
    assert session["session.agent_runs"] == 3


@pytest.mark.parametrize(
    ("level", "name", "threshold"),
    [
        ("per_call", "per_call_max", 1.00),
        ("per_session", "per_session_max", 10.00),
        ("per_user_daily", "per_user_daily", 50.00),
        ("org_daily", "org_daily", 1000.00),
    ],
)
def test_budget_alerting(
    level: str, name: str, threshold: float, caplog: pytest.LogCaptureFixture
) -> None:
    """
    All four levels give an alert.

        BUDGET_THRESHOLDS = {
            "per_call_max": 1.00,      # Alert if single call > $1
            "per_session_max": 10.00,  # Alert if session > $10
            "per_user_daily": 50.00,   # Alert if user > $50/day
            "org_daily": 1000.00,      # Alert if org > $1000/day
        }
        def check_budget(cost: float, level: str, entity_id: str):
            threshold = BUDGET_THRESHOLDS.get(f"{level}_max")
            if threshold and cost > threshold:
                log_budget_alert(level, entity_id, cost, threshold)
    """
    caplog.set_level(logging.WARNING)

    assert BUDGET_THRESHOLDS[name] == threshold
    check_budget(threshold, level, "somebody")
    assert caplog.text == ""
    check_budget(threshold + 0.01, level, "somebody")
    assert f"of 'somebody' exceeded the {level} budget of ${threshold:.2f}" in caplog.text


def test_opentelemetry(
    create: Any, provider: LoopbackProvider, traces: Traces, tracker: ConversationTracker
) -> None:
    """
    A span of the program's own, by hand.

        tracer = trace.get_tracer("agent")
        with tracer.start_as_current_span("llm_call") as span:
            span.set_attribute("llm.tokens.input", 1500)
            span.set_attribute("llm.tokens.output", 350)
            span.set_attribute("llm.cost_usd", calculate_cost(...))
    """
    provider.enqueue(Reply(input_tokens=1500, output_tokens=350))
    with traces.tracer.start_as_current_span("llm_call") as span:
        record = tracker.record(create(**SONNET))
        span.set_attributes(span_attributes(record))

    attributes = traces.attributes()
    assert attributes["llm.tokens.input"] == 1500
    assert attributes["llm.tokens.output"] == 350
    assert attributes["llm.cost_usd"] == calculate_cost("claude-3-5-sonnet", 1500, 350)


def test_caching_impact(
    create: Any, provider: LoopbackProvider, traces: Traces, tracker: ConversationTracker
) -> None:
    """
    What a cache saved.

        span.set_attribute("llm.cache.hit", True)
        span.set_attribute("llm.cache.tokens_saved", 1200)
        span.set_attribute("llm.cache.cost_saved_usd", 0.018)
    """
    provider.enqueue(Reply(input_tokens=1500, output_tokens=350, cache_read_tokens=1200))
    ask = TokenMiddleware(tracker, spans="seed").wrap(create)

    with traces.tracer.start_as_current_span("llm_call"):
        ask(**{**SONNET, "model": "gpt-4o"})

    attributes = traces.attributes()
    assert attributes["llm.cache.hit"] is True
    assert attributes["llm.cache.tokens_saved"] == 1200
    assert attributes["llm.cache.cost_saved_usd"] == pytest.approx(0.0015)  # at half its price


def test_optimization_signals(
    create: Any, provider: LoopbackProvider, tracker: ConversationTracker
) -> None:
    """
    What could be done cheaper, where it is known.

        span.set_attribute("prompt.compression_ratio", 0.7)
        span.set_attribute("prompt.could_use_haiku", True)
        span.set_attribute("model.recommendation", "could_downgrade")
        span.set_attribute("model.quality_requirement", "low")
    """
    provider.enqueue(Reply(input_tokens=1500, output_tokens=350))
    record = tracker.record(create(**SONNET))

    attributes = span_attributes(
        record, quality_requirement="low", alternative_model="claude-3-haiku"
    )

    assert attributes["prompt.could_use_haiku"] is True
    assert attributes["model.recommendation"] == "could_downgrade"
    assert attributes["model.quality_requirement"] == "low"
    assert attributes["model.alternative_cost_usd"] == pytest.approx(
        float(CostEstimator().estimate(1500, 350, "claude-3-haiku").total_cost)
    )


def test_the_four_questions(
    create: Any, provider: LoopbackProvider, tracker: ConversationTracker
) -> None:
    """
    How much, where, within budget.

        1. **How much** are we spending on LLMs?
        2. **Where** is the spend going (features, agents, users)?
        3. **Are we within** budget?
        4. **What's trending** (up or down)?
    """
    provider.default_reply = Reply(input_tokens=1500, output_tokens=350)
    ask = TokenMiddleware(tracker).wrap(create)
    for feature, calls in (("analysis", 2), ("chat", 1)):
        with tracker.attribution(feature=feature, user_id="alice"):
            for _ in range(calls):
                ask(**SONNET)

    assert float(tracker.get_cost()) == 0.02925
    assert float(tracker.get_usage(feature="analysis").cost) == 0.0195
    assert check_budget(tracker.get_usage(user_id="alice").cost, "per_user_daily", "alice")


@pytest.mark.parametrize(
    ("vendor", "variables", "expected"),
    [
        (
            "langfuse",
            {"LANGFUSE_PUBLIC_KEY": "pk", "LANGFUSE_SECRET_KEY": "sk"},
            {
                "langfuse.observation.model.name": "claude-3-5-sonnet",
                "langfuse.observation.usage_details": '{"input":1500,"output":350,"total":1850}',
            },
        ),
        (
            "langsmith",
            {"LANGSMITH_API_KEY": "key"},
            {"langsmith.span.kind": "llm", "gen_ai.usage.total_tokens": 1850},
        ),
    ],
)
def test_langfuse_and_langsmith(
    create: Any,
    provider: LoopbackProvider,
    vendor: str,
    variables: dict[str, str],
    expected: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """
    Generations and runs, with nothing but a destination.

        langfuse = Langfuse()
        trace = langfuse.trace(name="agent_run")
        generation = trace.generation(
            name="llm_call",
            model="claude-3-5-sonnet",
            usage={"input": 1500, "output": 350, "unit": "TOKENS"}
        )

        client = Client()  # LangSmith
        # Token tracking automatic via callbacks
    """
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    provider.enqueue(Reply(input_tokens=1500, output_tokens=350))
    with running_backend(tmp_path / "collector") as collector:
        collector.takes_anything = True
        config = TokenConfig(destinations=f"{vendor}:{collector.url}")
        with ConversationTracker(config=config) as tracker:
            TokenMiddleware(tracker).wrap(create)(**SONNET)
            assert tracker.send_tracked_data(wait=20).status == "delivered"
        ((_, attributes, _),) = spans(collector)

    assert {name: attributes.get(name) for name in expected} == expected
