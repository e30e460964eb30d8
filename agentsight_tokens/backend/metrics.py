"""What the server counts of itself, for Prometheus; no label can have many values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from agentsight_tokens.receipt import CycleReceipt

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


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
        self.outages = Counter(
            "agentsight_store_outages",
            "Requests that the store did not answer.",
            registry=self._registry,
        )
        self.webhooks = Counter(
            "agentsight_webhooks",
            "Tries to tell of an alert, by what became of them: delivered, failed, given_up.",
            ("outcome",),
            registry=self._registry,
        )

    def count_webhook(self, outcome: str) -> None:
        """Count a try to tell of an alert."""
        self.webhooks.labels(outcome).inc()

    def count_receipts(self, receipts: Sequence[CycleReceipt]) -> None:
        """Count what became of cycles."""
        for status in ("accepted", "rejected"):
            number = sum(receipt.status == status for receipt in receipts)
            if number:
                self.cycles.labels(status).inc(number)

    def text(self) -> bytes:
        """Return everything in Prometheus's format."""
        if self._shared_directory is None:
            return generate_latest(self._registry)
        registry = CollectorRegistry()
        MultiProcessCollector(registry, path=self._shared_directory)  # type: ignore[no-untyped-call]  # it has no types
        return generate_latest(registry)
