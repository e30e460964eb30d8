"""Settling: totals of agents are decided when their time has come."""

from __future__ import annotations

import logging
from threading import Event, Thread
from typing import Final

from agentsight_tokens.backend.store import Store

from .trace_log import TraceLog

__all__ = ["Settling"]

_logger: Final = logging.getLogger("agentsight_tokens.server")
_EVERY_SECONDS: Final = 5.0


class Settling:
    """A thread that settles what waits in a store, now and again and again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._log = TraceLog(store)
        self._is_over = Event()
        self._thread = Thread(target=self._run, name="agentsight-settling", daemon=True)

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
                self._log.settle()
                self._log.forget()
            except self._store.outages as error:
                _logger.warning("totals are not settled, it is tried again: %s", error)
            self._is_over.wait(_EVERY_SECONDS)
