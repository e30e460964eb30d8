"""POST /v1/traces: what becomes of a request of OTLP."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agentsight_tokens.backend.app import create_app
from agentsight_tokens.backend.otlp import Meter, Settling, spans_in_json, take_spans
from agentsight_tokens.backend.otlp.trace_log import TraceLog
from agentsight_tokens.backend.store import SQLiteStore
from agentsight_tokens.config import TokenConfig
from agentsight_tokens.destinations.otlp import OTLPSpansDestination
from agentsight_tokens.pricing import CostEstimator
from tests.otlp_kit import TRACE, as_json, chat, pairs, post, request, span, total
from tests.records import AT, call
from tests.server_kit import ask
from tests.server_process import ServerProcess

PROTOBUF = "application/x-protobuf"
METER = Meter(CostEstimator(), TokenConfig())


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    with SQLiteStore(tmp_path / "store.db") as store:
        yield store


def totals(store: SQLiteStore) -> tuple[int, int, int]:
    """Return how many calls there are, and their tokens."""
    [row] = store.rows(
        "SELECT COUNT(*), COALESCE(SUM(input_tokens), 0), COALESCE(SUM(output_tokens), 0) "
        "FROM calls"
    )
    return row


def spans_of_sdk(**attributes: Any) -> ExportTraceServiceRequest:
    """Return a request as the SDK's exporter encodes it."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"deployment.environment.name": "staging"}))
    provider.add_span_processor(SimpleSpanProcessor(memory))
    with provider.get_tracer("test").start_as_current_span("chat gpt-4o") as span:
        span.set_attributes(attributes)
    found = encode_spans(memory.get_finished_spans())
    assert isinstance(found, ExportTraceServiceRequest)
    return found


ATTRIBUTES = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "openai",
    "gen_ai.response.model": "gpt-4o",
    "gen_ai.response.id": "resp-1",
    "gen_ai.usage.input_tokens": 1000,
    "gen_ai.usage.output_tokens": 20,
    "gen_ai.usage.cache_read.input_tokens": 400,
    "user.id": "ann",
    "tag.tags": ["b", "a"],
}


@pytest.mark.parametrize("is_compressed", [False, True])
@pytest.mark.parametrize("kind", ["application/json", PROTOBUF])
def test_both_encodings_say_the_same(store: SQLiteStore, kind: str, is_compressed: bool) -> None:
    """A span of the SDK is stored alike from protobuf and from JSON, compressed or not."""
    app = create_app(store)
    traces = spans_of_sdk(**ATTRIBUTES)
    body = traces.SerializeToString() if kind == PROTOBUF else as_json(traces)
    headers = {"content_encoding": "gzip"} if is_compressed else {}
    answer = post(app, gzip.compress(body) if is_compressed else body, kind=kind, **headers)

    assert answer.status == 200
    assert answer.headers["content-type"] == kind
    assert answer.body == (b"" if kind == PROTOBUF else b"{}")
    assert store.rows(
        "SELECT model, provider, input_tokens, output_tokens, cache_read_tokens, user_id, tags, "
        "environment, response_id, cost_pico_usd, cost_status, status, handler FROM calls"
    ) == [
        ("gpt-4o", "openai", 1000, 20, 400, "ann", '["a","b"]', "staging", "resp-1",
         2_200_000_000, "priced", "ok", "otlp"),
    ]  # fmt: skip


def test_a_request_that_comes_again_adds_nothing(store: SQLiteStore) -> None:
    """The record's id follows from the span, whatever else is in the request."""
    app = create_app(store)
    post(app, request(chat(1), chat(2)))
    post(app, request(chat(1), chat(2)))
    post(app, request(chat(2), chat(3), chat(3)))

    assert totals(store) == (3, 6, 12)


