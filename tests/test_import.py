"""Import: logs of others become calls, each once, and what cannot be read stops nothing."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from agentsight_tokens import ConfigurationError, Cycle, TokenConfig
from agentsight_tokens.backend.store import SQLiteStore
from agentsight_tokens.calls import CALL_COLUMNS, records
from agentsight_tokens.configured import embedded_store
from agentsight_tokens.destinations import Outcome
from agentsight_tokens.destinations.embedded import EmbeddedDestination
from agentsight_tokens.errors import DeliveryRefusedError, DestinationUnavailableError
from agentsight_tokens.importing import Defaults, Importer, Source, Summary
from agentsight_tokens.pricing import CostEstimator
from agentsight_tokens.usage import UsageRecord

RECORDED = Path(__file__).parent / "recorded"
AT = datetime(2026, 1, 2, tzinfo=timezone.utc)

CHAT = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1_763_712_000,
    "model": "gpt-4o-2024-08-06",
    "choices": [],
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "total_tokens": 120,
        "prompt_tokens_details": {"cached_tokens": 40},
    },
}
SPEND = {
    "request_id": "chatcmpl-9",
    "call_type": "acompletion",
    "spend": 0.5,
    "total_tokens": 120,
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "startTime": "2026-01-02 03:04:05.000+00:00",
    "endTime": "2026-01-02 03:04:07.000+00:00",
    "completionStartTime": "2026-01-02 03:04:06.000+00:00",
    "model": "openai/gpt-4o",
    "custom_llm_provider": "openai",
    "user": "",
    "end_user": "ann",
    "team_id": "red",
    "session_id": "s-1",
    "request_tags": '["b", "a"]',
    "metadata": json.dumps(
        {"usage_object": {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120,
                          "prompt_tokens_details": {"cached_tokens": 60}}}
    ),
    "cache_hit": "False",
    "status": "success",
}  # fmt: skip
OBSERVATION = {
    "id": "obs-1",
    "traceId": "trace-1",
    "type": "GENERATION",
    "startTime": "2026-01-02T03:04:05.000Z",
    "endTime": "2026-01-02T03:04:07.500Z",
    "completionStartTime": "2026-01-02T03:04:05.500Z",
    "model": "gpt-4o",
    "usageDetails": {"input": 60, "input_cached_tokens": 40, "output": 20, "total": 120},
    "costDetails": {"total": 17.0},
    "level": "DEFAULT",
    "environment": "production",
    "userId": "ann",
}


def lines(*rows: object) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def recorded(name: str) -> Any:
    return json.loads((RECORDED / f"{name}.json").read_text(encoding="utf-8"))


class Desk:
    """A data directory into which files are imported."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = TokenConfig(data_dir=str(directory / "data"))
        self.destination: Any = EmbeddedDestination(embedded_store(self.config.directory))

    def file(self, content: bytes, name: str = "log.jsonl") -> str:
        path = self.directory / name
        path.write_bytes(content)
        return str(path)

    def run(self, path: str, form: Any = None, *, restart: bool = False, **defaults: Any) -> Summary:  # fmt: skip
        source = Source(path)
        importer = Importer(self.destination, CostEstimator(), self.config, Defaults(**defaults))
        return importer.run(source, form or source.format(), restart=restart)

    def calls(self) -> list[UsageRecord]:
        """Return what is stored, in the order of its times."""
        with SQLiteStore(self.config.directory / "store.db") as store:
            names = ", ".join(CALL_COLUMNS)
            return list(records(store.rows(f"SELECT {names} FROM calls ORDER BY at, id")))


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    found = Desk(tmp_path)
    yield found  # type: ignore[misc]
    if isinstance(found.destination, EmbeddedDestination):
        found.destination.close()


