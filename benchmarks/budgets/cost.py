"""
What it costs to hold a budget: five windows, each of tokens and USD, in every store.

Prints the median and the best tenth of the microseconds that a reservation and a settlement
take, and what the store's own floor takes between them in the same loop: an SQLite transaction
that writes nothing but one row, and a round trip to Redis. That is a PING by redis-py's client as
everybody uses it, and one over a connection kept open, as the store does it.

    python benchmarks/budgets/cost.py [--redis redis://...]

It needs redis-server, or the address of one that runs.
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from servers import redis_server

from agentsight_tokens import Budget, BudgetManager

CALLS = 3000
BUDGET = Budget(
    hourly_token_limit=10**12,
    hourly_cost_limit=10**6,
    daily_token_limit=10**12,
    cost_limit_usd=10**6,
    monthly_token_limit=10**12,
    monthly_cost_limit=10**6,
    session_token_limit=10**12,
    session_cost_limit=10**6,
    total_token_limit=10**12,
    total_cost_limit=10**6,
)


def show(name: str, times: list[int]) -> None:
    times.sort()
    median, best = times[len(times) // 2] / 1e3, times[len(times) // 10] / 1e3
    print(f"{name:36} median {median:8.2f} us   best tenth {best:8.2f} us")


def measure(name: str, store: Any, floors: dict[str, Callable[[], object]]) -> None:
    manager = BudgetManager(store)
    manager.set_budget(BUDGET)
    held: list[Any] = []
    calls = {
        **floors,
        f"{name}: reserve": lambda: held.append(manager.reserve(1500, 0.01, session_id="s")),
        f"{name}: settle": lambda: manager.settle(held.pop(), 700, cost=0.004),
    }
    times: dict[str, list[int]] = {title: [] for title in calls}
    for number in range(CALLS + 200):
        for title, call in calls.items():
            began = time.perf_counter_ns()
            call()
            if number >= 200:
                times[title].append(time.perf_counter_ns() - began)
    for title in calls:
        show(title, times[title])
    manager.close()


@contextmanager
def row(path: Path) -> Iterator[Callable[[], object]]:
    """Yield what writes one row and commits."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA journal_mode=WAL")
    database.execute("PRAGMA synchronous=NORMAL")
    database.execute("CREATE TABLE one (id INTEGER PRIMARY KEY, used INTEGER)")
    database.execute("INSERT INTO one VALUES (1, 0)")
    yield lambda: database.execute("UPDATE one SET used = used + 1")
    database.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis", help="the address of a server that runs")
    address = parser.parse_args().redis
    measure("memory", None, {})
    with tempfile.TemporaryDirectory() as folder, row(Path(folder) / "floor.db") as write:
        measure("SQLite", Path(folder) / "budgets.db", {"one row of SQLite": write})
    with redis_server(address) as url:
        import redis

        with redis.Redis.from_url(url) as client, redis.Redis.from_url(url) as other:
            kept = other.connection_pool.make_connection()

            def ping() -> object:
                kept.send_packed_command([b"PING\r\n"])
                return kept.read_response()

            floors = {"PING by redis-py": client.ping, "PING over a kept connection": ping}
            measure("Redis", url, floors)
            kept.disconnect()


if __name__ == "__main__":
    main()
