"""Bounds: what happens when too much waits, or for too long, and several destinations."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from agentsight_tokens.outbox import Outbox
from tests.faults.backend import Backend, running_backend
from tests.faults.hosts import Hosts, eventually

# Sends a cycle for each line of stdin, with so many calls; tells the result.
HOST = """
import json, sys
from agentsight_tokens import ConversationTracker
tracker = ConversationTracker(conversation_id="c")
for line in sys.stdin:
    command, number, *rest = line.split()
    if command == "send":
        for _ in range(int(number)):
            tracker.track_token_usage(1, model="gpt-4o", tool_name="t" * 500)
        result = tracker.send_tracked_data(wait=float(rest[0]) if rest else 0)
        told = [result.status, result.key, result.totals.input_tokens, result.error]
    elif command == "flush":
        told = [tracker.flush(float(number))]
    else:
        told = [tracker.get_usage().input_tokens, list(tracker.get_token_usage().values())[0]]
    print(json.dumps(told), flush=True)
tracker.close()
"""


class Talk:
    def __init__(self, hosts: Hosts, **environment: object) -> None:
        self.process = hosts.start(HOST, **environment)

    def __call__(self, line: str) -> list[object]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def end(self) -> None:
        self.process.communicate(timeout=60)
        assert self.process.returncode == 0


@pytest.fixture
def second(tmp_path: Path) -> Iterator[Backend]:
    with running_backend(tmp_path / "second") as backend:
        yield backend


def test_a_full_outbox_seals_no_more_and_counts_on(
    hosts: Hosts, backend: Backend, figure: Callable[[str], None]
) -> None:
    """Sends go on in one cycle that grows; nothing is lost, and all drains."""
    backend.stop()
    talk = Talk(hosts, AGENTSIGHT_API_ENDPOINT=backend.url, AGENTSIGHT_OUTBOX_MAX_MB=1)
    results = [talk("send 300") for _ in range(6)]
    # The size of the outbox is looked at once a second.
    time.sleep(1.5)
    results += [talk("send 300") for _ in range(6)]
    used = talk("usage 0")
    keys = [str(key) for _, key, _, _ in results]
    full = [
        str(error) for *_, error in results if error and "AGENTSIGHT_OUTBOX_MAX_MB" in str(error)
    ]
    backend.start()
    flushed = talk("flush 60")
    talk.end()

    figure(
        f"outbox full at 1 MB: {len(results)} sends in {len(set(keys))} cycles, {len(full)} of them "
        f"coalesced, {3600 - backend.calls()} of 3,600 calls lost"
    )
    assert [status for status, *_ in results] == ["queued"] * 12
    assert [totals for _, _, totals, _ in results] == [300] * 12
    assert used == [3600, 0]
    assert len(full) >= 6
    assert len(set(keys)) < 12
    assert flushed == [True]
    assert backend.calls() == backend.tokens() == 3600


def test_what_waits_for_too_long_is_set_aside(
    hosts: Hosts, backend: Backend, figure: Callable[[str], None]
) -> None:
    """After it was tried once more it is dead, kept, and can be sent again."""
    backend.status = 503
    talk = Talk(
        hosts,
        AGENTSIGHT_API_ENDPOINT=backend.url,
        AGENTSIGHT_OUTBOX_MAX_DAYS=1 / 86_400,
    )
    result = talk("send 5 0.5")
    assert result[0] == "queued"
    time.sleep(1)
    later = talk("send 7 20")
    backend.status = 200

    figure(f"a cycle older than the bound: {later[0]} ({later[3]})")
    outbox = Outbox(hosts.data)
    dead = [parcel for ledger in outbox.ledgers() for parcel in ledger.kept("dead")]
    outbox.close()
    assert later[0] == "rejected"
    assert "waited for more than" in str(later[3])
    assert sum(parcel.cycle.calls for parcel in dead) == 12
    talk.end()


@pytest.mark.parametrize("trouble", ["down", "hanging", "refusing"])
def test_one_destination_holds_up_no_other(
    hosts: Hosts, backend: Backend, second: Backend, figure: Callable[[str], None], trouble: str
) -> None:
    """Each destination acknowledges for itself; a send is delivered when all have."""
    path = hosts.data.parent / "calls.jsonl"
    if trouble == "down":
        second.stop()
    elif trouble == "hanging":
        second.hangs.set()
    else:
        second.poison = "gpt-4o"
    talk = Talk(
        hosts,
        AGENTSIGHT_DESTINATIONS=f"http:{backend.url},http:{second.url},jsonl:{path},embedded",
        AGENTSIGHT_HTTP_TIMEOUT_SECONDS=2,
    )
    began = time.monotonic()
    first = talk(f"send 50 {20 if trouble == 'refusing' else 1}")
    assert backend.wait_for(50, 5) == 50
    arrived = time.monotonic() - began
    assert eventually(lambda: path.exists() and len(path.read_text().splitlines()) == 50, 5)
    if trouble == "down":
        second.start()
    second.hangs.clear()
    talk("send 1 20")
    talk("flush 30")
    talk.end()

    with closing(sqlite3.connect(hosts.data / "store.db")) as store:
        embedded = store.execute("SELECT COUNT(*) FROM calls").fetchone()[0]
    figure(
        f"four destinations, one {trouble}: {first[0]}, at the others after {arrived:.1f} s; "
        f"in the end {backend.calls()}, {second.calls()}, {len(path.read_text().splitlines())}, "
        f"{embedded} of 51"
    )
    assert first[0] == ("rejected" if trouble == "refusing" else "queued")
    assert backend.calls() == embedded == len(path.read_text().splitlines()) == 51
    assert second.calls() == (0 if trouble == "refusing" else 51)


def test_a_full_destination_does_not_stop_the_others(
    hosts: Hosts, backend: Backend, second: Backend, figure: Callable[[str], None]
) -> None:
    """The outbox is full when it is full for every destination."""
    second.stop()
    talk = Talk(
        hosts,
        AGENTSIGHT_DESTINATIONS=f"http:{backend.url},http:{second.url}",
        AGENTSIGHT_OUTBOX_MAX_MB=1,
    )
    for _ in range(8):
        talk("send 300")
    time.sleep(1.5)
    result = talk("send 300 0.5")
    assert backend.wait_for(2700, 20) == 2700
    second.start()
    assert talk("flush 60") == [True]
    talk.end()

    figure(f"one of two destinations beyond its bound: the other got {backend.calls()} of 2,700")
    assert "AGENTSIGHT_OUTBOX_MAX_MB" not in str(result[3])
    assert second.calls() == 2700
