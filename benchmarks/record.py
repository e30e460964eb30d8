"""
What it costs to record a call, its journal entry included.

Prints the median and the 99th percentile in microseconds, beside SQLite committing the same
call in WAL mode with synchronous=NORMAL in the same run.
"""

from __future__ import annotations

import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from agentsight_tokens import ConversationTracker, TokenConfig, TokenUsage
from agentsight_tokens.meter import meter

CALLS = 20_000


def measure(name: str, call: Callable[[], object]) -> None:
    """Print how long a call takes."""
    for _ in range(500):
        call()
    times = []
    for _ in range(CALLS):
        began = time.perf_counter_ns()
        call()
        times.append(time.perf_counter_ns() - began)
    times.sort()
    median, late = times[CALLS // 2] / 1e3, times[CALLS * 99 // 100] / 1e3
    print(f"{name:44} median {median:7.1f} us   p99 {late:8.1f} us")


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as directory:
        usage = TokenUsage(input_tokens=1200, output_tokens=300, cache_read_tokens=800)
        with ConversationTracker(config=TokenConfig(data_dir=directory)) as tracker:
            measure(
                "track_token_usage(model=...)",
                lambda: tracker.track_token_usage(1200, 300, model="gpt-4o-mini"),
            )
            measure(
                "a handler's call, begun and finished",
                lambda: meter.begin("bench", model="gpt-4o-mini").finish(usage),
            )
        database = sqlite3.connect(Path(directory) / "peer.db", isolation_level=None)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=NORMAL")
        database.execute("CREATE TABLE calls (at TEXT, model TEXT, input INTEGER, output INTEGER)")
        measure(
            "sqlite3: INSERT of four columns, WAL NORMAL",
            lambda: database.execute(
                "INSERT INTO calls VALUES ('2026-01-01', 'gpt-4o-mini', 1200, 300)"
            ),
        )
        database.close()


if __name__ == "__main__":
    main()
