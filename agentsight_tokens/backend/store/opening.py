"""Opening the store that a configuration names."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from agentsight_tokens.errors import ConfigurationError

from .base import Store
from .sqlite import STORE_FILE, SQLiteStore

__all__ = ["open_store"]


def open_store(database_url: str | None, directory: Path) -> Store:
    """
    Return the store of an address.

    Args:
        database_url: `sqlite:///<file>`; None for the file in the data directory.
        directory: The data directory.

    Raises:
        ConfigurationError: For an address of no store that is known.
    """
    if database_url is None:
        return SQLiteStore(directory / STORE_FILE)
    scheme = urlsplit(database_url).scheme
    if scheme == "sqlite":
        return SQLiteStore(Path(database_url.removeprefix("sqlite:///")))
    raise ConfigurationError(
        f"AGENTSIGHT_DATABASE_URL is no address of a store: it begins with {scheme!r}, and known "
        "is sqlite:///<file>"
    )
