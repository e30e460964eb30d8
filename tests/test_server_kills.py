"""The server is killed, and its database restarted, while clients deliver."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import urllib3

from agentsight_tokens.backend.budgets import Budgets, NewBudget
from agentsight_tokens.backend.store import SQLiteStore, Store
from agentsight_tokens.backend.store.postgres import PostgreSQLStore
from agentsight_tokens.destinations.http import HTTPDestination
from agentsight_tokens.errors import DestinationUnavailableError
from tests.otlp_kit import chat, request
from tests.postgres_kit import PostgreSQL
from tests.records import AT
from tests.server_kit import cycle
from tests.server_process import ServerProcess
from tests.store_kit import postgresql

__all__ = ["postgresql"]

pytestmark = pytest.mark.services

CLIENTS = 4
TIMES = 10


class Clients:
    """Threads that deliver cycles, each until it is acknowledged."""

    def __init__(self, url: str, name: str = "") -> None:
        self._url = url
        self._name = name
        self._is_over = threading.Event()
        self.acknowledged: list[str] = []
        self.refused: list[Exception] = []
        self.retries = 0
        self._threads = [
            threading.Thread(target=self._deliver, args=(number,)) for number in range(CLIENTS)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def finish(self) -> None:
        """Let each acknowledge what it delivers, and end."""
        self._is_over.set()
        for thread in self._threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads)

    def wait_for_more(self, cycles: int = 20) -> None:
        """Wait until something is acknowledged again."""
        goal = len(self.acknowledged) + cycles
        deadline = time.monotonic() + 60
        while len(self.acknowledged) < goal and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(self.acknowledged) >= goal

    def _deliver(self, number: int) -> None:
        destination = HTTPDestination(self._url, None, timeout_seconds=20)
        sequence = 0
        while not self._is_over.is_set():
            sequence += 1
            keys = [f"{self._name}{number}-{sequence}-{part}" for part in range(5)]
            cycles = [cycle(key, 1, 2) for key in keys]
            while True:
                try:
                    outcomes = destination.deliver(cycles)
                    break
                except DestinationUnavailableError:
                    self.retries += 1
                    time.sleep(0.02)
                except Exception as error:
                    self.refused.append(error)
                    raise
            assert all(outcome.is_accepted for outcome in outcomes)
            self.acknowledged += keys
        destination.close()


@contextmanager
def delivering(url: str, name: str = "") -> Iterator[Clients]:
    clients = Clients(url, name)
    clients.start()
    try:
        yield clients
    finally:
        clients.finish()


def assert_all_is_there_once(store: Store, clients: Clients) -> None:
    calls = store.rows("SELECT cycle_key, id FROM calls ORDER BY 1, 2")
    expected = [(key, f"{key}-{n}") for key in sorted(clients.acknowledged) for n in (1, 2)]
    assert calls == expected
    assert store.rows("SELECT CAST(SUM(calls) AS BIGINT) FROM hourly_usage") == [(len(expected),)]
    assert not clients.refused


@pytest.fixture(params=["sqlite", "postgresql"])
def database(
    request: pytest.FixtureRequest, tmp_path: Path
) -> tuple[tuple[str, ...], Callable[[], Store]]:
    """Return the server's arguments, and what opens its store."""
    if request.param == "sqlite":
        return (), lambda: SQLiteStore(tmp_path / "store.db")
    url = request.getfixturevalue("postgresql").database()
    return ("--database-url", url), lambda: PostgreSQLStore(url)


class SpanClients(Clients):
    """Threads that send spans: a model's, and the SDK's within it in a request of its own."""

    def _deliver(self, number: int) -> None:
        http = urllib3.PoolManager(retries=False)
        sequence = 0
        while not self._is_over.is_set():
            sequence += 1
            traces = [f"{number:08x}{sequence:016x}{part:08x}" for part in range(5)]
            outer = request(*(chat(2, trace=trace) for trace in traces), library="framework")
            inner = request(*(chat(1, parent=2, trace=trace) for trace in traces), library="sdk")
            for body in (inner, outer):
                while not self._post(http, body):
                    self.retries += 1
                    time.sleep(0.02)
            self.acknowledged += traces
        http.clear()

    def _post(self, http: urllib3.PoolManager, body: bytes) -> bool:
        headers = {"Content-Type": "application/json"}
        try:
            answer = http.request(
                "POST", f"{self._url}/v1/traces", body=body, headers=headers, timeout=20
            )
        except urllib3.exceptions.HTTPError:
            return False
        if answer.status == 503:
            return False
        if answer.data != b"{}":
            self.refused.append(AssertionError(answer.data))
        return True


