"""OTLP, Langfuse and LangSmith: what a collector on loopback gets."""

from __future__ import annotations

import base64
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from dirty_equals import IsPartialDict

from agentsight_tokens import ConfigurationError, Cycle, Scope, TokenConfig, TokenUsage
from agentsight_tokens.configured import configured_destinations
from agentsight_tokens.errors import (
    DeliveryRefusedError,
    DestinationError,
    DestinationUnauthorizedError,
    DestinationUnavailableError,
)
from tests.faults.backend import Backend, running_backend
from tests.records import AT, call

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from agentsight_tokens.destinations.otlp import OTLPMetricsDestination, OTLPSpansDestination
from agentsight_tokens.destinations.otlp_source import resource_of
from agentsight_tokens.destinations.vendors import LangfuseDestination, LangSmithDestination

RECORD = call(
    100,
    id="one",
    usage=TokenUsage(
        input_tokens=100,
        output_tokens=20,
        cache_read_tokens=40,
        cache_creation_tokens=10,
        reasoning_tokens=5,
    ),
    scope=Scope(
        conversation_id="c", session_id="s", user_id="u", agent="planner", tags=("blue", "new")
    ),
    provider="openai",
    duration_seconds=1.5,
    response_id="resp-1",
    cost_pico_usd=2_500_000_000,
)


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Backend]:
    with running_backend(tmp_path / "collector") as backend:
        backend.takes_anything = True
        yield backend


def cycle(*records: Any, key: str = "k") -> Cycle:
    return Cycle.of(
        records or (RECORD,),
        key=key,
        conversation_id="c",
        sealed_by="send",
        sealed_at=AT,
        environment="test",
    )


def spans(collector: Backend) -> list[tuple[Any, dict[str, Any], dict[str, Any]]]:
    """Return each span that came, with its attributes and those of its resource."""
    found = []
    for _, body in collector.requests:
        request = trace_service_pb2.ExportTraceServiceRequest.FromString(body)
        for resource in request.resource_spans:
            for scope in resource.scope_spans:
                resource_values = values(resource.resource.attributes)
                found += [(span, values(span.attributes), resource_values) for span in scope.spans]
    return found


def values(attributes: Any) -> dict[str, Any]:
    found = {}
    for attribute in attributes:
        kind = attribute.value.WhichOneof("value")
        value = getattr(attribute.value, kind)
        found[attribute.key] = (
            [item.string_value for item in value.values] if kind == "array_value" else value
        )
    return found


def test_a_call_is_a_span(collector: Backend) -> None:
    """It has the names of the GenAI conventions and of the cost-tracking document."""
    destination = OTLPSpansDestination(collector.url, {"x-key": "k"}, timeout_seconds=5)
    (outcome,) = destination.deliver([cycle()])
    destination.close()

    ((span, attributes, resource),) = spans(collector)
    assert outcome.is_accepted
    assert span.name == "chat gpt-4o"
    assert span.end_time_unix_nano - span.start_time_unix_nano == 1_500_000_000
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.response.model": "gpt-4o",
        "gen_ai.response.id": "resp-1",
        "gen_ai.conversation.id": "c",
        "gen_ai.agent.name": "planner",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.usage.cache_read.input_tokens": 40,
        "gen_ai.usage.cache_creation.input_tokens": 10,
        "llm.cost_usd": 0.0025,
        "user.id": "u",
        "session.id": "s",
        "agentsight.cycle.key": "k",
        "agentsight.tags": ["blue", "new"],
    }
    assert {name: attributes.get(name) for name in expected} == expected
    assert resource["deployment.environment.name"] == "test"
    headers, _ = collector.requests[0]
    assert (headers["x-key"], headers["Content-Encoding"]) == ("k", "gzip")


def test_a_span_that_comes_again_is_the_same(collector: Backend) -> None:
    """Its ids follow from the record's, under whatever cycle it comes."""
    destination = OTLPSpansDestination(collector.url)
    destination.deliver([cycle(key="whole")])
    destination.deliver([cycle(key="part")])
    destination.deliver([cycle(call(1, id="two"))])
    destination.close()

    ids = [(span.trace_id, span.span_id) for span, _, _ in spans(collector)]
    assert ids[0] == ids[1] != ids[2]


