"""
How late an event loop wakes up while this package sends.

A loop sleeps for a millisecond again and again; how much later than that it wakes is its lag.
Three times: with nothing else, with 400 calls a second of which every twentieth is followed by
`asend_tracked_data()`, and with the same while a backlog of 20,000 cycles drains as well. The
receiver is `agentsight-tokens serve`.

    python benchmarks/delivery/lag.py [--seconds 10]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from drain import FILL, serve

from agentsight_tokens import ConversationTracker

BACKLOG = 20_000
RATE = 400


async def lags(seconds: float) -> list[float]:
    """Return the lags of a loop, in milliseconds, in order of size."""
    found = []
    until = time.perf_counter() + seconds
    while (began := time.perf_counter()) < until:
        await asyncio.sleep(0.001)
        found.append((time.perf_counter() - began - 0.001) * 1000)
    return sorted(found)


async def work(tracker: ConversationTracker) -> None:
    """Record and send until it is cancelled."""
    number = 0
    while True:
        number += 1
        with tracker.conversation(f"conversation-{number % 100}"):
            tracker.track_token_usage(1200, 300, model="gpt-4o-mini")
            if number % 20 == 0:
                await tracker.asend_tracked_data()
        await asyncio.sleep(1 / RATE)


async def measure(name: str, seconds: float, tracker: ConversationTracker | None) -> None:
    """Print the lag of a loop in which a tracker works."""
    working = asyncio.create_task(work(tracker)) if tracker else None
    found = await lags(seconds)
    if working:
        working.cancel()
    median, late, last = found[len(found) // 2], found[len(found) * 99 // 100], found[-1]
    print(f"{name:44} median {median:6.2f} ms   p99 {late:6.2f} ms   longest {last:6.1f} ms")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    options = parser.parse_args()
    asyncio.run(measure("nothing else", options.seconds, None))
    with tempfile.TemporaryDirectory() as directory, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        os.environ["AGENTSIGHT_DATA_DIR"] = f"{directory}/client"
        os.environ["AGENTSIGHT_API_ENDPOINT"] = f"http://127.0.0.1:{port}"
        server = serve(port, Path(directory) / "server")
        try:
            with ConversationTracker() as tracker:
                asyncio.run(measure("400 calls/s, 20 sends/s", options.seconds, tracker))
            subprocess.run(
                [sys.executable, "-c", FILL, str(BACKLOG), "killed"], check=False, stderr=-3
            )
            with ConversationTracker() as tracker:
                asyncio.run(measure("the same, and a backlog drains", options.seconds / 4, tracker))
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
