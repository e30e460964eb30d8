"""SIGKILL at any moment: what had returned is there, once."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.backend import Backend
from tests.faults.hosts import Hosts, SharedCounts, eventually

THREADS = 8
HOST = f"""
import sys, threading, time
from pathlib import Path
from agentsight_tokens import ConversationTracker
from tests.faults.hosts import SharedCounts

tracker = ConversationTracker()
cells = SharedCounts(Path(sys.argv[1])).cells

def work(number):
    with tracker.conversation(f"c{{number % 3}}"):
        while True:
            tracker.track_token_usage(prompt_tokens=3, completion_tokens=7)
            cells[number] += 1

for number in range({THREADS}):
    threading.Thread(target=work, args=(number,), daemon=True).start()
while True:
    time.sleep(0.05)
    for number in range(3):
        with tracker.conversation(f"c{{number}}"):
            tracker.send_tracked_data()
"""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("where", ["embedded", "http"])
def test_kill_9_under_eight_threads(
    tmp_path: Path,
    hosts: Hosts,
    full: bool,
    figure: Callable[[str], None],
    backend: Backend,
    where: str,
) -> None:
    """No call that had returned is lost; of each thread at most the one in flight is more."""
    times = 20 if full else 2
    lost = extra = total = 0
    for number in range(times):
        hosts = hosts.on(tmp_path / f"data-{number}")
        environment = {"AGENTSIGHT_API_ENDPOINT": backend.url} if where == "http" else {}
        counts = SharedCounts(tmp_path / f"counts-{number}")
        before = backend.calls()
        host = hosts.start(HOST, counts.path, **environment)
        assert eventually(lambda counts=counts: counts.total() > 1000)
        time.sleep(random.uniform(0.2, 1.2 if full else 0.6))
        host.kill()
        host.wait()
        hosts.recover(**environment)
        first = backend.calls() if where == "http" else sum(c for c, _ in hosts.stored().values())
        hosts.recover(**environment)
        again = backend.calls() if where == "http" else sum(c for c, _ in hosts.stored().values())
        assert again == first, "a second recovery changed the sum"
        found = first - before if where == "http" else first
        lost += max(0, counts.total() - found)
        extra += max(0, found - counts.total())
        total += counts.total()

    figure(
        f"kill -9 x{times}, {THREADS} threads, {where}: {total:,} completed calls, {lost} lost, "
        f"{extra} more than completed (at most {THREADS * times} were in flight)"
    )
    assert lost == 0
    assert extra <= THREADS * times


# Each ends the process at one step, the third time that it is taken.
CRASHES = {
    "while an entry is written": "journal.Journal._write before",
    "after an entry is written": "journal.Journal._write after",
    "before a seal is committed": "ledger.Ledger._address before",
    "in a seal, before its commit": "ledger.Ledger._address after",
    "after a seal is committed": "ledger.Ledger.seal after",
    "before a fold": "call_history.CallHistory._insert before",
    "in a fold, before its commit": "call_history.CallHistory._insert after",
    "before the POST": "destinations.http.HTTPDestination.deliver before",
    "after the POST, before the mark": "destinations.http.HTTPDestination.deliver after",
    "in the mark": "parcels.Parcels._transaction after",
    "after the mark": "parcels.Parcels.mark after",
    "before the journal is deleted": "ledger.Ledger.fold_for_good before",
    "after the journal is deleted": "ledger.Ledger.fold_for_good after",
}
CRASHING_HOST = """
import importlib, os, signal, sys, time
from pathlib import Path
import agentsight_tokens.caretaker
from agentsight_tokens import ConversationTracker
from tests.faults.hosts import SharedCounts

agentsight_tokens.caretaker.SEGMENT_BYTES = 2_000
path, when = sys.argv[2].split()
module, kind, method = path.rsplit(".", 2)
kind = getattr(importlib.import_module(f"agentsight_tokens.{module}"), kind)
original = getattr(kind, method)
taken = 0

def crash():
    global taken
    taken += 1
    if taken == 3:
        os.kill(os.getpid(), signal.SIGKILL)

def patched(*args, **kwargs):
    if when == "before":
        crash()
    try:
        return original(*args, **kwargs)
    finally:
        if when == "after":
            crash()

setattr(kind, method, patched)
tracker = ConversationTracker()
cells = SharedCounts(Path(sys.argv[1])).cells
deadline = time.monotonic() + 20
while time.monotonic() < deadline:
    for number in range(5):
        tracker.track_token_usage(1)
        cells[0] += 1
    tracker.send_tracked_data(wait=0.05)
"""


@pytest.mark.parametrize("step", CRASHES)
def test_a_crash_at_any_step(
    tmp_path: Path, hosts: Hosts, backend: Backend, figure: Callable[[str], None], step: str
) -> None:
    """Wherever a process ends, its calls are stored once."""
    counts = SharedCounts(tmp_path / "counts")
    environment = {"AGENTSIGHT_API_ENDPOINT": backend.url}
    host = hosts.start(CRASHING_HOST, counts.path, CRASHES[step], **environment)
    host.communicate(timeout=60)
    assert host.returncode == -signal.SIGKILL
    hosts.recover(**environment)
    first = backend.calls()
    hosts.recover(**environment)

    figure(
        f"crash {step}: {counts.total()} completed, {first} stored, "
        f"{backend.redelivered} delivered twice, {first - len(backend.seen)} stored twice"
    )
    assert backend.calls() == first == len(backend.seen)
    assert 0 <= first - counts.total() <= 1


ADOPTER_CRASHES = {
    "before the orphan is sealed": "ledger.Ledger.seal_the_rest before",
    "after the orphan is sealed": "ledger.Ledger.seal_the_rest after",
    "before the orphan is deleted": "outbox.delete_folder before",
    "after the orphan is deleted": "outbox.delete_folder after",
    "between two files of the orphan": "pathlib.Path.unlink after",
}
CRASHING_ADOPTER = """
import importlib, os, signal, sys
path, when = sys.argv[1].split()
module, *kind, method = path.split(".")
from agentsight_tokens import ConversationTracker
owner = importlib.import_module(module if module == "pathlib" else f"agentsight_tokens.{module}")
for name in kind:
    owner = getattr(owner, name)
original = getattr(owner, method)

def patched(*args, **kwargs):
    if when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = original(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, method, patched)
ConversationTracker().flush(20)
"""


@pytest.mark.parametrize("step", ADOPTER_CRASHES)
def test_a_crash_of_the_adopter(
    hosts: Hosts, backend: Backend, figure: Callable[[str], None], step: str
) -> None:
    """Who finishes a dead process's work may die at it too."""
    environment = {"AGENTSIGHT_API_ENDPOINT": backend.url}
    hosts.run(
        "import os\n"
        "from agentsight_tokens import ConversationTracker\n"
        "tracker = ConversationTracker()\n"
        "for _ in range(50): tracker.track_token_usage(1)\n"
        "os.kill(os.getpid(), 9)\n",
        fails=True,
        AGENTSIGHT_API_ENDPOINT="http://127.0.0.1:1",
    )
    (orphan,) = [p for p in (hosts.data / "processes").iterdir() if not p.name.startswith(".")]
    note = orphan / "process.json"
    note.unlink()  # so that it is addressed to whoever adopts it
    hosts.run(CRASHING_ADOPTER, ADOPTER_CRASHES[step], fails=True, **environment)
    hosts.recover(**environment)
    hosts.recover(**environment)

    figure(f"adopter killed {step}: {backend.calls()} of 50 stored")
    assert (backend.calls(), backend.tokens()) == (50, 50)
    assert not any((hosts.data / "processes").iterdir())
