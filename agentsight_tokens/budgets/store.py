"""BudgetStore: what every keeper of budgets does, and how a call is found not to fit."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import islice
from threading import RLock
from typing import Final, Literal, NamedTuple, Protocol

from .reservation import Reservation
from .windows import Unit, Window, WindowSet

__all__ = [
    "BudgetStore",
    "Clock",
    "Counts",
    "Outdated",
    "Refusal",
    "Sightings",
    "Used",
    "first_refusal",
    "seconds_by",
]

Clock = Callable[[], datetime]
"""Returns the time, aware."""

Used = tuple[int, int]
"""Tokens and pico-USD that ended calls used in a window."""


_NEVER: Final = (0, 0)
_MOST_SEEN: Final = 20_000


class Counts(NamedTuple):
    """What a store knows of one window."""

    used_tokens: int = 0
    used_pico: int = 0
    held_tokens: int = 0
    held_pico: int = 0


class Refusal(NamedTuple):
    """Why a call does not fit."""

    position: int
    """Which of the reservation's windows refuses it, the first of them that does."""
    unit: Unit
    counts: tuple[Counts, ...]
    """What was counted in each window when it was refused."""


Outdated = Literal["outdated"]
"""The answer of a store whose time lies outside the windows: they are to be made anew."""


class BudgetStore(Protocol):
    """
    Keeps what is used and held in windows. Safe in every thread.

    Each method takes all the windows of a reservation at once, or none of them. One that
    cannot do its work raises `StorageError`.
    """

    is_remote: bool
    """Whether its methods wait for a network, so that an event loop should not."""

    def now(self) -> float:
        """Return the store's time in seconds since 1970; all who share it have the same."""

    def reserve(self, reservation: Reservation) -> Refusal | Outdated | None:
        """Hold what the reservation asks for; None if it fits."""

    def settle(self, reservation: Reservation, tokens: int, pico_usd: int) -> Sequence[Used]:
        """
        Put what was used in the place of the hold, which may have ended before.

        Returns:
            What is used in each window; empty if the reservation was settled before.
        """

    def renew(self, reservation: Reservation) -> None:
        """Hold the reservation until its new `lease_until`, again if the hold had ended."""

    def add(self, windows: WindowSet, tokens: int, pico_usd: int) -> Sequence[Used]:
        """Count what nothing was held for; return what is used in each window."""

    def read(self, windows: WindowSet) -> Sequence[Counts]:
        """Return what is counted in each window, holds whose lease has ended aside."""

    def seen(self, window: Window) -> Used:
        """Return what this process last saw used in a window, without asking anybody."""

    def claim(self, window: Window, alert: str) -> bool:
        """Return True to the one who is the first to ask for an alert of a window."""

    def close(self) -> None:
        """Release what the store has open."""


class Sightings:
    """What a process last saw used in the windows of a store that it shares with others."""

    def __init__(self) -> None:
        self._seen: dict[str, Used] = {}
        self._lock = RLock()

    def note(self, windows: Sequence[Window], used: Sequence[Used]) -> None:
        """Remember what is used; in a window it never falls."""
        with self._lock:
            for window, (tokens, pico) in zip(windows, used, strict=True):
                before = self._seen.pop(window.id, _NEVER)
                self._seen[window.id] = (max(tokens, before[0]), max(pico, before[1]))
            if len(self._seen) > _MOST_SEEN:
                for name in list(islice(self._seen, _MOST_SEEN // 2)):
                    del self._seen[name]

    def of(self, window: Window) -> Used:
        """Return what was seen used in a window."""
        return self._seen.get(window.id, _NEVER)


def seconds_by(clock: Clock | None) -> Callable[[], float]:
    """Return a function that tells the seconds since 1970 by a clock."""
    if clock is None:
        return time.time
    return lambda: clock().timestamp()


def first_refusal(
    windows: Sequence[Window], counts: Sequence[Counts], tokens: int, pico_usd: int
) -> Refusal | None:
    """Return the first window that has no room for a call; None if all have."""
    for position, (window, of_window) in enumerate(zip(windows, counts, strict=True)):
        used_tokens, used_pico, held_tokens, held_pico = of_window
        if used_tokens + held_tokens + tokens > window.hard_tokens:
            return Refusal(position, "tokens", tuple(counts))
        if used_pico + held_pico + pico_usd > window.hard_pico:
            return Refusal(position, "usd", tuple(counts))
    return None
