"""The default destination: a store in the data directory."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Protocol

from agentsight_tokens.cycle import Cycle
from agentsight_tokens.errors import (
    DeliveryRefusedError,
    DestinationError,
    DestinationUnavailableError,
    UnstorableError,
)

from .base import Outcome

__all__ = ["CycleStore", "EmbeddedDestination"]


class CycleStore(Protocol):
    """What the destination needs of a store."""

    def ingest(self, cycles: Sequence[Cycle]) -> object:
        """Commit cycles durably; those that are there already change nothing."""

    def close(self) -> None:
        """Close the store."""


class EmbeddedDestination:
    """Delivers into a store of this machine."""

    identity = "embedded"

    def __init__(self, open_store: Callable[[], CycleStore]) -> None:
        self._open_store = open_store
        self._opened: CycleStore | None = None
        self._parents: list[CycleStore] = []

    def deliver(self, cycles: Sequence[Cycle]) -> Sequence[Outcome]:
        """Commit the cycles; see `Destination.deliver`."""
        try:
            self._store().ingest(cycles)
        except UnstorableError as error:
            raise DeliveryRefusedError(f"the store cannot hold it: {error}") from error
        except (sqlite3.Error, OSError) as error:
            raise DestinationUnavailableError(f"the embedded store failed: {error}") from error
        return [Outcome(is_accepted=True)] * len(cycles)

    def check(self) -> None:
        """See whether the store can be written; see `Destination.check`."""
        try:
            self._store().ingest(())
        except (sqlite3.Error, OSError) as error:
            raise DestinationError(f"the embedded store failed: {error}") from error

    def close(self) -> None:
        """Close the store."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def forget_after_fork(self) -> None:
        """Leave the parent's store alone; SQLite forbids to close its handle in a child."""
        if self._opened is not None:
            self._parents.append(self._opened)
            self._opened = None

    def _store(self) -> CycleStore:
        # Opened in the sender's thread, so that constructing a tracker does not wait for it.
        if self._opened is None:
            self._opened = self._open_store()
        return self._opened
