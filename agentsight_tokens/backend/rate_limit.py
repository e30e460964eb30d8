"""Rate limits: how many requests a key may make."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import ceil
from typing import Final

from .api_key import Access
from .problem import Problem

__all__ = ["RateLimit"]

_BURST_SECONDS: Final = 2.0
"""What a key has not used for so long, it can use at once."""


class RateLimit:
    """
    Lets each key make so many requests a second, and twice as many at once.

    Each process of the server counts for itself.
    """

    def __init__(
        self, requests_per_second: float | None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """
        Set the limit.

        Args:
            requests_per_second: How many; None for no limit.
            clock: Seconds that only go on.
        """
        self._rate = requests_per_second
        self._clock = clock
        self._spent: dict[tuple[int, str | None], float] = {}
        """When what each key has used would be used up at the allowed rate."""

    def check(self, access: Access) -> None:
        """
        Count a request.

        Raises:
            Problem: 429 with the seconds to wait, if it is one too many; it is not counted.
        """
        if self._rate is None:
            return
        now = self._clock()
        key = (access.project_id, access.key_id)
        spent = max(self._spent.get(key, now), now) + 1 / self._rate
        wait = spent - now - _BURST_SECONDS
        if wait > 0:
            raise Problem(
                429,
                f"a key may make {self._rate:g} requests a second",
                {"Retry-After": str(ceil(wait))},
            )
        self._spent[key] = spent
