"""What a destination is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from agentsight_tokens.cycle import Cycle

__all__ = ["Destination", "Outcome"]


class Outcome(NamedTuple):
    """What has become of one cycle of a delivery."""

    is_accepted: bool
    reason: str | None = None
    """Why it was refused, for ever."""
    refused: Mapping[str, str] | None = None
    """Of a cycle that was accepted, the records that were not: why, by their id."""


class Destination(Protocol):
    """Takes cycles. A cycle may come twice; its key and its records' ids tell."""

    @property
    def identity(self) -> str:
        """A name, without secrets, under which cycles wait for this destination on disk."""

    def deliver(self, cycles: Sequence[Cycle]) -> Sequence[Outcome]:
        """
        Deliver cycles and return what has become of each, in their order.

        Raises:
            DeliveryRefusedError: The destination refuses the batch for what is in it; the
                sender halves it to find the culprit.
            DestinationUnavailableError: It cannot take it now; the sender tries again.
        """

    def check(self) -> None:
        """
        See whether the destination answers.

        Raises:
            DestinationError: If it does not; the message says why.
        """

    def close(self) -> None:
        """Let go of what was opened."""

    def forget_after_fork(self) -> None:
        """Leave what the parent opened alone, in a child; open anew when needed."""
