"""
Calls that `agentsight-tokens serve` stores durably a second, over POST /v1/cycles.

Clients on the same machine send batches over connections that are kept; each waits for the
acknowledgement, which comes after the commit. Prints the calls a second, those a second of the
server's own processor time (which does not depend on what else the machine does), the slowest
hundredth of the requests, and the server's highest memory.

    python benchmarks/ingest/cycles.py [--store sqlite] [--store postgresql] [--batch 100]
        [--clients 8] [--seconds 10] [--workers 1] [--gzip]

PostgreSQL is started for the run, with its usual settings (fsync, synchronous_commit on).
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import os
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
from agentsight_tokens.cycle import Cycle, encode_cycles
from agentsight_tokens.ids import time_ordered_id
from tests.postgres_kit import PostgreSQL
from tests.server_process import ServerProcess

CALLS_A_CYCLE = 5


def body(batch: int) -> bytes:
    """Return cycles as trackers send them: conversations of a few calls."""
    now = datetime.now(timezone.utc)
    cycles = []
    for _ in range(max(batch // CALLS_A_CYCLE, 1)):
        conversation = time_ordered_id()
        records = [
            UsageRecord(
                id=time_ordered_id(),
                at=now + timedelta(seconds=number),
                usage=TokenUsage(
                    input_tokens=1200 + number, output_tokens=340, cache_read_tokens=1024
                ),
                scope=Scope(
                    conversation_id=conversation, user_id=f"user-{number}", feature="support"
                ),
                model="gpt-4o-2024-08-06",
                provider="openai",
                cost_pico_usd=5_120_000_000,
                prompt_cost_pico_usd=1_720_000_000,
                completion_cost_pico_usd=3_400_000_000,
                cost_status="priced",
                price_key="openai/gpt-4o",
                price_version="2024-10-02",
                duration_seconds=1.25,
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
    return encode_cycles(cycles)


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
            content = queue.pop() if queue else body(load.batch)
            content = gzip.compress(content, 1) if load.is_compressed else content
            began = time.perf_counter()
            connection.request("POST", "/v1/cycles", content, headers)
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == 200, text
            assert b"rejected" not in text, text
            durations.append(time.perf_counter() - began)

    # Made before the clock runs: what a client costs is not what is measured.
    queue = [body(load.batch) for _ in range(int(load.seconds * 40_000 / load.batch))]
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


def measure(store: str, load: Load, workers: int) -> None:
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory())
        arguments: list[str] = []
        if store == "postgresql":
            postgresql = stack.enter_context(closing(PostgreSQL("fsync=on")))
            arguments = ["--database-url", postgresql.database(), "--workers", str(workers)]
        server = stack.enter_context(ServerProcess(Path(directory), *arguments))
        _, _, port = server.url.rpartition(":")
        pids = processes_of(server.pid)
        before = processor_seconds(pids)
        command = [sys.executable, __file__, "--send", port, "--batch", str(load.batch)]
        command += ["--clients", str(load.clients), "--seconds", str(load.seconds)]
        command += ["--gzip"] if load.is_compressed else []
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        requests, seconds, percentile = map(float, printed.split())
        calls = requests * load.batch
        used = processor_seconds(pids) - before
        print(
            f"{store:<12}{load.batch:>7,}{calls / seconds:>12,.0f}{calls / used:>18,.0f}"
            f"{percentile * 1000:>10,.0f}{memory_mb(pids):>10,.0f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", action="append", choices=["sqlite", "postgresql"])
    parser.add_argument("--batch", type=int, action="append")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=10)
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
        f"{'store':<12}{'batch':>7}{'calls/s':>12}{'calls/server-CPU-s':>18}{'p99 ms':>10}{'MB':>10}"
    )
    for store in given.store or ["sqlite", "postgresql"]:
        for load in loads:
            measure(store, load, given.workers)


if __name__ == "__main__":
    main()
