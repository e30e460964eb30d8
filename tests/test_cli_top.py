"""`top`: what runs, in whichever process, seen beside it."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from agentsight_tokens import ConversationTracker, TokenConfig
from agentsight_tokens.cli.app import app
from agentsight_tokens.cli.running import open_conversations

COMMAND = Path(sys.executable).parent / "agentsight-tokens"
HOST = """
from agentsight_tokens import ConversationTracker
tracker = ConversationTracker()
with tracker.conversation("sent", user_id="ana"):
    tracker.track_token_usage(1000, 500, model="gpt-4o-mini")
    assert tracker.send_tracked_data(wait=10).status == "delivered"
with tracker.conversation("both", user_id="ben"):
    tracker.track_token_usage(100, 50, model="gpt-4o-mini")
    assert tracker.send_tracked_data(wait=10).status == "delivered"
    tracker.track_token_usage(10, 5, model="gpt-4o-mini")
with tracker.conversation("open"):
    tracker.track_token_usage(7, 3, model="nobody-knows-it")
    tracker.get_usage()  # folds what was journalled
    tracker.track_token_usage(2, 1, model="gpt-4o-mini")
print("ready", flush=True)
for line in __import__("sys").stdin:
    with tracker.conversation("open"):
        tracker.track_token_usage(int(line), model="gpt-4o-mini")
    print("counted", flush=True)
"""


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, ["top", *arguments], env={"COLUMNS": "80", **environment})


def rows(*arguments: str, **environment: str) -> dict[str, dict[str, Any]]:
    done = run("--format", "json", *arguments, **environment)
    assert done.exit_code == 0, done.output
    return {row["conversation_id"]: row for row in json.loads(done.stdout)}


@contextmanager
def another_process() -> Iterator[subprocess.Popen[str]]:
    """Run a program that has counted and goes on to count what it is told to."""
    with subprocess.Popen(
        [sys.executable, "-c", HOST], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def test_it_shows_what_another_process_has_and_has_not_sent() -> None:
    """Sums are of both parts, and what is not sent yet is told apart."""
    with another_process():
        found = rows()

    assert {name: row["total_tokens"] for name, row in found.items()} == {
        "sent": 1500,
        "both": 165,
        "open": 13,
    }
    assert {name: row["unsent_calls"] for name, row in found.items()} == {
        "sent": 0,
        "both": 1,
        "open": 2,
    }
    assert found["both"]["user_id"] == "ben"
    assert found["open"]["unpriced_calls"] == 1


def test_looking_changes_nothing() -> None:
    """The process goes on with its cycles, and each call is stored once."""
    with another_process() as process:
        for number in range(3):
            rows()
            process.stdin.write(f"{100 + number}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "counted\n"
        before = rows()["open"]
    after = rows()["open"]

    assert (before["total_tokens"], before["unsent_calls"]) == (13 + 303, 5)
    assert (after["total_tokens"], after["unsent_calls"]) == (13 + 303, 0)


def test_open_cycles_of_this_process(tracker: ConversationTracker) -> None:
    """The journal's end is read, whether or not it was folded."""
    with tracker.conversation("a"):
        tracker.track_token_usage(5)
        assert open_conversations(TokenConfig().directory)["a"].usage.total_tokens == 5
        tracker.get_usage()
        tracker.track_token_usage(6)
        assert open_conversations(TokenConfig().directory)["a"].usage.request_count == 2
        tracker.send_tracked_data(wait=10)

    assert open_conversations(TokenConfig().directory) == {}


def test_a_ledger_that_cannot_be_read_hides_no_other(tracker: ConversationTracker) -> None:
    """What is broken is passed over."""
    tracker.track_token_usage(5)
    broken = TokenConfig().directory / "processes" / "0"
    broken.mkdir()
    (broken / "ledger.db").write_text("nothing")

    assert len(open_conversations(TokenConfig().directory)) == 1


