"""`db`: the server's database."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated, Final

import typer

from agentsight_tokens.errors import ConfigurationError

from .database import DatabaseURL, opened_store, server_configuration
from .embedded import DataDirectory

__all__ = ["db"]

db: Final = typer.Typer(
    help="Look after the server's database.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@db.callback()
def group() -> None:
    """Take the command that follows."""


@db.command()
def upgrade(*, database_url: DatabaseURL = None, data_dir: DataDirectory = None) -> None:
    """
    Bring the database to the tables of this version.

    `serve` refuses to start on a PostgreSQL database that has others. A file of SQLite is
    brought up by whatever opens it. Back up first; several at once wait for one another.

    [bold]Example[/]

      agentsight-tokens db upgrade --database-url postgresql://localhost/agentsight
    """
    from agentsight_tokens.backend.store.opening import is_postgresql
    from agentsight_tokens.backend.store.upgrading import upgrade

    config = server_configuration(database_url, data_dir)
    if config.database_url is not None and is_postgresql(config.database_url):
        upgrade(config.database_url)
    with opened_store(config):
        pass
    typer.echo("the database has the tables of this version")


@db.command()
def expire(
    *,
    keep_months: Annotated[
        int, typer.Option(min=0, help="The full months to keep beside the running one.")
    ],
    database_url: DatabaseURL = None,
    data_dir: DataDirectory = None,
) -> None:
    """
    Forget the calls of past months, all projects'; PostgreSQL drops their partitions.

    Sums by hour stay, and so do the ids: what comes again is still counted once.

    [bold]Example[/]

      agentsight-tokens db expire --keep-months 13
    """
    from agentsight_tokens.backend.store.retention import months_ago

    with opened_store(server_configuration(database_url, data_dir)) as store:
        calls = store.expire(months_ago(datetime.now(timezone.utc), keep_months))
    typer.echo(f"calls forgotten: {calls:,}")


@db.command()
def distribute(*, database_url: DatabaseURL = None, data_dir: DataDirectory = None) -> None:
    """
    Share the tables out to the workers of a Citus coordinator, by project.

    [bold]Example[/]

      agentsight-tokens db distribute --database-url postgresql://coordinator/agentsight
    """
    from agentsight_tokens.backend.store.distribution import distribute
    from agentsight_tokens.backend.store.opening import is_postgresql

    config = server_configuration(database_url, data_dir)
    if not is_postgresql(config.database_url):
        raise ConfigurationError("only a PostgreSQL database with Citus can be distributed")
    with opened_store(config) as store, store.transaction() as transaction:
        tables = distribute(transaction)
    typer.echo(f"shared out: {', '.join(tables) or 'nothing that was not already'}")
