"""The outbox's commands, beside processes that count, deliver and are killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.faults.backend import Backend
from tests.faults.hosts import Hosts, SharedCounts, eventually

COUNTING = """
import itertools, mmap, sys, time
from agentsight_tokens import ConversationTracker

number, path = int(sys.argv[1]), sys.argv[2]
file = open(path, "r+b")
cells = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")
tracker = ConversationTracker(conversation_id=f"c{number}")
for cycle in itertools.count():
    for call in range(10):
        poisonous = call == 3 and cycle % 20 == 0
        tracker.track_token_usage(1, model="poisonous" if poisonous else "gpt-4o")
        cells[2 * number + poisonous] += 1
    tracker.send_tracked_data()
    time.sleep(0.1)  # each refusal costs the backend several requests
"""


def test_commands_beside_living_and_dying_processes(
    tmp_path: Path,
    hosts: Hosts,
    backend: Backend,
    full: bool,
    figure: Callable[[str], None],
) -> None:
    """Every call is stored once, or listed as refused and then sent again."""
    backend.poison = "poisonous"
    truth = SharedCounts(tmp_path / "truth")
    environment = {"AGENTSIGHT_API_ENDPOINT": backend.url}
    command = Path(sys.executable).parent / "agentsight-tokens"

    def outbox(*arguments: str) -> str:
        done = subprocess.run(
            [command, "outbox", *arguments, "--data-dir", hosts.data],
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
            env={**os.environ, **environment},
        )
        # Living processes go on sealing, so something may wait whenever time is up.
        assert done.returncode == 0 or "still waiting" in done.stdout, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    processes = [hosts.start(COUNTING, number, truth.path, **environment) for number in range(3)]
    assert eventually(lambda: all(truth.cells[2 * number] > 20 for number in range(3)))
    commands = 0
    for round_ in range(8 if full else 2):
        outbox("status")
        outbox("dead", "list", "--format", "json")
        outbox("dead", "retry", "--all")
        outbox("export", "--output", str(tmp_path / f"kept-{round_}.json"))
        outbox("flush", "--timeout", "1")
        commands += 5
        processes[round_ % 3].kill()
        processes[round_ % 3].wait()
        processes[round_ % 3] = hosts.start(COUNTING, round_ % 3, truth.path, **environment)
    for process in processes:
        process.kill()
        process.wait()
    hosts.recover(**environment)
    healthy = sum(truth.cells[2 * number] for number in range(3))
    poisonous = sum(truth.cells[2 * number + 1] for number in range(3))
    refused = json.loads(outbox("dead", "list", "--format", "json"))
    stored_before = backend.calls()

    backend.poison = ""
    outbox("dead", "retry", "--all")
    outbox("flush", "--timeout", "60")

    figure(
        f"{commands} commands beside 3 processes, {2 + 6 * full} killed: {healthy} healthy calls, "
        f"{stored_before} stored; {poisonous} poisonous, {len(refused)} refused; "
        f"{backend.calls()} stored after a retry; {backend.redelivered} came twice"
    )
    in_flight = len(processes) + (8 if full else 2)
    assert 0 <= stored_before - healthy <= in_flight
    assert 0 <= len(refused) - poisonous <= in_flight
    assert backend.calls() == stored_before + len(refused)
    assert outbox("status", "--format", "json").strip() == "[]"