def test_the_table_says_how_full_budgets_are(tracker: ConversationTracker) -> None:
    """A line for what all share, a column for each session's own limit."""
    limits = {"AGENTSIGHT_SESSION_TOKEN_LIMIT": "100", "AGENTSIGHT_DAILY_TOKEN_LIMIT": "1000"}
    config = TokenConfig().replace(session_token_limit=100, daily_token_limit=1000)
    with ConversationTracker(config=config) as limited, limited.conversation("a"):
        limited.track_token_usage(90, model="gpt-4o-mini")
        done = run(**limits)
        row = rows(**limits)["a"]

    assert "tokens per day: 90 of 1,000 9%" in done.stdout
    assert done.stdout.splitlines()[3].split()[0] == "conversation"
    assert "90%" in done.stdout.splitlines()[4]
    assert row["budget_used"] == 0.9


def test_the_order_and_the_limit(tracker: ConversationTracker) -> None:
    """The newest, the costliest or the largest first; the sums are of all."""
    for name, tokens, model in [("a", 9000, "gpt-4o-mini"), ("b", 5000, "gpt-4o"), ("c", 1, None)]:
        with tracker.conversation(name):
            tracker.track_token_usage(tokens, model=model)

    assert list(rows()) == ["c", "b", "a"]
    assert list(rows("--order", "costliest")) == ["b", "a", "c"]
    assert list(rows("--order", "largest", "--limit", "2")) == ["a", "b"]
    shown = run("--limit", "1").stdout
    assert "3 conversations, 14,001 tokens" in shown
    assert "2 more conversations in the sums" in shown


def test_a_long_id_leaves_room_for_every_number(tracker: ConversationTracker) -> None:
    """At 80 columns the id is cut, no number is."""
    with tracker.conversation("x" * 200, user_id="y" * 90):
        tracker.track_token_usage(123_456_789, 987_654, model="gpt-4o")
        shown = run("--once", FORCE_COLOR="1", TERM="dumb").stdout.splitlines()

    assert max(map(len, shown)) <= 80
    assert "124,444,443" in shown[4]


def test_nothing_goes_on() -> None:
    """It says so, and what to look at instead."""
    done = run()

    assert done.exit_code == 0
    assert "No conversation has had a call since 1h ago" in done.stdout
    assert "agentsight-tokens report" in done.stdout


def test_a_time_that_cannot_be_read() -> None:
    """It is refused before anything is drawn."""
    assert run("--since", "soon").exit_code == 2


@pytest.mark.parametrize("key", [b"q", b"\x03"])
def test_on_a_terminal_it_follows_until_it_is_ended(key: bytes) -> None:
    """New calls appear; q and Ctrl-C end it well, and the terminal is as it was before."""
    with another_process() as process, a_terminal("top", "--every", "0.2") as terminal:
        terminal.wait_for(b"3 conversations")
        process.stdin.write("4000\n")
        process.stdin.flush()
        terminal.wait_for(b"4,013")
        os.write(terminal.file, key)
        assert terminal.ended() == 0

    assert b"\x1b[?1049h" in terminal.seen
    assert terminal.seen.rstrip().endswith(b"\x1b[?1049l")


class Terminal:
    """A command on a terminal of 80 columns."""

    def __init__(self, pid: int, file: int) -> None:
        self.pid, self.file, self.seen = pid, file, b""

    def wait_for(self, text: bytes, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            assert time.monotonic() < deadline, self.seen
            self.read()

    def read(self) -> bool:
        ready, _, _ = select.select([self.file], [], [], 0.1)
        try:
            piece = os.read(self.file, 65536) if ready else b""
        except OSError:  # Linux says so when the other end is closed
            return False
        self.seen += piece
        return bool(piece) or not ready

    def ended(self) -> int:
        while self.read():
            pass
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@contextmanager
def a_terminal(*arguments: str) -> Iterator[Terminal]:
    pid, file = pty.fork()
    if pid == 0:
        os.environ["TERM"] = "xterm"
        os.execv(COMMAND, [COMMAND, *arguments])
    fcntl.ioctl(file, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    try:
        yield Terminal(pid, file)
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    finally:
        os.close(file)
