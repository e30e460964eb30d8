"""A receiver of webhooks that does as it is told."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple


class Received(NamedTuple):
    """What was posted."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Behaviour = Callable[[BaseHTTPRequestHandler], None]


def status(code: int, body: bytes = b"", **headers: str) -> Behaviour:
    """Return what answers with a status."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def hang_up(handler: BaseHTTPRequestHandler) -> None:
    """Close without a word."""
    handler.connection.shutdown(socket.SHUT_RDWR)


class Webhook:
    """An HTTP server on this machine; it accepts, unless it was told otherwise."""

    def __init__(self, port: int = 0) -> None:
        self.received: list[Received] = []
        self.behaviours: list[Behaviour] = []
        self.always: Behaviour = status(200, b"ok")
        self.is_closing = threading.Event()
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                webhook.received.append(Received(self.path, dict(self.headers.items()), body))
                behave = webhook.behaviours.pop(0) if webhook.behaviours else webhook.always
                behave(self)
                self.close_connection = True

            def do_GET(self) -> None:
                webhook.received.append(Received(self.path, dict(self.headers.items()), b"GET"))
                status(200)(self)

            def log_message(self, *_: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Say nothing of a client that has hung up."""

        self._server = Server(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/hook?team=1"

    @property
    def keys(self) -> list[str]:
        """The alerts' ids, in the order in which they came."""
        return [each.headers["AgentSight-Alert-Key"] for each in self.received]

    def trickle(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer with a header that never ends, a little at a time."""
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
        while not self.is_closing.wait(0.05):
            handler.wfile.write(b"x")

    def flood(self, handler: BaseHTTPRequestHandler) -> None:
        """Answer with a body that never ends."""
        handler.wfile.write(b"HTTP/1.1 500 No\r\n\r\n")
        while not self.is_closing.is_set():
            handler.wfile.write(b"x" * 65536)

    def close(self) -> None:
        self.is_closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
