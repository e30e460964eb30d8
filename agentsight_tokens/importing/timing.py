"""How long things took."""

from __future__ import annotations

from datetime import datetime, timedelta

__all__ = ["seconds_between"]


def seconds_between(start: datetime | None, end: datetime | None) -> float | None:
    """Return the seconds between two times; None if one is not known or they are swapped."""
    if start is None or end is None or end < start:
        return None
    return (end - start) / timedelta(seconds=1)
