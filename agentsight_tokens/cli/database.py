"""The server's store, as commands open it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from agentsight_tokens.config import TokenConfig
from agentsight_tokens.errors import StorageError

if TYPE_CHECKING:
    from agentsight_tokens.backend.store import Store

__all__ = ["DatabaseURL", "opened_store", "server_configuration"]

DatabaseURL = Annotated[
    str | None,
    typer.Option(
        "--database-url",
        metavar="URL",
        help="The server's store; by default AGENTSIGHT_DATABASE_URL, else SQLite in the data "
        "directory.",
        show_default=False,
    ),
]


def server_configuration(database_url: str | None, data_dir: str | None) -> TokenConfig:
    """Return the configuration, with what was given as options."""
    given = {"database_url": database_url, "data_dir": data_dir}
    return TokenConfig().replace(**{k: v for k, v in given.items() if v is not None})


@contextlib.contextmanager
def opened_store(config: TokenConfig) -> Iterator[Store]:
    """
    Open the server's store for the time of a block.

    Raises:
        StorageError: If it does not answer, or has not the tables of this version.
    """
    from agentsight_tokens.backend.store import open_store

    store = open_store(config.database_url, config.directory)
    try:
        store.check()
        yield store
    except StorageError:
        raise
    except store.outages as error:
        raise StorageError(f"the store does not answer: {error}") from error
    finally:
        store.close()
