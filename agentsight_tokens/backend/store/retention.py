"""Retention: the calls of past months are forgotten, again and again as time goes on."""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from threading import Event, Thread
from typing import Final

from .base import Store

__all__ = ["Retention", "months_ago"]

_logger: Final = logging.getLogger("agentsight_tokens.server")
_EVERY_SECONDS: Final = 6 * 3600.0


class Retention:
    """A thread that lets calls expire, now and every few hours."""

    def __init__(self, store: Store, keep_months: int) -> None:
        self._store = store
        self._keep_months = keep_months
        self._is_over = Event()
        self._thread = Thread(target=self._run, name="agentsight-retention", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, once what runs has ended."""
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.is_set():
            try:
                calls = self._store.expire(
                    months_ago(datetime.now(timezone.utc), self._keep_months)
                )
                _logger.info("retention", extra={"facts": {"expired_calls": calls}})
            except self._store.outages as error:
                _logger.warning("calls did not expire, it is tried again: %s", error)
            self._is_over.wait(_EVERY_SECONDS)


def months_ago(now: datetime, months: int) -> datetime:
    """Return the first moment of the month that many months before this one."""
    month = now.year * 12 + now.month - 1 - months
    return datetime(month // 12, month % 12 + 1, 1, tzinfo=timezone.utc)
