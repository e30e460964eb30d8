"""TLS: certificates are verified, by the bundles that the environment names."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme

from agentsight_tokens.destinations.http import HTTPDestination
from agentsight_tokens.errors import DestinationUnavailableError

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")

from agentsight_tokens.destinations.otlp import OTLPSpansDestination
from agentsight_tokens.destinations.vendors import LangfuseDestination

BUNDLES = {
    "http": "SSL_CERT_FILE",
    "otlp": "OTEL_EXPORTER_OTLP_CERTIFICATE",
    "langfuse": "REQUESTS_CA_BUNDLE",
}


class Server:
    """An HTTPS server that takes everything."""

    def __init__(self, authority: trustme.CA, name: str) -> None:
        received = self.received = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                received.append(self.path)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(name).configure_cert(context)
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"https://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture(autouse=True)
def no_bundles(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (*BUNDLES.values(), "SSL_CERT_DIR", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


@pytest.fixture
def server(authority: trustme.CA) -> Iterator[Server]:
    server = Server(authority, "127.0.0.1")
    yield server
    server.close()


def made(name: str, url: str) -> Any:
    """Return a destination by its name."""
    # The exporter tries a handshake that failed again until its time is up.
    seconds = 2
    if name == "http":
        return HTTPDestination(url, timeout_seconds=seconds)
    if name == "otlp":
        return OTLPSpansDestination(url, timeout_seconds=seconds)
    return LangfuseDestination("pk", "sk", host=url, timeout_seconds=seconds)


@pytest.mark.parametrize("name", BUNDLES)
def test_an_unknown_authority_is_not_trusted(name: str, server: Server) -> None:
    """A server for which nobody vouches gets nothing."""
    destination = made(name, server.url)
    with pytest.raises(DestinationUnavailableError, match=r"(?i)certificate verify failed"):
        destination.check()
    destination.close()

    assert server.received == []


@pytest.mark.parametrize("name", BUNDLES)
def test_an_authority_of_ones_own_is_named_by_the_environment(
    name: str, server: Server, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with other programs that speak HTTPS."""
    monkeypatch.setenv(BUNDLES[name], bundle)
    destination = made(name, server.url)
    destination.check()
    destination.close()

    assert len(server.received) == 1


@pytest.mark.parametrize("name", BUNDLES)
def test_a_certificate_of_another_name_is_none(
    name: str, authority: trustme.CA, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever vouches for it."""
    monkeypatch.setenv(BUNDLES[name], bundle)
    server = Server(authority, "elsewhere.example")
    destination = made(name, server.url)
    try:
        with pytest.raises(DestinationUnavailableError, match=r"(?i)certificate|hostname"):
            destination.check()
    finally:
        destination.close()
        server.close()

    assert server.received == []


def test_a_collectors_authority_does_not_vouch_for_a_vendor(
    server: Server, bundle: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a vendor that everybody knows is not mistrusted for the sake of a collector's."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_CERTIFICATE", bundle)
    destination = made("langfuse", server.url)

    with pytest.raises(DestinationUnavailableError, match="certificate verify failed"):
        destination.check()
    destination.close()
