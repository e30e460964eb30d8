"""A shared store that is away, comes back empty, or breaks."""

# ruff: noqa: F811  # fixtures are imported, and named again where they are used
from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from agentsight_tokens import Budget, BudgetExceededError, BudgetManager
from agentsight_tokens.budgets.memory import MemoryStore
from agentsight_tokens.budgets.outage import WatchedStore
from agentsight_tokens.budgets.redis_store import RedisStore
from agentsight_tokens.budgets.reservation import Reservation
from agentsight_tokens.budgets.sqlite import SQLiteStore
from agentsight_tokens.budgets.store import BudgetStore, Counts, Refusal, Used
from agentsight_tokens.budgets.windows import Window, WindowSet
from agentsight_tokens.errors import StorageError
from tests.budget_kit import (  # noqa: F401  # fixtures
    NOON,
    RedisServer,
    SteeredClock,
    redis_server,
    running_redis,
)


class Shaky(MemoryStore):
    """A store that is away when a test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.is_away = False
        self.asked = 0

    def _ask(self) -> None:
        self.asked += 1
        if self.is_away:
            raise StorageError("the store is away")

    def reserve(self, reservation: Reservation) -> Refusal | None:
        self._ask()
        return super().reserve(reservation)

    def settle(self, reservation: Reservation, tokens: int, pico_usd: int) -> Sequence[Used]:
        self._ask()
        return super().settle(reservation, tokens, pico_usd)

    def renew(self, reservation: Reservation) -> None:
        self._ask()
        super().renew(reservation)

    def add(self, windows: WindowSet, tokens: int, pico_usd: int) -> Sequence[Used]:
        self._ask()
        return super().add(windows, tokens, pico_usd)

    def read(self, windows: WindowSet) -> Sequence[Counts]:
        self._ask()
        return super().read(windows)

    def claim(self, window: Window, alert: str) -> bool:
        self._ask()
        return super().claim(window, alert)


class Away:
    """A manager over a store that can go away, with a clock for the pauses between tries."""

    def __init__(self, **settings: object) -> None:
        self.store = Shaky()
        self.seconds = 0.0
        self.manager = BudgetManager(SQLiteStore("unused"), **settings)
        watched = WatchedStore(
            self.store,
            on_store_error=settings.get("on_store_error", "local_share"),
            local_share=settings.get("local_share", 0.1),
            monotonic=lambda: self.seconds,
        )
        self.manager._store = watched
        self.manager._alarms._store = watched
        self.manager.set_budget(Budget(daily_token_limit=1000, cost_limit_usd=10))

    def used(self) -> int:
        return self.manager.status().windows[0].used_tokens

    def held(self) -> int:
        return self.manager.status().windows[0].held_tokens


def test_a_local_share_of_what_was_left_is_granted() -> None:
    """A tenth of the 600 that were seen left, and no more."""
    away = Away()
    away.manager.reserve(400).settle(400)
    away.store.is_away = True

    granted = away.manager.reserve(60)
    with pytest.raises(BudgetExceededError) as caught:
        away.manager.reserve(1)
    granted.settle(50)
    away.manager.reserve(10)

    assert (caught.value.used, caught.value.held) == (400, 60)
    assert away.used() == 450
    assert away.held() == 10


def test_what_was_used_meanwhile_is_settled_afterwards() -> None:
    """Calls that were granted, or running, when the store went away count when it is back."""
    away = Away()
    running = away.manager.reserve(100)
    away.store.is_away = True
    meanwhile = away.manager.reserve(50)
    meanwhile.renew()
    meanwhile.settle(40)
    meanwhile.settle(40)
    running.settle(90)
    running.settle(90)
    away.manager.add(5, cost=1)

    away.store.is_away = False
    away.seconds += 2
    away.manager.reserve(10).settle(10)

    assert away.used() == 40 + 90 + 5 + 10
    assert away.held() == 0
    assert str(away.manager.status().windows[0].used_cost) == "1"


def test_a_call_that_runs_over_the_outages_end_counts_once() -> None:
    """It was granted without the store, and is settled with it."""
    away = Away()
    away.store.is_away = True
    reservation = away.manager.reserve(50)
    reservation.lease_until = 0
    reservation.renew()

    away.store.is_away = False
    away.seconds += 2
    reservation.settle(30)
    reservation.settle(30)

    assert away.used() == 30


def test_open_grants_everything_and_closed_nothing() -> None:
    """As the policy says; what was used is settled afterwards in any case."""
    opened, closed = Away(on_store_error="open"), Away(on_store_error="closed")
    for away in (opened, closed):
        away.store.is_away = True

    opened.manager.reserve(10**6).settle(10**6)
    with pytest.raises(BudgetExceededError, match=r"cannot be checked.*'closed'"):
        closed.manager.reserve(1)
    closed.manager.set_budget(Budget(daily_token_limit=1, on_limit="warning"))
    closed.manager.reserve(100).settle(7)
    for away in (opened, closed):
        away.store.is_away = False
        away.seconds += 2
        away.manager.close()

    assert opened.used() == 10**6
    assert closed.used() == 7


def test_a_store_that_is_away_is_asked_less_and_less() -> None:
    """A call does not wait for a store that is known to be away; the pauses grow to 30 s."""
    away = Away(on_store_error="open")
    away.store.is_away = True

    asked = []
    for seconds in (0, 0.5, 1.1, 1.1, 2.1, 4.1, 8.1, 16.1, 30.1, 30.1):
        away.seconds += seconds
        before = away.store.asked
        away.manager.reserve(1)
        asked.append(away.store.asked - before)

    assert asked == [1, 0, 1, 0, 1, 1, 1, 1, 1, 1]
    assert away.manager._store._pause == 30


def test_a_store_that_breaks_while_it_is_paid_is_paid_later() -> None:
    """What is owed is owed until it is taken."""
    away = Away(on_store_error="open")
    away.store.is_away = True
    away.manager.add(5)
    away.store.is_away = False
    away.seconds += 2
    add = MemoryStore.add

    with pytest.MonkeyPatch.context() as patch:

        def fail(*args: object) -> None:
            raise StorageError("again")

        patch.setattr(Shaky, "add", fail)
        away.manager.reserve(1).release()
    away.seconds += 2
    assert Shaky.add is not add
    away.manager.reserve(1).release()

    assert away.used() == 5


def test_streams_and_questions_survive_an_outage() -> None:
    """Renewing does nothing, and the status is what is known."""
    away = Away()
    reservation = away.manager.reserve(100, lease_seconds=10)
    reservation.lease_until = 0
    away.store.is_away = True

    reservation.renew()
    status = away.manager.status()
    reservation.lease_until = 0
    reservation.renew()

    assert status.windows[0].used_tokens == 0
    assert away.manager._store.now() > 0


def test_settings_are_checked() -> None:
    """An unknown policy or share is refused at once."""
    with pytest.raises(ValueError, match="on_store_error is"):
        BudgetManager(SQLiteStore("unused"), on_store_error="panic")
    with pytest.raises(ValueError, match="local_share must lie"):
        BudgetManager(SQLiteStore("unused"), local_share=1.5)


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that a test may kill."""
    server = RedisServer(tmp_path)
    yield server
    server.kill()


