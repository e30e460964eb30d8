"""
How long the server takes for every page and every named query, of a store that is large.

Asks a server over a connection that is kept, one request after another, and prints the median and
the 95th percentile in milliseconds, from the request to the last byte of the answer.

    agentsight-tokens db seed --calls 10000000 --data-dir /tmp/large
    python benchmarks/scale/pages.py --database-url sqlite:////tmp/large/store.db [--requests 10]
    python benchmarks/scale/pages.py --database-url postgresql://localhost/large
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.server_process import ServerProcess

LIMIT_MS = 300.0
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


def measure(client: Client, path: str, requests: int) -> float:
    """Print how long a path takes; return the median."""
    status, body, first = client.get(path)
    if status != 200:
        print(f"{path:<58}{status:>8} {body[:60]!r}")
        return 0.0
    # What takes long is not asked so often.
    count = requests if first < 2_000 else 2
    times = sorted(client.get(path)[2] for _ in range(count))
    median = statistics.median(times)
    late = times[min(len(times) - 1, round(0.95 * len(times)))]
    mark = "  above" if median > LIMIT_MS else ""
    print(f"{path:<58}{first:>8,.0f}{median:>8,.0f}{late:>8,.0f}{len(body) / 1e3:>9,.0f}{mark}")
    return median


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database-url", required=True)
    parser.add_argument("--requests", type=int, default=10)
    parser.add_argument("--only", help="Paths that have this in them.")
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
            print(f"{'path':<58}{'first':>8}{'p50':>8}{'p95':>8}{'kB':>9}")
            found = [
                measure(client, path, given.requests)
                for path in paths
                if given.only is None or given.only in path
            ]
            above = sum(median > LIMIT_MS for median in found)
            print(f"{len(found)} paths, {above} above {LIMIT_MS:.0f} ms at the median")


if __name__ == "__main__":
    main()
