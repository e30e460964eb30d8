"""Where commands read calls from: the embedded store, or a project of the server's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from agentsight_tokens.config import TokenConfig

from .database import opened_store
from .embedded import configuration, reading
from .project_option import ORGANISATION, PROJECT, project_of

if TYPE_CHECKING:
    from agentsight_tokens.backend.store import Reader

__all__ = ["Source", "reading_from"]


class Source(NamedTuple):
    """Calls, and where they are."""

    reader: Reader
    config: TokenConfig
    place: str
    """What to call it."""


@contextlib.contextmanager
def reading_from(
    data_dir: str | None,
    database_url: str | None,
    project: str = PROJECT,
    organisation: str = ORGANISATION,
) -> Iterator[Source]:
    """
    Open the store that is meant for the time of a block.

    Args:
        data_dir: The data directory of the embedded store; the configured one if None.
        database_url: The address of the server's store; the configured one if None, and without
            either the embedded store.
        project: A project of the server's store.
        organisation: The organisation that it belongs to.

    Raises:
        StorageError: If the store cannot be read.
        InvalidScopeError: If it has no such project.
    """
    config = configuration(data_dir)
    if database_url is not None:
        config = config.replace(database_url=database_url)
    if config.database_url is None and (project, organisation) == (PROJECT, ORGANISATION):
        with reading(config) as embedded:
            yield Source(embedded, config, str(config.directory))
        return
    with opened_store(config) as store:
        id = project_of(store, project, organisation)
        yield Source(
            store.of_project(id), config, f"the project {organisation}/{project} of the server"
        )
