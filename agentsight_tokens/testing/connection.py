"""The HTTP side of the loopback provider: connections, and answers going out on them."""

from __future__ import annotations

import contextlib
import selectors
import socket
import sys
import threading
from collections.abc import Callable
from http.client import responses as phrases
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

from agentsight_tokens.usage import TokenUsage

from .answer import Answer, scaled
from .reply import Reply

__all__ = ["LoopbackServer", "Settle"]

Settle = Callable[[TokenUsage | None, TokenUsage | None], None]
"""Enter a call in the ledger: (what is billed, what the client was told)."""

Exchange = Callable[[str, str, dict[str, str], bytes], tuple[Answer, Reply, Settle]]
"""Answer a request: (method, path, headers, body) -> (answer, reply, settle)."""


class LoopbackServer(ThreadingTCPServer):
    """A server of one thread a connection that ends its connections when it is closed."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(
        self,
        exchange: Exchange,
        *,
        arrived: Callable[[], None],
        left: Callable[[], None],
        faults: list[Exception],
        keep_alive: bool,
    ) -> None:
        self.exchange = exchange
        self.arrived = arrived
        self.left = left
        self.keep_alive = keep_alive
        self._faults = faults
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closing = False
        super().__init__(("127.0.0.1", 0), _Connection)
        self._thread = threading.Thread(target=self._accept, name="loopback", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return int(self.server_address[1])

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
        """Keep what went wrong here; a client may leave whenever it likes."""
        error = sys.exc_info()[1]
        if isinstance(error, Exception) and not isinstance(error, OSError):
            self._faults.append(error)

    def close(self) -> None:
        """End every connection and stop listening."""
        self._closing = True
        # Wakes the thread that waits in accept, on every platform and at once.
        socket.create_connection(("127.0.0.1", self.port)).close()
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


class _Connection(StreamRequestHandler):
    """
    The requests of one connection, one after the other.

    It reads HTTP itself: the parser of `http.server` takes longer than all the rest of a call.
    """

    server: LoopbackServer
    disable_nagle_algorithm = True

    def handle(self) -> None:
        """Answer requests until one side has enough."""
        self.is_open = True
        while self.is_open:
            method, _, rest = self.rfile.readline(65536).decode("latin-1").partition(" ")
            path = rest.partition(" ")[0]
            if not path:
                return
            self._serve(method, path, self._headers())

    def _headers(self) -> dict[str, str]:
        headers: dict[str, str] = {}
        while line := self.rfile.readline(65536).decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return headers

    def _serve(self, method: str, path: str, headers: dict[str, str]) -> None:
        self.server.arrived()
        try:
            if "expect" in headers:
                self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = self.rfile.read(int(headers.get("content-length", 0)))
            answer, reply, settle = self.server.exchange(method, path, headers, body)
            is_closing = headers.get("connection", "").lower() == "close"
            self.is_open = self.server.keep_alive and not is_closing
            self._send(answer, reply, settle)
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
        self.is_open = False
        settle(billed, told)
        self.wfile.write(pending)

    def _head(self, answer: Answer, framing: str) -> bytes:
        phrase = phrases.get(answer.status, "Unknown")
        lines = [
            f"HTTP/1.1 {answer.status} {phrase}",
            f"content-type: {answer.content_type}",
            framing,
            "connection: " + ("keep-alive" if self.is_open else "close"),
            *(f"{name}: {value}" for name, value in answer.headers.items()),
            "\r\n",
        ]
        return "\r\n".join(lines).encode("latin-1")

    def _client_leaves(self, seconds: float | None) -> bool:
        """Wait, for ever if None; return at once and True when the client closes."""
        # A selector, because select() takes no descriptor above 1023.
        with selectors.DefaultSelector() as selector:
            selector.register(self.connection, selectors.EVENT_READ)
            if not selector.select(seconds):
                return False
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except OSError:
            return True