def test_what_is_no_call_is_taken_and_not_counted(store: SQLiteStore) -> None:
    """A span of a database tells of no tokens, and is no fault of the client's."""
    answer = post(create_app(store), request(span(1, {"db.system": "sqlite"}), span(2)))

    assert (answer.status, answer.json) == (200, {})
    assert totals(store) == (0, 0, 0)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (chat(2, **{"gen_ai.usage.input_tokens": -3}), "gen_ai.usage.input_tokens must be"),
        (chat(2, **{"gen_ai.usage.output_tokens": 1.5}), "not '1.5'"),
        (chat(2, **{"gen_ai.usage.input_tokens": 10**16}), "1,000,000,000,000,000"),
        (chat(2, **{"gen_ai.usage.input_tokens": "many"}), "not 'many'"),
        (chat(2) | {"traceId": "0" * 32}, "a trace's id has 16 bytes"),
        (chat(2) | {"spanId": "00ff"}, "a span's id has 8 bytes"),
        (chat(2) | {"endTimeUnixNano": "0"}, "when it ended"),
        (span(2, {"agentsight.record": "{}"}), "agentsight.record"),
        (span(2, {"langfuse.observation.usage_details": "[1"}), "usage_details"),
    ],
)
def test_a_span_that_cannot_be_read_is_named(
    store: SQLiteStore, bad: dict[str, Any], reason: str
) -> None:
    """It is refused with the reason, in the request's own encoding, and costs no other."""
    answer = post(create_app(store), request(chat(1), bad, chat(3)))

    assert answer.status == 200
    assert answer.json["partialSuccess"]["rejectedSpans"] == "1"
    assert reason in answer.json["partialSuccess"]["errorMessage"]
    assert "span-2" in answer.json["partialSuccess"]["errorMessage"]
    assert totals(store) == (2, 4, 8)


def test_what_is_rejected_is_told_in_protobuf(store: SQLiteStore) -> None:
    """A client that speaks protobuf reads it there."""
    traces = spans_of_sdk(**ATTRIBUTES, **{"gen_ai.usage.reasoning_tokens": -1})
    answer = post(create_app(store), traces.SerializeToString(), kind=PROTOBUF)

    partial = ExportTraceServiceResponse.FromString(answer.body).partial_success
    assert partial.rejected_spans == 1
    assert "gen_ai.usage.reasoning_tokens" in partial.error_message


@pytest.mark.parametrize("kind", ["application/json", PROTOBUF])
def test_errors_are_a_status(store: SQLiteStore, kind: str) -> None:
    """A body that is none is answered as OTLP wants it: google.rpc.Status."""
    answer = post(create_app(store), b"\xff\xff\xff", kind=kind)

    assert answer.status == 400
    assert answer.headers["content-type"] == kind
    if kind == PROTOBUF:
        status = Status.FromString(answer.body)
        assert (status.code, status.message[:9]) == (3, "the body:")
    else:
        assert answer.json["code"] == 3
        assert answer.json["message"].startswith("the body:")


def test_a_long_reason_is_a_status_too(store: SQLiteStore) -> None:
    """The length of the message takes more than one byte."""
    body = request(chat(1) | {"traceId": "x" * 200})
    answer = post(create_app(store, is_open=False), body, kind=PROTOBUF)

    assert answer.status == 401
    assert Status.FromString(answer.body).code == 16


@pytest.mark.parametrize("kind", ["", "text/plain", "application/grpc"])
def test_another_type_is_refused(store: SQLiteStore, kind: str) -> None:
    """415 tells which types are taken."""
    answer = post(create_app(store), request(chat(1)), kind=kind)

    assert answer.status == 415
    assert "application/x-protobuf" in answer.json["message"]
    assert totals(store) == (0, 0, 0)


def test_a_store_that_is_away_is_retried(store: SQLiteStore) -> None:
    """503 and Retry-After, by which the SDK's exporter sends again."""
    app = create_app(store)
    with store.transaction() as transaction:
        transaction.run("ALTER TABLE calls RENAME TO elsewhere")
    answer = post(app, request(chat(1)))

    assert answer.status == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json["code"] == 14