def test_bodies_of_responses(desk: Desk) -> None:
    """OpenAI's, Anthropic's and their batches', alone and with what was asked."""
    anthropic = recorded("anthropic_message")
    wrapped = {
        "timestamp": "2026-01-02T03:04:05Z",
        "request": {"model": "claude-sonnet-4-5", "metadata": {"user_id": "bob"}},
        "response": anthropic,
        "latency_ms": 1500,
        "conversation_id": "c-1",
        "tags": ["x"],
        "environment": "staging",
    }
    path = desk.file(
        lines(
            CHAT,
            wrapped,
            recorded("openai_batch_line"),
            recorded("openai_responses"),
            recorded("openai_embedding") | {"timestamp": 1_763_712_001_000},
            {**recorded("anthropic_batch_result"), "at": "2026-01-02"},
        )
    )
    summary = desk.run(path, user_id="default")

    assert (summary.calls, summary.set_aside, summary.format) == (6, 0, "responses")
    by_model = {(r.provider, r.operation, r.service_tier): r for r in desk.calls()}
    chat = by_model["openai", "chat", None]
    assert (chat.input_tokens, chat.cached_tokens, chat.output_tokens) == (100, 40, 20)
    assert chat.scope.conversation_id == "import:log.jsonl"
    assert chat.scope.user_id == "default"
    assert chat.cost_pico_usd == 60 * 2_500_000 + 40 * 1_250_000 + 20 * 10_000_000
    message = next(r for r in desk.calls() if r.scope.conversation_id == "c-1")
    assert (message.input_tokens, message.scope.user_id) == (12_000, "bob")
    assert (message.duration_seconds, message.scope.tags) == (1.5, ("x",))
    assert {r.service_tier for r in desk.calls()} >= {"batch"}


@pytest.mark.parametrize(
    "name", sorted(p.stem for p in RECORDED.glob("*.json") if p.stem != "anthropic_stream")
)
def test_every_recorded_body_is_read_or_named(desk: Desk, name: str) -> None:
    """Nothing raises; what is no whole response is set aside or skipped, with its reason."""
    path = desk.file(json.dumps(recorded(name)).encode(), f"{name}.json")
    summary = desk.run(path, "responses", at=AT)

    assert summary.calls + summary.set_aside + sum(summary.skipped.values()) == summary.rows == 1
    assert bool(summary.set_aside) == bool(summary.faults)


