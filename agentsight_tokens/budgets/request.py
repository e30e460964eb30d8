"""What a budget is asked before a call is sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from agentsight_tokens.usage import Operation, Scope, UsageRecord

if TYPE_CHECKING:
    from .reservation import Reservation  # who has no budget need not load it

__all__ = ["Asked", "CallGuard", "CallRequest"]


class Asked(NamedTuple):
    """What a call asks of its model, as a handler reads it."""

    prompt: Any = None
    """Messages, a text, texts to embed, or the number of tokens; None if it cannot be read."""
    max_output_tokens: int | None = None
    """What the call itself sets as the largest output."""
    choices: int = 1
    """How many outputs are asked for."""
    tools: Sequence[Any] = ()
    """The definitions of tools that go with the prompt."""


class CallRequest(NamedTuple):
    """What is known of a call before it is sent."""

    scope: Scope
    """Who causes it."""
    operation: Operation = "chat"
    model: str | None = None
    provider: str | None = None
    prompt: Any = None
    """As in `Asked`, like all that follows."""
    max_output_tokens: int | None = None
    choices: int = 1
    tools: Sequence[Any] = ()


class CallGuard(Protocol):
    """What the meter asks before a call is sent, and tells when it has ended."""

    @property
    def manager(self) -> object:
        """Whose budgets they are; two guards of one manager hold the same."""

    def reserve(self, request: CallRequest) -> Reservation:
        """Hold what a call may use at most, or raise `BudgetExceededError`."""

    def settle(self, reservation: Reservation, record: UsageRecord | None) -> None:
        """Put what a call used in the place of what it held; None if it was never sent."""

    def add(self, request: CallRequest, record: UsageRecord) -> None:
        """Count a call for which nothing was held."""
