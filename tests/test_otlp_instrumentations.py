"""
Spans as instrumentations write them, against the ledger of the provider that was called.

`scripts/record_spans.py` has recorded them; each file names the versions.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")

from agentsight_tokens.backend.otlp import Meter, spans_in_json, take_spans
from agentsight_tokens.backend.otlp.trace_log import SECONDS_A_TOTAL_WAITS, TraceLog
from agentsight_tokens.backend.store import SQLiteStore, Store
from agentsight_tokens.config import TokenConfig
from agentsight_tokens.pricing import CostEstimator
from tests.otlp_kit import START, chat, request, span
from tests.store_kit import postgresql, store

__all__ = ["postgresql", "store"]

METER = Meter(CostEstimator(), TokenConfig())
RECORDED = Path(__file__).parent / "recorded" / "otlp"
COUNTS = (
    "input_tokens",
    "output_tokens",
    "embedding_tokens",
    "cache_read_tokens",
    "cache_creation_tokens",
    "reasoning_tokens",
)
UNREPORTED = {
    "openinference_openai": 2,
    "openllmetry_openai": 2,
    "opentelemetry_openai": 2,
    "two_openai": 2,
    "openinference_langchain": 1,
    "openllmetry_langchain": 1,
    # Both spans of the stream that told no use are in traces of their own, and one of them
    # does not know the response's id.
    "openinference_langchain_and_openai": 2,
    "openllmetry_langchain_and_openai": 1,
}
"""Calls that failed, and streams that were not asked for their use."""
KNOWN = {
    # OpenLLMetry adds what `message_start` tells of the output to what `message_delta` tells,
    # which includes it: one token each here.
    "openllmetry_anthropic": {"output_tokens": 2},
    # It leaves out what was reasoning, and of a stream also of OpenAI alone.
    "openllmetry_openai": {"reasoning_tokens": -10},
    "openllmetry_langchain": {"reasoning_tokens": -10},
    "openllmetry_langchain_and_openai": {"reasoning_tokens": -10},
    # Of a message that is not streamed it leaves out what was written to the cache.
    "openllmetry_langchain_anthropic": {"cache_creation_tokens": -15},
    # It knows no Responses, and neither cache nor reasoning.
    "opentelemetry_openai": {
        "input_tokens": -120,
        "output_tokens": -30,
        "cache_read_tokens": -240,
        "reasoning_tokens": -30,
    },
}
"""By how much an instrumentation's own spans differ from what was billed."""


def recorded(name: str) -> dict[str, Any]:
    return json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))


def billed(recording: dict[str, Any]) -> Counter[str]:
    """Return what the provider billed and told."""
    found: Counter[str] = Counter()
    for call in recording["billed"]:
        if call["reported"]:
            found.update({name: call["usage"].get(name, 0) for name in COUNTS})
    return found


def parts(request: dict[str, Any]) -> list[bytes]:
    """Return requests with a span each."""
    return [
        json.dumps(
            {
                "resourceSpans": [
                    {
                        "resource": resource_spans.get("resource", {}),
                        "scopeSpans": [{"scope": scope_spans["scope"], "spans": [each]}],
                    }
                ]
            }
        ).encode()
        for resource_spans in request["resourceSpans"]
        for scope_spans in resource_spans["scopeSpans"]
        for each in scope_spans["spans"]
    ]


def counted(store: Store, bodies: list[bytes]) -> tuple[Counter[str], int]:
    """Return what a store counts of requests, once every total is decided, and how many calls tell nothing."""
    seconds = 1_000_000.0
    log = TraceLog(store, clock=lambda: seconds)
    for body in bodies:
        answer = take_spans(store, spans_in_json(body), METER, log=log)
        assert answer.rejected == 0, answer.reason
    seconds += SECONDS_A_TOTAL_WAITS
    log.settle()
    sums = ", ".join(f"COALESCE(SUM({name}), 0)" for name in COUNTS)
    [row] = store.rows(f"SELECT COUNT(unreported_reason), {sums} FROM calls")
    return Counter(dict(zip(COUNTS, map(int, row[1:]), strict=True))), row[0]


