"""What the tests of the examples share: how each is started, and what is held against what."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any, NamedTuple

from agentsight_tokens.testing import BilledCall, LoopbackProvider
from agentsight_tokens.usage import TokenUsage

__all__ = [
    "COMMANDS",
    "EXAMPLES",
    "ROOT",
    "Stage",
    "ask",
    "by_label",
    "by_model",
    "lambda_service",
    "listens",
]

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
COMMANDS = Path(sys.executable).parent
ARN = "arn:aws:lambda:eu-central-1:123456789012:function:tokens"
COUNTERS = ("input_tokens", "output_tokens", "cache_read_tokens", "embedding_tokens")


class Stage(NamedTuple):
    """Where an example runs: the only provider it reaches, and the directory of its data."""

    provider: LoopbackProvider
    data: Path
    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "OPENAI_API_KEY": "k",
            "OPENAI_BASE_URL": self.provider.openai_url,
            "OPENAI_API_BASE": self.provider.openai_url,
            "AGENTSIGHT_DATA_DIR": str(self.data),
            "PYTHONPATH": str(EXAMPLES),
            "PYTHONUNBUFFERED": "1",
        }

    def run(self, *command: str | Path, **environment: str) -> str:
        """Run a command to its end, and return what it printed."""
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.folder,
            env={**self.environment, **environment},
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def running(self, *command: str | Path, **environment: str) -> Iterator[subprocess.Popen[str]]:
        """Run a server or a worker for a block, and end it as its supervisor would."""
        log = self.folder / f"{Path(command[-1]).name}.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                command,
                stdout=file,
                stderr=file,
                text=True,
                cwd=self.folder,
                env={**self.environment, **environment},
            )
        try:
            yield process
        except Exception as error:
            raise AssertionError(f"{error!r}\n{log.read_text()}") from error
        finally:
            process.terminate()
            process.wait(timeout=20)

    def reported(
        self, by: str = "conversation", *options: str, data: Path | None = None
    ) -> dict[str, dict[str, int]]:
        """Return what `report` says of each group."""
        command = (COMMANDS / "agentsight-tokens", "report", "--by", by, "--format", "json")
        rows = json.loads(self.run(*command, "--data-dir", str(data or self.data), *options))
        assert not any(row["unreported_calls"] or row["unpriced_calls"] for row in rows)
        return {
            next(iter(row.values())): {name: row[name] for name in (*COUNTERS, "calls")}
            for row in rows
        }

    def billed(self, key: Callable[[BilledCall], str | None]) -> dict[str, dict[str, int]]:
        """Return what the provider's ledger says of each group."""
        self.provider.settle()
        sums: dict[str, TokenUsage] = {}
        calls = Counter[str]()
        for call in self.provider.ledger:
            name = str(key(call))
            sums[name] = sums.get(name, TokenUsage()) + call.usage
            calls[name] += 1
        return {
            name: {each: getattr(usage, each) for each in COUNTERS} | {"calls": calls[name]}
            for name, usage in sums.items()
        }


def by_label(call: BilledCall) -> str | None:
    return call.label


def by_model(call: BilledCall) -> str | None:
    return call.model


def ask(url: str, body: bytes | None = None, method: str | None = None) -> str:
    headers = {"content-type": "application/json"}
    request = urllib.request.Request(url, data=body, method=method, headers=headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return answer.read().decode()


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


class LambdaService(NamedTuple):
    """The part of AWS that hands events to a runtime and takes its answers."""

    address: str
    events: Queue[dict[str, Any]]
    answers: Queue[Any]

    def invoke(self, event: dict[str, Any]) -> Any:
        self.events.put(event)
        return self.answers.get(timeout=20)


@contextmanager
def lambda_service() -> Iterator[LambdaService]:
    """Serve the runtime interface on loopback."""
    events: Queue[dict[str, Any]] = Queue()
    answers: Queue[Any] = Queue()

    class Runtime(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = json.dumps(events.get()).encode()
            self.send_response(200)
            self.send_header("Lambda-Runtime-Aws-Request-Id", "r")
            self.send_header("Lambda-Runtime-Deadline-Ms", str(int(time.time() * 1000) + 30_000))
            self.send_header("Lambda-Runtime-Invoked-Function-Arn", ARN)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            answers.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(202)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Runtime) as server:
        server.daemon_threads = True
        server.block_on_close = False
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield LambdaService(f"127.0.0.1:{server.server_port}", events, answers)
        finally:
            events.put({})  # lets go of the runtime's last question
            server.shutdown()
