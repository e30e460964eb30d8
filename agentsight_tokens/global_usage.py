"""What all trackers of this process used together."""

from __future__ import annotations

from typing import Any

from .meter import meter
from .runtime import runtimes
from .summary import UsageSummary
from .usage_tracker import usage_trackers

__all__ = ["get_global_usage"]


def get_global_usage(**where: Any) -> UsageSummary:
    """Return what all trackers of this process recorded; filters as in `get_usage`."""
    meter.settle()
    summaries = [runtime.ledger.summary(where) for runtime in runtimes()]
    summaries += [tracker.get_summary(**where) for tracker in usage_trackers()]
    return UsageSummary.merged(summaries)