def test_redis_killed_and_restarted_empty_does_not_begin_at_0(own_redis: RedisServer) -> None:
    """What a process has seen used, it brings back; what it uses meanwhile is settled."""
    manager = BudgetManager(own_redis.url, local_share=0.5)
    manager.set_budget(
        Budget(
            daily_token_limit=1000,
            cost_limit_usd=10,
            rolling_token_limit=10**6,
            rolling_window="1h",
        )
    )
    manager.reserve(600, 6).settle(600, cost=6)
    running = manager.reserve(100, 1)

    own_redis.kill()
    meanwhile = manager.reserve(200, 0.5)
    with pytest.raises(BudgetExceededError):
        manager.reserve(1)
    meanwhile.settle(150, cost=0.5)
    own_redis.start()
    deadline = time.monotonic() + 20
    while manager._store._pause and time.monotonic() < deadline:
        time.sleep(0.05)
        manager.reserve(0).release()
    running.settle(80, cost=1)

    day, hour = manager.status().windows
    assert (day.used_tokens, hour.used_tokens) == (830, 830)
    assert day.used_cost == 7.5
    with pytest.raises(BudgetExceededError):
        manager.reserve(171)
    manager.reserve(170)


def test_another_process_brings_back_what_it_has_seen(redis_server: RedisServer) -> None:
    """Of two that knew different amounts, the larger one is believed."""
    managers = [BudgetManager(redis_server.url) for _ in range(2)]
    for manager in managers:
        manager.set_budget(Budget(daily_token_limit=1000))
    managers[0].reserve(100).settle(100)
    managers[1].reserve(500).settle(500)

    redis_server.empty()
    managers[0].reserve(10).settle(10)
    managers[1].reserve(20).settle(20)

    assert 620 <= managers[0].status().windows[0].used_tokens <= 630