@pytest.mark.timeout(300)
def test_kill_9_during_ingest_of_spans(
    tmp_path: Path, database: tuple[tuple[str, ...], Callable[[], Store]]
) -> None:
    """The inner span of each acknowledged trace is there, once; the outer one never is."""
    arguments, open_store = database
    with ServerProcess(tmp_path, *arguments) as server:
        clients = SpanClients(server.url)
        clients.start()
        try:
            for _ in range(TIMES):
                clients.wait_for_more()
                time.sleep(random.uniform(0, 0.1))
                server.end()
                server.begin()
            clients.wait_for_more()
        finally:
            clients.finish()
        server.end()
        with open_store() as store:
            found = store.rows("SELECT conversation_id, input_tokens FROM calls ORDER BY 1")
            assert found == [(trace, 1) for trace in sorted(clients.acknowledged)]
            sums = store.rows("SELECT CAST(SUM(calls) AS BIGINT) FROM hourly_usage")
            assert sums == [(len(found),)]
    assert not clients.refused
    assert clients.retries


@pytest.mark.timeout(300)
def test_kill_9_during_ingest(
    tmp_path: Path, database: tuple[tuple[str, ...], Callable[[], Store]]
) -> None:
    """Ten times at any moment: every acknowledged cycle is there, and in each budget, once."""
    arguments, open_store = database
    store = open_store()
    of_windows = [
        NewBudget(name="b", window=window, token_limit=1000, levels=(0.1, 0.5, 1.0))
        for window in ("total", "hour", "rolling 24h")
    ]
    budgets = [Budgets(store, now=lambda: AT).create(1, new) for new in of_windows]
    store.close()
    with ServerProcess(tmp_path, *arguments) as server:
        with delivering(server.url) as clients:
            for _ in range(TIMES):
                clients.wait_for_more()
                time.sleep(random.uniform(0, 0.1))
                server.end()
                server.begin()
            clients.wait_for_more()
        server.end()
    store = open_store()
    assert_all_is_there_once(store, clients)
    assert clients.retries >= TIMES
    for budget in budgets:
        status = Budgets(store).status(1, budget.id, AT)
        assert status is not None
        [key] = status.keys
        assert (key.calls, key.used_tokens) == (
            2 * len(clients.acknowledged),
            9 * len(clients.acknowledged),
        )
        alerts = Budgets(store).alerts(1, budget_id=budget.id).alerts
        assert [alert.level for alert in alerts] == [1.0, 0.5, 0.1]
    store.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_postgresql_restarts_during_ingest(
    tmp_path: Path, postgresql: PostgreSQL, mode: str
) -> None:
    """Orderly or by a crash: clients are told to try again, and everything drains."""
    url = postgresql.database()
    arguments = ("--database-url", url, "--workers", "2")
    with ServerProcess(tmp_path, *arguments) as server, delivering(server.url) as clients:
        for _ in range(3):
            clients.wait_for_more()
            postgresql.stop(mode)
            time.sleep(random.uniform(0, 0.5))
            postgresql.start()
        clients.wait_for_more()
    with PostgreSQLStore(url) as store:
        assert_all_is_there_once(store, clients)
    assert clients.retries > 0


def test_workers_count_together(tmp_path: Path, postgresql: PostgreSQL) -> None:
    """Whichever of them is asked, the metrics are those of all."""
    arguments = ("--database-url", postgresql.database(), "--workers", "2")
    with ServerProcess(tmp_path, *arguments) as server:
        for _ in range(8):
            with urllib3.PoolManager() as fresh:
                assert fresh.request("GET", f"{server.url}/readyz").status == 200
        counted = 'agentsight_requests_total{method="GET",path="/readyz",status="200"} 8.0'
        for _ in range(4):
            with urllib3.PoolManager() as fresh:
                text = fresh.request("GET", f"{server.url}/metrics").data.decode()
            assert counted in text.splitlines()


def test_workers_end_with_the_one_that_looks_after_them(
    tmp_path: Path, postgresql: PostgreSQL
) -> None:
    """When that is killed, they leave the port, and another server can begin there."""
    arguments = ("--database-url", postgresql.database(), "--workers", "2")
    with ServerProcess(tmp_path, *arguments) as server:
        assert urllib3.request("GET", f"{server.url}/readyz").status == 200
        server.end()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                urllib3.request("GET", f"{server.url}/healthz", timeout=1, retries=False)
            except urllib3.exceptions.HTTPError:
                break
            time.sleep(0.05)
        else:
            pytest.fail("the workers go on")
        server.begin()
        assert urllib3.request("GET", f"{server.url}/readyz").status == 200
