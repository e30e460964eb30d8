"""Status: what is used, held and left of the budgets that a causer meets."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

import msgspec

from agentsight_tokens.usage import usd

from .store import Counts
from .windows import Window

__all__ = ["BudgetStatus", "WindowStatus", "window_status"]


class WindowStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One window of one budget. A limit that is None does not limit."""

    scope: str
    entity_id: str
    window: str
    on_limit: str
    used_tokens: int
    held_tokens: int
    token_limit: int | None
    used_cost: Decimal
    held_cost: Decimal
    cost_limit: Decimal | None
    starts_at: datetime | None
    resets_at: datetime | None

    @property
    def tokens_left(self) -> int | None:
        """The tokens that a further call may reserve."""
        if self.token_limit is None:
            return None
        return max(self.token_limit - self.used_tokens - self.held_tokens, 0)

    @property
    def cost_left(self) -> Decimal | None:
        """The USD that a further call may reserve."""
        if self.cost_limit is None:
            return None
        return max(self.cost_limit - self.used_cost - self.held_cost, Decimal(0))

    @property
    def fraction(self) -> float:
        """How much of the limit is used; of two limits, of the one that is nearer."""
        parts = [0.0]
        for used, limit in (
            (self.used_tokens, self.token_limit),
            (self.used_cost, self.cost_limit),
        ):
            if limit is not None:
                parts.append(float(used / limit) if limit else 1.0)
        return max(parts)

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing is left."""
        return self.tokens_left == 0 or self.cost_left == 0


class BudgetStatus(msgspec.Struct, frozen=True):
    """The windows that a causer meets, in the order in which they are asked."""

    windows: tuple[WindowStatus, ...]

    def __iter__(self) -> Iterator[WindowStatus]:
        return iter(self.windows)

    def __len__(self) -> int:
        return len(self.windows)

    @property
    def fraction(self) -> float:
        """How much is used of the limit that is nearest."""
        return max((window.fraction for window in self.windows), default=0.0)

    @property
    def tokens_left(self) -> int | None:
        """The tokens that a further call may reserve; None without a limit on them."""
        left = [w.tokens_left for w in self.windows if w.tokens_left is not None]
        return min(left, default=None)

    @property
    def cost_left(self) -> Decimal | None:
        """The USD that a further call may reserve; None without a limit on them."""
        left = [w.cost_left for w in self.windows if w.cost_left is not None]
        return min(left, default=None)

    @property
    def is_exhausted(self) -> bool:
        """Whether a budget that refuses calls has nothing left."""
        return any(w.is_exhausted for w in self.windows if w.on_limit == "error")


def window_status(window: Window, counts: Counts) -> WindowStatus:
    """Return the status of a window."""
    return WindowStatus(
        scope=window.scope,
        entity_id=window.entity_id,
        window=window.name,
        on_limit=window.budget.on_limit or "error",
        used_tokens=counts.used_tokens,
        held_tokens=counts.held_tokens,
        token_limit=window.token_limit,
        used_cost=usd(counts.used_pico),
        held_cost=usd(counts.held_pico),
        cost_limit=None if window.pico_limit is None else usd(window.pico_limit),
        starts_at=window.starts_at,
        resets_at=window.resets_at,
    )
