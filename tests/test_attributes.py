"""Span attributes of calls, agent runs and sessions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agentsight_tokens import (
    CallDetails,
    ContextMonitor,
    CostEstimator,
    Scope,
    TokenUsage,
    UsageRecord,
    UsageSummary,
    span_attributes,
)
from tests.records import call
from tests.test_context import conversation

SCOPE = Scope(
    user_id="user_abc",
    feature="document_analysis",
    agent="researcher",
    org_id="org_123",
    conversation_id="c1",
    session_id="s1",
)


def record(**facts: object) -> UsageRecord:
    """The call of the skill: 1,500 tokens in, 350 out, 0.025 USD."""
    known = {
        "usage": TokenUsage(input_tokens=1500, output_tokens=350),
        "model": "gpt-4o",
        "provider": "openai",
        "cost_pico_usd": 25 * 10**9,
        "scope": SCOPE,
    }
    return call(1, **{**known, **facts})


def test_a_call_has_the_skills_attributes() -> None:
    """Tokens, cost and attribution under the seed's names; the user is hashed."""
    attributes = span_attributes(record())

    assert attributes["llm.tokens.input"] == 1500
    assert attributes["llm.tokens.output"] == 350
    assert attributes["llm.tokens.total"] == 1850
    assert attributes["llm.cost_usd"] == 0.025
    assert attributes["cost.feature"] == "document_analysis"
    assert attributes["cost.agent"] == "researcher"
    assert attributes["cost.org_id"] == "org_123"
    assert attributes["cost.user_id"] == "9cfc09aa76ff341a02ddecbf0bb1bff2"
    assert attributes["llm.cache.hit"] is False
    assert attributes["llm.success"] is True
    assert attributes["session.id"] == "s1"
    assert not any(name.startswith("gen_ai") for name in attributes)
    assert span_attributes(record(), hash_user_id=str)["cost.user_id"] == "user_abc"


def test_what_is_not_known_is_left_out() -> None:
    """An unknown cost is never 0, and an unreported call says so."""
    bare = UsageRecord(id="1", at=record().at, unreported_reason="provider_silent")

    attributes = span_attributes(bare, semconv="both")

    assert attributes["llm.unreported"] is True
    assert not [name for name in attributes if "usage" in name or "tokens" in name]
    assert not {"llm.cost_usd", "llm.model", "cost.user_id", "llm.latency_ms"} & attributes.keys()
    assert None not in attributes.values()


def test_times_and_errors_are_told() -> None:
    """In milliseconds; a stream is known by its first token."""
    failed = record(
        status="error",
        error_type="RateLimitError",
        duration_seconds=1.25,
        time_to_first_token_seconds=0.5,
    )

    attributes = span_attributes(failed, semconv="both")

    assert attributes["llm.latency_ms"] == 1250
    assert attributes["llm.ttft_ms"] == 500
    assert attributes["llm.streaming"] is True
    assert attributes["llm.success"] is False
    assert attributes["llm.error.type"] == attributes["error.type"] == "RateLimitError"


def test_what_was_asked_and_how_it_ended_is_told() -> None:
    """By the names of the tracing skill and of the conventions; what is not known is left out."""
    details = CallDetails(
        requested_model="gpt-4o",
        temperature=0.0,
        max_tokens=50,
        stop_reason="length",
        is_streaming=False,
        retries=2,
    )

    attributes = span_attributes(record(), semconv="both", details=details, turns=3)
    stream = span_attributes(record(), details=CallDetails(is_streaming=True, chunks=9))

    assert attributes["llm.temperature"] == attributes["gen_ai.request.temperature"] == 0
    assert attributes["llm.max_tokens"] == attributes["gen_ai.request.max_tokens"] == 50
    assert attributes["llm.stop_reason"] == "length"
    assert attributes["gen_ai.response.finish_reasons"] == ("length",)
    assert attributes["gen_ai.request.model"] == "gpt-4o"
    assert (attributes["llm.streaming"], attributes["llm.retry_count"]) == (False, 2)
    assert attributes["conversation.turn_number"] == 3
    assert (stream["llm.streaming"], stream["llm.chunks"]) == (True, 9)
    assert not {"llm.temperature", "llm.stop_reason", "conversation.turn_number"} & stream.keys()
    assert "llm.max_tokens" not in span_attributes(record(), "agent", details=details)


def test_a_cache_tells_what_it_saved() -> None:
    """The tokens that were read from it, and the price that they would have had."""
    cached = record(
        usage=TokenUsage(
            input_tokens=1500, output_tokens=350, cache_read_tokens=1000, reasoning_tokens=5
        )
    )

    attributes = span_attributes(cached)
    with pytest.warns(UserWarning, match="no price is known"):
        unpriced = span_attributes(
            record(model="mystery", usage=cached.usage), estimator=CostEstimator()
        )

    assert attributes["llm.cache.hit"] is True
    assert attributes["llm.cache.tokens_saved"] == 1000
    assert attributes["llm.cache.cost_saved_usd"] == pytest.approx(0.00125)
    assert attributes["llm.tokens.reasoning"] == 5
    assert "llm.cache.cost_saved_usd" not in unpriced


def test_optimisation_is_told_where_it_is_known() -> None:
    """A cheaper model that its caller knows to be good enough, by its own name."""
    haiku = span_attributes(record(), quality_requirement="low", alternative_model="claude-3-haiku")
    mini = span_attributes(record(), alternative_model="gpt-4o-mini")
    dearer = span_attributes(record(), alternative_model="claude-3-opus")
    with pytest.warns(UserWarning, match="no price is known"):
        unknown = span_attributes(record(), alternative_model="mystery", estimator=CostEstimator())

    assert haiku["model.quality_requirement"] == "low"
    assert haiku["model.recommendation"] == "could_downgrade"
    assert haiku["prompt.could_use_haiku"] is True
    assert mini["prompt.could_use_haiku"] is False
    assert mini["model.alternative"] == "gpt-4o-mini"
    assert mini["model.alternative_cost_usd"] == pytest.approx(0.000435)
    for none in (dearer, unknown, span_attributes(record())):
        assert "model.recommendation" not in none
    assert "model.recommendation" not in span_attributes(
        record(cost_pico_usd=None), alternative_model="gpt-4o-mini"
    )


