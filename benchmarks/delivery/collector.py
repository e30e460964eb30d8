"""A server that takes what any client posts, counts the records in it, and fails as told."""

from __future__ import annotations

import gzip
import json
import random
import re
import socket
import threading
import zlib
from collections import Counter, defaultdict
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MARK = re.compile(rb"record-(\d{6})-mark")
"""What stands in each record, whatever the client makes of it."""


class Collector:
    """Counts how often each record arrives."""

    def __init__(self) -> None:
        self.arrived: Counter[int] = Counter()
        self.ids: defaultdict[str, set[str]] = defaultdict(set)
        """The ids under which each record of agentsight-tokens arrived, by its mark."""
        self.is_refusing = False
        """Whether it answers 401."""
        self.lost_acknowledgements = 0.0
        """The share of requests that are taken and then cut off without an answer."""
        self.lock = threading.Lock()
        self._server: _Server | None = None
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listen, on the same port as before."""
        self._server = _Server(("127.0.0.1", self._port), _Handler)
        self._server.collector = self
        self._port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Refuse connections, and break those that are open."""
        if self._server is not None:
            self._server.shutdown()
            self._server.break_connections()
            self._server.server_close()
            self._server = None


class _Server(ThreadingHTTPServer):
    collector: Collector
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, *args: Any) -> None:
        self._open: set[socket.socket] = set()
        super().__init__(*args)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def break_connections(self) -> None:
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of connections that were cut off."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_POST(self) -> None:
        collector = self.server.collector
        body = self._body()
        if collector.is_refusing:
            self._answer(401, b'{"detail": "who are you?"}')
            return
        with collector.lock:
            collector.arrived.update({int(number) for number in MARK.findall(body)})
            if self.path == "/v1/cycles":
                for cycle in json.loads(body)["cycles"]:
                    for record in cycle["records"]:
                        collector.ids[record["response_id"]].add(record["id"])
        if random.random() < collector.lost_acknowledgements:
            self.close_connection = True
            with suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
            return
        is_json = "json" in self.headers.get("Content-Type", "")
        self._answer(200, b"{}" if is_json else b"")

    def do_GET(self) -> None:
        self._answer(200, b"{}")

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "") == "chunked":
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if body[:2] == b"\x1f\x8b":
            return gzip.decompress(body)
        if self.headers.get("Content-Encoding") == "deflate":
            return zlib.decompress(body)
        return body

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", self.headers.get("Content-Type") or "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""
