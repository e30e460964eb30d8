"""Pauses of a background thread, so that the program's own threads get their turn."""

from __future__ import annotations

import time
from threading import Event
from typing import Final

__all__ = ["Breath"]

WORK_SECONDS: Final = 0.001
REST_SECONDS: Final = 0.0001


class Breath:
    """
    Sleeps for a moment after each millisecond of work.

    Python takes the interpreter from a busy thread only after 5 ms, for which an event loop
    would stand still; a thread that sleeps gives it away at once.
    """

    def __init__(self) -> None:
        self._rested_at = 0.0
        # Unlike time.sleep() of Python 3.11, it works where libfaketime shifts the clock.
        self._never = Event()

    def __call__(self) -> None:
        """Sleep, if it is time."""
        if time.perf_counter() - self._rested_at > WORK_SECONDS:
            self._never.wait(REST_SECONDS)
            self._rested_at = time.perf_counter()
