"""
Calls that `agentsight-tokens serve` stores durably a second, over POST /v1/cycles.

Clients on the same machine send batches over connections that are kept; each waits for the
acknowledgement, which comes after the commit. Prints the calls a second, and what they are of the
reference: rows a second that SQLite itself takes of the same calls, ready in memory, into one
table with one index (`executemany`, 800 rows a commit, WAL, synchronous=FULL), measured before
and after. The reference tells how much of the machine there was. Then the processor time of a
call, in the server and in the database's own processes, the slowest hundredth of the requests,
and the server's highest memory.

    python benchmarks/ingest/cycles.py [--store sqlite] [--store postgresql] [--batch 100]
        [--clients 8] [--seconds 10] [--rounds 3] [--workers 1] [--gzip]

The stores take turns, a round each. PostgreSQL is started for the run, with its usual settings
(fsync, synchronous_commit on).
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, closing
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parents[2]))

from agentsight_tokens import Scope, TokenUsage, UsageRecord
from agentsight_tokens.backend.store.call_row import ROW_COLUMNS, call_rows
from agentsight_tokens.cycle import Cycle, encode_cycles
from agentsight_tokens.ids import time_ordered_id
from tests.postgres_kit import PostgreSQL
from tests.server_process import ServerProcess

CALLS_A_CYCLE = 5
USERS = 20_000
MODELS = ["gpt-4o-2024-08-06", "gpt-4o-mini-2024-07-18", "claude-sonnet-4-20250514"]
FEATURES = ["support", "search", "summary", "review", "import", "chat"]


def cycles_of(batch: int, chance: random.Random) -> list[Cycle]:
    """Return cycles as trackers send them: conversations of a few calls, many users."""
    now = datetime.now(timezone.utc)
    cycles = []
    for _ in range(max(batch // CALLS_A_CYCLE, 1)):
        conversation = time_ordered_id()
        user = f"user-{int(chance.paretovariate(0.8)) % USERS}"
        feature, model = chance.choice(FEATURES), chance.choice(MODELS)
        records = [
            UsageRecord(
                id=time_ordered_id(),
                at=now + timedelta(seconds=number),
                usage=TokenUsage(
                    input_tokens=1200 + chance.randrange(900),
                    output_tokens=340 + number,
                    cache_read_tokens=1024,
                ),
                scope=Scope(
                    conversation_id=conversation,
                    session_id=conversation,
                    user_id=user,
                    agent="planner",
                    feature=feature,
                ),
                model=model,
                provider="openai",
                cost_pico_usd=5_120_000_000,
                prompt_cost_pico_usd=1_720_000_000,
                completion_cost_pico_usd=3_400_000_000,
                cost_status="priced",
                price_key="openai/gpt-4o",
                price_version="2024-10-02",
                duration_seconds=1.25 + chance.random(),
                time_to_first_token_seconds=0.31,
                handler="langchain",
                response_id=f"chatcmpl-{time_ordered_id()}",
            )
            for number in range(min(batch, CALLS_A_CYCLE))
        ]
        cycles.append(
            Cycle.of(
                records,
                key=f"{time_ordered_id()}:{conversation}:1",
                conversation_id=conversation,
                sealed_by="send",
                sealed_at=now,
                environment="production",
            )
        )
    return cycles


class Load(NamedTuple):
    clients: int
    batch: int
    seconds: float
    is_compressed: bool


def send(port: int, load: Load) -> None:
    """Send batches for a time; print how many, and how long each took."""
    headers = {"Content-Type": "application/json"}
    if load.is_compressed:
        headers["Content-Encoding"] = "gzip"
    durations: list[float] = []
    is_over = threading.Event()

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        while not is_over.is_set():
            content = queue.pop() if queue else body()
            began = time.perf_counter()
            connection.request("POST", "/v1/cycles", content, headers)
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == 200, text
            assert b"rejected" not in text, text
            durations.append(time.perf_counter() - began)

    chance = random.Random()

    def body() -> bytes:
        content = encode_cycles(cycles_of(load.batch, chance))
        return gzip.compress(content, 1) if load.is_compressed else content

    # Made before the clock runs: what a client costs is not what is measured.
    queue = [body() for _ in range(int(load.seconds * 30_000 / load.batch))]
    threads = [threading.Thread(target=client) for _ in range(load.clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    time.sleep(load.seconds)
    is_over.set()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    percentile = statistics.quantiles(durations, n=100)[98]
    print(len(durations), seconds, percentile)


def processes_of(pid: int) -> list[int]:
    """Return a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in processes_of(int(child)))]


