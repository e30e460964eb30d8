"""`outbox`: what waits for a destination, and what one has refused."""

from __future__ import annotations

from typing import Final

import typer

from .embedded import DataDirectory, configuration
from .rows import FormatOption, OutputFormat, write_rows

__all__ = ["outbox"]

outbox: Final = typer.Typer(
    help="See what waits for a destination, and what one has refused.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


@outbox.callback()
def group() -> None:
    """Take the command that follows."""


@outbox.command()
def status(
    *,
    output_format: FormatOption = OutputFormat.table,
    data_dir: DataDirectory = None,
) -> None:
    """
    Count the cycles that no destination has taken yet, and those that it refuses for ever.

    What waits is delivered by any program that tracks in the same data
    directory. What is refused is kept; nothing is thrown away.

    [bold]Example[/]

      agentsight-tokens outbox status --format json
    """
    from .waiting import Waiting, waiting_in

    config = configuration(data_dir)
    found = waiting_in(config.directory)
    if output_format is not OutputFormat.table:
        write_rows([each._asdict() for each in found], output_format, Waiting._fields)
        return
    from .screen import cell, screen
    from .sheet import Column, print_sheet

    console = screen()
    if not found:
        console.print(cell(f"Nothing waits in {config.directory}."))
        return
    columns = [
        Column("destination", [cell(each.destination) for each in found], "id"),
        Column("state", [cell(each.state) for each in found]),
        Column("cycles", [cell(f"{each.cycles:,}") for each in found], "number"),
    ]
    print_sheet(console, columns, folds=True)
