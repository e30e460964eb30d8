"""FakeIds: ids that are the same in every run of a test."""

from __future__ import annotations

import threading

__all__ = ["FakeIds"]


class FakeIds:
    """A factory of ids that count up, and so sort by their time. Safe in every thread."""

    def __init__(self, prefix: str = "id-") -> None:
        self._prefix = prefix
        self._last = 0
        self._lock = threading.Lock()

    def __call__(self) -> str:
        """Return the next id."""
        with self._lock:
            self._last += 1
            return f"{self._prefix}{self._last:06d}"
