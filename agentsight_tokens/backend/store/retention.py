"""Retention: the calls of past months are forgotten, again and again as time goes on."""

from __future__ import annotations

import logging
from datetime import datetime, timezone
from threading import Event
from typing import Final

from .base import Store
from .repeating import Repeating

__all__ = ["Retention", "months_ago"]

_logger: Final = logging.getLogger("agentsight_tokens.server")
_EVERY_SECONDS: Final = 6 * 3600.0


class Retention(Repeating):
    """A thread that lets calls expire, now and every few hours."""

    def __init__(self, store: Store, keep_months: int) -> None:
        super().__init__(
            store,
            self._expire,
            name="retention",
            every_seconds=_EVERY_SECONDS,
            on_outage="calls did not expire",
        )
        self._keep_months = keep_months

    def _expire(self, _: Event) -> None:
        calls = self._store.expire(months_ago(datetime.now(timezone.utc), self._keep_months))
        _logger.info("retention", extra={"facts": {"expired_calls": calls}})


def months_ago(now: datetime, months: int) -> datetime:
    """Return the first moment of the month that many months before this one."""
    month = now.year * 12 + now.month - 1 - months
    return datetime(month // 12, month % 12 + 1, 1, tzinfo=timezone.utc)
