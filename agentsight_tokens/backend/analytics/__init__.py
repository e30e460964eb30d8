"""Named queries over a store: who used what, when, and what it cost."""

from .calls import call_of_id, newest_calls
from .dimensions import DIMENSIONS, PERIODS
from .usage import UsageGroup, UsageReport, usage_by

__all__ = [
    "DIMENSIONS",
    "PERIODS",
    "UsageGroup",
    "UsageReport",
    "call_of_id",
    "newest_calls",
    "usage_by",
]