@pytest.mark.parametrize("name", sorted(path.stem for path in RECORDED.glob("*.json")))
def test_totals_are_the_ledgers(tmp_path: Path, name: str) -> None:
    """Whole, span by span, in another order, and all of that again: what was billed, once."""
    recording = recorded(name)
    expected = billed(recording)
    expected.update(KNOWN.get(name, {}))
    singly = parts(recording["request"])
    whole = [json.dumps(recording["request"]).encode()]
    for number, bodies in enumerate([whole, singly, singly[::-1], [*singly, *whole, *singly]]):
        with SQLiteStore(tmp_path / f"{number}.db") as store:
            found, unreported = counted(store, bodies)

            if number == 2 and name == "two_openai":
                # The outer of two instrumentations came first, and it leaves out the reasoning.
                found["reasoning_tokens"] += 10
            assert +found == +expected
            if number == 0:
                assert unreported == UNREPORTED.get(name, 0)


def test_every_instrumentation_is_recorded() -> None:
    """The scenes of the script are the files, and the other way round."""
    script = (Path(__file__).parents[1] / "scripts" / "record_spans.py").read_text("utf-8")
    names = {path.stem for path in RECORDED.glob("*.json")}
    assert len(names) == 12
    assert all(f'"{name}": (' in script for name in names)
    assert {*KNOWN, *UNREPORTED} <= names
    for path in RECORDED.glob("*.json"):
        assert "exception.stacktrace" not in path.read_text("utf-8")


def of_library(library: str, number: int, **more: Any) -> bytes:
    """Return the span of a call in a trace of its own."""
    fields = {name: more.pop(name) for name in ("endTimeUnixNano", "startTimeUnixNano") if name in more}  # fmt: skip
    found = chat(number, trace=f"{Random(library + str(number)).getrandbits(128):032x}", **more)
    return request(found | fields, library=library)


both_stores = pytest.mark.parametrize(
    "store", ["sqlite", pytest.param("postgresql", marks=pytest.mark.services)], indirect=True
)


only_sqlite = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


@both_stores
def test_a_response_that_two_instrumentations_saw_is_one_call(store: Store) -> None:
    """In traces of their own, it is known by its id; within one instrumentation it never is."""
    seen = {"gen_ai.response.id": "chatcmpl-1"}
    found, _ = counted(
        store,
        [
            of_library("a", 1, **seen),
            of_library("b", 2, **seen),
            of_library("a", 4, **seen),
            of_library("b", 8, **{"gen_ai.response.id": "chatcmpl-2"}),
            of_library("a", 1, **seen),
        ],
    )

    assert found["input_tokens"] == 1 + 4 + 8


@both_stores
def test_who_tells_of_use_speaks_for_who_does_not(store: Store) -> None:
    """A stream whose use one instrumentation has not seen."""
    silent = {
        "gen_ai.response.id": "r",
        "gen_ai.usage.input_tokens": 0,
        "gen_ai.usage.output_tokens": 0,
    }
    seen = {"gen_ai.response.id": "r"}
    found, unreported = counted(store, [of_library("a", 4, **seen), of_library("b", 4, **silent)])

    assert (found["input_tokens"], unreported) == (4, 0)

    late, _ = counted(
        store,
        [
            of_library("b", 6, **silent | {"gen_ai.response.id": "s"}),
            of_library("a", 8, **{"gen_ai.response.id": "s"}),
        ],
    )
    assert late["input_tokens"] == 12


@only_sqlite
def test_the_same_id_later_is_another_response(store: SQLiteStore) -> None:
    """Some servers give every response the same id, and two programs may call one."""
    seen = {"gen_ai.response.id": "r"}
    later = str(START + 3600 * 10**9)
    found, _ = counted(
        store,
        [
            of_library("a", 1, **seen),
            of_library(
                "b", 2, startTimeUnixNano=later, endTimeUnixNano=str(int(later) + 10**9), **seen
            ),
        ],
    )

    assert found["input_tokens"] == 3


@only_sqlite
@pytest.mark.parametrize(
    "answer",
    ['{"id":"chatcmpl-9","choices":[{"id": "call_1"}]}', '{"g": [{"id": "lc"}, {"id": "chatcmpl-9"}]}'],
)  # fmt: skip
def test_the_id_is_read_from_the_answer_that_openinference_keeps(
    store: SQLiteStore, answer: str
) -> None:
    """It has no attribute for it; of the answer nothing else is read."""
    attributes = {
        "openinference.span.kind": "LLM",
        "llm.token_count.prompt": 5,
        "output.value": answer,
    }
    found, _ = counted(
        store,
        [
            request(span(1, attributes, trace="1" * 32), library="openinference"),
            of_library("other", 5, **{"gen_ai.response.id": "chatcmpl-9"}),
        ],
    )

    assert found["input_tokens"] == 5
    assert store.rows("SELECT response_id FROM calls") == [("chatcmpl-9",)]