def test_a_key_that_is_evicted_comes_back(redis_server: RedisServer) -> None:
    """A single key that vanishes is noticed by whoever has seen it, before the next call."""
    import redis

    manager = BudgetManager(redis_server.url)
    manager.set_budget(Budget(daily_token_limit=1000, session_token_limit=2000))
    manager.reserve(900, session_id="s").settle(900)
    with redis.Redis.from_url(redis_server.url) as client:
        client.delete("{agentsight-budgets}:global:*")

    with pytest.raises(BudgetExceededError):
        manager.reserve(101, session_id="s")
    with redis.Redis.from_url(redis_server.url) as client:
        client.delete("{agentsight-budgets}:global:*:session:s")

    assert [w.used_tokens for w in manager.status(session_id="s")] == [900, 900]


def test_holds_come_back_with_a_key_that_is_evicted(redis_server: RedisServer) -> None:
    """The leases lie elsewhere and tell what running calls hold."""
    import redis

    manager = BudgetManager(redis_server.url)
    manager.set_budget(Budget(daily_token_limit=1000, cost_limit_usd=10))
    manager.reserve(100, 1).settle(100, cost=1)
    running = manager.reserve(300, 2.5)
    with redis.Redis.from_url(redis_server.url) as client:
        client.delete("{agentsight-budgets}:global:*")

    with pytest.raises(BudgetExceededError):
        manager.reserve(601)
    (restored,) = manager.status()
    running.settle(200, cost=2)
    (settled,) = manager.status()

    assert (restored.used_tokens, restored.held_tokens, restored.held_cost) == (100, 300, 2.5)
    assert (settled.used_tokens, settled.held_tokens, settled.held_cost) == (300, 0, 0)
    assert settled.used_cost == 3


def test_a_hold_whose_key_was_evicted_gives_back_no_more_than_there_is(
    redis_server: RedisServer,
) -> None:
    """Settled or ended by its lease, it makes no room that the limit does not have."""
    import redis

    clock = SteeredClock()
    manager = BudgetManager(RedisStore.from_url(redis_server.url, clock=clock))
    manager.set_budget(Budget(total_token_limit=1000, total_cost_limit=10))
    with redis.Redis.from_url(redis_server.url) as client:
        running = manager.reserve(900, 9)
        manager.reserve(50, 0.5, lease_seconds=60)
        client.delete("{agentsight-budgets}:global:*")

    running.settle(100, cost=1)
    clock.move(seconds=61)
    (total,) = manager.status()

    assert (total.used_tokens, total.held_tokens, total.tokens_left) == (100, 0, 900)
    assert (total.used_cost, total.held_cost, total.cost_left) == (1, 0, 9)
    with pytest.raises(BudgetExceededError):
        manager.reserve(901)


def test_an_answer_that_was_lost_counts_once(redis_server: RedisServer) -> None:
    """Redis did what was asked but the connection broke: asking again does nothing more."""
    store = RedisStore.from_url(redis_server.url)
    manager = BudgetManager(store)
    manager.set_budget(Budget(daily_token_limit=1000))
    reservation = manager.reserve(100)

    store._ask_to_hold(reservation)
    held = manager.status().windows[0].held_tokens
    store.settle(reservation, 70, 0)
    reservation.is_settled = False
    store.settle(reservation, 70, 0)

    assert held == 100
    assert manager.status().windows[0].used_tokens == 70
    assert store.settle(reservation, 70, 0) == ()


