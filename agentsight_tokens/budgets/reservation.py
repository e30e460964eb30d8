"""Reservation: what a running call holds of its budgets."""

from __future__ import annotations

from decimal import Decimal
from types import TracebackType
from typing import Protocol

import msgspec

from agentsight_tokens.usage import TokenUsage, UsageRecord, usd

from .amounts import Amount
from .windows import WindowSet

__all__ = ["Reservation", "Settler", "Use"]

Use = int | TokenUsage | UsageRecord
"""What a call used: tokens, or a usage or record that tells them."""


class Settler(Protocol):
    """What a reservation is given back to: the manager that made it."""

    def settle(
        self, reservation: Reservation, usage: Use | None = None, *, cost: Amount | None = None
    ) -> None:
        """Put what was used in the place of what was held."""

    def cancel(self, reservation: Reservation) -> None:
        """Settle at the prompt's cost."""

    def release(self, reservation: Reservation) -> None:
        """Settle at nothing."""

    def renew(self, reservation: Reservation) -> None:
        """Hold it for longer."""


class Reservation(msgspec.Struct, weakref=True, eq=False):
    """
    A hold on every window that a call meets, until it is settled or its lease ends.

    As a context manager it is settled when the block ends: at the prompt's cost if the block
    raised, else at all that is held, unless the block settled it itself.
    """

    manager: Settler
    windows: WindowSet
    """The windows that are held; a settlement goes to them, however late it comes."""
    tokens: int
    """The tokens that are held; fewer than were asked for if the budget is one that clamps."""
    pico_usd: int
    prompt_tokens: int
    """The part of `tokens` that is used as soon as the call is sent."""
    prompt_pico_usd: int
    lease_seconds: float
    lease_until: float
    """When the hold ends by itself, in seconds since 1970."""
    asked_tokens: int
    id: str = ""
    """The name under which a shared store keeps the hold."""
    is_held: bool = False
    """Whether the store still counts the hold."""
    is_settled: bool = False
    is_estimate: bool = False
    """Whether it was settled at what was held, because nobody knew what was used."""
    stand_in: Reservation | None = None
    """The hold on this process's own share, where the store was away."""

    @property
    def cost(self) -> Decimal:
        """The USD that are held."""
        return usd(self.pico_usd)

    @property
    def is_clamped(self) -> bool:
        """Whether fewer tokens were granted than were asked for."""
        return self.tokens < self.asked_tokens

    @property
    def max_output_tokens(self) -> int:
        """How many tokens the call may produce."""
        return self.tokens - self.prompt_tokens

    def settle(self, usage: Use | None = None, *, cost: Amount | None = None) -> None:
        """Put what was used in the place of what was held; see `BudgetManager.settle`."""
        self.manager.settle(self, usage, cost=cost)

    def cancel(self) -> None:
        """Settle at the prompt's cost: the call was sent, but its answer was not taken."""
        self.manager.cancel(self)

    def release(self) -> None:
        """Give everything back: the call was never sent."""
        self.manager.release(self)

    def renew(self) -> None:
        """Hold it for another lease, as for each chunk of a stream."""
        self.manager.renew(self)

    def __enter__(self) -> Reservation:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.manager.settle(self)
        else:
            self.manager.cancel(self)
