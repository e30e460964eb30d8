"""
What clients lose when something breaks: the same stream through each of them.

Each fault runs for all clients at once, each of which has its own process and its own collector
on loopback. Clients are used as documented, with their own defaults, and are ended properly,
10 seconds after the fault is over. Prints for each fault how many records that had returned
never arrived, and how many arrived more than once.

    pip install agentsight-tokens opentelemetry-sdk opentelemetry-exporter-otlp-proto-http \\
        langfuse agentsight posthog
    python benchmarks/delivery/compare.py [--records 10000] [--rate 400] [CLIENT ...]
"""

from __future__ import annotations

import argparse
import mmap
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from clients import CLIENTS, installed
from collector import Collector

GRACE_SECONDS = 10
"""What a client is given after the fault, before it is ended."""


class Run:
    """One client and its collector."""

    def __init__(self, name: str, directory: Path, records: int, rate: float) -> None:
        self.name = name
        self.records = records
        self.rate = rate
        self.collector = Collector()
        self._directory = directory / name
        self._directory.mkdir(parents=True)
        self._counts = self._directory / "counts"
        self._counts.write_bytes(bytes(16))
        with self._counts.open("r+b") as file:
            self._cells = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")
        self.process = self.start(0)

    @property
    def returned(self) -> int:
        """How many records have returned to the program."""
        return self._cells[0]

    def start(self, first: int) -> subprocess.Popen[bytes]:
        """Run the client from a record on."""
        arguments = (self.collector.url, self._counts, first, self.records, self.rate)
        return subprocess.Popen(
            [
                *(sys.executable, str(Path(__file__).with_name("clients.py")), self.name),
                *map(str, arguments),
            ],
            env={**os.environ, "AGENTSIGHT_DATA_DIR": str(self._directory / "data")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def wait_for(self, records: int) -> None:
        """Wait until so many records have returned."""
        while self.returned < records:
            if self.process.poll() is not None:
                raise SystemExit(f"{self.name} ended after {self.returned} records")
            time.sleep(0.002)

    def end(self) -> tuple[int, int]:
        """Let the client end; return how many records were lost, and how many came twice."""
        self.wait_for(self.records)
        time.sleep(GRACE_SECONDS)
        self._cells[1] = 1
        self.process.wait(timeout=120)
        if self.name == "agentsight-tokens":
            # What is left on disk is what the next program that tracks delivers.
            self.start(self.records).wait(timeout=120)
        arrived = self.collector.arrived
        # Which is why the backend, which takes an id once, counts none of them twice.
        assert all(len(ids) == 1 for ids in self.collector.ids.values()), "a record has two ids"
        self.collector.stop()
        lost = sum(number not in arrived for number in range(self.returned))
        return lost, sum(times > 1 for times in arrived.values())


def killed(run: Run) -> None:
    """SIGKILL half-way; a new process records the rest."""
    run.wait_for(run.records // 2)
    run.process.kill()
    run.process.wait()
    run.process = run.start(run.returned)


def down(seconds: float) -> Callable[[Run], None]:
    """Refuse connections for some time."""

    def inflict(run: Run) -> None:
        run.wait_for(run.records // 10)
        run.collector.stop()
        time.sleep(seconds)
        run.collector.start()

    return inflict


def unauthorized(run: Run) -> None:
    """Answer 401 for 10 seconds."""
    run.wait_for(run.records // 10)
    run.collector.is_refusing = True
    time.sleep(10)
    run.collector.is_refusing = False


def unacknowledged(run: Run) -> None:
    """Take every tenth request, and break the connection without an answer."""
    run.collector.lost_acknowledgements = 0.1
    run.wait_for(run.records)
    run.collector.lost_acknowledgements = 0.0


FAULTS: dict[str, Callable[[Run], None]] = {
    "kill -9": killed,
    "down 10 s": down(10),
    "down 40 s": down(40),
    "401 for 10 s": unauthorized,
    "answer lost, p=0.1": unacknowledged,
}


def main() -> None:
    """Run and print the table, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clients", nargs="*", default=[*CLIENTS], metavar="CLIENT")
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=400)
    options = parser.parse_args()
    cells: dict[str, list[str]] = {name: [] for name in options.clients}
    for fault, inflict in FAULTS.items():
        with tempfile.TemporaryDirectory() as directory, ThreadPoolExecutor() as pool:

            def measure(name: str, inflict: Callable[[Run], None] = inflict) -> tuple[int, int]:
                run = Run(name, Path(directory), options.records, options.rate)
                inflict(run)
                return run.end()

            for name, (lost, twice) in zip(
                options.clients, pool.map(measure, options.clients), strict=True
            ):
                cells[name].append(f"{lost:,} / {twice:,}")
                print(f"{fault}, {name}: {lost:,} lost, {twice:,} twice", file=sys.stderr)
    versions = installed()
    print(
        f"{options.records:,} records at {options.rate:g}/s, Python {platform.python_version()}, "
        f"{os.cpu_count()} processors. Lost / arrived more than once:\n"
    )
    print("| |" + "|".join(FAULTS) + "|")
    print("|---" * (len(FAULTS) + 1) + "|")
    for name, row in cells.items():
        print(f"|{name} {versions[name]}|" + "|".join(row) + "|")


if __name__ == "__main__":
    main()
