"""What a span says: its counts, its kind, who caused it, and which of a trace's spans count."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

from agentsight_tokens.backend.otlp import Meter, spans_in_json, take_spans
from agentsight_tokens.backend.otlp.trace import Member, MemberKind, Trace
from agentsight_tokens.backend.store import SQLiteStore
from agentsight_tokens.calls import CALL_COLUMNS, records
from agentsight_tokens.config import TokenConfig
from agentsight_tokens.pricing import CostEstimator
from agentsight_tokens.usage import UsageRecord
from tests.otlp_kit import SECOND, START, TRACE, chat, request, span, total

METER = Meter(CostEstimator(), TokenConfig())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    with SQLiteStore(tmp_path / "store.db") as store:
        yield store


def taken(store: SQLiteStore, *spans: dict[str, Any], **more: Any) -> list[UsageRecord]:
    """Return the calls of a store that takes spans, in the order of their times."""
    meter = more.pop("meter", METER)
    answer = take_spans(store, spans_in_json(request(*spans, **more)), meter)
    assert answer.rejected == 0, answer.reason
    rows = store.rows(f"SELECT {', '.join(CALL_COLUMNS)} FROM calls ORDER BY at, id")
    return list(records(rows))


def usage(record: UsageRecord) -> dict[str, int]:
    """Return the counts that are not zero."""
    names = record.usage.__struct_fields__
    return {n: getattr(record.usage, n) for n in names if getattr(record.usage, n)}


COUNTS: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "the old names of the conventions": (
        {
            "gen_ai.system": "openai",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.usage.prompt_tokens": 10,
            "gen_ai.usage.completion_tokens": 4,
            "gen_ai.usage.reasoning_tokens": 3,
        },
        {"input_tokens": 10, "output_tokens": 4, "total_tokens": 14, "reasoning_tokens": 3},
    ),
    "the new ones win": (
        {
            "gen_ai.operation.name": "generate_content",
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.prompt_tokens": 99,
            "gen_ai.usage.output_tokens": 0,
        },
        {"input_tokens": 10, "total_tokens": 10},
    ),
    "OpenInference": (
        {
            "openinference.span.kind": "LLM",
            "llm.token_count.prompt": 30,
            "llm.token_count.completion": 9,
            "llm.token_count.total": 39,
            "llm.token_count.prompt_details.cache_read": 20,
            "llm.token_count.prompt_details.cache_write": 5,
            "llm.token_count.prompt_details.audio": 2,
            "llm.token_count.completion_details.reasoning": 6,
            "llm.token_count.completion_details.audio": 1,
        },
        {
            "input_tokens": 30,
            "output_tokens": 9,
            "total_tokens": 39,
            "cache_read_tokens": 20,
            "cache_creation_tokens": 5,
            "reasoning_tokens": 6,
            "audio_input_tokens": 2,
            "audio_output_tokens": 1,
        },
    ),
    "a cache beside the input, which it exceeds": (
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.output_tokens": 1,
            "gen_ai.usage.total_tokens": 11,
            "gen_ai.usage.cache_read.input_tokens": 100,
        },
        {"input_tokens": 110, "output_tokens": 1, "total_tokens": 111, "cache_read_tokens": 100},
    ),
    "a cache beside the input, as the total tells": (
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 1,
            "gen_ai.usage.total_tokens": 141,
            "gen_ai.usage.cache_creation.input_tokens": 40,
        },
        {"input_tokens": 140, "output_tokens": 1, "total_tokens": 141, "cache_creation_tokens": 40},
    ),
    "reasoning beside the output, as the total tells": (
        {
            "gen_ai.operation.name": "generate_content",
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.output_tokens": 20,
            "gen_ai.usage.total_tokens": 35,
            "gen_ai.usage.reasoning.output_tokens": 5,
        },
        {"input_tokens": 10, "output_tokens": 25, "total_tokens": 35, "reasoning_tokens": 5},
    ),
    "the AI SDK 5 with Anthropic": (
        {
            "ai.operationId": "ai.generateText.doGenerate",
            "ai.model.provider": "anthropic.messages",
            "ai.usage.inputTokens": 100,
            "ai.usage.outputTokens": 7,
            "ai.usage.totalTokens": 107,
            "ai.usage.cachedInputTokens": 60,
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 7,
        },
        {"input_tokens": 160, "output_tokens": 7, "total_tokens": 167, "cache_read_tokens": 60},
    ),
    "the AI SDK 6 with Anthropic": (
        {
            "ai.operationId": "ai.streamText.doStream",
            "ai.model.provider": "anthropic.messages",
            "ai.usage.inputTokens": 160,
            "ai.usage.outputTokens": 7,
            "ai.usage.inputTokenDetails.cacheReadTokens": 60,
            "ai.usage.cachedInputTokens": 60,
        },
        {"input_tokens": 160, "output_tokens": 7, "total_tokens": 167, "cache_read_tokens": 60},
    ),
    "the AI SDK with OpenAI": (
        {
            "ai.operationId": "ai.generateObject.doGenerate",
            "ai.model.provider": "openai.chat",
            "ai.usage.promptTokens": 100,
            "ai.usage.completionTokens": 7,
            "ai.usage.cachedInputTokens": 60,
        },
        {"input_tokens": 100, "output_tokens": 7, "total_tokens": 107, "cache_read_tokens": 60},
    ),
    "Langfuse, disjoint": (
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.usage_details": json.dumps(
                {
                    "input": 10,
                    "input_cached_tokens": 20,
                    "input_cache_creation": 5,
                    "output": 3,
                    "output_reasoning_tokens": 4,
                    "total": 42,
                }
            ),
        },
        {
            "input_tokens": 35,
            "output_tokens": 7,
            "total_tokens": 42,
            "cache_read_tokens": 20,
            "cache_creation_tokens": 5,
            "reasoning_tokens": 4,
        },
    ),
    "Langfuse, as Anthropic has it": (
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.usage_details": json.dumps(
                {"input": 10, "output": 3, "cache_read_input_tokens": 20}
            ),
        },
        {"input_tokens": 30, "output_tokens": 3, "total_tokens": 33, "cache_read_tokens": 20},
    ),
    "Langfuse, as OpenAI has it": (
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.usage_details": json.dumps(
                {
                    "prompt_tokens": 30,
                    "completion_tokens": 3,
                    "total_tokens": 33,
                    "prompt_tokens_details": {"cached_tokens": 20},
                }
            ),
        },
        {"input_tokens": 30, "output_tokens": 3, "total_tokens": 33, "cache_read_tokens": 20},
    ),
    "MLflow": (
        {
            "mlflow.spanType": '"CHAT_MODEL"',
            "mlflow.chat.tokenUsage": json.dumps(
                {"input_tokens": 11, "output_tokens": 2, "total_tokens": 13}
            ),
        },
        {"input_tokens": 11, "output_tokens": 2, "total_tokens": 13},
    ),
    "a total that has more than its parts": (
        {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 1,
         "gen_ai.usage.output_tokens": 1, "gen_ai.usage.total_tokens": 9},
        {"input_tokens": 1, "output_tokens": 1, "total_tokens": 9},
    ),
    "an embedding": (
        {"gen_ai.operation.name": "embeddings", "gen_ai.usage.input_tokens": 12},
        {"embedding_tokens": 12},
    ),
    "an embedding of OpenInference": (
        {"openinference.span.kind": "EMBEDDING", "llm.token_count.prompt": 12,
         "llm.token_count.total": 12},
        {"embedding_tokens": 12},
    ),
    "an embedding of the AI SDK": (
        {"ai.operationId": "ai.embed.doEmbed", "ai.usage.tokens": 12},
        {"embedding_tokens": 12},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COUNTS)
def test_counts(store: SQLiteStore, name: str) -> None:
    """Whatever the instrumentation, input includes the cache and output the reasoning."""
    attributes, expected = COUNTS[name]
    [record] = taken(store, span(1, attributes))

    assert usage(record) == expected
    assert not record.is_unreported


@pytest.mark.parametrize(
    "attributes",
    [
        {"gen_ai.operation.name": "chat"},
        {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 0,
         "gen_ai.usage.output_tokens": 0},
        {"openinference.span.kind": "LLM"},
        {"llm.request.type": "chat"},
        {"ai.operationId": "ai.streamText.doStream"},
    ],
)  # fmt: skip
def test_a_call_that_tells_no_use_is_unreported(
    store: SQLiteStore, attributes: dict[str, Any]
) -> None:
    """It is not zero, and costs nothing that is known."""
    [record] = taken(store, span(1, attributes | {"gen_ai.response.model": "gpt-4o"}))

    assert record.unreported_reason == "provider_silent"
    assert record.cost is None


@pytest.mark.parametrize(
    ("more", "status", "reason"),
    [
        ({"status": {"code": 2}}, "error", "error_without_usage"),
        ({"attributes": {"error.type": "RateLimitError"}}, "error", "error_without_usage"),
        ({"attributes": {"error.type": "asyncio.CancelledError"}}, "cancelled", "cancelled"),
    ],
)
def test_a_call_that_failed(
    store: SQLiteStore, more: dict[str, Any], status: str, reason: str
) -> None:
    """How it ended is kept, and why nothing is known of its use."""
    attributes = {"gen_ai.operation.name": "chat", **more.pop("attributes", {})}
    [record] = taken(store, span(1, attributes, **more))

    assert (record.status, record.unreported_reason) == (status, reason)
    assert record.error_type == attributes.get("error.type")


@pytest.mark.parametrize(
    ("given", "provider"),
    [
        ({"gen_ai.provider.name": "aws.bedrock"}, "bedrock"),
        ({"gen_ai.provider.name": "azure.ai.openai"}, "azure"),
        ({"gen_ai.system": "az.ai.openai"}, "azure"),
        ({"gen_ai.system": "gcp.gen_ai"}, "gemini"),
        ({"gen_ai.system": "Anthropic"}, "anthropic"),
        ({"gen_ai.system": "mistral_ai"}, "mistral"),
        ({"llm.provider": "google"}, "gemini"),
        ({"llm.system": "vertexai"}, "vertex_ai"),
        ({"ai.model.provider": "openai.responses"}, "openai"),
        ({"ai.model.provider": "google.vertex.chat"}, "vertex_ai"),
        ({"ai.model.provider": "amazon-bedrock"}, "bedrock"),
        ({}, None),
    ],
)
def test_providers_have_one_name(
    store: SQLiteStore, given: dict[str, Any], provider: str | None
) -> None:
    """Ours, by whatever name an instrumentation knows them."""
    [record] = taken(store, span(1, {"gen_ai.operation.name": "chat", **given}))

    assert record.provider == provider


def test_times(store: SQLiteStore) -> None:
    """When it ended, how long it took, and when the first token came, in whatever way that is told."""
    first = {"timeUnixNano": str(START + SECOND // 2), "name": "First Token Stream Event"}
    found = taken(
        store,
        chat(1, **{"gen_ai.response.time_to_first_chunk": 0.25}),
        chat(2, **{"ai.response.msToFirstChunk": 125}),
        chat(3, **{"langfuse.observation.completion_start_time": '"2026-01-02T03:04:06.678901Z"'}),
        chat(4) | {"events": [first]},
        chat(5) | {"startTimeUnixNano": "0"},
        chat(6, **{"gen_ai.response.time_to_first_chunk": -1.0}),
        chat(7, **{"ai.response.msToFirstChunk": -1}),
        chat(8, **{"langfuse.observation.completion_start_time": "soon"}),
    )

    assert [r.duration_seconds for r in found] == [1, 2, 3, 4, None, 6, 7, 8]
    firsts = [r.time_to_first_token_seconds for r in found]
    assert firsts == [0.25, 0.125, 1, 0.5, None, None, None, None]
    assert found[0].at.isoformat() == "2026-01-02T03:04:06.678901+00:00"


def test_who_caused_a_call(store: SQLiteStore) -> None:
    """What the call's span does not say, those around it in the request do."""
    workflow = span(
        9,
        {
            "traceloop.workflow.name": "support",
            "session.id": "s",
            "user.id": "ann",
            "langfuse.trace.tags": '["b", "a"]',
        },
    )
    agent = span(8, {"traceloop.span.kind": "agent", "traceloop.entity.name": "planner"}, parent=9)
    found = taken(
        store,
        workflow,
        agent,
        chat(1, parent=8),
        chat(2, parent=9, **{"gen_ai.conversation.id": "c", "gen_ai.agent.name": "own"}),
        chat(3, **{"langsmith.span.tags": "x, y"}),
        resource={"deployment.environment.name": "production"},
    )

    scopes = [(r.scope.conversation_id, r.scope.session_id, r.scope.user_id) for r in found]
    assert scopes == [("s", "s", "ann"), ("c", "s", "ann"), (TRACE, TRACE, None)]
    assert [r.scope.agent for r in found] == ["planner", "own", None]
    assert [r.scope.feature for r in found] == ["support", "support", None]
    assert [r.scope.tags for r in found] == [("a", "b"), ("a", "b"), ("x", "y")]
    assert store.rows("SELECT DISTINCT environment FROM cycles") == [("production",)]