def test_the_resource_is_the_services(collector: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name and attributes come from OpenTelemetry's variables, the environment from ours."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "team=blue,deployment.environment.name=other")
    resource_of.cache_clear()
    destination = OTLPSpansDestination(collector.url)
    destination.deliver([cycle()])
    destination.close()
    resource_of.cache_clear()

    ((_, _, resource),) = spans(collector)
    assert resource == IsPartialDict(
        {"service.name": "shop", "team": "blue", "deployment.environment.name": "test"}
    )


def test_a_program_that_ends_at_once_delivers(collector: Backend, tmp_path: Path) -> None:
    """What is loaded and started for the first delivery can be while Python ends."""
    url = collector.url
    names = f"otlp:{url},otlp-metrics:{url},langfuse:{url},langsmith:{url}"
    code = (
        "from agentsight_tokens import ConversationTracker, TokenConfig\n"
        f"config = TokenConfig(destinations={names!r}, exit_flush_seconds=30)\n"
        "ConversationTracker(config=config).track_token_usage(5)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env={
            **os.environ,
            **dict.fromkeys(
                ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY", "LANGSMITH_API_KEY"), "k"
            ),
        },
    )

    assert (done.stdout, done.stderr) == ("", "")
    assert len(collector.requests) == 4


def test_what_is_unknown_is_no_zero(collector: Backend) -> None:
    """A call that reported nothing has no usage, one that failed is an error."""
    destination = OTLPSpansDestination(collector.url)
    destination.deliver(
        [
            cycle(
                call(1, usage=TokenUsage(), unreported_reason="silent", cost_pico_usd=None),
                call(2, status="error", error_type="TimeoutError"),
            )
        ]
    )
    destination.close()

    (_, unreported, _), (failed, attributes, _) = spans(collector)
    assert not [name for name in unreported if "usage" in name or "tokens" in name]
    assert unreported["llm.unreported"] is True
    assert failed.status.code == 2
    assert attributes["error.type"] == "TimeoutError"


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, DeliveryRefusedError),
        (401, DestinationUnauthorizedError),
        (404, DestinationUnavailableError),
    ],
)
def test_statuses_have_their_meaning(
    collector: Backend, status: int, error: type[Exception]
) -> None:
    """As with every destination over HTTP."""
    destination = OTLPSpansDestination(collector.url, timeout_seconds=1)
    collector.status = status

    with pytest.raises(error, match=str(status)):
        destination.deliver([cycle()])
    with pytest.raises(DestinationError):
        destination.check()
    destination.close()


def test_a_collector_that_is_away_is_told(collector: Backend) -> None:
    """The exporter's own retries end in time."""
    destination = OTLPMetricsDestination(collector.url, timeout_seconds=0.5)
    collector.stop()

    with pytest.raises(DestinationUnavailableError, match=r"no answer: .*refused"):
        destination.deliver([cycle()])
    destination.close()


@pytest.mark.parametrize("kind", [OTLPSpansDestination, OTLPMetricsDestination])
def test_partial_success_is_no_success(collector: Backend, kind: Any) -> None:
    """What a collector rejects within a 200 is looked for, and set aside."""
    answers = {
        OTLPSpansDestination: trace_service_pb2.ExportTraceServiceResponse(
            partial_success={"rejected_spans": 3, "error_message": "too old"}
        ),
        OTLPMetricsDestination: metrics_service_pb2.ExportMetricsServiceResponse(
            partial_success={"rejected_data_points": 3, "error_message": "too old"}
        ),
    }
    collector.body = answers[kind].SerializeToString()
    destination = kind(collector.url)

    with pytest.raises(DeliveryRefusedError, match="3 rejected: too old"):
        destination.deliver([cycle()])
    destination.close()


@pytest.mark.parametrize("kind", [OTLPSpansDestination, OTLPMetricsDestination])
def test_partial_success_is_read_in_json_too(collector: Backend, kind: Any) -> None:
    """Some answer in JSON whatever they were sent."""
    destination = kind(collector.url)
    collector.headers = {"Content-Type": "application/json; charset=utf-8"}
    for taken in (b"{}", b'{"partialSuccess": {}}', b'"OK"'):
        collector.body = taken
        assert destination.deliver([cycle()])[0].is_accepted

    collector.body = b'{"partialSuccess": {"rejectedSpans": "9", "rejectedDataPoints": 9, "errorMessage": "old"}}'
    with pytest.raises(DeliveryRefusedError, match="9 rejected: old"):
        destination.deliver([cycle()])
    destination.close()


