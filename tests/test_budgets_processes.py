"""Many processes spend one budget, die while they hold it, and fork."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agentsight_tokens import Budget, BudgetExceededError, BudgetManager
from tests.budget_kit import RedisServer, redis_server, running_redis  # noqa: F401  # fixtures

WORKER = Path(__file__).with_name("budget_worker.py")
PROCESSES, THREADS = 4, 16


@pytest.fixture(params=["sqlite", "redis"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Each store that processes can share, empty, by its name."""
    if request.param == "sqlite":
        return str(tmp_path / "budgets.db")
    server: RedisServer = request.getfixturevalue("redis_server")
    return server.url


def started(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", str(WORKER), *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(process: subprocess.Popen[str]) -> list[float]:
    out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    return [float(word) for word in out.split()]


@pytest.mark.parametrize("limit", [20_000, 100_000, 400_000])
@pytest.mark.parametrize("clamp", ["whole", "clamp"])
def test_64_concurrent_calls_never_pass_the_limit(shared: str, limit: int, clamp: str) -> None:
    """4 processes of 16 threads: overshoot 0; with clamping hardly anything is left over."""
    workers = [started("spend", shared, limit, seed, THREADS, clamp) for seed in range(PROCESSES)]
    for worker in workers:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    results = [said(worker) for worker in workers]

    spent = sum(result[0] for result in results)
    denied = sum(result[1] for result in results)
    alerts = [level for result in results for level in result[2:]]
    status = BudgetManager(shared)
    status.set_budget(Budget(daily_token_limit=limit))
    (window,) = status.status()
    assert spent <= limit
    assert denied > 0
    assert (window.used_tokens, window.held_tokens) == (spent, 0)
    assert sorted(alerts) in ([0.8, 1.0], [1.0])
    if clamp == "clamp":
        assert spent > 0.95 * limit


def test_what_a_killed_worker_held_is_free_after_its_lease(shared: str) -> None:
    """kill -9 in the middle of a call pins its budget for the lease, and no longer."""
    victim = started("die", shared)
    victim.communicate(timeout=60)
    assert victim.returncode == -signal.SIGKILL
    manager = BudgetManager(shared)
    manager.set_budget(Budget(daily_token_limit=1000))

    with pytest.raises(BudgetExceededError) as caught:
        manager.reserve(101)
    deadline = time.monotonic() + 30
    while manager.status().windows[0].held_tokens and time.monotonic() < deadline:
        time.sleep(0.05)
    manager.reserve(1000)

    assert caught.value.held == 900


def test_children_of_a_fork_spend_the_same_budget(shared: str) -> None:
    """They have connections and locks of their own; what the parent holds stays the parent's."""
    used, held, *codes = said(started("fork", shared))

    assert codes == [0, 0, 0, 0]
    assert (used, held) == (5 * 100 * 2 + 7, 0)


def test_children_of_one_millisecond_hold_each_for_itself(shared: str) -> None:
    """Their holds have names of their own: neither settles the other's."""
    assert said(started("twins", shared)) == [6]


def test_a_fork_of_memory_is_a_budget_of_its_own() -> None:
    """Memory cannot be shared: parent and child each count from where they parted."""
    used, held, *codes = said(started("fork", "memory"))

    assert codes == [0, 0, 0, 0]
    assert (used, held) == (100 * 2 + 7, 0)
