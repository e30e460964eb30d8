"""A server's database, written to without the server."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from agentsight_tokens.cycle import Cycle
from agentsight_tokens.destinations import Outcome
from agentsight_tokens.errors import (
    DeliveryRefusedError,
    DestinationUnavailableError,
    UnstorableError,
)

if TYPE_CHECKING:
    from agentsight_tokens.backend.store import Store

__all__ = ["DatabaseDestination"]


class DatabaseDestination:
    """
    Delivers into a server's store.

    Args:
        url: The database.
        directory: The data directory.
    """

    def __init__(self, url: str, directory: Path) -> None:
        self.identity = f"database:{url.rpartition('@')[2]}"
        self._url = url
        self._directory = directory
        self._opened: Store | None = None

    def deliver(self, cycles: Sequence[Cycle]) -> Sequence[Outcome]:
        """Commit the cycles; see `Destination.deliver`."""
        store = self._store()
        try:
            store.ingest(cycles)
        except UnstorableError as error:
            raise DeliveryRefusedError(f"the database cannot hold it: {error}") from error
        except store.outages as error:
            raise DestinationUnavailableError(f"the database failed: {error}") from error
        return [Outcome(is_accepted=True)] * len(cycles)

    def check(self) -> None:
        """See whether the database answers and has the tables of this version."""
        store = self._store()
        try:
            store.check()
        except store.outages as error:
            raise DestinationUnavailableError(f"the database failed: {error}") from error

    def close(self) -> None:
        """Close the connections."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def forget_after_fork(self) -> None:
        """Leave the parent's connections to the parent."""
        self._opened = None

    def _store(self) -> Store:
        if self._opened is None:
            from agentsight_tokens.backend.store import open_store

            self._opened = open_store(self._url, self._directory)
        return self._opened
