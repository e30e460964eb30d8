"""FakeClock: a time that moves only when a test moves it."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta, timezone

__all__ = ["FakeClock"]

_START = datetime(2026, 1, 1, tzinfo=timezone.utc)


class FakeClock:
    """A wall clock and a monotonic clock that go together. Safe in every thread."""

    def __init__(self, start: datetime = _START) -> None:
        if start.tzinfo is None:
            raise ValueError(f"start must be aware, and {start!r} has no time zone")
        self._start = start.astimezone(timezone.utc)
        self._elapsed = timedelta()
        self._lock = threading.Lock()

    def __call__(self) -> datetime:
        """Return the time, aware and in UTC."""
        return self.now()

    def now(self) -> datetime:
        """Return the time, aware and in UTC."""
        return self._start + self._elapsed

    def monotonic(self) -> float:
        """Return the seconds since the clock was made."""
        return self._elapsed.total_seconds()

    def sleep(self, seconds: float) -> None:
        """Let time pass without waiting for it, in the place of `time.sleep`."""
        self.advance(seconds)

    def advance(self, seconds: float) -> datetime:
        """
        Let time pass and return the new time.

        Raises:
            ValueError: For a negative number; the clock never goes back.
        """
        if seconds < 0:
            raise ValueError(f"seconds must be at least 0, not {seconds!r}")
        with self._lock:
            self._elapsed += timedelta(seconds=seconds)
            return self._start + self._elapsed