def test_the_sdk_exports_to_it(tmp_path: Path) -> None:
    """The exporter of opentelemetry-sdk, as users set it up, against the server in a process."""
    with ServerProcess(tmp_path, key="secret") as server:
        exporter = OTLPSpanExporter(
            f"{server.url}/v1/traces", headers={"Authorization": "Bearer secret"}
        )
        provider = TracerProvider(resource=Resource({"deployment.environment": "production"}))
        provider.add_span_processor(BatchSpanProcessor(exporter, max_export_batch_size=64))
        tracer = provider.get_tracer("test")
        for number in range(300):
            with tracer.start_as_current_span("agent"), tracer.start_as_current_span("c") as span:
                span.set_attributes({**ATTRIBUTES, "gen_ai.response.id": f"r-{number}"})
        provider.shutdown()
        refused = OTLPSpanExporter(f"{server.url}/v1/traces").export([])
    with SQLiteStore(tmp_path / "store.db") as store:
        assert totals(store) == (300, 300_000, 6000)
        assert store.rows("SELECT DISTINCT environment FROM calls") == [("production",)]
    assert refused is SpanExportResult.FAILURE


def test_our_own_spans_lose_nothing(tmp_path: Path, store: SQLiteStore) -> None:
    """What our destination exports is the same record, to the last pico-USD and detail."""
    from agentsight_tokens import Scope, TokenUsage
    from agentsight_tokens.cycle import Cycle

    usage = TokenUsage(
        input_tokens=100, output_tokens=50, cache_creation_tokens=30, cache_creation_1h_tokens=20
    )
    records = [
        call(1, usage=usage, cost_pico_usd=123_456_789_012_345, service_tier="flex"),
        call(2, conversation="d", unreported_reason="cancelled", usage=TokenUsage()),
        call(3, operation="embedding", usage=TokenUsage(embedding_tokens=7), cost_pico_usd=None,
             cost_status="unpriced", scope=Scope(conversation_id="c", tags=("t",))),
    ]  # fmt: skip
    cycle = Cycle.of(
        records, key="k", conversation_id="c", sealed_by="send", sealed_at=AT, environment="e"
    )
    with ServerProcess(tmp_path / "other", key="secret") as server:
        destination = OTLPSpansDestination(server.url, {"Authorization": "Bearer secret"})
        destination.deliver([cycle])
        destination.deliver([cycle])
        destination.close()
    with SQLiteStore(tmp_path / "other" / "store.db") as other:
        columns = other.rows("SELECT * FROM calls ORDER BY id")
        store.ingest([cycle])
        from agentsight_tokens.calls import CALL_COLUMNS

        names = ", ".join((*CALL_COLUMNS, "environment"))
        stored = other.rows(f"SELECT {names} FROM calls ORDER BY id")
        assert stored == store.rows(f"SELECT {names} FROM calls ORDER BY id")
    assert len(columns) == 3


def test_traces_need_a_key_that_may_ingest(store: SQLiteStore) -> None:
    """A project's spans go to that project."""
    from agentsight_tokens.backend.accounts import Accounts

    accounts = Accounts(store)
    project = accounts.project("web", organisation="acme").id
    _, secret = accounts.create_key(project, name="k", scopes=["ingest"])
    _, reader = accounts.create_key(project, name="r", scopes=["read"])
    app = create_app(store)
    assert post(app, request(chat(1))).status == 401
    assert post(app, request(chat(1)), key=reader).json["code"] == 7
    assert post(app, request(chat(1)), key=secret).status == 200

    assert store.rows("SELECT project_id, conversation_id FROM calls") == [(project, TRACE)]


def test_the_document_names_both_encodings(store: SQLiteStore) -> None:
    """OpenAPI knows the types of the body, of the answer and of what is no success."""
    document = ask(create_app(store), "GET", "/openapi.json").json
    operation = document["paths"]["/v1/traces"]["post"]

    assert {*operation["requestBody"]["content"]} == {"application/json", PROTOBUF}
    assert {*operation["responses"]["200"]["content"]} == {"application/json", PROTOBUF}
    [schema] = [operation["responses"]["400"]["content"]["application/json"]["schema"]]
    assert schema == {"$ref": "#/components/schemas/Status"}


