"""One of several processes that spend the same budget; prints what it spent and was denied."""

# ruff: noqa: T201  # what it prints is what its test reads

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time

from agentsight_tokens import Budget, BudgetExceededError, BudgetManager

MOST_OUTPUT = 4000


def spend(store: str, limit: int, seed: int, threads: int, clamp: str) -> None:
    """Send calls from many threads until the budget takes no more."""
    manager = BudgetManager(store)
    manager.set_budget(Budget(daily_token_limit=limit, clamp=clamp == "clamp"))
    manager.on_alert(lambda alert: alerts.append(alert.level))
    alerts: list[float] = []
    lock = threading.Lock()
    totals = {"spent": 0, "denied": 0}

    def work(number: int) -> None:
        rng = random.Random(seed * 1000 + number)
        denied_in_a_row = 0
        while denied_in_a_row < 25:
            prompt = rng.randint(200, 1200)
            completion = min(MOST_OUTPUT, int(rng.expovariate(1 / 700)) + 1)
            try:
                reservation = manager.reserve(prompt + MOST_OUTPUT, prompt_tokens=prompt)
            except BudgetExceededError:
                denied_in_a_row += 1
                with lock:
                    totals["denied"] += 1
                time.sleep(rng.random() / 100)
                continue
            denied_in_a_row = 0
            time.sleep(rng.random() / 500)
            used = prompt + min(completion, reservation.max_output_tokens)
            with lock:
                totals["spent"] += used
            reservation.settle(used)

    workers = [threading.Thread(target=work, args=(n,)) for n in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    print(totals["spent"], totals["denied"], *alerts)


def die(store: str) -> None:
    """Die in the middle of a call, with a short lease."""
    manager = BudgetManager(store)
    manager.set_budget(Budget(daily_token_limit=1000))
    manager.reserve(900, lease_seconds=1.5)
    os.kill(os.getpid(), signal.SIGKILL)


def fork(store: str) -> None:
    """Let four children and their parent spend by the same manager, while it is in use."""
    manager = BudgetManager(store)
    manager.set_budget(Budget(daily_token_limit=10**9))
    inherited = manager.reserve(50)
    stop = threading.Event()

    def keep_busy() -> None:
        while not stop.is_set():
            manager.reserve(1).release()

    busy = threading.Thread(target=keep_busy)
    busy.start()
    children = []
    for _ in range(4):
        child = os.fork()
        if child == 0:
            for _ in range(100):
                manager.reserve(3).settle(2)
            os._exit(0)
        children.append(child)
    for _ in range(100):
        manager.reserve(3).settle(2)
    codes = [os.waitpid(child, 0)[1] for child in children]
    stop.set()
    busy.join()
    inherited.settle(7)
    print(manager.status().windows[0].used_tokens, manager.status().windows[0].held_tokens, *codes)


def twins(store: str) -> None:
    """Let two children hold that were made in the same millisecond."""
    manager = BudgetManager(store)
    manager.set_budget(Budget(daily_token_limit=10**9))
    now = time.time_ns()
    time.time_ns = lambda: now
    for _ in range(2):
        child = os.fork()
        if child == 0:
            manager.reserve(3)
            os._exit(0)
        os.waitpid(child, 0)
    print(manager.status().windows[0].held_tokens)


if __name__ == "__main__":
    kind, store, *rest = sys.argv[1:]
    if kind == "spend":
        print("ready", flush=True)
        sys.stdin.readline()
        spend(store, int(rest[0]), int(rest[1]), int(rest[2]), rest[3])
    elif kind == "die":
        die(store)
    elif kind == "twins":
        twins(store)
    else:
        fork(store)