def test_redis_tells_the_time(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose clock is a day ahead counts in the same window as the others."""
    here = BudgetManager(redis_server.url)
    here.set_budget(Budget(daily_token_limit=1000))
    here.reserve(300).settle(300)

    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 86_400)
    ahead = BudgetManager(redis_server.url)
    ahead.set_budget(Budget(daily_token_limit=1000))

    assert ahead.status().windows[0].used_tokens == 300


def test_a_plan_that_redis_calls_outdated_is_made_anew(redis_server: RedisServer) -> None:
    """Should the day end on Redis before it ends here, the call goes to the new day."""
    clock = SteeredClock()
    store = RedisStore.from_url(redis_server.url, clock=clock)
    manager = BudgetManager(store)
    manager.set_budget(Budget(hourly_token_limit=1000))
    manager.reserve(900).settle(900)

    clock.move(hours=1)
    late = iter([NOON.timestamp()])
    manager._now = lambda: next(late, None) or store.now()
    manager.reserve(500).settle(500)

    assert manager.status().windows[0].used_tokens == 500


def test_a_redis_without_a_server_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    """The log says what is away and what is granted meanwhile."""
    manager = BudgetManager("redis://127.0.0.1:9/0", on_store_error="open")
    manager.set_budget(Budget(daily_token_limit=10, on_limit="error"))

    for _ in range(3):
        manager.reserve(1).settle(1)
    manager.on_alert(print)
    manager.add(50)

    errors = [r.message for r in caplog.records if r.levelname == "ERROR"]
    assert len(errors) == 1
    assert "Redis does not keep budgets" in errors[0]
    assert "'open'" in errors[0]


def test_redis_needs_a_hash_tag(redis_server: RedisServer) -> None:
    """A cluster must keep all keys in one slot."""
    import redis

    with redis.Redis.from_url(redis_server.url) as client:
        for prefix in ("budgets:", "{}:", "}x{"):
            with pytest.raises(ValueError, match="hash tag"):
                RedisStore(client, prefix=prefix)
        assert RedisStore(client, prefix="{mine}:").now() == pytest.approx(time.time(), abs=5)


def test_a_broken_file_is_an_outage(tmp_path: Path) -> None:
    """A file that is no database stops no call that the policy allows."""
    path = tmp_path / "budgets.db"
    path.write_bytes(b"this is not a database" * 100)
    manager = BudgetManager(path, local_share=0.5)
    manager.set_budget(Budget(daily_token_limit=1000))

    manager.reserve(500)
    with pytest.raises(BudgetExceededError):
        manager.reserve(1)


def test_a_file_that_another_process_keeps_is_an_outage(tmp_path: Path) -> None:
    """Waiting ends after the timeout; the call is not held up for ever."""
    path = tmp_path / "budgets.db"
    store = SQLiteStore(path, timeout_seconds=0.05)
    manager = BudgetManager(store, on_store_error="closed")
    manager.set_budget(Budget(daily_token_limit=1000))
    manager.reserve(1).release()

    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(BudgetExceededError, match="database is locked"):
        manager.reserve(1)
    other.execute("ROLLBACK")
    other.close()


def test_a_file_that_is_emptied_is_filled_again(tmp_path: Path) -> None:
    """Windows that vanish from the file are counted in again from there on."""
    store = SQLiteStore(tmp_path / "budgets.db")
    manager = BudgetManager(store)
    manager.set_budget(Budget(daily_token_limit=1000, hourly_token_limit=1000))
    manager.reserve(100).settle(100)
    with sqlite3.connect(tmp_path / "budgets.db") as other:
        other.execute("DELETE FROM windows WHERE id LIKE '%day%'")
    other.close()

    manager.reserve(50).settle(40)

    assert [w.used_tokens for w in manager.status()] == [140, 40]


def test_protocols_are_kept() -> None:
    """Every store has what the protocol asks for."""
    stores: list[BudgetStore] = [MemoryStore(), SQLiteStore("unused")]

    assert [store.is_remote for store in stores] == [False, False]
