"""Stores for tests of budgets: a real Redis server, and a clock that may also go back."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from agentsight_tokens.budgets.memory import MemoryStore
from agentsight_tokens.budgets.sqlite import SQLiteStore
from agentsight_tokens.budgets.store import BudgetStore, Clock
from tests.ports import free_port

STORES = ("memory", "sqlite", "redis")
NOON = datetime(2026, 3, 10, 12, 0, tzinfo=timezone.utc)


class SteeredClock:
    """A clock that tests set, also back."""

    def __init__(self, start: datetime = NOON) -> None:
        self.time = start

    def __call__(self) -> datetime:
        return self.time

    def move(self, **by: float) -> None:
        """Move the clock by a timedelta's arguments."""
        self.time += timedelta(**by)


class RedisServer:
    """A server of its own for a test run, from Debian's package."""

    def __init__(self, directory: Path, **options: str) -> None:
        program = shutil.which("redis-server")
        if program is None:
            pytest.fail("tests of budgets need a real Redis: apt-get install redis-server")
        self._program = program
        self._directory = directory
        self._options = {name.replace("_", "-"): value for name, value in options.items()}
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """The server's address."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        """Start the server, empty."""
        options = {"port": self.port, "dir": self._directory, "bind": "127.0.0.1", "save": ""}
        options |= self._options
        arguments = [word for name, value in options.items() for word in (f"--{name}", str(value))]
        self._process = subprocess.Popen(
            [self._program, *arguments, "--appendonly", "no"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.02)
        pytest.fail("redis-server did not start within 20 seconds")

    def kill(self) -> None:
        """Kill the server; what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def empty(self) -> None:
        """Delete everything."""
        import redis

        with redis.Redis(port=self.port) as client:
            client.flushall()


@pytest.fixture(scope="session")
def running_redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that runs for as long as the tests."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    yield server
    server.kill()


@pytest.fixture
def redis_server(running_redis: RedisServer) -> RedisServer:
    """A server that runs and holds nothing."""
    running_redis.empty()
    return running_redis


def opened(kind: str, request: pytest.FixtureRequest, clock: Clock | None) -> BudgetStore:
    """Return a store of a kind, empty."""
    if kind == "memory":
        return MemoryStore(clock)
    if kind == "sqlite":
        return SQLiteStore(request.getfixturevalue("tmp_path") / "budgets.db", clock=clock)
    from agentsight_tokens.budgets.redis_store import RedisStore

    server: RedisServer = request.getfixturevalue("redis_server")
    return RedisStore.from_url(server.url, clock=clock)


@pytest.fixture
def clock() -> SteeredClock:
    """A clock at noon."""
    return SteeredClock()


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, clock: SteeredClock) -> Iterator[BudgetStore]:
    """Each kind of store in turn."""
    store = opened(request.param, request, clock)
    yield store
    store.close()
