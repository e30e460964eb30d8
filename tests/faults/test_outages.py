"""A backend that is down, refuses, forgets to answer or is poisoned: nothing lost, nothing twice."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agentsight_tokens.outbox import Outbox
from tests.faults.backend import Backend
from tests.faults.hosts import Hosts, SharedCounts, eventually, log_of

RATE = 400
HOST = """
import sys, time
from pathlib import Path
from agentsight_tokens import ConversationTracker
from tests.faults.hosts import SharedCounts

calls, rate, exit_after = int(sys.argv[2]), float(sys.argv[3]), float(sys.argv[4])
tracker = ConversationTracker()
cells = SharedCounts(Path(sys.argv[1])).cells
began = time.monotonic()
slowest = 0.0
for number in range(calls):
    time.sleep(max(0, began + number / rate - time.monotonic()))
    with tracker.conversation(f"c{number % 7}"):
        before = time.perf_counter()
        tracker.track_token_usage(1, 2, model=sys.argv[5] if number % 1000 == 500 else "gpt-4o")
        slowest = max(slowest, time.perf_counter() - before)
        cells[0] += 1
        if number % 20 == 19:
            tracker.send_tracked_data()
cells[1] = int(slowest * 1e6)
tracker.flush(exit_after)
tracker.close()
"""


def start(
    hosts: Hosts, counts: SharedCounts, backend: Backend, calls: int, **more: object
) -> subprocess.Popen[str]:
    poison = more.pop("poison", "gpt-4o")
    return hosts.start(
        HOST,
        *(counts.path, calls, RATE, 90, poison),
        AGENTSIGHT_API_ENDPOINT=backend.url,
        **more,
    )


def drained(host: subprocess.Popen[str], counts: SharedCounts, calls: int) -> None:
    host.communicate(timeout=200)
    assert host.returncode == 0, log_of(host)
    assert counts.cells[0] == calls


@pytest.fixture
def counts(tmp_path: Path) -> SharedCounts:
    return SharedCounts(tmp_path / "counts")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", ["down", "503", "429 with Retry-After", "401"])
def test_an_outage_costs_nothing(
    hosts: Hosts,
    backend: Backend,
    counts: SharedCounts,
    full: bool,
    figure: Callable[[str], None],
    fault: str,
) -> None:
    """While the backend is away everything waits on disk, and then it is there once."""
    seconds, calls = (40, 10_000 + 40 * RATE) if full else (2, 1600)
    host = start(hosts, counts, backend, calls, AGENTSIGHT_API_KEY="right")
    backend.key = "right"
    assert eventually(lambda: backend.calls() > RATE / 4)
    if fault == "down":
        backend.stop()
    elif fault == "401":
        backend.key = "another"
    else:
        backend.status = int(fault[:3])
        if "Retry-After" in fault:
            backend.headers = {"Retry-After": "1"}
    before = backend.calls()
    away_at = counts.cells[0]
    time.sleep(seconds)
    assert backend.calls() <= before + RATE
    waited = counts.cells[0] - away_at
    backend.key, backend.status, backend.headers = "right", 200, {}
    if fault == "down":
        backend.start()
    back = time.monotonic()
    drained(host, counts, calls)

    figure(
        f"backend {fault} for {seconds} s at {RATE} calls/s: {waited:,} calls waited, "
        f"{calls - backend.calls()} of {calls:,} lost, {backend.redelivered} delivered twice, "
        f"{backend.calls() - len(backend.seen)} stored twice, "
        f"host done {time.monotonic() - back:.1f} s after, slowest call {counts.cells[1]} us"
    )
    assert waited > seconds * RATE / 4
    assert backend.calls() == backend.tokens() == len(backend.seen) == calls


@pytest.mark.timeout(300)
def test_lost_acknowledgements_cost_nothing(
    hosts: Hosts, backend: Backend, counts: SharedCounts, full: bool, figure: Callable[[str], None]
) -> None:
    """What was stored but not acknowledged comes again, and is stored once."""
    calls = 10_000 if full else 1200
    backend.lost_acknowledgements = 0.1 if full else 0.3
    drained(start(hosts, counts, backend, calls), counts, calls)

    figure(
        f"acknowledgement lost, p={backend.lost_acknowledgements}: {calls - backend.calls()} of "
        f"{calls:,} lost, {backend.redelivered} delivered twice, "
        f"{backend.calls() - len(backend.seen)} stored twice"
    )
    assert backend.redelivered > 0
    assert backend.calls() == backend.tokens() == len(backend.seen) == calls


@pytest.mark.timeout(300)
@pytest.mark.parametrize("refusal", ["400 for the batch", "by record"])
def test_poison_is_set_aside_alone(
    hosts: Hosts,
    backend: Backend,
    counts: SharedCounts,
    full: bool,
    figure: Callable[[str], None],
    refusal: str,
) -> None:
    """Of each thousand calls the one that is refused is kept aside, with its reason."""
    thousands = 10 if full else 1
    calls = 1000 * thousands
    poison = "the-poison"
    backend.poison = poison if refusal.startswith("400") else ""
    backend.refused_model = "" if backend.poison else poison
    drained(start(hosts, counts, backend, calls, poison=poison), counts, calls)
    outbox = Outbox(hosts.data)
    dead = [parcel for ledger in outbox.ledgers() for parcel in ledger.kept("dead")]
    outbox.close()
    backend.poison = backend.refused_model = ""

    figure(
        f"poison 1 in 1,000, refused {refusal}: {backend.calls():,} stored, {len(dead)} set aside "
        f"({dead[0].reason}), {len(backend.requests)} requests"
    )
    assert backend.calls() == calls - thousands
    assert [parcel.cycle.calls for parcel in dead] == [1] * thousands
    assert {parcel.cycle.records[0].model for parcel in dead} == {poison}
    assert ("poisonous" if refusal.startswith("400") else "model") in (dead[0].reason or "")


@pytest.mark.timeout(300)
def test_a_backend_that_hangs_holds_nobody_up(
    hosts: Hosts, backend: Backend, counts: SharedCounts, figure: Callable[[str], None]
) -> None:
    """A server that takes a request and never answers costs the host program no time."""
    calls = 800
    backend.hangs.set()
    host = start(hosts, counts, backend, calls, AGENTSIGHT_HTTP_TIMEOUT_SECONDS=0.5)
    assert eventually(lambda: counts.cells[1] > 0, 60)
    assert backend.calls() == 0
    backend.hangs.clear()
    drained(host, counts, calls)

    figure(
        f"backend that hangs: {calls - backend.calls()} of {calls} lost, slowest call "
        f"{counts.cells[1]} us"
    )
    assert backend.calls() == backend.tokens() == calls


def test_retries_are_spread_and_honour_the_server(
    hosts: Hosts, backend: Backend, counts: SharedCounts, figure: Callable[[str], None]
) -> None:
    """No retry comes before the time that the server names; others come at random times."""
    backend.status, backend.headers = 503, {"Retry-After": "1"}
    host = start(hosts, counts, backend, 40)
    assert eventually(lambda: len(backend.times) >= 4, 60)
    backend.status = 200
    drained(host, counts, 40)
    gaps = [b - a for a, b in zip(backend.times[:3], backend.times[1:4], strict=True)]

    figure(f"Retry-After 1: tried again after {', '.join(f'{gap:.2f}' for gap in gaps)} s")
    assert min(gaps) >= 1
