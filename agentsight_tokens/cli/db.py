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
def seed(  # noqa: PLR0913  # options
    *,
    calls: Annotated[int, typer.Option(min=1, help="How many calls to make.")],
    months: Annotated[
        int, typer.Option(min=1, max=120, help="The months of 30 days that they are spread over.")
    ] = 12,
    seed: Annotated[int, typer.Option(help="The same seed makes the same calls.")] = 0,
    until: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="The day, in UTC, before which they end: today."),
    ] = None,
    add: Annotated[
        bool, typer.Option("--add", help="Add them to a store that has calls already.")
    ] = False,
    database_url: DatabaseURL = None,
    data_dir: DataDirectory = None,
) -> None:
    """
    Fill a store with made-up calls, to try the server and the dashboard at any size.

    They are ingested as calls that are received. A run that was interrupted is completed by the
    same command with [bold]--add[/]: what is there already is not counted again.

    [bold]Example[/]

      agentsight-tokens db seed --calls 100000 --data-dir /tmp/trial
    """
    from agentsight_tokens.backend.seeding import Seeding, seed_store

    end = until or datetime.now(timezone.utc)
    seeding = Seeding(
        calls, months, datetime(end.year, end.month, end.day, tzinfo=timezone.utc), seed
    )
    with opened_store(server_configuration(database_url, data_dir)) as store:
        if not add and store.rows("SELECT 1 FROM calls LIMIT 1"):
            raise ConfigurationError(
                "the store has calls already: name another one by --data-dir or --database-url, "
                "or say --add"
            )
        with typer.progressbar(length=calls, label="calls") as bar:
            seed_store(store, seeding, bar.update)
    typer.echo(f"calls in the store: {calls:,} made up over {months} months")


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