@pytest.mark.parametrize("kind", [OTLPSpansDestination, OTLPMetricsDestination])
def test_any_other_words_beside_a_2xx_accept(collector: Backend, kind: Any) -> None:
    """The status says that it was taken; a page for people is nobody's acknowledgement."""
    destination = kind(collector.url)
    collector.body = b"OK"
    assert destination.deliver([cycle()])[0].is_accepted

    collector.headers = {"Content-Type": "text/html"}
    with pytest.raises(DestinationUnavailableError, match="page for people"):
        destination.deliver([cycle()])
    destination.close()


def test_metrics_taken_in_part_are_not_sent_again(
    collector: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """What the collector took has no id, so it would be counted twice."""
    collector.body = metrics_service_pb2.ExportMetricsServiceResponse(
        partial_success={"rejected_data_points": 1, "error_message": "too old"}
    ).SerializeToString()
    destination = OTLPMetricsDestination(collector.url)

    assert destination.deliver([cycle()])[0].is_accepted
    assert "1 rejected: too old data points" in caplog.text
    destination.close()


def test_redirects_are_not_followed(collector: Backend) -> None:
    """Where the collector points to may be a page to log in, which says 200."""
    collector.status, collector.headers = 302, {"Location": f"{collector.url}/login"}
    destination = OTLPSpansDestination(collector.url)

    with pytest.raises(DestinationUnavailableError, match="redirect"):
        destination.deliver([cycle()])
    destination.close()
    assert len(collector.requests) == 1


def test_another_collectors_key_is_not_shown_to_a_vendor(
    collector: Backend, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Headers of the environment and passwords of a .netrc are meant for others."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-own-key=theirs,authorization=theirs")
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password theirs\n")
    for destination in (
        OTLPSpansDestination(collector.url),
        LangfuseDestination("pk", "sk", host=collector.url),
        LangSmithDestination("key", endpoint=collector.url),
    ):
        destination.check()
        destination.close()

    own, langfuse, langsmith = (headers for headers, _ in collector.requests)
    assert (own["x-own-key"], own["authorization"]) == ("theirs", "theirs")
    assert langfuse["authorization"].startswith("Basic cGs6c2s")
    assert "theirs" not in str(langfuse)
    assert "theirs" not in str(langsmith)
    assert "authorization" not in langsmith


def test_the_hosts_own_tracing_sees_nothing(
    collector: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """Exports are no spans of the host, and the exporter logs nothing of its failures."""
    from opentelemetry import context

    seen = []
    destination = OTLPSpansDestination(collector.url)
    destination.check()
    destination._session.hooks["response"].append(
        lambda *_, **__: seen.append(context.get_value(context._SUPPRESS_INSTRUMENTATION_KEY))
    )
    collector.status = 401
    with pytest.raises(DestinationUnauthorizedError):
        destination.deliver([cycle()])
    destination.close()
    logging.getLogger("opentelemetry.exporter.otlp.proto.http.trace_exporter").error("the host's")

    assert seen == [True]
    assert [record.message for record in caplog.records] == ["the host's"]


def test_metrics_are_deltas(collector: Backend) -> None:
    """Tokens by kind and model, and how long calls took."""
    destination = OTLPMetricsDestination(collector.url)
    later = call(7, at=RECORD.at + timedelta(seconds=1), usage=TokenUsage(embedding_tokens=7))
    destination.deliver([cycle(RECORD, later, call(1, unreported_reason="silent"))])
    destination.check()
    destination.forget_after_fork()
    destination.check()
    destination.close()

    request = metrics_service_pb2.ExportMetricsServiceRequest.FromString(collector.requests[0][1])
    tokens, seconds = request.resource_metrics[0].scope_metrics[0].metrics
    sums = {
        (
            values(p.attributes)["gen_ai.token.type"],
            values(p.attributes).get("gen_ai.provider.name"),
        ): p.sum
        for p in tokens.histogram.data_points
    }
    assert tokens.name == "gen_ai.client.token.usage"
    assert tokens.histogram.aggregation_temporality == 1
    assert sums == {
        ("input", "openai"): 100,
        ("output", "openai"): 20,
        ("input", None): 7,
        ("output", None): 0,
    }
    (point,) = seconds.histogram.data_points
    assert (point.count, point.sum, sum(point.bucket_counts)) == (1, 1.5, 1)


def test_langfuse_gets_generations(collector: Backend) -> None:
    """Its usage is disjoint, its key is shown, its sessions are ours."""
    destination = LangfuseDestination("pk", "sk", host=collector.url)
    destination.deliver([cycle()])
    destination.close()

    headers, _ = collector.requests[0]
    ((_, attributes, _),) = spans(collector)
    assert headers["Authorization"] == f"Basic {base64.b64encode(b'pk:sk').decode()}"
    assert attributes["langfuse.session.id"] == "s"
    assert attributes["langfuse.trace.tags"] == ["blue", "new"]
    assert json.loads(attributes["langfuse.observation.usage_details"]) == {
        "input": 50,
        "input_cached_tokens": 40,
        "input_cache_creation": 10,
        "output": 15,
        "output_reasoning_tokens": 5,
        "total": 120,
    }
    assert json.loads(attributes["langfuse.observation.cost_details"]) == {"total": 0.0025}


def test_langsmith_gets_runs(collector: Backend) -> None:
    """Its key and its project are shown, its threads are our sessions."""
    destination = LangSmithDestination("key", project="p", endpoint=collector.url)
    destination.deliver([cycle(RECORD, call(1, unreported_reason="silent", cost_pico_usd=None))])
    destination.close()

    headers, _ = collector.requests[0]
    (_, attributes, _), (_, silent, _) = spans(collector)
    assert (headers["x-api-key"], headers["Langsmith-Project"]) == ("key", "p")
    assert attributes["langsmith.span.kind"] == "llm"
    assert attributes["langsmith.metadata.session_id"] == "s"
    assert attributes["langsmith.span.tags"] == "blue, new"
    assert attributes["gen_ai.usage.total_tokens"] == 120
    assert "gen_ai.usage.total_tokens" not in silent


def test_destinations_are_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each name makes its destination; keys come from the vendor's own variables."""
    for name in ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY", "LANGSMITH_API_KEY"):
        monkeypatch.setenv(name, "secret")
    config = TokenConfig(
        destinations="embedded, http:http://a.example, jsonl, otlp:http://b.example, otlp, "
        "otlp-metrics, langfuse, langsmith, embedded"
    )

    identities = [destination.identity for destination in configured_destinations(config)]

    assert [identity.partition(":")[0] for identity in identities] == [
        *("embedded", "http", "jsonl", "otlp", "otlp", "otlp-metrics", "langfuse", "langsmith")
    ]
    assert len(set(identities)) == len(identities)
    assert "secret" not in "".join(identities)


@pytest.mark.parametrize(
    ("destinations", "message"),
    [
        ("http", "AGENTSIGHT_API_ENDPOINT"),
        ("langfuse", "LANGFUSE_PUBLIC_KEY"),
        ("langsmith", "LANGSMITH_API_KEY"),
        ("otlp:localhost:4318", "AGENTSIGHT_DESTINATIONS='localhost:4318' is no address"),
        ("otlp-metrics:localhost", "AGENTSIGHT_DESTINATIONS='localhost' is no address"),
        ("kafka", "'kafka'; known are embedded, http"),
    ],
)
def test_a_destination_that_lacks_something_says_what(destinations: str, message: str) -> None:
    """The error names the variable to set."""
    with pytest.raises(ConfigurationError, match=message):
        configured_destinations(TokenConfig(destinations=destinations))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says how to install it."""
    monkeypatch.setattr("agentsight_tokens.configured.find_spec", lambda name: None)

    with pytest.raises(ConfigurationError, match=r"pip install 'agentsight-tokens\[otlp\]'"):
        configured_destinations(TokenConfig(destinations="otlp"))
