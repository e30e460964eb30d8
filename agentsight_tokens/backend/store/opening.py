"""Opening the store that a configuration names."""

from __future__ import annotations

from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from agentsight_tokens.errors import ConfigurationError

from .base import Store
from .sqlite import STORE_FILE, SQLiteStore

__all__ = ["is_postgresql", "open_store"]

_POSTGRESQL: Final = ("postgresql", "postgres")


def open_store(database_url: str | None, directory: Path) -> Store:
    """
    Return the store of an address.

    Args:
        database_url: `postgresql://user:password@host:port/database` or `sqlite:///<file>`; None
            for the file in the data directory.
        directory: The data directory.

    Raises:
        ConfigurationError: For an address of no store that is known, or whose driver is not
            installed.
    """
    if database_url is None:
        return SQLiteStore(directory / STORE_FILE)
    scheme = urlsplit(database_url).scheme
    if scheme == "sqlite":
        return SQLiteStore(Path(database_url.removeprefix("sqlite:///")))
    if scheme in _POSTGRESQL:
        return _postgresql(database_url)
    # The address itself may hold a password.
    raise ConfigurationError(
        f"AGENTSIGHT_DATABASE_URL begins with {scheme!r}; known are "
        "postgresql://user:password@host:port/database and sqlite:///<file>"
    )


def is_postgresql(database_url: str | None) -> bool:
    """Return whether an address is of PostgreSQL, which several processes can serve."""
    return database_url is not None and urlsplit(database_url).scheme in _POSTGRESQL


def _postgresql(database_url: str) -> Store:
    try:
        from .postgres import PostgreSQLStore  # its driver is an extra
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"PostgreSQL needs {error.name}: pip install 'agentsight-tokens[postgres]'"
        ) from None
    return PostgreSQLStore(database_url)
