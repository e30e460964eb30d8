"""The HTTP side of the loopback provider: connections, and answers going out on them."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from agentsight_tokens.usage import TokenUsage

from .answer import Answer, scaled
from .reply import Reply

__all__ = ["LoopbackServer", "Settle"]

Settle = Callable[[TokenUsage | None, TokenUsage | None], None]
"""Enter a call in the ledger: (what is billed, what the client was told)."""

Exchange = Callable[[str, str, dict[str, str], bytes], tuple[Answer, Reply, Settle]]
"""Answer a request: (method, path, headers, body) -> (answer, reply, settle)."""


class LoopbackServer(ThreadingHTTPServer):
    """A server of one thread a connection that ends its connections when it is closed."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, exchange: Exchange, arrived: Callable[[], None], left: Callable[[], None]):
        self.exchange = exchange
        self.arrived = arrived
        self.left = left
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closing = False
        super().__init__(("127.0.0.1", 0), _Connection)
        self._thread = threading.Thread(target=self._accept, name="loopback", daemon=True)
        self._thread.start()

    def server_bind(self) -> None:
        """Bind without the look-up of the host's name, which can take seconds."""
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "127.0.0.1", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own."""
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a connection."""
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client may leave whenever it likes."""

    def close(self) -> None:
        """End every connection and stop listening."""
        self._closing = True
        # Wakes the thread that waits in accept, on every platform and at once.
        socket.create_connection(("127.0.0.1", self.server_port)).close()
        self._thread.join()
        self.server_close()
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while not self._closing:
            self.handle_request()


class _Connection(BaseHTTPRequestHandler):
    """The requests of one connection, one after the other."""

    server: LoopbackServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self._serve()

    do_POST = do_DELETE = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Write no log: a test's output is its own."""

    def _serve(self) -> None:
        self.server.arrived()
        try:
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self.rfile.read(int(headers.get("content-length") or 0))
            answer, reply, settle = self.server.exchange(self.command, self.path, headers, body)
            try:
                self._send(answer, reply, settle)
            except OSError:
                self.close_connection = True
        finally:
            self.server.left()

    def _send(self, answer: Answer, reply: Reply, settle: Settle) -> None:
        if reply.delay_seconds and self._client_leaves(reply.delay_seconds):
            self._hang_up(settle, answer.usage)
        elif answer.is_stream:
            self._stream(answer, reply, settle)
        elif reply.break_after_chunks is not None:
            self._hang_up(settle, answer.usage)
        else:
            piece = answer.pieces[0]
            settle(answer.usage, piece.told)
            head = self._head(answer, f"content-length: {len(piece.data)}")
            self.wfile.write(head + piece.data)

    def _stream(self, answer: Answer, reply: Reply, settle: Settle) -> None:
        """Send the pieces; what waits for nothing goes out in a single write."""
        pending = bytearray(self._head(answer, "transfer-encoding: chunked"))
        count = sum(piece.is_content for piece in answer.pieces)
        sent, told = 0, None

        def generated() -> TokenUsage | None:
            return None if answer.usage is None else scaled(answer.usage, sent, count)

        for piece in answer.pieces:
            reached = sent or piece.is_content
            if reached and sent == reply.break_after_chunks:
                self._hang_up(settle, generated(), told, pending)
                return
            if reached and sent == reply.hold_after_chunks:
                self._flush(pending, settle, generated)
                self._client_leaves(None)
                self._hang_up(settle, generated(), told)
                return
            if sent and piece.is_content and reply.chunk_delay_seconds:
                self._flush(pending, settle, generated)
                if self._client_leaves(reply.chunk_delay_seconds):
                    self._hang_up(settle, generated(), told)
                    return
            pending += b"%x\r\n%b\r\n" % (len(piece.data), piece.data)
            told = piece.told or told
            sent += piece.is_content
        # Before the end is sent, so that a client that has seen it finds the ledger complete.
        settle(answer.usage, told)
        self.wfile.write(pending + b"0\r\n\r\n")

    def _flush(
        self, pending: bytearray, settle: Settle, generated: Callable[[], TokenUsage | None]
    ) -> None:
        try:
            self.wfile.write(pending)
        except OSError:
            settle(generated(), None)
            raise
        pending.clear()

    def _hang_up(
        self,
        settle: Settle,
        billed: TokenUsage | None,
        told: TokenUsage | None = None,
        pending: bytes | bytearray = b"",
    ) -> None:
        self.close_connection = True
        settle(billed, told)
        self.wfile.write(pending)

    def _head(self, answer: Answer, framing: str) -> bytes:
        phrase = HTTPStatus(answer.status).phrase
        lines = [
            f"HTTP/1.1 {answer.status} {phrase}",
            f"content-type: {answer.content_type}",
            framing,
            *(f"{name}: {value}" for name, value in answer.headers.items()),
            "\r\n",
        ]
        return "\r\n".join(lines).encode("latin-1")

    def _client_leaves(self, seconds: float | None) -> bool:
        """Wait, for ever if None; return at once and True when the client closes."""
        begun = time.monotonic()
        # A selector, because select() takes no descriptor above 1023.
        with selectors.DefaultSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ)
            if not selector.select(seconds):
                return False
        try:
            is_pipelined = bool(self.connection.recv(1, socket.MSG_PEEK))
        except OSError:
            return True
        if is_pipelined and seconds is not None:
            time.sleep(max(seconds - (time.monotonic() - begun), 0))
        return not is_pipelined