def test_agents_of_openinference_have_their_spans_name(store: SQLiteStore) -> None:
    """It has no attribute for it in every framework."""
    agent = span(2, {"openinference.span.kind": "AGENT", "tag.tags": "[no JSON"})
    [record] = taken(store, agent, chat(1, parent=2))

    assert record.scope.agent == "span-2"
    assert record.scope.tags == ("[no JSON",)


def test_users_are_hashed_where_that_is_asked_for(store: SQLiteStore) -> None:
    """The server's own configuration says so."""
    meter = METER._replace(config=TokenConfig(hash_user_ids=True, hash_key="k"))
    [record] = taken(store, chat(1, **{"user.id": "ann"}), meter=meter)

    assert record.scope.user_id is not None
    assert len(record.scope.user_id) == 32


def test_a_price_is_the_catalogs(store: SQLiteStore) -> None:
    """What an instrumentation has made of a table of its own is no price of ours."""
    [known, unknown] = taken(
        store,
        chat(1, **{"gen_ai.usage.cost": 17.0}),
        chat(2, **{"gen_ai.usage.cost": 17.0, "gen_ai.response.model": "nobody-knows-it"}),
    )

    assert known.cost_pico_usd == 22_500_000
    assert (unknown.cost_pico_usd, unknown.cost_status) == (None, "unpriced")


