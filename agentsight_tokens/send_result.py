"""What a send returns."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from .usage import TokenUsage

__all__ = ["SendResult"]


class SendResult(msgspec.Struct, frozen=True, kw_only=True):
    """What has become of a cycle that was sent."""

    status: Literal["empty", "queued", "delivered", "rejected"]
    """`empty`: there was nothing to send. `queued`: it waits on disk and is delivered in the
    background. `delivered`: every destination has acknowledged it. `rejected`: a destination
    refuses it for ever; it is kept aside."""
    key: str | None = None
    """The cycle's key, by which destinations know it."""
    totals: TokenUsage = TokenUsage()
    """What was sent."""
    cost: Decimal = Decimal(0)
    """The cost in USD of the calls that have a price."""
    pending: int = 0
    """Cycles of this process that not all destinations have acknowledged yet."""
    error: str | None = None
    """Why it is not delivered, as far as that is known."""
