"""BilledCall and the ledger: what the loopback provider charged for."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import add
from typing import Any

from agentsight_tokens.usage import Operation, TokenUsage

__all__ = ["BilledCall", "Ledger"]


@dataclass(frozen=True, kw_only=True)
class BilledCall:
    """One call that was billed, whether or not its client learned of it."""

    usage: TokenUsage
    """What was billed, in inclusive counts."""
    model: str
    operation: Operation
    endpoint: str
    response_id: str
    streamed: bool
    reported: bool
    """Whether the usage that was sent to the client is the one that was billed."""
    label: str | None
    status_code: int
    service_tier: str | None
    headers: Mapping[str, str]
    """The request's headers, by their names in lower case."""
    body: Mapping[str, Any]
    """The request's body."""


class Ledger:
    """The billed calls, in the order of their billing. Safe in every thread."""

    def __init__(self) -> None:
        self._calls: list[BilledCall] = []
        self._lock = threading.Lock()

    def add(self, call: BilledCall) -> None:
        """Enter a call."""
        with self._lock:
            self._calls.append(call)

    def clear(self) -> None:
        """Forget every call."""
        with self._lock:
            self._calls.clear()

    def calls(self) -> tuple[BilledCall, ...]:
        """Return the calls so far."""
        with self._lock:
            return tuple(self._calls)

    def billed(self, label: str | None = None) -> TokenUsage:
        """Return the sum of the calls with a label, or of all."""
        usages = (call.usage for call in self.calls() if label is None or call.label == label)
        return reduce(add, usages, TokenUsage())
