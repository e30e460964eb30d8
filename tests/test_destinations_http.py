"""The HTTP destination, against a server on loopback."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from pathlib import Path

import pytest

from agentsight_tokens import ConfigurationError, ConversationTracker, Cycle
from agentsight_tokens.destinations.http import HTTPDestination
from agentsight_tokens.destinations.responses import raise_for_status, retry_after_seconds
from agentsight_tokens.errors import (
    DeliveryRefusedError,
    DestinationError,
    DestinationUnauthorizedError,
    DestinationUnavailableError,
)
from tests.faults.backend import Backend, running_backend
from tests.records import AT, call


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    with running_backend(tmp_path / "backend") as backend:
        yield backend


@pytest.fixture
def destination(backend: Backend) -> Iterator[HTTPDestination]:
    destination = HTTPDestination(backend.url, "secret", timeout_seconds=5)
    yield destination
    destination.close()


def cycle(key: str, *numbers: int) -> Cycle:
    return Cycle.of(
        [call(number) for number in numbers],
        key=key,
        conversation_id="c",
        sealed_by="send",
        sealed_at=AT,
    )


def test_cycles_are_posted(backend: Backend, destination: HTTPDestination) -> None:
    """The key is shown, large bodies are compressed, and the answer is of each cycle."""
    outcomes = destination.deliver([cycle("a", *range(1, 50)), cycle("b", 100)])

    assert [outcome.is_accepted for outcome in outcomes] == [True, True]
    assert backend.tokens() == sum(range(1, 50)) + 100
    headers, body = backend.requests[0]
    assert headers["Authorization"] == "Bearer secret"
    assert headers["Content-Encoding"] == "gzip"
    assert headers["User-Agent"].startswith("agentsight-tokens/")
    assert len(json.loads(body)["cycles"]) == 2


def test_small_bodies_are_sent_as_they_are(backend: Backend, destination: HTTPDestination) -> None:
    """To compress them would not pay."""
    destination.check()

    headers, body = backend.requests[0]
    assert "Content-Encoding" not in headers
    assert json.loads(body) == {"cycles": []}


def test_the_connection_is_kept(backend: Backend, destination: HTTPDestination) -> None:
    """Deliveries share a connection; one that the server closed is opened again."""
    for number in range(1, 6):
        destination.deliver([cycle(f"c{number}", number)])
    assert (len(backend.requests), backend.connections) == (5, 1)
    backend.stop()
    with pytest.raises(DestinationUnavailableError, match="refused"):
        destination.deliver([cycle("a", 1)])
    backend.start()

    assert destination.deliver([cycle("a", 1)])[0].is_accepted
    assert backend.connections == 2


def test_a_connection_that_went_stale_costs_no_delivery(
    backend: Backend, destination: HTTPDestination
) -> None:
    """The server may close it between two deliveries; the second is sent on a new one."""
    destination.deliver([cycle("a", 1)])
    backend.break_connections()

    assert destination.deliver([cycle("b", 2)])[0].is_accepted
    assert backend.connections == 2


@pytest.mark.parametrize("body", [b"", b"{}", b'{"results": null}', b'{"ok": true}'])
def test_success_without_results_accepts_all(
    backend: Backend, destination: HTTPDestination, body: bytes
) -> None:
    """A server that says nothing of single cycles has taken them all."""
    backend.body = body

    outcomes = destination.deliver([cycle("a", 1), cycle("b", 2)])

    assert [outcome.is_accepted for outcome in outcomes] == [True, True]


@pytest.mark.parametrize("body", [b"<html>Please log in</html>", b'{"results": []}', b"[]"])
def test_an_answer_that_is_none_is_no_acknowledgement(
    backend: Backend, destination: HTTPDestination, body: bytes
) -> None:
    """A log-in page in between, or a receipt that forgets a cycle, acknowledges nothing."""
    backend.body = body

    with pytest.raises(DestinationUnavailableError):
        destination.deliver([cycle("a", 1)])


def test_refused_cycles_and_records_are_told(
    backend: Backend, destination: HTTPDestination
) -> None:
    """The outcome names what was refused, and why."""
    backend.body = json.dumps(
        {
            "results": [
                {"key": "b", "status": "rejected", "reason": "no"},
                {"key": "a", "status": "accepted", "refused": [{"id": "x", "reason": "bad"}]},
                {"key": "c", "status": "accepted"},
            ]
        }
    ).encode()

    a, b, c = destination.deliver([cycle("a", 1), cycle("b", 2), cycle("c", 3)])

    assert (a.is_accepted, a.refused) == (True, {"x": "bad"})
    assert (b.is_accepted, b.reason) == (False, "no")
    assert (c.is_accepted, c.refused) == (True, None)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, DeliveryRefusedError),
        (413, DeliveryRefusedError),
        (422, DeliveryRefusedError),
        (401, DestinationUnauthorizedError),
        (403, DestinationUnauthorizedError),
        *((status, DestinationUnavailableError) for status in (302, 404, 405, 408, 410, 415)),
        *((status, DestinationUnavailableError) for status in (429, 500, 502, 503, 504, 507)),
    ],
)
def test_statuses_have_their_meaning(
    backend: Backend, destination: HTTPDestination, status: int, error: type[Exception]
) -> None:
    """What cannot be the fault of a cycle sets none aside."""
    backend.status = status

    with pytest.raises(error, match=str(status)) as raised:
        destination.deliver([cycle("a", 1)])
    assert type(raised.value) is error


def test_a_conflict_is_success(backend: Backend, destination: HTTPDestination) -> None:
    """409 says that it is there already."""
    backend.status = 409

    assert destination.deliver([cycle("a", 1)])[0].is_accepted


def test_the_server_says_when_to_come_again(backend: Backend, destination: HTTPDestination) -> None:
    """`Retry-After` is read in seconds and as a date by the server's own clock."""
    backend.status, backend.headers = 503, {"Retry-After": "7"}
    with pytest.raises(DestinationUnavailableError) as raised:
        destination.deliver([cycle("a", 1)])
    assert raised.value.retry_after_seconds == 7

    # An hour wrong, and still 30 s later than the server's now.
    now = datetime(2026, 1, 2, 3, tzinfo=timezone.utc)
    date, later = (format_datetime(at, usegmt=True) for at in (now, now + timedelta(seconds=30)))
    assert retry_after_seconds({"Retry-After": later, "Date": date}) == 30
    assert retry_after_seconds({"Retry-After": date, "Date": later}) == 0
    assert retry_after_seconds({"Retry-After": date}) == 0
    assert retry_after_seconds({"Retry-After": "soon"}) is None
    assert retry_after_seconds({}) is None
    assert (
        retry_after_seconds({"Retry-After": "Fri, 02 Jan 2026 03:00:30 -0000", "Date": date}) == 30
    )


