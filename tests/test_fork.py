"""Processes: forks, threads of daemons, and the end of a program."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from agentsight_tokens import ConversationTracker
from tests.records import Collector


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=Path(__file__).parent.parent,
    )


def stored() -> dict[str, int]:
    connection = sqlite3.connect(Path(os.environ["AGENTSIGHT_DATA_DIR"]) / "store.db")
    try:
        rows = connection.execute(
            "SELECT conversation_id, SUM(input_tokens) FROM calls GROUP BY 1"
        ).fetchall()
    finally:
        connection.close()
    return dict(rows)


def recover() -> None:
    with ConversationTracker() as tracker:
        assert tracker.flush(30)


def test_a_program_that_forgets_to_send_loses_nothing() -> None:
    """What was not sent is sealed and delivered when the program ends."""
    done = run(
        "from agentsight_tokens import ConversationTracker\n"
        "tracker = ConversationTracker(conversation_id='c')\n"
        "tracker.track_token_usage(5)\n"
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert stored() == {"c": 5}


def test_a_killed_program_is_recovered_once() -> None:
    """Calls that had returned survive SIGKILL; a second recovery adds nothing."""
    run(
        "import os\n"
        "from agentsight_tokens import ConversationTracker\n"
        "tracker = ConversationTracker(conversation_id='c')\n"
        "for _ in range(100): tracker.track_token_usage(3)\n"
        "tracker.send_tracked_data()\n"
        "for _ in range(50): tracker.track_token_usage(3)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    recover()
    recover()

    assert stored() == {"c": 450}


def test_forked_workers_are_exact() -> None:
    """Four workers, forked while a thread records, add up; none sends what the parent counted."""
    done = run(
        """
import os, sys, threading
from agentsight_tokens import ConversationTracker
tracker = ConversationTracker(conversation_id="parent")
tracker.track_token_usage(1)
stop = threading.Event()
added = 0
def work():
    global added
    while not stop.is_set():
        tracker.track_token_usage(1)
        added += 1
thread = threading.Thread(target=work)
thread.start()
children = []
for number in range(4):
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            assert tuple(tracker.get_token_usage().values()) == (0, 0, 0, 0)
            with tracker.conversation(f"child-{number}"):
                for _ in range(100):
                    tracker.track_token_usage(1)
                assert tracker.get_usage().input_tokens == 100
                assert tracker.send_tracked_data(wait=20).status == "delivered"
                tracker.track_token_usage(7)
            code = 0
        finally:
            os._exit(code)
    children.append(pid)
codes = [os.waitpid(pid, 0)[1] for pid in children]
stop.set()
thread.join()
tracker.close()
assert codes == [0] * 4, codes
print(added + 1)
"""
    )
    assert done.returncode == 0, done.stderr
    recover()

    parent = int(done.stdout)
    assert stored() == {"parent": parent, **{f"child-{n}": 107 for n in range(4)}}


def test_a_child_does_not_keep_the_parents_lock() -> None:
    """A child that outlives its parent does not stop the parent's files from being adopted."""
    run(
        """
import os, time
from agentsight_tokens import ConversationTracker
tracker = ConversationTracker(conversation_id="c")
tracker.track_token_usage(9)
if os.fork() == 0:
    time.sleep(4)
    os._exit(0)
os.kill(os.getpid(), 9)
"""
    )
    recover()

    assert stored() == {"c": 9}


def test_the_exit_does_not_wait_for_a_destination_that_is_away() -> None:
    """With the destination down a program ends in time, and its cycle waits on disk."""
    code = """
import json, sys, time
from agentsight_tokens import ConversationTracker, TokenConfig
from agentsight_tokens.errors import DestinationUnavailableError
from tests.records import Collector
class Away(Collector):
    def deliver(self, cycles):
        raise DestinationUnavailableError("away")
config = TokenConfig(exit_flush_seconds=0.3, log_level="CRITICAL")
tracker = ConversationTracker(config=config, destination=Away())
tracker.track_token_usage(5)
result = tracker.send_tracked_data(wait=0.1)
print(json.dumps([result.status, result.pending, result.error]))
began = time.monotonic()
tracker.close()
assert time.monotonic() - began < 3
"""
    done = run(code)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["queued", 1, "away"]

    collector = Collector()
    with ConversationTracker(destination=collector) as tracker:
        assert tracker.flush(20)
    assert collector.input_tokens() == 5


def test_two_processes_share_a_directory() -> None:
    """While one process delivers, another's cycles are delivered too."""
    with ConversationTracker() as tracker:
        tracker.track_token_usage(1)
        assert tracker.send_tracked_data(wait=20).status == "delivered"
        done = run(
            "from agentsight_tokens import ConversationTracker\n"
            "tracker = ConversationTracker(conversation_id='other')\n"
            "tracker.track_token_usage(5)\n"
            "print(tracker.send_tracked_data(wait=20).status)\n"
        )
        assert done.stdout.strip() == "delivered", done.stderr

    assert stored()["other"] == 5


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_threads_that_outlive_the_tracker_are_told(tracker: ConversationTracker) -> None:
    """A thread that goes on after close() gets the error of a closed tracker."""
    errors = []
    tracker.close()

    def work() -> None:
        try:
            tracker.track_token_usage(1)
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "closed" in errors[0]
