"""
Spans that are durable a second, over OTLP/HTTP into SQLite, beside Arize Phoenix and MLflow.

One client posts the same requests of 500 spans of GenAI calls to each server in turn, over one
connection, the next when the one before is acknowledged, as an exporter does. Durable are the
spans that another process finds in the server's SQLite file. A server that acknowledges before it
has written is waited for, and the time counts: durable spans a second are those that were found,
by the time from the first request until all were there or patience was over. Memory is the sum over the server's
processes of the most that each has had resident.

    python benchmarks/ingest/otlp.py [--seconds 20] [--phoenix BIN] [--mlflow BIN]

The peers are installed apart, each with its own dependencies, and named by their programs:

    python -m venv /tmp/phoenix && /tmp/phoenix/bin/pip install arize-phoenix
    python -m venv /tmp/mlflow && /tmp/mlflow/bin/pip install mlflow
    python benchmarks/ingest/otlp.py --phoenix /tmp/phoenix/bin/phoenix --mlflow /tmp/mlflow/bin/mlflow

Those that are not named are left out.
"""

from __future__ import annotations

import argparse
import http.client
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

SPANS = 500
MESSAGE = "Where is my order? I have waited for more than a week, and nobody has written to me. "


class System(NamedTuple):
    """A server that takes spans."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    file: Path
    """Its SQLite file."""
    query: str
    """How many spans are in it."""
    headers: Mapping[str, str]
    ready: str
    """A path that answers when it is ready."""


def request(chance: random.Random) -> bytes:
    """Return a request of spans, ten of a trace, about 1.2 kB each."""
    message = ExportTraceServiceRequest()
    resource = message.resource_spans.add()
    attribute(resource.resource, "service.name", "shop")
    attribute(resource.resource, "deployment.environment.name", "production")
    spans = resource.scope_spans.add()
    spans.scope.name = "benchmark"
    trace = b""
    for number in range(SPANS):
        if number % 10 == 0:
            trace = chance.randbytes(16)
        span = spans.spans.add()
        span.trace_id, span.span_id = trace, chance.randbytes(8)
        span.name, span.kind = "chat gpt-4o-mini", Span.SPAN_KIND_CLIENT
        span.start_time_unix_nano = time.time_ns()
        span.end_time_unix_nano = span.start_time_unix_nano + chance.randrange(2 * 10**9)
        attributes: dict[str, str | int] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o-mini",
            "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
            "gen_ai.response.id": f"chatcmpl-{chance.getrandbits(96):024x}",
            "gen_ai.conversation.id": trace.hex(),
            "gen_ai.usage.input_tokens": 400 + chance.randrange(900),
            "gen_ai.usage.output_tokens": 20 + chance.randrange(300),
            "user.id": f"user-{chance.randrange(2_000)}",
            "openinference.span.kind": "LLM",
            "input.value": MESSAGE * 4,
            "output.value": MESSAGE * 3,
        }
        for key, value in attributes.items():
            attribute(span, key, value)
    return bytes(message.SerializeToString())


def attribute(of: object, key: str, value: str | int) -> None:
    added = of.attributes.add()  # type: ignore[attr-defined]  # a message made at run time
    added.key = key
    if isinstance(value, int):
        added.value.int_value = value
    else:
        added.value.string_value = value


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def systems(directory: Path, port: int, phoenix: str | None, mlflow: str | None) -> list[System]:
    store = directory / "ours" / "store.db"
    found = [
        System(
            "agentsight-tokens",
            [sys.executable, "-m", "agentsight_tokens", "serve", "--port", str(port)],
            {"AGENTSIGHT_DATA_DIR": str(store.parent), "AGENTSIGHT_LOG_LEVEL": "WARNING"},
            store,
            "SELECT COUNT(*) FROM calls",
            {},
            "/readyz",
        )
    ]
    if phoenix is not None:
        file = directory / "phoenix" / "phoenix.db"
        settings = {
            "PHOENIX_PORT": str(port),
            "PHOENIX_GRPC_PORT": str(free_port()),
            "PHOENIX_WORKING_DIR": str(file.parent),
            "PHOENIX_SQL_DATABASE_URL": f"sqlite:///{file}",
            "PHOENIX_TELEMETRY_ENABLED": "false",
        }
        query = "SELECT COUNT(*) FROM spans"
        found.append(
            System("Arize Phoenix", [phoenix, "serve"], settings, file, query, {}, "/healthz")
        )
    if mlflow is not None:
        file = directory / "mlflow" / "mlflow.db"
        command = [mlflow, "server", "--port", str(port), "--workers", "1"]
        command += ["--backend-store-uri", f"sqlite:///{file}"]
        query, headers = "SELECT COUNT(*) FROM spans", {"x-mlflow-experiment-id": "0"}
        found.append(System("MLflow", command, {}, file, query, headers, "/health"))
    return found


def processes_of(pid: int) -> list[int]:
    """Return a process and all that it has begun."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [pid, *(each for child in children for each in processes_of(int(child)))]