def test_a_redirect_is_named(backend: Backend, destination: HTTPDestination) -> None:
    """Counts are not sent to where somebody points; the address must be corrected."""
    backend.status, backend.headers = 307, {"Location": "https://elsewhere.example"}

    with pytest.raises(DestinationUnavailableError, match="elsewhere"):
        destination.deliver([cycle("a", 1)])


def test_reasons_are_short_and_printable() -> None:
    """What a server says goes into the log and the ledger."""
    with pytest.raises(DeliveryRefusedError) as raised:
        raise_for_status(400, {}, b"\x1b[31m" + b"x" * 1000)

    assert str(raised.value).isprintable()
    assert len(str(raised.value)) <= 204


def test_a_check_says_what_is_wrong(backend: Backend, destination: HTTPDestination) -> None:
    """A wrong key and a refusal are reported; a good server stores nothing for it."""
    destination.check()
    for status in (400, 401):
        backend.status = status
        with pytest.raises(DestinationError, match=str(status)):
            destination.check()

    assert backend.calls() == 0


def test_the_identity_tells_no_secret() -> None:
    """It depends on the address and the key, and contains neither."""
    one = HTTPDestination("https://a.example", "key-1").identity

    assert one == HTTPDestination("https://a.example/", "key-1").identity
    assert one != HTTPDestination("https://a.example", "key-2").identity
    assert one != HTTPDestination("https://b.example", "key-1").identity
    assert "key" not in one
    assert "example" not in one


@pytest.mark.parametrize("endpoint", ["localhost:8765", "ftp://a.example", "https://"])
def test_an_address_that_is_none_is_refused(endpoint: str) -> None:
    """The error names the variable."""
    with pytest.raises(ConfigurationError, match="AGENTSIGHT_API_ENDPOINT"):
        HTTPDestination(endpoint)


def test_a_slow_server_is_given_up(backend: Backend) -> None:
    """A delivery takes no longer than it may."""
    destination = HTTPDestination(backend.url, timeout_seconds=0.2)
    backend.hangs.set()

    with pytest.raises(DestinationUnavailableError, match=r"(?i)time"):
        destination.deliver([cycle("a", 1)])
    destination.close()


def test_proxies_of_the_environment_are_used(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`HTTP_PROXY` is used, `NO_PROXY` is respected."""
    monkeypatch.setenv("http_proxy", backend.url.replace("//", "//user:word@"))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    through = HTTPDestination("http://ledger.example")
    through.check()
    through.close()
    headers, _ = backend.requests[0]
    assert headers["Host"] == "ledger.example"
    assert headers["proxy-authorization"].startswith("Basic ")

    monkeypatch.setenv("no_proxy", "ledger.example")
    around = HTTPDestination("http://ledger.example:1", timeout_seconds=1)
    with pytest.raises(DestinationError):
        around.check()
    around.close()
    assert len(backend.requests) == 1


def test_https_goes_through_a_proxy_end_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy is asked for a tunnel, and sees neither the key nor a count."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        heard = []

        def listen() -> None:
            connection, _ = proxy.accept()
            with connection:
                heard.append(connection.recv(10_000))
                connection.sendall(b"HTTP/1.1 403 Forbidden\r\n\r\n")

        thread = threading.Thread(target=listen)
        thread.start()
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        destination = HTTPDestination("https://ledger.example", "secret", timeout_seconds=5)
        with pytest.raises(DestinationUnavailableError, match="403"):
            destination.deliver([cycle("a", 1)])
        destination.close()
        thread.join()

    assert heard[0].startswith(b"CONNECT ledger.example:443 HTTP/1.")
    assert b"secret" not in heard[0]


def test_a_child_opens_its_own_connection(backend: Backend) -> None:
    """After a fork, parent and child do not share a connection."""
    destination = HTTPDestination(backend.url)
    destination.check()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            destination.forget_after_fork()
            destination.check()
            code = 0
        finally:
            os._exit(code)
    destination.check()

    assert os.waitpid(pid, 0)[1] == 0
    assert len(backend.requests) == 3
    destination.close()


def test_an_endpoint_makes_the_tracker_deliver_there(backend: Backend) -> None:
    """One setting sends the cycles to the backend, and the result tells the truth."""
    backend.key = "k"
    with ConversationTracker(api_key="k", endpoint=backend.url) as tracker:
        tracker.track_token_usage(5, 2, model="gpt-4o")
        assert tracker.send_tracked_data(wait=20).status == "delivered"

    assert backend.tokens() == 5
