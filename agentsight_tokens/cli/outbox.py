"""`outbox`: what waits for a destination, and what one has refused."""

from __future__ import annotations

import os
import sys
from collections.abc import Set
from contextlib import nullcontext
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from agentsight_tokens.config import TokenConfig
from agentsight_tokens.errors import ConfigurationError

from .embedded import DataDirectory, configuration
from .outbox_dead import OfDestination, dead
from .rows import FormatOption, OutputFormat, write_rows

if TYPE_CHECKING:
    from .flushing import Flushed

__all__ = ["outbox"]

outbox: Final = typer.Typer(
    help="See what waits for a destination, deliver it, and look after what one refuses.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
outbox.add_typer(dead, name="dead")


class Kept(str, Enum):
    """What an export has."""

    pending = "pending"
    refused = "refused"
    all = "all"


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
    Count the cycles that a destination has not taken yet, and those that it refuses for ever.

    What waits is delivered by any program that tracks in the same data
    directory. What is refused is kept; nothing is thrown away. Calls that were
    lost are named as well.

    [bold]Example[/]

      agentsight-tokens outbox status --format json
    """
    from .waiting import Waiting, losses_in, waiting_in

    config = configuration(data_dir)
    found = waiting_in(config.directory)
    for loss in losses_in(config.directory):
        typer.echo(f"note: {loss}", err=True)
    if output_format is not OutputFormat.table:
        write_rows([each._asdict() for each in found], output_format, Waiting._fields)
        return
    from .screen import cell, screen
    from .sheet import Column, print_sheet
    from .stored import bytes_text

    console = screen()
    if not found:
        console.print(cell(f"Nothing waits in {config.directory}."))
        return
    columns = [
        Column("destination", [cell(each.destination) for each in found], "id"),
        Column("state", [cell(each.state) for each in found]),
        Column("cycles", [cell(f"{each.cycles:,}") for each in found], "number"),
        Column("calls", [cell(f"{each.calls:,}") for each in found], "number"),
        Column("size", [cell(bytes_text(each.bytes)) for each in found], "number", rank=1),
        Column("oldest", [cell(f"{each.oldest_at:%Y-%m-%d %H:%M} UTC") for each in found], rank=2),
    ]
    print_sheet(console, columns, folds=True)


@outbox.command()
def flush(
    *,
    seconds: Annotated[
        float, typer.Option("--timeout", min=0, metavar="SECONDS", help="How long to try.")
    ] = 30.0,
    former: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            metavar="DESTINATION",
            help="Deliver what waits for this one, of former settings, to the one of its kind.",
            show_default=False,
        ),
    ] = None,
    output_format: FormatOption = OutputFormat.table,
    data_dir: DataDirectory = None,
) -> None:
    """
    Deliver now what waits for the destinations of your settings.

    What programs that died have left open is sealed and delivered as well. It
    is safe beside programs that run. The exit code is 1 if something still
    waits when time is up.

    A destination is another one when its address or its key changes: after
    that, --from takes along what waits for the old one, as `status` names it.

    [bold]Examples[/]

      agentsight-tokens outbox flush --timeout 60

      agentsight-tokens outbox flush --from http:1f0c52d0aa35
    """
    from agentsight_tokens.runtime import configured_destinations

    from .flushing import Flushed, flushed, readdressed
    from .screen import waiting_sign

    config = configuration(data_dir)
    destinations = configured_destinations(config)
    for old in former or ():
        readdressed(config, destinations, old)
    with waiting_sign("Delivering ..."):
        found = list(flushed(config, destinations, seconds=seconds))
    if output_format is OutputFormat.table:
        _print(found)
    else:
        write_rows([each._asdict() for each in found], output_format, Flushed._fields)
    _note_the_rest(config, {each.destination for each in found})
    if any(each.waiting for each in found):
        raise typer.Exit(1)


def _print(found: list[Flushed]) -> None:
    from .screen import plural

    for each in found:
        text = f"{each.destination}: {plural(each.delivered, 'cycle')} delivered"
        if each.waiting:
            text += f", {each.waiting:,} still waiting: {each.error}"
        typer.echo(text)


def _note_the_rest(config: TokenConfig, configured: Set[str]) -> None:
    from .screen import plural
    from .waiting import waiting_in

    for each in waiting_in(config.directory):
        cycles = plural(each.cycles, "cycle")
        if each.state == "refused":
            text = f"{each.destination} refuses {cycles}: agentsight-tokens outbox dead list"
        elif each.destination not in configured:
            text = (
                f"{cycles} on the way to {each.destination}, which is not configured now: "
                f"configure it again, or agentsight-tokens outbox flush --from {each.destination}"
            )
        else:
            continue
        typer.echo(f"note: {text}", err=True)


@outbox.command()
def export(
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", metavar="FILE", help="A file to make; else stdout.", show_default=False
        ),
    ] = None,
    state: Annotated[Kept, typer.Option(help="What waits, what was refused, or both.")] = Kept.all,
    destination: OfDestination = None,
    data_dir: DataDirectory = None,
) -> None:
    """
    Write what not every destination has taken as JSON, and change nothing.

    The file is what POST /v1/cycles takes, so any backend can be given it. What
    a program that died has left open is not in it before `outbox flush`.

    [bold]Examples[/]

      agentsight-tokens outbox export --output kept.json

      agentsight-tokens outbox export --state refused | gzip > refused.json.gz
    """
    from .exported import kept_cycles, written
    from .screen import plural
    from .waiting import State

    states: dict[Kept, set[State]] = {
        Kept.pending: {"pending"},
        Kept.refused: {"refused"},
        Kept.all: {"pending", "refused"},
    }
    config = configuration(data_dir)
    cycles = calls = 0
    # It names users, so nobody else may read it; and nothing is overwritten.
    try:
        made = output and os.fdopen(
            os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
        )
    except FileExistsError:
        raise ConfigurationError(f"--output {str(output)!r} exists; name another file") from None
    with made or nullcontext(sys.stdout.buffer) as file:
        for piece, its_calls in written(kept_cycles(config.directory, states[state], destination)):
            file.write(piece)
            cycles += bool(its_calls)
            calls += its_calls
    typer.echo(f"{plural(cycles, 'cycle')}, {plural(calls, 'call')} exported", err=True)
