r"""
How long the server takes for every page and every named query, of a store that is large.

Asks a server over a connection that is kept, one request after another, and prints the first time,
the median and the 95th percentile in milliseconds, from the request to the last byte of the
answer, and the processor time of a request in the server and in the processes of PostgreSQL: what
is above it was spent waiting for the disk, or for a processor that was busy with something else.

    agentsight-tokens db seed --calls 10000000 --data-dir /tmp/large
    python benchmarks/scale/pages.py --database-url sqlite:////tmp/large/store.db [--filtered]
    python benchmarks/scale/pages.py --database-url postgresql://localhost/large \
        --database-pid "$(head -1 /var/lib/postgresql/15/main/postmaster.pid)"
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from itertools import combinations
from pathlib import Path
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.server_process import ServerProcess

LIMIT_MS = 300.0
"""What no page may take at the median."""

ZONES = ("Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Adelaide")
"""Whole hours, and days that begin between two hours."""

BREAKDOWNS = (
    *("model", "provider", "user", "org", "agent", "feature", "environment", "day", "session"),
    *("operation", "status", "source", "handler", "tool", "tier"),
)
"""What the page of usage shows calls by."""

ORDERS = ("newest", "costliest", "largest")
FILTERS = tuple(name for name in BREAKDOWNS if name != "day")
"""What pages are filtered by, each with the costliest value; and the tag that calls are given."""

RANGES = ("24h", "7d", "30d", "90d", "12m", "all")
PAGES = (
    *(f"/?range={name}" for name in RANGES),
    "/?range=30d&zone=Europe/Berlin",
    *(f"/usage?range={name}" for name in RANGES),
    *(f"/usage?range=30d&by={by}" for by in ("user", "feature", "agent", "provider", "status")),
    "/models?range=30d",
    "/models?range=all",
    *(f"/conversations?range={name}" for name in ("30d", "all")),
    "/conversations?range=30d&order=costliest",
    "/conversations?range=all&order=costliest",
    "/prices",
    "/keys",
)
QUERIES = (
    "/v1/usage",
    "/v1/usage?by=model",
    "/v1/usage?by=user&limit=100",
    "/v1/usage?by=day",
    "/v1/usage?by=day&by=model",
    "/v1/trend",
    "/v1/top",
    "/v1/top?by=user",
    "/v1/expensive",
    "/v1/speed",
    "/v1/cache",
    "/v1/forecast",
    "/v1/anomalies",
    "/v1/recommendations",
    "/v1/conversations",
    "/v1/conversations?order=costliest",
    "/v1/conversations?order=largest",
    "/v1/calls",
    "/v1/budgets",
    "/v1/alerts",
)


def filtered(values: Mapping[str, str]) -> Iterator[str]:
    """Return the paths that a reader comes to by opening a group, and by looking at it closely."""
    chosen = {name: f"{name}={quote(value, safe='')}" for name, value in values.items()}
    for each in chosen.values():
        yield from (f"/usage?{each}&by={by}" for by in BREAKDOWNS)
        yield from (f"/{page}?{each}" for page in ("", "models"))
        yield from (f"/ranking?by={by}&{each}" for by in ("user", "feature"))
        yield from (f"/conversations?{each}&order={order}" for order in ORDERS)
        for span in RANGES:
            if span != "30d":
                yield from (f"/{page}?range={span}&{each}" for page in ("", "usage"))
        yield from (f"/usage?range=12m&{each}&by={by}" for by in ("user", "session"))
    for first, second in combinations(("model", "user", "environment"), 2):
        yield f"/usage?{chosen[first]}&{chosen[second]}&by=feature"
    for zone in ZONES:
        for span in RANGES:
            yield from (f"/{page}?range={span}&zone={zone}" for page in ("", "usage"))
        yield f"/usage?by=user&zone={zone}"
        yield f"/usage?{chosen['model']}&by=feature&zone={zone}"
        yield f"/ranking?by=user&zone={zone}"
    yield from (f"/usage?by=session&range={span}" for span in RANGES)


class Client:
    def __init__(self, url: str) -> None:
        self._connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=300)

    def get(self, path: str) -> tuple[int, bytes, float]:
        """Return the status, the body, and the milliseconds."""
        began = time.perf_counter()
        self._connection.request("GET", path)
        answer = self._connection.getresponse()
        body = answer.read()
        return answer.status, body, (time.perf_counter() - began) * 1000


def costliest(client: Client) -> dict[str, str]:
    """Return the costliest value of each filter, of the last 30 days."""
    since = quote(f"{datetime.now(timezone.utc) - timedelta(days=30):%Y-%m-%dT%H:%M:%SZ}")
    found = {}
    for name in FILTERS:
        rows = json.loads(client.get(f"/v1/usage?by={name}&since={since}&limit=2")[1])["rows"]
        found[name] = next(value for row in rows if (value := next(iter(row.values()))))
    return found


def processor_ms(pids: list[int]) -> float:
    """Return the processor time of processes and of those that they have begun."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ticks += int(processor_ms(list(map(int, children))) * os.sysconf("SC_CLK_TCK") / 1000)
    return ticks * 1000 / os.sysconf("SC_CLK_TCK")


def measure(client: Client, path: str, requests: int, pids: list[int]) -> float:
    """Print how long a path takes; return the median."""
    status, body, first = client.get(path)
    if status != 200:
        print(f"{path:<58}{status:>8} {body[:60]!r}")
        return 0.0
    before = processor_ms(pids)
    times = sorted(client.get(path)[2] for _ in range(requests))
    used = (processor_ms(pids) - before) / requests
    median = statistics.median(times)
    late = times[min(len(times) - 1, round(0.95 * len(times)))]
    mark = "  above" if median > LIMIT_MS else ""
    print(
        f"{path:<58}{first:>7,.0f}{median:>7,.0f}{late:>7,.0f}{used:>7,.0f}"
        f"{len(body) / 1e3:>8,.0f}{mark}",
        flush=True,
    )
    return median


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--requests", type=int, default=10)
    parser.add_argument("--database-pid", type=int, help="Of PostgreSQL's first process.")
    parser.add_argument("--only", help="Paths that have this in them.")
    parser.add_argument("--filtered", action="store_true", help="What is filtered, too.")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        arguments = ("--database-url", given.database_url)
        with ServerProcess(Path(directory), *arguments) as server:
            client = Client(server.url)
            calls = json.loads(client.get("/v1/usage")[1])
            print(f"{given.database_url.partition(':')[0]}: {json.dumps(calls)[:200]}")
            _, body, _ = client.get("/v1/conversations?order=largest&limit=1")
            items = next(value for value in json.loads(body).values() if isinstance(value, list))
            largest = quote(items[0]["conversation_id"], safe="")
            paths = (
                *PAGES,
                f"/conversations/one?id={largest}",
                *QUERIES,
                f"/v1/conversations/{largest}",
            )
            if given.filtered:
                paths += tuple(filtered(costliest(client)))
            print(f"{'path':<58}{'first':>7}{'p50':>7}{'p95':>7}{'CPU':>7}{'kB':>8}")
            pids = [server.pid, *([given.database_pid] if given.database_pid else [])]
            found = [
                measure(client, path, given.requests, pids)
                for path in paths
                if given.only is None or given.only in path
            ]
            above = sum(median > LIMIT_MS for median in found)
            print(f"{len(found)} paths, {above} above {LIMIT_MS:.0f} ms at the median")


if __name__ == "__main__":
    main()
