"""Several destinations at once: each for itself, and one result for all."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentsight_tokens import ConversationTracker, TokenConfig
from agentsight_tokens.backend.store import SQLiteStore
from agentsight_tokens.configured import configured_destinations
from tests.faults.backend import Backend, running_backend

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from opentelemetry.proto.collector.trace.v1 import trace_service_pb2


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    with running_backend(tmp_path / "backend") as backend:
        yield backend


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Backend]:
    with running_backend(tmp_path / "collector") as backend:
        backend.takes_anything = True
        yield backend


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    return tmp_path / "calls.jsonl"


@pytest.fixture
def config(backend: Backend, collector: Backend, lines: Path) -> TokenConfig:
    return TokenConfig(
        destinations=f"embedded, http:{backend.url}, jsonl:{lines}, otlp:{collector.url}",
        api_key="k",
    )


def embedded() -> list[str]:
    """Return the ids of the calls in the embedded store."""
    with SQLiteStore(TokenConfig().directory / "store.db") as store:
        return sorted(id for (id,) in store.rows("SELECT id FROM calls"))


def eventually(condition: Callable[[], bool], seconds: float = 20) -> bool:
    """Wait until something holds, also while what it reads is not there yet."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            if condition():
                return True
        except (OSError, sqlite3.Error):
            pass
        time.sleep(0.02)
    return False


def written(lines: Path) -> list[str]:
    return sorted(json.loads(line)["id"] for line in lines.read_text().splitlines())


def exported(collector: Backend) -> list[bytes]:
    """Return the id of each span that was acknowledged."""
    return [
        span.span_id
        for _, body in collector.requests
        for resource in trace_service_pb2.ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]


def test_all_get_everything(
    config: TokenConfig, backend: Backend, collector: Backend, lines: Path
) -> None:
    """`delivered` is told when the last of them has acknowledged."""
    with ConversationTracker(config=config, conversation_id="c") as tracker:
        for number in range(1, 11):
            tracker.track_token_usage(number)
        result = tracker.send_tracked_data(wait=20)

    assert (result.status, result.pending, result.error) == ("delivered", 0, None)
    assert backend.tokens() == 55
    assert written(lines) == embedded()
    assert len(set(exported(collector))) == 10


def test_one_that_is_away_holds_up_no_other(
    config: TokenConfig, backend: Backend, collector: Backend, lines: Path
) -> None:
    """The others have it at once; the result says why it is not delivered everywhere."""
    backend.stop()
    collector.hangs.set()
    with ConversationTracker(config=config, conversation_id="c") as tracker:
        tracker.track_token_usage(5)
        first = tracker.send_tracked_data()
        tracker.track_token_usage(6)
        tracker.send_tracked_data()
        assert eventually(lambda: len(embedded()) == 2)
        assert eventually(lambda: len(written(lines)) == 2)
        assert eventually(lambda: tracker.send_tracked_data().pending == 2)
        tracker.track_token_usage(7)
        assert eventually(lambda: tracker._runtime.last_error() is not None)
        away = tracker.send_tracked_data(wait=0.2)
        assert first.status == "queued"
        assert (away.status, away.pending) == ("queued", 3)
        assert away.error is not None
        assert away.error.startswith("http:")
        assert "refused" in away.error

        backend.start()
        collector.hangs.clear()
        assert tracker.flush(20)

    assert backend.tokens() == 18
    assert len(set(exported(collector))) == 3
    assert len(written(lines)) == len(embedded()) == 3


def test_what_one_refuses_the_others_keep(
    config: TokenConfig, backend: Backend, lines: Path
) -> None:
    """A cycle that one destination refuses is rejected, though all others have it."""
    backend.poison = "poisonous"
    with ConversationTracker(config=config, conversation_id="c") as tracker:
        tracker.track_token_usage(5, model="poisonous")
        tracker.track_token_usage(6, model="gpt-4o")
        result = tracker.send_tracked_data(wait=20)
        assert tracker.flush(20)

    assert (result.status, result.error) == ("rejected", "400 a poisonous model")
    assert backend.tokens() == 6
    assert len(written(lines)) == len(embedded()) == 2


def test_an_acknowledgement_is_of_one_destination(
    config: TokenConfig, backend: Backend, collector: Backend, lines: Path
) -> None:
    """A process that dies has delivered to some; a later one delivers to the others alone."""
    backend.stop()
    code = (
        "import os\n"
        "from agentsight_tokens import ConversationTracker, TokenConfig\n"
        f"config = TokenConfig(destinations={config.destinations!r}, api_key='k')\n"
        "tracker = ConversationTracker(config=config, conversation_id='c')\n"
        "tracker.track_token_usage(5)\n"
        "tracker.send_tracked_data()\n"
        "while sum(s._outbox.pending(s.destination.identity) > 0"
        " for s in tracker._runtime._senders) > 1:\n"
        "    pass\n"
        "tracker.track_token_usage(6)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    died = subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    before = len(collector.requests), lines.read_text()
    backend.start()
    with ConversationTracker(config=config) as tracker:
        assert tracker.flush(20)

    assert died.returncode == -9
    assert before[0] == 1
    assert lines.read_text().startswith(before[1])
    assert backend.tokens() == 11
    assert len(exported(collector)) == len(set(exported(collector))) == 2
    assert len(written(lines)) == len(embedded()) == 2


@pytest.mark.parametrize("name", ["jsonl", "otlp", "langfuse", "langsmith"])
def test_what_comes_again_is_known(
    name: str, collector: Backend, lines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever was delivered twice, in other parts too, is there once."""
    for variable in ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY", "LANGSMITH_API_KEY"):
        monkeypatch.setenv(variable, "secret")
    where = lines if name == "jsonl" else collector.url
    (destination,) = configured_destinations(TokenConfig(destinations=f"{name}:{where}"))
    from tests.records import AT, call

    records = [call(number, id=f"id-{number}") for number in range(1, 5)]

    def deliver(*numbers: int) -> None:
        from agentsight_tokens import Cycle

        part = Cycle.of(
            [records[number] for number in numbers],
            key=f"k:{numbers}",
            conversation_id="c",
            sealed_by="send",
            sealed_at=AT,
        )
        destination.deliver([part])

    deliver(0, 1, 2, 3)
    deliver(0, 1)
    deliver(2)
    destination.close()

    ids = written(lines) if name == "jsonl" else sorted(set(exported(collector)))
    assert len(ids) == 4
