"""
What 64 concurrent calls spend of a budget of tokens, in every store.

4 processes of 16 threads each (one process of 64 threads for the memory, which is not shared)
send calls of 200 to 1,200 tokens of prompt and up to 4,000 of output, until the budget refuses
25 in a row. Prints the worst of the seeds: what was spent beyond the limit, and what was left,
as parts of it. `check, then spend` is what happens without a reservation.

    python benchmarks/budgets/overshoot.py [--seeds 5] [--redis redis://...]

It needs redis-server, or the address of one that runs.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import random
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from servers import redis_server

from agentsight_tokens import Budget, BudgetExceededError, BudgetManager

MOST_OUTPUT = 4000
LIMITS = (20_000, 100_000, 400_000)


class Unreserved:
    """Checks what is used, and counts after the call."""

    def __init__(self, limit: int) -> None:
        self.limit, self.used, self.lock = limit, 0, threading.Lock()

    def spend(self, prompt: int, completion: int) -> int | None:
        if self.used >= self.limit:
            return None
        time.sleep(0.002)
        with self.lock:
            self.used += prompt + completion
        return prompt + completion


class Reserved:
    """Reserves before the call, and settles after it."""

    def __init__(self, store: str | None, limit: int, *, clamp: bool) -> None:
        self.manager = BudgetManager(store)
        self.manager.set_budget(Budget(daily_token_limit=limit, clamp=clamp))

    def spend(self, prompt: int, completion: int) -> int | None:
        try:
            held = self.manager.reserve(prompt + MOST_OUTPUT, prompt_tokens=prompt)
        except BudgetExceededError:
            return None
        time.sleep(random.random() / 500)
        used = prompt + min(completion, held.max_output_tokens)
        held.settle(used)
        return used


def work(spender: Unreserved | Reserved, seed: int, spent: list[int]) -> None:
    rng = random.Random(seed)
    refused = 0
    while refused < 25:
        prompt = rng.randint(200, 1200)
        completion = min(MOST_OUTPUT, int(rng.expovariate(1 / 700)) + 1)
        used = spender.spend(prompt, completion)
        if used is None:
            refused += 1
            time.sleep(rng.random() / 100)
        else:
            refused = 0
            spent.append(used)


def together(spender: Unreserved | Reserved, seed: int, threads: int) -> int:
    spent: list[int] = []
    workers = [
        threading.Thread(target=work, args=(spender, seed * 1000 + n, spent))
        for n in range(threads)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(spent)


class Job(NamedTuple):
    store: str
    limit: int
    clamp: bool
    seed: int


def process(job: Job, gate: Any, out: Any) -> None:
    logging.disable()
    spender = Reserved(job.store, job.limit, clamp=job.clamp)
    gate.wait()
    out.put(together(spender, job.seed, 16))


def in_processes(job: Job) -> int:
    context = multiprocessing.get_context("spawn")
    gate, out = context.Barrier(4), context.Queue()
    workers = [
        context.Process(target=process, args=(job._replace(seed=job.seed * 4 + n), gate, out))
        for n in range(4)
    ]
    for worker in workers:
        worker.start()
    spent = sum(out.get() for _ in workers)
    for worker in workers:
        worker.join()
    return spent


def show(name: str, limit: int, spent: list[int]) -> None:
    over = max(max(each - limit, 0) for each in spent) / limit
    left = max(max(limit - each, 0) for each in spent) / limit
    print(f"{name:28} {limit:>8,}   overshoot {over:8.2%}   unused {left:8.2%}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--redis", help="the address of a server that runs")
    asked = parser.parse_args()
    logging.disable()
    seeds = range(asked.seeds)
    for limit in LIMITS:
        runs = [together(Unreserved(limit), seed, 64) for seed in seeds]
        show("check, then spend", limit, runs)
    with tempfile.TemporaryDirectory() as folder, redis_server(asked.redis) as url:
        for clamp in (False, True):
            for store in ("memory", "SQLite", "Redis"):
                for limit in LIMITS:
                    runs = []
                    for seed in seeds:
                        if store == "memory":
                            runs.append(together(Reserved(None, limit, clamp=clamp), seed, 64))
                        elif store == "SQLite":
                            path = Path(folder) / f"{clamp}-{limit}-{seed}.db"
                            runs.append(in_processes(Job(str(path), limit, clamp, seed)))
                        else:
                            import redis

                            with redis.Redis.from_url(url) as client:
                                client.flushdb()
                            runs.append(in_processes(Job(url, limit, clamp, seed)))
                    show(f"{store}{', clamped' if clamp else ''}", limit, runs)


if __name__ == "__main__":
    main()
