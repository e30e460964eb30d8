"""
How long a backlog takes to drain into the SQLite receiver, `agentsight-tokens serve`.

A process records one call in each of so many conversations while its backend is away, and ends.
Then the server starts, and a second process delivers what waits. Prints the seconds, beside
the processor seconds of both sides, and checks that each call is stored once.

    python benchmarks/delivery/drain.py [--cycles 100000] [--killed]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

FILL = """
import os, sys
from agentsight_tokens import ConversationTracker
tracker = ConversationTracker()
for number in range(int(sys.argv[1])):
    with tracker.conversation(f"conversation-{number}", user_id=f"user-{number % 100}"):
        tracker.track_token_usage(1200, 300, model="gpt-4o-mini", cache_read_tokens=800)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), 9)
tracker.close()
"""
DRAIN = """
import time
from agentsight_tokens import ConversationTracker
began = time.monotonic()
with ConversationTracker() as tracker:
    assert tracker.flush(300)
    print(time.monotonic() - began)
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=100_000)
    parser.add_argument("--killed", action="store_true", help="SIGKILL the process that recorded")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        environment = {
            **os.environ,
            "AGENTSIGHT_DATA_DIR": f"{directory}/client",
            "AGENTSIGHT_API_ENDPOINT": f"http://127.0.0.1:{port}",
        }
        how = "killed" if options.killed else "closed"
        fill = [sys.executable, "-c", FILL, str(options.cycles), how]
        subprocess.run(fill, env=environment, check=not options.killed)
        server = serve(port, Path(directory) / "server")
        try:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            drain = subprocess.run(
                [sys.executable, "-c", DRAIN],
                env=environment,
                check=True,
                capture_output=True,
                text=True,
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        finally:
            server.terminate()
            server.wait()
        ended = resource.getrusage(resource.RUSAGE_CHILDREN)
        [(stored, cycles)] = sqlite3.connect(Path(directory) / "server" / "store.db").execute(
            "SELECT COUNT(*), COUNT(DISTINCT cycle_key) FROM calls"
        )
    assert stored == cycles == options.cycles, f"{stored} calls in {cycles} cycles are stored"
    seconds = float(drain.stdout)
    print(
        f"{options.cycles:,} cycles of a process that {how if options.killed else 'ended'}: "
        f"drained in {seconds:.1f} s, {options.cycles / seconds:,.0f} a second; processor seconds: "
        f"client {processor(before, after):.1f}, server {processor(after, ended):.1f}"
    )


def serve(port: int, directory: Path) -> subprocess.Popen[bytes]:
    """Start the receiver, and wait until it listens."""
    server = subprocess.Popen(
        [
            *(str(Path(sys.executable).with_name("agentsight-tokens")), "serve"),
            *("--port", str(port), "--data-dir", str(directory)),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while server.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port)).close()
            return server
        time.sleep(0.05)
    raise SystemExit("the server does not start")


def processor(before: resource.struct_rusage, after: resource.struct_rusage) -> float:
    """Return the processor seconds between two looks."""
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
