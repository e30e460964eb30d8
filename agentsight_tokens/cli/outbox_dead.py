"""`outbox dead`: what a destination has refused for ever, to send once more or to drop."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from agentsight_tokens.errors import ConfigurationError

from .embedded import DataDirectory, configuration
from .rows import FormatOption, OutputFormat, write_rows

__all__ = ["dead"]

dead: Final = typer.Typer(
    help="See what a destination refuses for ever; send it once more, or drop it.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Ids = Annotated[
    list[str] | None,
    typer.Argument(metavar="ID...", help="Which, as `list` shows them.", show_default=False),
]
All = Annotated[bool, typer.Option("--all", help="All that were refused.")]
OfDestination = Annotated[
    str | None,
    typer.Option(
        "--destination",
        metavar="NAME",
        help="Only what is for this destination.",
        show_default=False,
    ),
]


@dead.callback()
def group() -> None:
    """Take the command that follows."""


@dead.command("list")
def list_(
    *,
    destination: OfDestination = None,
    output_format: FormatOption = OutputFormat.table,
    data_dir: DataDirectory = None,
) -> None:
    """
    List what was refused, and why.

    A destination may refuse a call for what is in it, or have been away for
    longer than AGENTSIGHT_OUTBOX_MAX_DAYS. Either way it is kept.

    [bold]Examples[/]

      agentsight-tokens outbox dead list

      agentsight-tokens outbox dead list --format json
    """
    from .refused import REFUSED_FIELDS, refused_in, refused_row

    config = configuration(data_dir)
    rows = [refused_row(each) for each in refused_in(config.directory, destination)]
    if output_format is not OutputFormat.table:
        write_rows(rows, output_format, REFUSED_FIELDS)
        return
    from .screen import cell, screen
    from .sheet import Column, print_sheet

    console = screen()
    if not rows:
        console.print(cell(f"Nothing was refused in {config.directory}."))
        return
    columns = [
        Column("id", [cell(row["id"]) for row in rows]),
        Column("destination", [cell(row["destination"]) for row in rows], "id", rank=2),
        Column("conversation", [cell(row["conversation_id"]) for row in rows], "id", rank=1),
        Column("calls", [cell(f"{row['calls']:,}") for row in rows], "number"),
        Column("tokens", [cell(f"{row['total_tokens']:,}") for row in rows], "number"),
        Column("reason", [cell(row["reason"]) for row in rows], "id"),
    ]
    print_sheet(console, columns, folds=True)


@dead.command()
def retry(
    ids: Ids = None,
    *,
    everything: All = False,
    destination: OfDestination = None,
    data_dir: DataDirectory = None,
) -> None:
    """
    Let what was refused wait for its destination once more.

    Any program that tracks in the same data directory delivers it, and so does
    `outbox flush`.

    [bold]Examples[/]

      agentsight-tokens outbox dead retry 3f2a91c07b

      agentsight-tokens outbox dead retry --all
    """
    from .refused import decide

    chosen = _chosen(ids, everything=everything)
    config = configuration(data_dir)
    number = decide(config.directory, chosen, destination, "pending")
    waits = "waits" if number == 1 else "wait"
    typer.echo(f"{_deliveries(number)} {waits} again; agentsight-tokens outbox flush delivers now")


@dead.command()
def drop(
    ids: Ids = None,
    *,
    everything: All = False,
    destination: OfDestination = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; it cannot be undone.")] = False,
    data_dir: DataDirectory = None,
) -> None:
    """
    Give up what was refused: its destination will never have it.

    Without --yes nothing is dropped. `outbox export --state refused` keeps a
    copy first.

    [bold]Example[/]

      agentsight-tokens outbox dead drop 3f2a91c07b --yes
    """
    from .refused import decide, named_in
    from .screen import plural

    chosen = _chosen(ids, everything=everything)
    config = configuration(data_dir)
    if not yes:
        cycles = [each.parcel.cycle for each in named_in(config.directory, chosen, destination)]
        calls = plural(sum(cycle.calls for cycle in cycles), "call")
        raise ConfigurationError(
            f"{_deliveries(len(cycles))} with {calls} would be given up for ever: add --yes; "
            "nothing was changed"
        )
    number = decide(config.directory, chosen, destination, "dropped")
    typer.echo(f"{_deliveries(number)} dropped")


def _chosen(ids: list[str] | None, *, everything: bool) -> list[str]:
    if everything == bool(ids):
        raise ConfigurationError(
            "name what you mean by the ids of `agentsight-tokens outbox dead list`, or say --all"
        )
    return ids or []


def _deliveries(number: int) -> str:
    from .screen import plural

    return plural(number, "delivery", "deliveries")
