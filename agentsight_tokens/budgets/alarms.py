"""Alarms: which alert is due, and given once by whoever sees it first."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Final

from agentsight_tokens.errors import StorageError
from agentsight_tokens.faults import contained

from .alerts import AlertCallback, alert_of, log_alert
from .store import BudgetStore, Refusal, Used
from .windows import NO_LIMIT, Unit, Window

__all__ = ["Alarms"]

_MOST_REMEMBERED: Final = 10_000


class Alarms:
    """
    Gives the alerts of one manager.

    Args:
        store: What remembers which alerts were given, by any process.
    """

    def __init__(self, store: BudgetStore) -> None:
        self._store = store
        self.callbacks: list[AlertCallback] = [log_alert]
        """What is told of each alert."""
        # An exhausted budget refuses call after call; the store need not be asked each time.
        self._given: set[tuple[str, Unit, float]] = set()

    def watch(self, windows: Sequence[Window], used: Sequence[Used]) -> None:
        """Give the alerts that are due after a settlement."""
        for window, (tokens, pico) in zip(windows, used, strict=True):
            if tokens >= window.next_tokens or pico >= window.next_pico:
                window.next_tokens = self._give_reached(window, "tokens", tokens)
                window.next_pico = self._give_reached(window, "usd", pico)

    def refused(self, window: Window, refusal: Refusal) -> None:
        """Give the last alert of a window that has refused a call."""
        counts = refusal.counts[refusal.position]
        used = counts.used_tokens if refusal.unit == "tokens" else counts.used_pico
        self._give(window, refusal.unit, 1.0, used)

    def _give_reached(self, window: Window, unit: Unit, used: int) -> int:
        """Give the alerts of the levels that are reached; return the use that the next needs."""
        for level in window.budget.levels:
            due = window.threshold(unit, level)
            if used < due:
                return due
            self._give(window, unit, level, used)
        return NO_LIMIT

    def _give(self, window: Window, unit: Unit, level: float, used: int) -> None:
        key = (window.alert_id, unit, level)
        if key in self._given:
            return
        try:
            is_first = self._store.claim(window, f"{unit}:{level}")
        except StorageError:
            is_first = True  # told twice is better than not at all
        if len(self._given) >= _MOST_REMEMBERED:
            self._given.clear()
        self._given.add(key)
        if not is_first:
            return
        at = datetime.fromtimestamp(self._store.now(), timezone.utc)
        alert = alert_of(window, unit, level, used, at)
        for callback in list(self.callbacks):
            with contained("an alert of a budget"):
                callback(alert)
