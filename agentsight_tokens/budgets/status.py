"""Status: what is used, held and left of the budgets that a causer meets."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal

import msgspec

from agentsight_tokens.markup import html_table
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

    def _repr_html_(self) -> str:
        rows = [row for window in self.windows for row in _rows(window)]
        title = f"Budgets: {self.fraction:.0%} used" if rows else "No budget limits this"
        if not rows:
            return html_table(title, (), ())
        header = ("budget", "window", "used", "held", "limit", "part", "resets at (UTC)")
        exhausted = [w for w in self.windows if w.is_exhausted]
        notes = [f"{_budget_name(w)}: nothing is left of its {w.window}" for w in exhausted]
        return html_table(title, header, rows, words=2, notes=notes)


def _rows(window: WindowStatus) -> Iterator[tuple[str, ...]]:
    """Yield a row for each limit of a window."""
    resets = "-" if window.resets_at is None else f"{window.resets_at:%Y-%m-%d %H:%M}"
    if window.token_limit is not None:
        counts = window.used_tokens, window.held_tokens, window.token_limit
        texts = [f"{count:,}" for count in counts]
        part = window.used_tokens / window.token_limit if window.token_limit else 1
        yield (_budget_name(window), f"tokens per {window.window}", *texts, f"{part:.0%}", resets)
    if window.cost_limit is not None:
        costs = window.used_cost, window.held_cost, window.cost_limit
        texts = [f"${cost:,f}" for cost in costs]
        part = float(window.used_cost / window.cost_limit) if window.cost_limit else 1
        yield (_budget_name(window), f"USD per {window.window}", *texts, f"{part:.0%}", resets)


def _budget_name(window: WindowStatus) -> str:
    return window.scope if window.entity_id == "*" else f"{window.scope} {window.entity_id}"


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
