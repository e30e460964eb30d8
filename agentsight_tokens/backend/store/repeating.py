"""Repeating: what a server does beside its requests, again and again as time goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event, Thread
from typing import Final

from .base import Store

__all__ = ["Repeating"]

_logger: Final = logging.getLogger("agentsight_tokens.server")


class Repeating:
    """A thread that does something with a store now, and again after each pause."""

    def __init__(
        self,
        store: Store,
        work: Callable[[Event], object],
        *,
        name: str,
        every_seconds: float,
        on_outage: str,
    ) -> None:
        """
        Set it up.

        Args:
            store: Whose outages only put the work off.
            work: What is to be done; it is given the event that says that it is to end.
            name: Of the thread.
            every_seconds: The pause.
            on_outage: What the log says of an outage; its message follows.
        """
        self._store = store
        self._work = work
        self._every_seconds = every_seconds
        self._on_outage = on_outage
        self._is_over = Event()
        self._thread = Thread(target=self._run, name=f"agentsight-{name}", daemon=True)

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
                self._work(self._is_over)
            except self._store.outages as error:
                _logger.warning("%s, it is tried again: %s", self._on_outage, error)
            self._is_over.wait(self._every_seconds)