@pytest.mark.parametrize(
    ("cost", "pico_usd"),
    [(0.25, 250_000_000_000), ("0.1", 10**11), (-1.0, None), ("nan", None), ("much", None)],
)
def test_a_provider_that_states_its_cost_is_believed(
    store: SQLiteStore, cost: object, pico_usd: int | None
) -> None:
    """OpenRouter does; what is no amount is priced by the catalog, or by nobody."""
    attributes = {"gen_ai.provider.name": "openrouter", "gen_ai.response.model": "nobody-knows-it"}
    [record] = taken(store, chat(1, **attributes, **{"gen_ai.usage.cost": cost}))

    assert record.cost_pico_usd == pico_usd
    assert record.price_key == (None if pico_usd is None else "stated by the provider")


def member(number: int, parent: int | None, kind: MemberKind) -> Member:
    return Member(str(number), "" if parent is None else str(parent), kind)


def counted(*groups: list[Member]) -> set[str]:
    trace = Trace()
    for group in groups:
        trace.add(group)
    return trace.counted


def test_the_innermost_span_that_tells_of_use_counts() -> None:
    """A framework's span of a model, and the SDK's below it, are one call."""
    group = [
        member(1, None, "other"),
        member(2, 1, "used"),
        member(3, 2, "other"),
        member(4, 3, "used"),
        member(5, 1, "used"),
    ]
    assert counted(group) == {"4", "5"}
    assert counted(group[::-1]) == {"4", "5"}
    assert counted([group[3]], [group[2]], [group[1]], [group[4], group[0]]) == {"4", "5"}


