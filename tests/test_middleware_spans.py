"""What the middleware writes to the spans of a program, with the real SDK of OpenTelemetry."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import openai
import pytest
from google.genai.types import FinishReason
from langchain_core.messages import AIMessage
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agentsight_tokens import ContextMonitor, ConversationTracker, TokenConfig, TokenMiddleware
from agentsight_tokens.middleware import spans as spans_module
from agentsight_tokens.middleware.outcome import stop_reason_of
from agentsight_tokens.testing import LoopbackProvider
from tests.test_context import conversation

ASK = {"model": "gpt-4o", "messages": [{"role": "user", "content": "Say hello."}]}


class Traces:
    """A tracer, and the spans that it has exported."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.tracer = self.provider.get_tracer("agent")

    def span(self) -> ReadableSpan:
        (span,) = self.exporter.get_finished_spans()
        return span


@pytest.fixture
def traces() -> Iterator[Traces]:
    traces = Traces()
    yield traces
    traces.provider.shutdown()


@pytest.fixture
def create() -> Iterator[Any]:
    with (
        LoopbackProvider(keep_alive=False) as provider,
        openai.OpenAI(base_url=provider.openai_url, api_key="k", max_retries=0) as client,
    ):
        yield client.chat.completions.create


def test_a_call_is_told_to_its_span(
    create: Any, traces: Traces, tracker: ConversationTracker
) -> None:
    """A stream that ends elsewhere too; by the seed's names and the conventions'."""
    wrapped = TokenMiddleware(tracker, spans="both").wrap(create, agent="writer", user_id="alice")

    with traces.tracer.start_as_current_span("llm_call"):
        stream = wrapped(**ASK, stream=True, stream_options={"include_usage": True})
        with traces.tracer.start_as_current_span("elsewhere"):
            list(stream)

    elsewhere, call = traces.exporter.get_finished_spans()
    assert not elsewhere.attributes
    assert call.attributes["llm.tokens.input"] == call.attributes["gen_ai.usage.input_tokens"] == 11
    assert call.attributes["llm.tokens.output"] == 7
    assert call.attributes["llm.cost_usd"] > 0
    assert call.attributes["cost.agent"] == "writer"
    assert call.attributes["cost.user_id"] not in ("alice", None)


def test_a_span_tells_what_was_asked_and_how_it_ended(
    create: Any, traces: Traces, tracker: ConversationTracker
) -> None:
    """Of a whole answer and of a stream alike."""
    wrapped = TokenMiddleware(tracker, spans="both").wrap(create)

    with traces.tracer.start_as_current_span("whole"):
        wrapped(**ASK, temperature=0.2, max_tokens=50)
    with traces.tracer.start_as_current_span("stream"):
        chunks = len(list(wrapped(**ASK, stream=True, stream_options={"include_usage": True})))

    whole, stream = traces.exporter.get_finished_spans()
    assert whole.attributes["llm.temperature"] == 0.2
    assert whole.attributes["llm.max_tokens"] == whole.attributes["gen_ai.request.max_tokens"] == 50
    assert whole.attributes["llm.stop_reason"] == "stop"
    assert whole.attributes["llm.streaming"] is False
    assert stream.attributes["llm.stop_reason"] == "stop"
    assert stream.attributes["gen_ai.response.finish_reasons"] == ("stop",)
    assert (stream.attributes["llm.streaming"], stream.attributes["llm.chunks"]) == (True, chunks)
    assert "llm.temperature" not in stream.attributes


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"choices": [{"finish_reason": "length"}]}, "length"),
        ({"choices": [{"finish_reason": None}]}, None),
        ({"choices": []}, None),
        ({"type": "message", "stop_reason": "end_turn"}, "end_turn"),
        ({"type": "message_delta", "delta": {"stop_reason": "max_tokens"}}, "max_tokens"),
        ({"candidates": [{"finish_reason": FinishReason.STOP}]}, "STOP"),
        ({"incomplete_details": {"reason": "max_output_tokens"}}, "max_output_tokens"),
        (AIMessage("hi", response_metadata={"finish_reason": "stop"}), "stop"),
        (AIMessage("hi", response_metadata={"stop_reason": "tool_use"}), "tool_use"),
        ("a text", None),
        (None, None),
    ],
)
def test_every_provider_says_why_it_stopped(answer: Any, reason: str | None) -> None:
    """In its own place, and in its own word."""
    assert stop_reason_of(answer) == reason


def test_a_span_knows_how_much_shorter_a_prompt_was_made(
    create: Any, traces: Traces, tracker: ConversationTracker
) -> None:
    """The ratio stands there when a context was compressed, and only then."""
    middleware = TokenMiddleware(tracker, context=ContextMonitor(max_tokens=3000), spans="seed")

    with traces.tracer.start_as_current_span("llm_call"):
        middleware.wrap(create)(model="gpt-4o", messages=conversation(10))
    compressed = traces.span()
    traces.exporter.clear()
    with traces.tracer.start_as_current_span("llm_call"):
        middleware.wrap(create)(**ASK)

    assert 0.2 < compressed.attributes["prompt.compression_ratio"] < 0.8
    assert "prompt.compression_ratio" not in traces.span().attributes


def test_a_run_of_several_calls_is_told_as_a_sum(
    create: Any, traces: Traces, tracker: ConversationTracker
) -> None:
    """A function that makes two counted calls is an agent's run."""

    step = TokenMiddleware(tracker).wrap(create)

    def agent(question: str) -> str:
        step(**ASK)
        return str(step(**ASK).choices[0].message.content)

    run = TokenMiddleware(tracker, spans="seed").wrap(agent)
    with traces.tracer.start_as_current_span("agent_run"):
        run("Say hello.")

    span = traces.span()
    assert span.attributes["agent.llm_calls"] == 2
    assert span.attributes["agent.total_tokens"] == 36
    assert span.attributes["agent.total_cost_usd"] == float(tracker.get_cost())


def test_hashed_user_ids_are_not_hashed_again(create: Any, traces: Traces) -> None:
    """The id on a span is the one that is stored."""
    config = TokenConfig(hash_user_ids=True, hash_key="secret")
    with ConversationTracker(config=config) as tracker:
        with traces.tracer.start_as_current_span("llm_call"):
            TokenMiddleware(tracker, spans="seed").wrap(create, user_id="alice")(**ASK)
        (record,) = tracker.get_usage_history()

    assert traces.span().attributes["cost.user_id"] == record.scope.user_id != "alice"


def test_without_a_span_nothing_is_written(create: Any, tracker: ConversationTracker) -> None:
    """Calls outside any span are counted all the same."""
    TokenMiddleware.from_config("testing", tracker=tracker, spans="genai").wrap(create)(**ASK)

    assert tracker.get_usage().total_tokens == 18


def test_wrong_use_is_told_at_once(
    tracker: ConversationTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown convention; spans without OpenTelemetry."""

    def missing(name: str) -> Any:
        raise ModuleNotFoundError(name)

    with pytest.raises(ValueError, match="semconv is seed, genai or both"):
        TokenMiddleware(tracker, spans="klingon")
    monkeypatch.setattr(spans_module, "import_module", missing)
    with pytest.raises(ImportError, match="pip install opentelemetry-api"):
        TokenMiddleware(tracker, spans="seed")
