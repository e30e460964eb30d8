"""Attempts: how often somebody may fail before they must wait."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import ceil
from typing import Final

from .problem import Problem

__all__ = ["Attempts"]

_MOST_ADDRESSES: Final = 10_000


class Attempts:
    """
    Counts the failures of each address in a span of time, in this process.

    The memory it takes is bounded: who fails from very many addresses at once has the oldest of
    them forgotten.
    """

    def __init__(
        self, most: int = 10, *, seconds: float = 60.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """
        Set the limit.

        Args:
            most: How many failures an address may have in the span.
            seconds: The span.
            clock: Seconds that only go on.
        """
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._failures: dict[str, list[float]] = {}

    def check(self, address: str) -> None:
        """
        See whether an address may try.

        Raises:
            Problem: 429 with the seconds to wait, if it has failed too often.
        """
        failures = self._recent(address)
        if len(failures) >= self._most:
            wait = ceil(failures[0] + self._seconds - self._clock())
            raise Problem(
                429,
                f"{self._most} logins have failed; try again in {wait} seconds",
                {"Retry-After": str(wait)},
            )

    def note_failure(self, address: str) -> None:
        """Count a failure."""
        recent = self._recent(address)
        self._failures.pop(address, None)  # the newest is at the end
        self._failures[address] = [*recent, self._clock()]
        while len(self._failures) > _MOST_ADDRESSES:
            del self._failures[next(iter(self._failures))]

    def _recent(self, address: str) -> list[float]:
        since = self._clock() - self._seconds
        return [at for at in self._failures.get(address, ()) if at > since]