def test_what_comes_below_a_span_that_has_counted_is_covered_by_it() -> None:
    """The outer span has told of the same tokens."""
    assert counted([member(1, None, "used")], [member(2, 1, "used"), member(3, 1, "silent")]) == {
        "1"
    }
    assert counted([member(1, None, "used")], [member(3, 2, "used")], [member(2, 1, "other")]) == {
        "1",
        "3",
    }


def test_a_silent_call_counts_unless_another_speaks_for_it() -> None:
    """One within it, or one around it."""
    assert counted([member(1, None, "other"), member(2, 1, "silent")]) == {"2"}
    assert counted([member(1, None, "silent"), member(2, 1, "silent")]) == {"2"}
    assert counted([member(1, None, "silent"), member(2, 1, "used")]) == {"2"}
    assert counted([member(1, None, "used"), member(2, 1, "silent")]) == {"1"}


def test_spans_that_are_their_own_parents_do_no_harm(store: SQLiteStore) -> None:
    """A circle ends."""
    assert counted([member(1, 1, "used")]) == {"1"}
    assert counted([member(1, 2, "used"), member(2, 1, "silent")]) == set()
    assert len(taken(store, chat(1, parent=1), chat(2, parent=3), chat(3, parent=2))) == 1


def test_only_leaves_are_stored(store: SQLiteStore) -> None:
    """An agent's total is not added to its calls."""
    found = taken(store, total(9, 12), chat(4, parent=9), chat(8, parent=9), span(1, parent=9))

    assert [r.input_tokens for r in found] == [4, 8]
    assert [r.scope.agent for r in found] == ["planner", "planner"]


def test_cycles_are_conversations(store: SQLiteStore) -> None:
    """The calls of one conversation are one cycle, and a request that comes again has the same."""
    spans = [
        chat(1, **{"session.id": "a"}),
        chat(2, trace="1" * 32, **{"session.id": "a"}),
        chat(3, trace="2" * 32, **{"session.id": "b"}),
    ]
    taken(store, *spans)
    taken(store, *spans)

    found = store.rows("SELECT conversation_id, calls FROM cycles ORDER BY 1")
    assert found == [("a", 2), ("b", 1)]


def test_what_cannot_be_stored_costs_no_other(store: SQLiteStore) -> None:
    """A count that no database holds is refused with its reason."""
    record = {"id": "r", "at": "2026-01-02T03:04:05Z", "usage": {"input_tokens": 10**19}}
    poison = span(2, {"agentsight.record": json.dumps(record)})
    spans = [chat(1), poison, chat(4), chat(8, trace="2" * 32)]
    answer = take_spans(store, spans_in_json(request(*spans)), METER)

    assert (answer.rejected, answer.calls) == (1, 3)
    assert answer.reason
    assert store.rows("SELECT SUM(input_tokens) FROM calls") == [(13,)]
