"""What the server counts of itself, for Prometheus; no label can have many values."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Final, Literal

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from agentsight_tokens.cycle import Cycle
from agentsight_tokens.receipt import CycleReceipt

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_LAG_BUCKETS: Final = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 3600, 21_600, 86_400)
_KINDS: Final = ("input", "output", "embedding")

Source = Literal["cycles", "otlp"]
"""The way calls come: POST /v1/cycles, or /v1/traces."""


class Metrics:
    """The counters of a server, or of one of its processes."""

    def __init__(self, shared_directory: str | None = None) -> None:
        """
        Set the counters to zero.

        Args:
            shared_directory: Where the processes of a server add up, if it has several.
        """
        self._shared_directory = shared_directory
        self._registry = CollectorRegistry()
        self.requests = Counter(
            "agentsight_requests",
            "Requests by endpoint and status.",
            ("method", "path", "status"),
            registry=self._registry,
        )
        self.seconds = Histogram(
            "agentsight_request_seconds",
            "How long requests took.",
            ("method", "path"),
            buckets=_BUCKETS,
            registry=self._registry,
        )
        self.cycles = Counter(
            "agentsight_cycles",
            "Cycles that came, those that were known included, by what became of them.",
            ("status",),
            registry=self._registry,
        )
        self.calls = Counter(
            "agentsight_calls",
            "Calls that were stored, those that were known included, by the way they came.",
            ("source",),
            registry=self._registry,
        )
        self.tokens = Counter(
            "agentsight_tokens",
            "Tokens of those calls: input, output, embedding.",
            ("kind",),
            registry=self._registry,
        )
        self.lag = Histogram(
            "agentsight_ingest_lag_seconds",
            "From when the oldest call of a request ended until it was stored.",
            ("source",),
            buckets=_LAG_BUCKETS,
            registry=self._registry,
        )
        self.outages = Counter(
            "agentsight_store_outages",
            "Requests that the store did not answer.",
            registry=self._registry,
        )
        self.alerts = Counter(
            "agentsight_alerts",
            "Levels of budgets that were reached, each once in its window.",
            registry=self._registry,
        )
        self.webhooks = Counter(
            "agentsight_webhooks",
            "Tries to tell of an alert, by what became of them: delivered, failed, given_up.",
            ("outcome",),
            registry=self._registry,
        )

    def count_alerts(self, number: int) -> None:
        """Count alerts that were given."""
        self.alerts.inc(number)

    def count_webhook(self, outcome: str) -> None:
        """Count a try to tell of an alert."""
        self.webhooks.labels(outcome).inc()

    def count_receipts(self, receipts: Sequence[CycleReceipt]) -> None:
        """Count what became of cycles."""
        for status in ("accepted", "rejected"):
            number = sum(receipt.status == status for receipt in receipts)
            if number:
                self.cycles.labels(status).inc(number)

    def count_stored(self, source: Source, cycles: Sequence[Cycle]) -> None:
        """Count what is on disk now."""
        if not cycles:
            return
        self.calls.labels(source).inc(sum(cycle.calls for cycle in cycles))
        for kind in _KINDS:
            number = sum(getattr(cycle.totals, f"{kind}_tokens") for cycle in cycles)
            if number:
                self.tokens.labels(kind).inc(number)
        oldest = min(cycle.opened_at for cycle in cycles)
        age = (datetime.now(timezone.utc) - oldest).total_seconds()
        self.lag.labels(source).observe(max(age, 0.0))

    def text(self) -> bytes:
        """Return everything in Prometheus's format."""
        if self._shared_directory is None:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=self._shared_directory)  # type: ignore[no-untyped-call]  # it has no types
        return generate_latest(registry)
