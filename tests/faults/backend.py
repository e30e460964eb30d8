"""A backend on loopback that stores what it gets, and fails as told."""

from __future__ import annotations

import gzip
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from agentsight_tokens.backend.ingest import ingest
from agentsight_tokens.backend.store import SQLiteStore
from agentsight_tokens.cycle import decode_cycles
from agentsight_tokens.receipt import encode_receipt


class Backend:
    """The receiver's own ingest behind a server whose answers can be spoiled."""

    def __init__(self, directory: Path) -> None:
        self.store = SQLiteStore(directory / "backend.db")
        self.status = 200
        """What it answers; anything but 200 is answered before anything is stored."""
        self.headers: dict[str, str] = {}
        self.body: bytes | None = None
        """In place of the receipt."""
        self.key: str | None = None
        self.lost_acknowledgements = 0.0
        """The share of requests that are stored and then cut off without an answer."""
        self.poison = ""
        """A model; a request that holds a call of it is refused whole, with 400."""
        self.refused_model = ""
        """A model; the receipt refuses its calls one by one, and takes the others."""
        self.takes_anything = False
        """Whether it is no backend but a collector of something else, and only keeps requests."""
        self.hangs = threading.Event()
        self.requests: list[tuple[Message, bytes]] = []
        """Headers and bodies, decompressed."""
        self.connections = 0
        """How many were accepted."""
        self.times: list[float] = []
        self.seen: Counter[str] = Counter()
        """How often each record came."""
        self.lock = threading.Lock()
        self._server: _Server | None = None
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def redelivered(self) -> int:
        return sum(count - 1 for count in self.seen.values())

    def start(self) -> None:
        """Listen, on the same port as before."""
        self._server = _Server(("127.0.0.1", self._port), _Handler)
        self._server.backend = self
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections, and break those that are open."""
        if self._server is not None:
            self._server.shutdown()
            self._server.break_connections()
            self._server.server_close()
            self._server = None

    def break_connections(self) -> None:
        """Close what is open, as a server does that has waited for long enough."""
        if self._server is not None:
            self._server.break_connections()

    def close(self) -> None:
        self.hangs.clear()
        self.stop()
        self.store.close()

    def sums(self) -> dict[str, tuple[int, int]]:
        """Return the calls and the input tokens of each conversation."""
        rows = self.store.rows(
            "SELECT conversation_id, COUNT(*), SUM(input_tokens) FROM calls GROUP BY 1"
        )
        return {name: (calls, tokens) for name, calls, tokens in rows}

    def calls(self) -> int:
        return self.store.rows("SELECT COUNT(*) FROM calls")[0][0]

    def tokens(self) -> int:
        return self.store.rows("SELECT COALESCE(SUM(input_tokens), 0) FROM calls")[0][0]

    def wait_for(self, calls: int, seconds: float = 60) -> int:
        """Wait until so many calls are stored; return how many are."""
        deadline = time.monotonic() + seconds
        while self.calls() < calls and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.calls()


class _Server(ThreadingHTTPServer):
    backend: Backend
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    allow_reuse_address = True

    def __init__(self, *args: Any) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        self.backend.connections += 1
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def break_connections(self) -> None:
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that a test has cut off."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        backend = self.server.backend
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        with backend.lock:
            backend.requests.append((self.headers, body))
            backend.times.append(time.monotonic())
        while backend.hangs.is_set():
            time.sleep(0.05)
        if backend.status != 200:
            self._answer(backend.status, b"not now")
        elif backend.key and self.headers.get("Authorization") != f"Bearer {backend.key}":
            self._answer(401, b"who are you?")
        elif backend.poison and backend.poison.encode() in body:
            self._answer(400, b"a poisonous model")
        elif backend.takes_anything:
            self._answer(200, backend.body or b"")
        else:
            self._store(body)

    def _store(self, body: bytes) -> None:
        backend = self.server.backend
        if backend.refused_model:
            body = body.replace(
                f'"model":"{backend.refused_model}"'.encode(), b'"model":["poisonous"]'
            )
        receipts = ingest(backend.store, body)
        with backend.lock:
            if not backend.refused_model:
                for cycle in decode_cycles(body):
                    backend.seen.update(record.id for record in cycle.records)
        if random.random() < backend.lost_acknowledgements:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self._answer(200, encode_receipt(receipts) if backend.body is None else backend.body)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        for name, value in self.server.backend.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def running_backend(directory: Path) -> Iterator[Backend]:
    """Run a backend for the time of a block."""
    directory.mkdir(parents=True, exist_ok=True)
    backend = Backend(directory)
    try:
        yield backend
    finally:
        backend.close()


def planted_in(backend: Backend, *texts: str) -> list[str]:
    """Return those of some texts that are in any request."""
    sent = [str(headers).encode() + body for headers, body in backend.requests]
    return [text for text in texts if any(text.encode() in each for each in sent)]
