"""AlertWebhook: alerts as signed JSON, in the form that Slack shows."""

from __future__ import annotations

import hashlib
import hmac
import logging
import queue
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple, Protocol
from urllib.parse import urlsplit

import msgspec

from agentsight_tokens.forks import renew_after_fork

from .alerts import BudgetAlert, amount_text

__all__ = [
    "SIGNATURE_HEADER",
    "AlertOutbox",
    "AlertWebhook",
    "Failure",
    "WebhookMessage",
    "WebhookSender",
    "failure_of",
    "signature",
    "webhook_message",
]

SIGNATURE_HEADER: Final = "AgentSight-Signature"
"""Holds `t=<seconds since 1970>,v1=<signature>`; see `signature`."""

_KEY_HEADER: Final = "AgentSight-Alert-Key"
_DELAYS_SECONDS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)
_TRY_AGAIN: Final = frozenset({408, 425, 429})

_logger: Final = logging.getLogger("agentsight_tokens")


class WebhookMessage(NamedTuple):
    """A POST that is to be made until it is accepted."""

    key: str
    """The same for each delivery of the same alert."""
    url: str
    body: bytes
    headers: Mapping[str, str]


class AlertOutbox(Protocol):
    """What delivers messages, again and again until each is accepted."""

    def put(self, message: WebhookMessage) -> None:
        """Take a message; return at once."""


class AlertWebhook:
    """
    Posts alerts to an address: `manager.on_alert(AlertWebhook(url, secret=secret))`.

    Args:
        url: The address; Slack's incoming webhooks understand what is posted.
        secret: Signs the body, so that the receiver knows who sent it.
        outbox: What delivers; without one, a thread of this process.

    Raises:
        ValueError: If the address is not one of http or https.
    """

    def __init__(
        self, url: str, *, secret: str | None = None, outbox: AlertOutbox | None = None
    ) -> None:
        if urlsplit(url).scheme not in ("http", "https"):
            raise ValueError(f"a webhook's address begins with https:// or http://, not {url!r}")
        self._url = url
        self._secret = secret
        self._outbox: AlertOutbox = outbox or WebhookSender()

    def __call__(self, alert: BudgetAlert) -> None:
        """Hand an alert over for delivery."""
        at = int(alert.at.timestamp())
        self._outbox.put(webhook_message(alert, self._url, secret=self._secret, signed_at=at))


def webhook_message(
    alert: BudgetAlert,
    url: str,
    *,
    secret: str | None,
    signed_at: int,
    facts: Mapping[str, str] | None = None,
) -> WebhookMessage:
    """
    Return the message that tells of an alert.

    Args:
        alert: What is told.
        url: Whom it is told.
        secret: Signs the body.
        signed_at: The time of the signature, in seconds since 1970.
        facts: What is told besides, by its title.
    """
    body = msgspec.json.encode(_payload(alert, facts or {}))
    headers = {"Content-Type": "application/json", _KEY_HEADER: alert.key}
    if secret is not None:
        headers[SIGNATURE_HEADER] = f"t={signed_at},v1={signature(secret, signed_at, body)}"
    return WebhookMessage(alert.key, url, body, headers)


def signature(secret: str, at: int, body: bytes) -> str:
    """Return the HMAC-SHA256 of `<at>.<body>` in hexadecimal digits."""
    return hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()


class WebhookSender:
    """
    Delivers messages from memory, in a thread that ends with the process.

    Args:
        timeout_seconds: How long one delivery may take.
        sleep: Waits between two tries.
    """

    def __init__(
        self, *, timeout_seconds: float = 10.0, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._timeout = timeout_seconds
        self._sleep = sleep
        self.forget_after_fork()
        renew_after_fork(self)

    def forget_after_fork(self) -> None:
        """Begin anew in a child: what the parent took, the parent delivers."""
        self._queue: queue.SimpleQueue[WebhookMessage] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def put(self, message: WebhookMessage) -> None:
        """Take a message; return at once."""
        self._queue.put(message)
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._deliver_all, name="agentsight-webhook", daemon=True
                )
                self._thread.start()

    def _deliver_all(self) -> None:
        while True:
            message = self._queue.get()
            for delay in (*_DELAYS_SECONDS, None):
                failure = failure_of(message, self._timeout)
                if failure is None:
                    break
                if delay is None or not failure.is_temporary:
                    _logger.error("an alert was not delivered: %s", failure.reason)
                    break
                self._sleep(delay)


class Failure(NamedTuple):
    """Why a message was not accepted."""

    reason: str
    is_temporary: bool


def failure_of(message: WebhookMessage, timeout_seconds: float) -> Failure | None:
    """Post a message; return why it was not accepted, None if it was."""
    request = urllib.request.Request(  # noqa: S310  # the scheme was tested
        message.url, data=message.body, headers=dict(message.headers), method="POST"
    )
    try:
        with urllib.request.urlopen(request, timeout=timeout_seconds):  # noqa: S310  # as above
            return None
    except urllib.error.HTTPError as error:
        error.close()
        is_temporary = error.code >= 500 or error.code in _TRY_AGAIN
        return Failure(f"the webhook answered {error.code}", is_temporary=is_temporary)
    except (OSError, ValueError) as error:
        return Failure(f"the webhook was not reached: {error}", is_temporary=True)


def _payload(alert: BudgetAlert, more: Mapping[str, str]) -> dict[str, object]:
    facts = {
        **more,
        "scope": alert.scope,
        "entity_id": alert.entity_id,
        "window": alert.window,
        "level": f"{alert.level:.0%}",
        "used": amount_text(alert.used, alert.unit),
        "limit": amount_text(alert.limit, alert.unit),
        "resets_at": alert.resets_at.isoformat() if alert.resets_at else "never",
    }
    fields = [{"title": name, "value": value, "short": True} for name, value in facts.items()]
    color = "danger" if alert.level >= 1 else "warning"
    return {
        "text": alert.message,
        "attachments": [
            {"color": color, "fields": fields, "ts": int(alert.at.timestamp())},
        ],
    }
