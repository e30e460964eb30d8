"""Host programs in processes of their own, and a small disk for them to fill."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DISK_MB = 12


class Hosts:
    """Starts programs on one data directory, and ends those that are left."""

    def __init__(self, data: Path, logs: Path) -> None:
        self.data = data
        self.logs = logs
        self._running: list[subprocess.Popen[str]] = []

    def on(self, data: Path) -> Hosts:
        """Return programs on another data directory, which end together with these."""
        other = Hosts(data, self.logs)
        other._running = self._running
        return other

    def start(self, code: str, *arguments: object, **environment: object) -> subprocess.Popen[str]:
        """Run code in a process; its arguments are in `sys.argv[1:]`."""
        # To a file: a pipe that nobody reads would stop the host when it is full.
        log = self.logs / f"host-{len(self._running)}.log"
        with log.open("w") as errors:
            process = subprocess.Popen(
                [sys.executable, "-c", code, *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
                    "AGENTSIGHT_DATA_DIR": str(self.data),
                    **{name: str(value) for name, value in environment.items()},
                },
            )
        process.log = log  # type: ignore[attr-defined]
        self._running.append(process)
        return process

    def run(self, code: str, *arguments: object, fails: bool = False, **environment: object) -> str:
        """Run code to its end, and return what it printed."""
        process = self.start(code, *arguments, **environment)
        output, _ = process.communicate(timeout=100)
        if not fails:
            assert process.returncode == 0, log_of(process)
        return output.strip()

    def recover(self, **environment: object) -> None:
        """Let a new process adopt what is left, and deliver it."""
        self.run(
            "from agentsight_tokens import ConversationTracker\n"
            "with ConversationTracker() as tracker:\n"
            "    assert tracker.flush(60), tracker.send_tracked_data()\n",
            **environment,
        )

    def stored(self) -> dict[str, tuple[int, int]]:
        """Return the calls and the input tokens of each conversation in the embedded store."""
        from agentsight_tokens.backend.store import SQLiteStore

        with SQLiteStore(self.data / "store.db") as store:
            rows = store.rows(
                "SELECT conversation_id, COUNT(*), SUM(input_tokens) FROM calls GROUP BY 1"
            )
        return {name: (calls, tokens) for name, calls, tokens in rows}

    def end(self) -> None:
        """Kill what still runs."""
        for process in self._running:
            if process.poll() is None:
                process.kill()
            process.communicate()


def log_of(process: subprocess.Popen[str]) -> str:
    """Return what a host wrote to its stderr."""
    return process.log.read_text()  # type: ignore[attr-defined]


class SharedCounts:
    """Numbers in memory that survive whoever counts."""

    def __init__(self, path: Path, *, size: int = 64) -> None:
        self.path = path
        if not path.exists():
            path.write_bytes(bytes(8 * size))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        # One aligned word each: it is never seen half written.
        self.cells = memoryview(self._map).cast("q")

    def total(self) -> int:
        return sum(self.cells)


def eventually(condition: Any, seconds: float = 20) -> bool:
    """Wait until something holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


@contextmanager
def small_disk(directory: Path, megabytes: int = DISK_MB, *options: str) -> Iterator[Path]:
    """
    Mount a file system of its own.

    It needs root, itself or by `sudo` without a password. Where neither is to be had the test
    fails: a fault that is not tried must not look like one that is survived.
    """
    directory.mkdir(parents=True, exist_ok=True)
    rights = [] if os.geteuid() == 0 else ["sudo", "-n"]
    settings = ",".join([f"size={megabytes}m", "mode=0777", *options])
    done = subprocess.run(
        [*rights, "mount", "-t", "tmpfs", "-o", settings, "tmpfs", str(directory)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"no small disk could be mounted: {done.stderr}"
    try:
        yield directory
    finally:
        subprocess.run([*rights, "umount", "-l", str(directory)], check=True)


def fill(directory: Path) -> Path:
    """Fill a file system to the last byte; return the file to delete."""
    path = directory / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 512, 1):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)
    return path
