"""The courier: delivers what the store says is to be told, until it is accepted or given up."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from threading import Event, Thread
from typing import Final, NamedTuple

from agentsight_tokens.backend.budgets.alert_history import Alert, alert_of_row
from agentsight_tokens.backend.store import Store
from agentsight_tokens.backend.store.budget_alerts import ALERT_COLUMNS
from agentsight_tokens.budgets.webhook import webhook_message
from agentsight_tokens.calls import microseconds

from .post import PostFailure, post

__all__ = ["Courier"]

_logger: Final = logging.getLogger("agentsight_tokens.server")

_DELAYS_SECONDS: Final = (1, 5, 30, 120, 600, 1800, 3600, 3600, 3600, 7200, 7200, 14400, 14400)
"""Before each further try; some 16 hours together."""

_EVERY_SECONDS: Final = 1.0
_POST_SECONDS: Final = 10.0
_CLAIM_SECONDS: Final = 60.0
"""
For which a delivery belongs to the process that has begun it.

When it dies meanwhile, another one delivers: the receiver may get a message twice, under the
same key, and never not at all.
"""

_AT_ONCE: Final = 4
_ALERT: Final = ", ".join(f"alerts.{name}" for name in ALERT_COLUMNS)
_DUE: Final = (
    f"SELECT due.number, url, attempts, webhook_secret, {_ALERT} "  # noqa: S608  # our own names
    "FROM (SELECT project_id, alert_id, number, url, attempts, due_at, ROW_NUMBER() OVER "
    "(PARTITION BY project_id ORDER BY due_at, alert_id, number) AS turn "
    "FROM webhook_deliveries WHERE state = 'waiting' AND due_at <= ?) AS due "
    "JOIN alerts ON alerts.project_id = due.project_id AND alerts.id = due.alert_id "
    "JOIN budgets ON budgets.project_id = alerts.project_id AND budgets.id = alerts.budget_id "
    f"WHERE turn <= {_AT_ONCE} ORDER BY turn, due_at LIMIT ?"
)
"""No project keeps the others waiting, however many of its receivers do not answer."""

_ONE: Final = (
    "WHERE project_id = ? AND alert_id = ? AND number = ? AND state = 'waiting' AND attempts = ?"
)
_CLAIM: Final = f"UPDATE webhook_deliveries SET attempts = attempts + 1, due_at = ? {_ONE}"  # noqa: S608  # our own names
_END: Final = f"UPDATE webhook_deliveries SET state = ?, error = ?, due_at = ?, ended_at = ? {_ONE}"  # noqa: S608  # our own names


class _Due(NamedTuple):
    """A message that is to be delivered now."""

    project_id: int
    alert: Alert
    number: int
    url: str
    attempts: int
    """With this one."""
    secret: str | None

    @property
    def key(self) -> tuple[object, ...]:
        """Where it is, as long as it is this one's to deliver."""
        return self.project_id, self.alert.id, self.number, self.attempts


class Courier:
    """
    A thread that delivers alerts; each process of a server has one.

    A delivery is claimed before it is made, and by one of them only.
    """

    def __init__(
        self,
        store: Store,
        *,
        allow_private: bool = False,
        on_outcome: Callable[[str], object] = lambda _: None,
        now: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        """
        Set up the delivery.

        Args:
            store: Where the alerts are.
            allow_private: Whether addresses of private networks and of this machine may be asked.
            on_outcome: Is told delivered, failed or given_up, for each delivery.
            now: The clock.
        """
        self._store = store
        self._allow_private = allow_private
        self._on_outcome = on_outcome
        self._now = now
        self._is_over = Event()
        self._thread = Thread(target=self._run, name="agentsight-webhooks", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, once the deliveries that run have ended."""
        self._is_over.set()
        self._thread.join()

    def deliver_due(self) -> int:
        """Deliver what is due; return how much it was."""
        now = self._now()
        rows = self._store.rows(_DUE, (microseconds(now), 4 * _AT_ONCE))
        due = []
        for number, url, attempts, secret, *alert in rows:
            each = _Due(alert[0], alert_of_row(alert), number, url, attempts, secret)
            until = microseconds(now + timedelta(seconds=_CLAIM_SECONDS))
            with self._store.transaction() as transaction:
                if transaction.run(_CLAIM, (until, *each.key)):
                    due.append(each._replace(attempts=attempts + 1))
        if due:
            with ThreadPoolExecutor(_AT_ONCE) as threads:
                list(threads.map(self._deliver, due))
        return len(due)

    def _run(self) -> None:
        while not self._is_over.is_set():
            try:
                if self.deliver_due():
                    continue
            except self._store.outages as error:
                _logger.warning("alerts are not delivered, it is tried again: %s", error)
            self._is_over.wait(_EVERY_SECONDS)

    def _deliver(self, due: _Due) -> None:
        if self._is_over.is_set():  # whoever comes next delivers it, when the claim is over
            return
        message = webhook_message(
            due.alert.told,
            due.url,
            secret=due.secret,
            signed_at=int(self._now().timestamp()),
            facts={"budget": due.alert.budget_name},
        )
        try:
            failure = post(
                message, allow_private=self._allow_private, timeout_seconds=_POST_SECONDS
            )
        except Exception as error:  # no receiver may end the delivery to all others
            _logger.exception("an alert was not delivered")
            failure = PostFailure(f"the delivery failed: {type(error).__name__}")
        now = self._now()
        outcome, values = _outcome(due, failure, now)
        if failure is not None:
            _logger.warning("an alert was not delivered: %s", failure.reason)
        with self._store.transaction() as transaction:
            transaction.run(_END, (*values, *due.key))
        self._on_outcome(outcome)


def _outcome(
    due: _Due, failure: PostFailure | None, now: datetime
) -> tuple[str, tuple[object, ...]]:
    """Return what has become of a delivery, and its state, error, due_at and ended_at."""
    at = microseconds(now)
    if failure is None:
        return "delivered", ("delivered", None, at, at)
    if failure.is_final or due.attempts > len(_DELAYS_SECONDS):
        return "given_up", ("given_up", failure.reason, at, at)
    delay = max(_DELAYS_SECONDS[due.attempts - 1], failure.after_seconds or 0.0)
    again = microseconds(now + timedelta(seconds=delay))
    return "failed", ("waiting", failure.reason, again, None)
