"""How the store of Redis talks to its server: connections that are kept, and clients of others."""

# ruff: noqa: F811  # fixtures are imported, and named again where they are used
from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from agentsight_tokens import Budget, BudgetExceededError, BudgetManager
from agentsight_tokens.budgets.redis_store import RedisStore
from agentsight_tokens.budgets.reservation import Reservation
from agentsight_tokens.errors import StorageError
from tests.budget_kit import RedisServer, redis_server, running_redis  # noqa: F401  # fixtures
from tests.ports import free_port

DAY = Budget(daily_token_limit=1000, cost_limit_usd=1)


@pytest.fixture
def admin(redis_server: RedisServer) -> Iterator[redis.Redis]:
    """A client of the test's own."""
    with redis.Redis.from_url(redis_server.url) as client:
        yield client


def managed(store: RedisStore | str, **settings: Any) -> BudgetManager:
    manager = BudgetManager(store, **settings)
    manager.set_budget(DAY)
    return manager


def used(manager: BudgetManager) -> tuple[int, int]:
    (day,) = manager.status()
    return day.used_tokens, day.held_tokens


def test_a_connection_that_died_in_between_is_opened_again(
    redis_server: RedisServer, admin: redis.Redis
) -> None:
    """A server or a balancer that closes what is idle makes no outage, and nothing counts twice."""
    manager = managed(redis_server.url, on_store_error="closed")
    manager.reserve(100).settle(90)

    for _ in range(3):
        admin.client_kill_filter(_type="normal", skipme=True)
        reservation = manager.reserve(50)
        admin.client_kill_filter(_type="normal", skipme=True)
        reservation.settle(40)

    assert used(manager) == (210, 0)


def test_a_server_that_forgets_its_scripts_is_told_them_again(
    redis_server: RedisServer, admin: redis.Redis
) -> None:
    """`SCRIPT FLUSH`, a restart or a failover loses them; no call notices."""
    for store in (RedisStore.from_url(redis_server.url), RedisStore(admin)):
        manager = managed(store, on_store_error="closed")
        admin.script_flush()
        reservation = manager.reserve(50)
        admin.script_flush()
        reservation.settle(40)

    assert used(manager) == (80, 0)