def test_spend_logs_of_litellm(desk: Desk) -> None:
    """Priced by the catalog, with the cache that the metadata tell of."""
    failed = SPEND | {"request_id": "f", "status": "failure", "metadata": "{}",
                      "prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}  # fmt: skip
    rows = [
        SPEND,
        SPEND | {"request_id": "e", "call_type": "aembedding", "metadata": {},
                 "completion_tokens": 0, "total_tokens": 100},
        SPEND | {"request_id": "c", "cache_hit": "True"},
        failed,
        failed | {"request_id": "u", "status": "success"},
    ]  # fmt: skip
    summary = desk.run(desk.file(lines(*rows)))

    assert summary.format == "litellm"
    assert (summary.calls, sum(summary.skipped.values()), summary.unreported_calls) == (3, 2, 1)
    found = {r.response_id: r for r in desk.calls()}
    chat = found["chatcmpl-9"]
    assert (chat.model, chat.provider, chat.input_tokens, chat.cached_tokens) == (
        "gpt-4o", "openai", 100, 60,
    )  # fmt: skip
    assert (chat.duration_seconds, chat.time_to_first_token_seconds) == (2, 1)
    assert (chat.scope.user_id, chat.scope.org_id, chat.scope.session_id) == ("ann", "red", "s-1")
    assert chat.scope.tags == ("a", "b")
    assert chat.cost_pico_usd == 40 * 2_500_000 + 60 * 1_250_000 + 20 * 10_000_000
    assert found["e"].embedding_tokens == 100
    assert found["u"].is_unreported


def test_spend_logs_as_csv(desk: Desk) -> None:
    """As a database's client exports the table."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(SPEND))
    writer.writeheader()
    writer.writerows([SPEND, SPEND | {"request_id": "2"}])
    summary = desk.run(desk.file(text.getvalue().encode(), "spend.csv"))

    assert (summary.format, summary.calls, summary.usage.cache_read_tokens) == ("litellm", 2, 120)
    assert desk.run(desk.file(text.getvalue().encode(), "spend.csv")).rows == 0


def test_observations_of_langfuse(desk: Desk) -> None:
    """Generations and embeddings, by either way of writing names; the rest is no call."""
    underscored = {
        "id": "obs-2",
        "trace_id": "trace-1",
        "type": "EMBEDDING",
        "start_time": "2026-01-02 03:04:05",
        "provided_model_name": "text-embedding-3-small",
        "usage_details": '{"input": "9", "total": 9.0}',
        "session_id": "s-1",
    }
    rows = [
        OBSERVATION,
        underscored,
        OBSERVATION | {"id": "span", "type": "SPAN"},
        OBSERVATION | {"id": "e", "usageDetails": {}, "level": "ERROR"},
        OBSERVATION | {"id": "old", "usageDetails": None, "promptTokens": 7, "completionTokens": "3"},
    ]  # fmt: skip
    summary = desk.run(desk.file(json.dumps({"data": rows}).encode(), "observations.json"))

    assert summary.format == "langfuse"
    assert (summary.calls, summary.unreported_calls) == (4, 1)
    assert list(summary.skipped.values()) == [1]
    first, *others = sorted(desk.calls(), key=lambda r: -r.input_tokens)
    assert (first.input_tokens, first.cached_tokens, first.output_tokens) == (100, 40, 20)
    assert (first.duration_seconds, first.time_to_first_token_seconds) == (2.5, 0.5)
    assert (first.scope.conversation_id, first.scope.user_id) == ("trace-1", "ann")
    assert first.cost_pico_usd == 60 * 2_500_000 + 40 * 1_250_000 + 20 * 10_000_000
    assert {r.embedding_tokens for r in others} == {0, 9}
    assert {r.status for r in others} == {"ok", "error"}
    assert {r.input_tokens for r in others} == {0, 7}


def test_bad_rows_are_set_aside(desk: Desk) -> None:
    """With their numbers, reasons and contents; the others are imported."""
    path = desk.file(
        lines(CHAT) + b"no JSON\n\n[1]\n\xff\xfe\n" + lines({"id": "x"}, CHAT | {"id": "2"})
    )
    summary = desk.run(path, "responses")

    assert (summary.calls, summary.set_aside) == (2, 4)
    assert [fault.partition(":")[0] for fault in summary.faults] == ["2", "4", "5", "6"]
    assert summary.set_aside_file is not None
    kept = [json.loads(line) for line in Path(summary.set_aside_file).read_bytes().splitlines()]
    assert [line["row"] for line in kept] == [2, 4, 5, 6]
    assert kept[0]["content"] == "no JSON"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({k: v for k, v in CHAT.items() if k != "created"}, "when it was made"),
        (CHAT | {"created": "soon"}, "no time"),
        (CHAT | {"usage": {"prompt_tokens": -1, "completion_tokens": 1}}, "prompt_tokens"),
        ({"type": "message_delta", "usage": {"output_tokens": 1}}, "event of a stream"),
    ],
)
def test_reasons_say_what_is_missing(desk: Desk, row: dict[str, Any], reason: str) -> None:
    """And the way out, where there is one."""
    summary = desk.run(desk.file(lines(row)), "responses")

    assert summary.calls == 0
    assert reason in summary.faults[0]


@pytest.mark.parametrize(
    "row",
    [
        {"response": {"status_code": 429, "body": {"error": {"message": "slow"}}}, "custom_id": "1"},
        {"custom_id": "1", "result": {"type": "errored", "error": {}}},
        {"error": {"message": "no"}, "response": None},
        {"object": "chat.completion.chunk", "id": "c", "created": 1, "choices": [], "model": "m"},
    ],
)  # fmt: skip
def test_what_failed_is_no_call(desk: Desk, row: dict[str, Any]) -> None:
    """It is told apart from what cannot be read."""
    summary = desk.run(desk.file(lines(row)), "responses", at=AT)

    assert (summary.calls, summary.set_aside, sum(summary.skipped.values())) == (0, 0, 1)


def many(number: int) -> bytes:
    return lines(*({**CHAT, "id": f"chatcmpl-{i}"} for i in range(number)))


def test_nothing_counts_twice(desk: Desk) -> None:
    """A file again, from its first row, and what it has grown by since."""
    path = desk.file(many(1200))
    assert desk.run(path).calls == 1200
    assert desk.run(path).rows == 0
    assert desk.run(path, restart=True).calls == 1200
    assert len(desk.calls()) == 1200

    desk.file(many(1300))
    grown = desk.run(path)
    assert (grown.resumed_after, grown.calls) == (1200, 100)
    assert len(desk.calls()) == 1300


def test_another_file_of_the_name_begins_anew(desk: Desk) -> None:
    """It is known by how it begins."""
    path = desk.file(lines(CHAT))
    desk.run(path)
    desk.file(lines(CHAT | {"id": "other"}, CHAT | {"id": "third"}))

    assert desk.run(path).calls == 2


class Failing:
    """A destination that goes away after some deliveries, having committed the last."""

    identity = "embedded"

    def __init__(self, inner: EmbeddedDestination, deliveries: int) -> None:
        self._inner = inner
        self._left = deliveries

    def deliver(self, cycles: Sequence[Cycle]) -> Sequence[Outcome]:
        outcomes = self._inner.deliver(cycles)
        self._left -= 1
        if self._left < 0:
            raise DestinationUnavailableError("gone")
        return outcomes


@pytest.mark.parametrize("name", ["log.jsonl", "log.json", "log.jsonl.gz"])
def test_an_import_that_is_interrupted_goes_on(desk: Desk, name: str) -> None:
    """Nothing is lost and nothing comes twice, whether or not the last commit was told."""
    content = many(1700)
    if name == "log.json":
        content = b"[" + b",".join(content.splitlines()) + b"]"
    path = desk.file(gzip.compress(content) if name.endswith(".gz") else content, name)
    whole = desk.destination
    desk.destination = Failing(whole, 2)
    with pytest.raises(DestinationUnavailableError):
        desk.run(path)
    assert len(desk.calls()) == 1500
    desk.destination = whole
    summary = desk.run(path)

    assert (summary.resumed_after, summary.calls) == (1000, 700)
    assert len(desk.calls()) == 1700


class Refusing:
    """A destination that refuses a batch for one of its records."""

    identity = "refusing"

    def __init__(self) -> None:
        self.taken: list[str | None] = []

    def deliver(self, cycles: Sequence[Cycle]) -> Sequence[Outcome]:
        found = [record for cycle in cycles for record in cycle.records]
        if any(record.response_id == "chatcmpl-7" for record in found):
            raise DeliveryRefusedError("poison")
        self.taken += [record.response_id for record in found]
        first = {found[0].id: "not this one"} if found[0].response_id == "chatcmpl-3" else None
        return [Outcome(is_accepted=True, refused=first)] * len(cycles)


def test_what_the_destination_refuses_is_set_aside(desk: Desk) -> None:
    """The one record, and none beside it."""
    desk.destination = Refusing()
    summary = desk.run(desk.file(many(20)))

    assert sorted(summary.faults) == ["8: poison"]
    assert (summary.calls, summary.set_aside) == (19, 1)
    assert len(desk.destination.taken) == 19


def test_rows_without_ids_are_told_apart_by_their_place(desk: Desk) -> None:
    """Two calls may have used the same; the same file again is the same calls."""
    row = {k: v for k, v in CHAT.items() if k != "id"}
    path = desk.file(lines(row, row))
    desk.run(path)
    desk.run(path, restart=True)

    assert len(desk.calls()) == 2


def test_looking_stores_nothing(desk: Desk) -> None:
    """Neither calls nor how far it was."""
    desk.destination = None
    path = desk.file(lines(CHAT) + b"x\n")
    assert desk.run(path).calls == 1
    assert desk.run(path).calls == 1
    assert not (desk.directory / "data").exists()


def test_stdin(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes must be named, as it cannot be looked at first."""
    with pytest.raises(ConfigurationError, match="--from responses"):
        desk.run("-")
    pipe = io.TextIOWrapper(io.BufferedReader(io.BytesIO(gzip.compress(lines(CHAT) + b"x\n"))))  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "stdin", pipe)
    summary = desk.run("-", "responses")

    assert (summary.calls, summary.set_aside) == (1, 1)
    assert desk.calls()[0].scope.conversation_id == "import:stdin"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lines({"x": 1}), "no row that is known"),
        (b"", "no row that is known"),
        (b'[{"a": 1}', "no JSON"),
    ],
)
def test_what_is_no_log_is_named(desk: Desk, content: bytes, message: str) -> None:
    """Before anything is stored."""
    with pytest.raises(ConfigurationError, match=message):
        desk.run(desk.file(content))
    with pytest.raises(ConfigurationError, match="is no file"):
        Source(str(desk.directory / "missing"))


