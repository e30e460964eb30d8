"""
One post to a webhook, whose address a customer has given.

The address is resolved once, and that very address is asked, if it is one of the public
internet: so no name can lead into the server's own network. No redirect is followed, and neither
a slow nor an endless answer holds the sender up.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
from collections.abc import Iterator
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from threading import Event, Timer
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from agentsight_tokens.budgets.webhook import WebhookMessage

__all__ = ["PostFailure", "post"]

_CONNECT_SECONDS: Final = 5.0
_ANSWER_BYTES: Final = 2_000
"""Of an answer that is no success, this much is read: its reason."""

_LONGEST_REASON: Final = 300
_LONGEST_WAIT_SECONDS: Final = 3600.0
_TRY_AGAIN: Final = frozenset({408, 425, 429})
_PORTS: Final = {"http": 80, "https": 443}


class PostFailure(NamedTuple):
    """Why a message was not accepted."""

    reason: str
    is_final: bool = False
    """Whether there is no sense in trying again."""
    after_seconds: float | None = None
    """How long the receiver asks to wait."""


def post(
    message: WebhookMessage, *, allow_private: bool, timeout_seconds: float = 10.0
) -> PostFailure | None:
    """
    Post a message; return why it was not accepted, None if it was.

    Args:
        message: What is posted, and where.
        allow_private: Whether addresses of private networks and of this machine may be asked.
        timeout_seconds: How long all of it may take.
    """
    try:
        address = _address_of(message.url, allow_private=allow_private)
    except (OSError, UnicodeError) as error:  # the latter for what no host can be called
        return PostFailure(f"the host was not found: {error}")
    if isinstance(address, PostFailure):
        return address
    is_late = Event()
    try:
        with _connection(message.url, address, timeout_seconds, is_late) as connection:
            failure = _posted(connection, message)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if not is_late.is_set():
            reason = str(error) or type(error).__name__
            return PostFailure(f"the webhook was not reached: {reason}")
    else:
        # What is cut off may look like an answer.
        if not is_late.is_set():
            return failure
    return PostFailure(f"the webhook gave no answer within {timeout_seconds:g} seconds")


def is_public(address: str) -> bool:
    """Return whether an address is one of the public internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if inner:
            ip = inner
        elif ip in _TRANSLATED:
            ip = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip.is_global and not ip.is_multicast


_TRANSLATED: Final = ipaddress.IPv6Network("64:ff9b::/96")
"""IPv4 addresses, as a translating network writes them (RFC 6052)."""


class _Address(NamedTuple):
    family: int
    place: Any
    """As `socket.connect` takes it."""


def _address_of(url: str, *, allow_private: bool) -> _Address | PostFailure:
    """Return what to connect to; every address of the name must be allowed."""
    parts = urlsplit(url)
    port = parts.port or _PORTS[parts.scheme]
    found = socket.getaddrinfo(parts.hostname, port, type=socket.SOCK_STREAM)
    if not allow_private:
        for _, _, _, _, place in found:
            if not is_public(str(place[0])):
                return PostFailure(
                    f"{parts.hostname} is {place[0]}, no address of the public internet: "
                    "`serve --allow-private-webhooks` allows it",
                    is_final=True,
                )
    family, _, _, _, place = found[0]
    return _Address(family, place)


@contextlib.contextmanager
def _connection(
    url: str, address: _Address, timeout_seconds: float, is_late: Event
) -> Iterator[http.client.HTTPConnection]:
    """Connect to an address as the host of a URL; all is over when the time is up."""
    parts = urlsplit(url)
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(socket.socket(address.family, socket.SOCK_STREAM))
        sock.settimeout(min(_CONNECT_SECONDS, timeout_seconds))
        # A timeout is of each read alone; an answer that trickles would never reach it.
        alarm = Timer(timeout_seconds, _hang_up, (sock, is_late))
        alarm.daemon = True
        alarm.start()
        stack.callback(alarm.cancel)
        sock.connect(address.place)
        sock.settimeout(2 * timeout_seconds)  # the alarm comes before
        connection = http.client.HTTPConnection(
            parts.hostname or "", parts.port or _PORTS[parts.scheme]
        )
        stack.callback(connection.close)
        connection.sock = sock
        if parts.scheme == "https":
            context = ssl.create_default_context()
            connection.sock = context.wrap_socket(sock, server_hostname=parts.hostname)
        yield connection


def _hang_up(sock: socket.socket, is_late: Event) -> None:
    is_late.set()
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def _posted(connection: http.client.HTTPConnection, message: WebhookMessage) -> PostFailure | None:
    parts = urlsplit(message.url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {
        **message.headers,
        "Host": parts.netloc,
        "User-Agent": f"agentsight-tokens/{version('agentsight-tokens')}",
        "Connection": "close",
    }
    connection.request("POST", target, message.body, headers)
    answer = connection.getresponse()
    if 200 <= answer.status < 300:
        return None
    said = answer.read(_ANSWER_BYTES).decode(errors="replace")
    reason = " ".join(f"the webhook answered {answer.status} {said}".split())[:_LONGEST_REASON]
    if 300 <= answer.status < 400:
        return PostFailure(f"{reason}: no redirect is followed", is_final=True)
    return PostFailure(
        reason,
        is_final=answer.status < 500 and answer.status not in _TRY_AGAIN,
        after_seconds=_retry_after(answer.headers.get("Retry-After")),
    )


def _retry_after(text: str | None) -> float | None:
    """Return the seconds that a receiver asks to wait, an hour at most."""
    if text is None:
        return None
    try:
        seconds: float = min(int(text), _LONGEST_WAIT_SECONDS)
    except ValueError:
        try:
            at = parsedate_to_datetime(text)
        except (ValueError, OverflowError, TypeError):
            return None
        if at.tzinfo is None:
            at = at.replace(tzinfo=timezone.utc)
        seconds = (at - datetime.now(timezone.utc)).total_seconds()
    return min(max(seconds, 0.0), _LONGEST_WAIT_SECONDS)