def test_numbers_may_be_written_in_every_way(store: SQLiteStore) -> None:
    """Whole numbers come as texts, numbers or floats; what is nothing is nothing."""
    odd = chat(4)
    odd["attributes"] = [
        *pairs({"gen_ai.operation.name": "chat", "gen_ai.response.model": "gpt-4o"}),
        {"key": "gen_ai.usage.input_tokens", "value": {"doubleValue": 4}},
        {"key": "gen_ai.usage.output_tokens", "value": {"intValue": 8}},
        {"key": "user.id", "value": None},
        {"key": "session.id", "value": {}},
        {"key": "error.type", "value": {"boolValue": True}},
    ]
    odd["startTimeUnixNano"] = int(odd["startTimeUnixNano"])
    odd["events"] = [{"name": "exception", "attributes": pairs({"exception.type": "E"})}]
    odd["status"] = {"code": "STATUS_CODE_ERROR"}
    odd["parentSpanId"] = None
    assert post(create_app(store), request(odd)).json == {}

    assert store.rows("SELECT input_tokens, output_tokens, user_id, status FROM calls") == [
        (4, 8, None, "error")
    ]


@pytest.mark.parametrize(
    "body",
    [
        {"resourceSpans": 1},
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": 1}]}]}]},
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"endTimeUnixNano": "1e5"}]}]}]},
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"endTimeUnixNano": 10**30}]}]}]},
        {"resourceSpans": [{"scopeSpans": [{"spans": [{"spanId": "no hex"}]}]}]},
    ],
)
def test_json_that_is_no_request_is_refused_whole(store: SQLiteStore, body: object) -> None:
    """Nothing of it is stored."""
    assert post(create_app(store), json.dumps(body).encode()).status == 400
    assert totals(store) == (0, 0, 0)


def test_events_are_read_in_protobuf(store: SQLiteStore) -> None:
    """When the first token came, and which exception ended the call."""
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({}))
    provider.add_span_processor(SimpleSpanProcessor(memory))
    with pytest.raises(KeyError), provider.get_tracer("t").start_as_current_span("c") as each:
        each.set_attributes({**ATTRIBUTES, "gen_ai.usage.cost": True})
        each.add_event("First Token Stream Event")
        each.add_event("another", {"exception.type": "X"})
        raise KeyError
    body = encode_spans(memory.get_finished_spans()).SerializeToString()
    post(create_app(store), body, kind=PROTOBUF)

    [(status, error, first)] = store.rows(
        "SELECT status, error_type, time_to_first_token_seconds FROM calls"
    )
    assert (status, error) == ("error", "KeyError")
    assert 0 <= first < 60


def test_totals_are_settled_while_the_server_runs(tmp_path: Path) -> None:
    """What has waited for its time when the server begins is stored at once."""
    with SQLiteStore(tmp_path / "store.db") as store:
        long_ago = TraceLog(store, clock=lambda: 1_000_000.0)
        take_spans(store, spans_in_json(request(total(9, 12))), METER, log=long_ago)
        settling = Settling(store)
        settling.start()
        deadline = time.monotonic() + 30
        while totals(store) == (0, 0, 0) and time.monotonic() < deadline:
            time.sleep(0.01)
        settling.stop()

        assert totals(store) == (1, 12, 24)


def test_a_store_that_is_away_is_settled_later(
    store: SQLiteStore, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says so, and the thread goes on."""
    with store.transaction() as transaction:
        transaction.run("ALTER TABLE held_totals RENAME TO elsewhere")
    settling = Settling(store)
    settling.start()
    deadline = time.monotonic() + 30
    while "not settled" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.01)
    settling.stop()

    assert "totals are not settled, it is tried again" in caplog.text


def test_warnings_are_lines_of_the_log(tmp_path: Path) -> None:
    """A model without a price is told in JSON, as everything on stderr is."""
    code = (
        "import sys, warnings; from agentsight_tokens.backend.logs import write_logs; "
        "write_logs(None); warnings.warn('no price', UserWarning)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    [line] = done.stderr.splitlines()
    assert json.loads(line)["logger"] == "py.warnings"
    assert "no price" in json.loads(line)["message"]
