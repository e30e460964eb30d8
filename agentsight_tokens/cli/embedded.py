"""The embedded store, as commands read it."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from agentsight_tokens.config import TokenConfig
from agentsight_tokens.errors import StorageError

if TYPE_CHECKING:
    from agentsight_tokens.backend.store import SQLiteStore
    from agentsight_tokens.sender import Sender

__all__ = ["DataDirectory", "bring_in", "configuration", "reading"]

BRING_IN_SECONDS: Final = 30.0
"""How long a command waits for what is still on its way into the store."""
_LOOK_SECONDS: Final = 0.5

DataDirectory = Annotated[
    str | None,
    typer.Option(
        "--data-dir",
        metavar="DIRECTORY",
        help="Where the data lie; by default AGENTSIGHT_DATA_DIR, else your user data directory.",
        show_default=False,
    ),
]


def configuration(data_dir: str | None) -> TokenConfig:
    """
    Return the configuration, with a data directory that was given as an option.

    Raises:
        typer.BadParameter: If there is no such directory.
    """
    if data_dir is None:
        return TokenConfig()
    config = TokenConfig().replace(data_dir=data_dir)
    if not config.directory.is_dir():
        raise typer.BadParameter(f"{data_dir!r} is no directory", param_hint="--data-dir")
    return config


@contextlib.contextmanager
def reading(config: TokenConfig, *, seconds: float = BRING_IN_SECONDS) -> Iterator[SQLiteStore]:
    """
    Open the embedded store, once everything that is sealed has come in.

    A store that was never written to is empty, and is not made.

    Args:
        config: Where the store is.
        seconds: How long to wait at most for what comes in.

    Raises:
        StorageError: If it cannot be read.
    """
    from agentsight_tokens.backend.store import SQLiteStore
    from agentsight_tokens.backend.store.sqlite import STORE_FILE

    file = config.directory / STORE_FILE
    try:
        waiting = bring_in(config.directory, seconds=seconds)
        if waiting:
            typer.echo(
                f"note: cycles that were sent but are not in these figures yet: {waiting:,}; "
                "`agentsight-tokens doctor` says whether they can be brought in",
                err=True,
            )
        with SQLiteStore(file if file.exists() else Path(":memory:")) as store:
            yield store
    except sqlite3.Error as error:
        raise StorageError(
            f"the store {str(file)!r} cannot be read ({error}); "
            "`agentsight-tokens doctor` looks into it"
        ) from error


def bring_in(directory: Path, *, seconds: float) -> int:
    """
    Deliver what waits on disk for the embedded store, dead processes' open cycles included.

    It is safe beside processes that run: one sender at a time delivers, and what comes twice
    is stored once.

    Args:
        directory: The data directory.
        seconds: How long to wait at most.

    Returns:
        How many deliveries still wait when time is up.
    """
    from agentsight_tokens.destinations.embedded import EmbeddedDestination
    from agentsight_tokens.outbox import Outbox
    from agentsight_tokens.runtime import embedded_store
    from agentsight_tokens.sender import Sender

    identity = EmbeddedDestination.identity
    outbox = Outbox(directory)
    try:
        outbox.adopt(identity)
        waiting = outbox.pending(identity)
        if not waiting:
            return 0
        sender = Sender(directory, EmbeddedDestination(embedded_store(directory)))
        sender.start()
        try:
            with _progress(waiting):
                is_drained = _drained(sender, time.monotonic() + seconds)
        finally:
            sender.stop()
        return 0 if is_drained else outbox.pending(identity)
    finally:
        outbox.close()


def _drained(sender: Sender, deadline: float) -> bool:
    """Wait until everything is delivered, but not for a store that takes nothing."""
    while not sender.drain(min(time.monotonic() + _LOOK_SECONDS, deadline)):
        if sender.last_error is not None or time.monotonic() >= deadline:
            return False
    return True


def _progress(waiting: int) -> contextlib.AbstractContextManager[object]:
    from .screen import plural, waiting_sign  # few reports have to wait

    return waiting_sign(f"Bringing in {plural(waiting, 'cycle')} ...")
