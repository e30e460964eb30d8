"""Settling: totals of agents are decided when their time has come."""

from __future__ import annotations

from threading import Event
from typing import Final

from agentsight_tokens.backend.store import Store
from agentsight_tokens.backend.store.repeating import Repeating

from .trace_log import TraceLog

__all__ = ["Settling"]

_EVERY_SECONDS: Final = 5.0


class Settling(Repeating):
    """A thread that settles what waits in a store, now and again and again."""

    def __init__(self, store: Store) -> None:
        super().__init__(
            store,
            self._settle,
            name="settling",
            every_seconds=_EVERY_SECONDS,
            on_outage="totals are not settled",
        )
        self._log = TraceLog(store)

    def _settle(self, _: Event) -> None:
        self._log.settle()
        self._log.forget()