def memory_mb(pid: int) -> float:
    texts = [Path(f"/proc/{each}/status").read_text() for each in processes_of(pid)]
    return sum(int(t.split("VmHWM:")[1].split()[0]) for t in texts if "VmHWM:" in t) / 1000


def await_ready(port: int, path: str, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 400
    while time.monotonic() < until:
        assert process.poll() is None, f"it ended with {process.returncode}"
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", path)
            if connection.getresponse().status < 400:
                return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(path)


def post(port: int, headers: Mapping[str, str], bodies: list[bytes], seconds: float) -> list[float]:
    """Post requests for a time; return how long each took."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    sent = {"Content-Type": "application/x-protobuf", **headers}
    took: list[float] = []
    began = time.perf_counter()
    for body in bodies:
        before = time.perf_counter()
        connection.request("POST", "/v1/traces", body, sent)
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status in {200, 202, 429, 503}, (answer.status, text[:300])
        if answer.status >= 400:
            time.sleep(0.05)  # it asks for patience
            continue
        now = time.perf_counter()
        took.append(now - before)
        if now - began > seconds:
            break
    return took


def count(system: System) -> int:
    """Return how many spans another process finds."""
    with closing(sqlite3.connect(f"file:{system.file}?mode=ro", uri=True, timeout=60)) as reader:
        [found] = reader.execute(system.query).fetchone()
    return int(found)


def measure(
    system: System, port: int, bodies: list[bytes], seconds: float, patience: float
) -> float:
    system.file.parent.mkdir()
    log = (system.file.parent / "log").open("wb")
    process = subprocess.Popen(
        system.command,
        env={**os.environ, **system.environment},
        cwd=system.file.parent,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        await_ready(port, system.ready, process)
        began = time.perf_counter()
        took = post(port, system.headers, bodies, seconds)
        acknowledged = len(took) * SPANS
        durable, elapsed = 0, time.perf_counter() - began
        while elapsed < seconds + patience and (durable < acknowledged or elapsed < seconds):
            time.sleep(0.5)
            elapsed = time.perf_counter() - began
            durable = count(system)
        memory = memory_mb(process.pid)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.close()
    rate = durable / elapsed
    print(
        f"{system.name:<20}{acknowledged:>14,}{durable:>12,}{rate:>14,.0f}"
        f"{sorted(took)[len(took) // 2] * 1000:>10,.0f}{max(took) * 1000:>10,.0f}{memory:>10,.0f}",
        flush=True,
    )
    return float(rate)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument(
        "--patience", type=float, default=60, help="Seconds that what was taken may still take."
    )
    parser.add_argument("--phoenix", help="The program of Arize Phoenix.")
    parser.add_argument("--mlflow", help="The program of MLflow.")
    given = parser.parse_args()
    chance = random.Random(1)
    bodies = [request(chance) for _ in range(int(given.seconds * 30))]
    print(f"{SPANS} spans a request, {len(bodies[0]) / SPANS:,.0f} bytes a span")
    print(
        f"{'':<20}{'acknowledged':>14}{'durable':>12}{'durable/s':>14}{'p50 ms':>10}"
        f"{'max ms':>10}{'MB':>10}"
    )
    with tempfile.TemporaryDirectory() as directory:
        port = free_port()
        rates = {
            system.name: measure(system, port, bodies, given.seconds, given.patience)
            for system in systems(Path(directory), port, given.phoenix, given.mlflow)
        }
    ours = rates.pop("agentsight-tokens")
    for name, rate in rates.items():
        print(f"agentsight-tokens / {name}: {ours / rate if rate else float('inf'):,.0f}")


if __name__ == "__main__":
    main()