def test_the_context_is_told_where_it_is_known() -> None:
    """How full the window was, or what a compression left; an unknown window is not told."""
    monitor = ContextMonitor("gpt-4o", max_tokens=2000)
    messages = conversation(10)

    full = span_attributes(record(), context=monitor.inspect(messages))
    result = monitor.compress(messages)
    pruned = span_attributes(record(), context=result)
    unknown = span_attributes(record(), context=ContextMonitor().inspect(messages))

    assert full["conversation.context_tokens"] == full["context.current_tokens"] > 4000
    assert full["conversation.context_window_pct"] == full["context.current_tokens"] / 20
    assert full["context.limit"] == 2000
    assert "prompt.compression_ratio" not in full
    assert pruned["prompt.compression_ratio"] == result.ratio < 0.4
    assert pruned["context.current_tokens"] == result.tokens_after
    assert (pruned["context.pruned"], pruned["context.messages_pruned"]) == (True, result.dropped)
    assert not {"context.limit", "conversation.context_window_pct"} & unknown.keys()


def test_a_run_and_a_session_are_sums() -> None:
    """Their totals, their cost, their calls; an incomplete cost says so."""
    run = UsageSummary(
        input_tokens=12000, output_tokens=3000, request_count=5, cost_pico_usd=45 * 10**10
    )
    session = UsageSummary(
        input_tokens=40000,
        output_tokens=5000,
        cost_pico_usd=135 * 10**10,
        unpriced_calls=1,
    )

    assert span_attributes(run, "agent") == {
        "agent.total_tokens": 15000,
        "agent.total_cost_usd": 0.45,
        "agent.llm_calls": 5,
    }
    assert span_attributes(session, "session", agent_runs=3, turns=10) == {
        "session.total_tokens": 45000,
        "session.total_cost_usd": 1.35,
        "session.llm_calls": 0,
        "session.cost_is_complete": False,
        "session.agent_runs": 3,
        "session.turns": 10,
        "session.avg_turn_tokens": 4500.0,
    }
    unpriced = UsageSummary(input_tokens=1, unpriced_calls=1)
    assert "agent.total_cost_usd" not in span_attributes(unpriced, "agent")
    assert span_attributes(TokenUsage(input_tokens=1), "agent") == {"agent.total_tokens": 1}
    assert span_attributes(record(), "agent")["agent.llm_calls"] == 1
    assert "session.turns" not in span_attributes(session, "session")


def test_the_genai_conventions_have_names_of_their_own() -> None:
    """Operations and providers too; embeddings are input."""
    chat = span_attributes(
        record(
            provider="gemini",
            response_id="r1",
            usage=TokenUsage(input_tokens=10, cache_read_tokens=4, cache_creation_tokens=3),
        ),
        semconv="genai",
    )
    embedding = span_attributes(
        record(usage=TokenUsage(embedding_tokens=9), operation="embedding", provider=None),
        semconv="genai",
    )
    summary = span_attributes(UsageSummary(input_tokens=3), semconv="genai")

    assert chat == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "gcp.gemini",
        "gen_ai.response.model": "gpt-4o",
        "gen_ai.response.id": "r1",
        "gen_ai.conversation.id": "c1",
        "gen_ai.agent.name": "researcher",
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 0,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.cache_creation.input_tokens": 3,
    }
    assert embedding["gen_ai.operation.name"] == "embeddings"
    assert embedding["gen_ai.usage.input_tokens"] == 9
    assert summary == {"gen_ai.usage.input_tokens": 3, "gen_ai.usage.output_tokens": 0}
    assert {"llm.tokens.input", "gen_ai.usage.input_tokens"} <= span_attributes(
        record(), semconv="both"
    ).keys()


def test_values_are_what_spans_take() -> None:
    """Strings, booleans and numbers, and nothing else."""
    everything = span_attributes(
        record(usage=TokenUsage(input_tokens=5, cache_read_tokens=2, embedding_tokens=1)),
        semconv="both",
        alternative_model="gpt-4o-mini",
    )

    assert {type(value) for value in everything.values()} <= {str, bool, int, float}


def test_unknown_levels_and_conventions_are_refused() -> None:
    """Wrong use raises at the call."""
    with pytest.raises(ValueError, match="level is call, agent or session"):
        span_attributes(record(), "planet")
    with pytest.raises(ValueError, match="semconv is seed, genai or both"):
        span_attributes(record(), semconv="klingon")


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    """What an OpenTelemetry SDK exports; spans end up here."""
    with_spans = InMemorySpanExporter()
    yield with_spans
    with_spans.shutdown()


def test_a_real_span_takes_every_attribute(
    exporter: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    """The skill's sample: tracer "agent", span "llm_call"; the SDK drops no value."""
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("agent")
    attributes = span_attributes(record(), semconv="both", alternative_model="gpt-4o-mini")

    with tracer.start_as_current_span("llm_call") as span:
        span.set_attributes(attributes)
    provider.shutdown()

    (exported,) = exporter.get_finished_spans()
    assert exported.name == "llm_call"
    assert dict(exported.attributes) == attributes
    assert exported.attributes["llm.tokens.input"] == 1500
    assert exported.attributes["llm.cost_usd"] == 0.025
    assert caplog.text == ""
