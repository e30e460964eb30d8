"""The destinations that a configuration names, made."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from .config import TokenConfig
from .destinations import Destination
from .destinations.embedded import CycleStore, EmbeddedDestination

__all__ = ["configured_destinations", "embedded_store"]


def configured_destinations(config: TokenConfig) -> list[Destination]:
    """
    Return the destinations that a configuration asks for.

    Raises:
        ConfigurationError: For one that is unknown, or lacks a setting.
    """
    if config.endpoint is None:
        return [EmbeddedDestination(embedded_store(config.directory))]
    # Imported when it is needed: most programs keep their own store.
    from .destinations.http import HTTPDestination

    return [
        HTTPDestination(
            config.endpoint, config.api_key, timeout_seconds=config.http_timeout_seconds
        )
    ]


def embedded_store(directory: Path) -> Callable[[], CycleStore]:
    """Return what opens the store of a data directory."""

    def open_store() -> CycleStore:
        # Imported when it is needed: most of the backend is for servers.
        from .backend.store import SQLiteStore
        from .backend.store.sqlite import STORE_FILE

        return SQLiteStore(directory / STORE_FILE)

    return open_store