def test_an_answer_that_comes_too_late_is_read_by_nobody(redis_server: RedisServer) -> None:
    """After a timeout the next question gets its own answer, not that of the one before."""
    with Proxy(redis_server.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        manager = managed(RedisStore.from_url(url, timeout_seconds=0.1))
        manager.reserve(100).settle(90)
        reservation = manager.reserve(50)

        proxy.holds_next_answer = True
        with pytest.raises(StorageError, match="Timeout reading"):
            manager._store._store.settle(reservation, 5, 0)  # type: ignore[attr-defined]
        proxy.go_on.set()

        assert used(manager) == (95, 0)


def test_what_is_added_counts_once_when_the_answer_is_lost(redis_server: RedisServer) -> None:
    """The connection breaks after Redis has counted: it is asked again, and knows."""
    with Proxy(redis_server.port) as proxy:
        manager = managed(f"redis://127.0.0.1:{proxy.port}/0", on_store_error="closed")
        manager.reserve(100).settle(90)

        proxy.loses_next_answer = True
        manager.add(7)
        proxy.loses_next_answer = True
        reservation = manager.reserve(50)
        proxy.loses_next_answer = True
        reservation.settle(40)

        assert proxy.lost == 3
        assert used(manager) == (137, 0)


def test_a_server_that_is_away_is_known_at_once() -> None:
    """Nobody waits for tries with growing pauses: the policy decides."""
    manager = managed("redis://127.0.0.1:9/0")

    began = time.monotonic()
    with pytest.raises(BudgetExceededError):
        manager.reserve(500)

    assert time.monotonic() - began < 1


def test_a_connection_that_failed_is_used_again(redis_server: RedisServer) -> None:
    """Failures use up no limit on connections that the address sets."""
    with Proxy(redis_server.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0?max_connections=2"
        manager = managed(RedisStore.from_url(url, timeout_seconds=0.1))
        store: Any = manager._store._store  # type: ignore[attr-defined]  # beneath what stands in
        reservation = manager.reserve(50)

        for _ in range(3):
            proxy.go_on.clear()
            proxy.holds_next_answer = True
            with pytest.raises(StorageError, match="Timeout reading"):
                store.read(reservation.windows)
            proxy.go_on.set()

        assert used(manager) == (0, 50)


def test_more_threads_ask_than_a_pool_of_redis_py_has_connections(
    redis_server: RedisServer,
) -> None:
    """150 calls at the same time have a connection each, where a pool allows 100."""
    manager = managed(redis_server.url, on_store_error="closed")
    gate = threading.Barrier(150)

    def call(_: int) -> None:
        gate.wait(30)
        manager.reserve(5).settle(5)

    with ThreadPoolExecutor(150) as pool:
        list(pool.map(call, range(150)))
    manager.close()

    assert used(manager) == (750, 0)


@pytest.mark.parametrize("decode_responses", [False, True])
@pytest.mark.parametrize("protocol", [2, 3])
def test_a_client_of_yours_serves_too(
    redis_server: RedisServer, decode_responses: bool, protocol: int
) -> None:
    """It keeps its own settings, and budgets what they are."""
    with redis.Redis.from_url(
        redis_server.url, decode_responses=decode_responses, protocol=protocol
    ) as client:
        manager = managed(RedisStore(client))
        manager.reserve(400, 0.25).settle(300, cost=0.125)
        held = manager.reserve(600)
        with pytest.raises(BudgetExceededError):
            manager.reserve(101)
        held.release()
        manager.add(10, cost=0.5)

        assert used(manager) == (310, 0)
        assert float(manager.status().windows[0].used_cost) == 0.625


@pytest.mark.services
def test_a_cluster_serves_too(tmp_path: Path) -> None:
    """All keys of a call lie in one slot, so that a script may see them together."""
    from redis.cluster import RedisCluster

    # By default it is one that somebody may have been given.
    server = RedisServer(tmp_path, cluster_enabled="yes", cluster_port=str(free_port()))
    try:
        with redis.Redis(port=server.port) as node:
            node.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            deadline = time.monotonic() + 20
            while node.cluster("INFO")["cluster_state"] != "ok" and time.monotonic() < deadline:
                time.sleep(0.02)
        client = RedisCluster(host="127.0.0.1", port=server.port)
        manager = managed(RedisStore(client), on_store_error="closed")
        manager.set_budget(Budget(session_token_limit=200), scope="user")
        who = {"user_id": "a", "session_id": "s"}

        manager.reserve(100, **who).settle(90)
        with pytest.raises(BudgetExceededError):
            manager.reserve(111, **who)

        assert [w.used_tokens for w in manager.status(**who)] == [90, 90]
        client.close()
    finally:
        server.kill()


class Collecting:
    """A client in whose calls the garbage collector ends a stream, which settles its call."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self.ended: list[Reservation] = []
        self.answers = 1000
        """How many it gives before the server is away."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def execute_command(self, *words: Any, **options: Any) -> Any:
        while self.ended:
            self.ended.pop().settle(5)
        self.answers -= 1
        if self.answers < 0:
            raise redis.exceptions.ConnectionError("away")
        return self._client.execute_command(*words, **options)


def test_a_call_that_ends_within_another_is_settled_after_it(admin: redis.Redis) -> None:
    """In the same thread; if the server is away just then, with the next call."""
    client = Collecting(admin)
    manager = managed(RedisStore(client))
    first, second, third = (manager.reserve(100) for _ in range(3))

    client.ended = [first]
    third.settle(50)
    after_the_first = used(manager)
    client.ended, client.answers = [second], 1
    manager.add(7)
    client.answers = 1000
    first.settle(40)

    assert after_the_first == (55, 100)
    assert used(manager) == (67, 0)


def test_a_server_that_keeps_nothing_is_an_outage(admin: redis.Redis) -> None:
    """One that loses what is brought back, time and again, is not asked for ever."""
    client = Collecting(admin)
    store = RedisStore(client)
    manager = managed(store, on_store_error="closed")
    holds = {store._reserve.digest: -2}  # "lost", whatever was brought back
    ask = client.execute_command
    client.execute_command = lambda *words, **how: holds.get(words[1]) or ask(*words, **how)  # type: ignore[method-assign]  # a server that is broken

    with pytest.raises(BudgetExceededError, match="does not agree with itself"):
        manager.reserve(1)


def test_without_redis_py_the_way_out_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes with an extra."""
    monkeypatch.setitem(sys.modules, "redis", None)

    with pytest.raises(ImportError, match=r"pip install 'agentsight-tokens\[redis\]'"):
        BudgetManager("redis://127.0.0.1:9/0")


class Proxy:
    """Stands before a server; lets an answer vanish with its connection, or holds it back."""

    def __init__(self, port: int) -> None:
        self._server = port
        self.loses_next_answer = self.holds_next_answer = False
        self.lost = 0
        self.go_on = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for each in (self._listener, *self._sockets):
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):  # the test is over
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._server))
                self._sockets += [near, far]
                threading.Thread(target=self._pass_on, args=(near, far), daemon=True).start()

    def _pass_on(self, near: socket.socket, far: socket.socket) -> None:
        """Pass on question by question, as a client that waits for its answers asks them."""
        with suppress(OSError), near, far:
            while question := near.recv(1 << 16):
                far.sendall(question)
                answer = far.recv(1 << 16)
                if b"EVALSHA" in question and self.loses_next_answer:
                    self.loses_next_answer = False
                    self.lost += 1
                    return
                if b"EVALSHA" in question and self.holds_next_answer:
                    self.holds_next_answer = False
                    self.go_on.wait(10)
                near.sendall(answer)