def test_a_file_that_is_cut_off_gives_what_it_has(desk: Desk) -> None:
    """A gzip without its end, as an upload leaves it."""
    path = desk.file(gzip.compress(many(3000), mtime=0)[:-2000], "log.jsonl.gz")
    summary = desk.run(path)

    assert 0 < summary.calls < 3000
    assert summary.faults[-1].startswith("the rest of the file")


def test_users_are_hashed(desk: Desk) -> None:
    """As everywhere, where the configuration says so."""
    desk.config = desk.config.replace(hash_user_ids=True, hash_key="k")
    desk.run(desk.file(lines(CHAT)), user_id="ann")

    assert desk.calls()[0].scope.user_id not in (None, "ann")


def test_one_object_over_many_lines_is_one_row(desk: Desk) -> None:
    """As editors and `jq` write it."""
    path = desk.file(json.dumps(CHAT, indent=2).encode(), "one.json")

    assert desk.run(path).calls == 1


@pytest.mark.parametrize(
    ("form", "row", "reason"),
    [
        ("litellm", {k: v for k, v in SPEND.items() if k != "request_id"}, "no request_id"),
        ("litellm", SPEND | {"startTime": "", "endTime": None}, "neither endTime nor startTime"),
        ("litellm", SPEND | {"metadata": "{no", "prompt_tokens": "-3"}, "prompt_tokens"),
        ("litellm", SPEND | {"endTime": True}, "no time"),
        ("langfuse", OBSERVATION | {"id": ""}, "no id"),
        ("langfuse", OBSERVATION | {"startTime": None, "endTime": None}, "neither endTime"),
        ("langfuse", OBSERVATION | {"usageDetails": {"input": "few"}}, "input must be"),
        ("langfuse", OBSERVATION | {"usageDetails": {"input": 1.5}}, "input must be"),
        ("responses", CHAT | {"created": 10**30}, "no time"),
    ],
)
def test_rows_that_lack_something_are_set_aside(
    desk: Desk, form: str, row: dict[str, Any], reason: str
) -> None:
    """Each with what it lacks."""
    summary = desk.run(desk.file(lines(row)), form)

    assert (summary.calls, summary.set_aside) == (0, 1)
    assert reason in summary.faults[0]