def memory_mb(pids: list[int]) -> float:
    """Return the highest resident memory of the largest process."""
    lines = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    return max(int(text.split("VmHWM:")[1].split()[0]) for text in lines) / 1000


def processor_seconds(pids: list[int]) -> float:
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def reference(seconds: float = 1.5) -> float:
    """Return the rows a second that SQLite takes of such calls, with nothing else done."""
    columns = ", ".join(ROW_COLUMNS)
    marks = ", ".join("?" * len(ROW_COLUMNS))
    rows = call_rows(1, cycles_of(800, random.Random(1)))
    with tempfile.TemporaryDirectory() as directory:
        database = sqlite3.connect(Path(directory) / "reference.db", isolation_level=None)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute(f"CREATE TABLE calls ({columns})")
        database.execute("CREATE INDEX calls_at ON calls (project_id, at)")
        commits, began = 0, time.perf_counter()
        while time.perf_counter() < began + seconds:
            database.execute("BEGIN")
            database.executemany(f"INSERT INTO calls VALUES ({marks})", rows)
            database.execute("COMMIT")
            commits += 1
        elapsed = time.perf_counter() - began
        database.close()
    return commits * len(rows) / elapsed


class Result(NamedTuple):
    calls_per_second: float
    ratio: float
    """Of the reference."""
    server_microseconds: float
    database_microseconds: float
    """Processor time of a call."""
    percentile: float
    memory: float


class Server:
    """A server that is measured again and again, with its database."""

    def __init__(self, store: str, workers: int, stack: ExitStack) -> None:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        arguments: list[str] = []
        self._postgresql: PostgreSQL | None = None
        if store == "postgresql":
            self._postgresql = stack.enter_context(closing(PostgreSQL("fsync=on")))
            arguments = ["--database-url", self._postgresql.database(), "--workers", str(workers)]
        server = stack.enter_context(ServerProcess(Path(directory), *arguments))
        self._port = server.url.rpartition(":")[2]
        self._pid = server.pid

    def measure(self, load: Load) -> Result:
        command = [sys.executable, __file__, "--send", self._port, "--batch", str(load.batch)]
        command += ["--clients", str(load.clients), "--seconds", str(load.seconds)]
        command += ["--gzip"] if load.is_compressed else []
        before = reference()
        used = self._processor_seconds()
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        requests, seconds, percentile = map(float, printed.split())
        used = [b - a for a, b in zip(used, self._processor_seconds(), strict=True)]
        rate = (before + reference()) / 2
        calls = requests * load.batch
        return Result(
            calls / seconds,
            calls / seconds / rate,
            used[0] / calls * 1e6,
            used[1] / calls * 1e6,
            percentile * 1000,
            memory_mb(processes_of(self._pid)),
        )

    def _processor_seconds(self) -> list[float]:
        database = 0.0
        if self._postgresql is not None:
            database = processor_seconds(processes_of(self._postgresql.pid))
        return [processor_seconds(processes_of(self._pid)), database]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", action="append", choices=["sqlite", "postgresql"])
    parser.add_argument("--batch", type=int, action="append")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--gzip", action="store_true")
    parser.add_argument("--send", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    loads = [
        Load(given.clients, batch, given.seconds, given.gzip) for batch in given.batch or [100]
    ]
    if given.send:
        send(given.send, loads[0])
        return
    print(
        f"{'store':<12}{'batch':>7}{'calls/s':>10}{'of reference':>14}{'server us':>11}"
        f"{'database us':>13}{'p99 ms':>8}{'MB':>6}"
    )
    with ExitStack() as stack:
        stores = given.store or ["sqlite", "postgresql"]
        servers = {store: Server(store, given.workers, stack) for store in stores}
        for load in loads:
            found: dict[str, list[Result]] = {store: [] for store in stores}
            for _ in range(given.rounds):
                for store, server in servers.items():
                    found[store].append(server.measure(load))
                    show(store, load, found[store][-1])
            for store, results in found.items():
                columns = zip(*results, strict=True)
                show(f"= {store}", load, Result(*map(statistics.median, columns)))


def show(name: str, load: Load, result: Result) -> None:
    print(
        f"{name:<12}{load.batch:>7,}{result.calls_per_second:>10,.0f}{result.ratio:>14.2f}"
        f"{result.server_microseconds:>11.1f}{result.database_microseconds:>13.1f}"
        f"{result.percentile:>8,.0f}{result.memory:>6,.0f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