def test_odd_ways_of_writing_are_read(desk: Desk) -> None:
    """A byte-order mark, times as numbers in texts, tags that are none, numbers that are none."""
    odd = {"timestamp": "1763712000.5", "latency_ms": "slow", "tags": "[x", "duration_s": True}
    asked = {"request": {"body": {"model": "m", "user": "ann"}}}
    spend = SPEND | {"request_tags": "[x", "custom_llm_provider": None, "metadata": 3}
    body = {k: v for k, v in CHAT.items() if k != "model"}
    desk.run(desk.file(b"\xef\xbb\xbf" + lines({**odd, **asked, "response": body})))
    desk.run(desk.file(lines(spend), "spend.jsonl"))

    first, second = desk.calls()
    assert (first.model, first.scope.user_id, first.scope.tags) == ("m", "ann", ())
    assert (first.at.microsecond, first.duration_seconds) == (500_000, None)
    assert (second.model, second.provider, second.input_tokens) == ("openai/gpt-4o", None, 100)


def test_a_cycle_that_is_refused_whole(desk: Desk) -> None:
    """Each of its rows is set aside."""

    class Rejecting:
        identity = "rejecting"

        def deliver(self, cycles: Sequence[Cycle]) -> Sequence[Outcome]:
            return [Outcome(is_accepted=False, reason="no")] * len(cycles)

    desk.destination = Rejecting()
    summary = desk.run(desk.file(many(2)))

    assert (summary.calls, summary.faults) == (0, ["1: no", "2: no"])
