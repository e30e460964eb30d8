"""`top`: the conversations that run, followed as they use tokens."""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta, timezone
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Final

import typer

from .embedded import DataDirectory, configuration
from .rows import FormatOption, OutputFormat, write_rows
from .times import read_time

if TYPE_CHECKING:
    from rich.console import RenderableType

    from agentsight_tokens.config import TokenConfig

    from .activity import Activity

__all__ = ["top"]

_PRINTED_ROWS: Final = 20
"""How many rows are printed once, without --limit."""
_LEAST_SECONDS: Final = 0.2
_FRAME_LINES: Final = 9
"""The lines of a screen that are not rows."""
_ENDING: Final = frozenset({"q", "Q", "\x1b", "\x03"})


class Order(str, Enum):
    """What comes first."""

    newest = "newest"
    costliest = "costliest"
    largest = "largest"


def top(  # noqa: PLR0913  # its options
    *,
    order: Annotated[
        Order, typer.Option(help="By the last call, by cost or by tokens.")
    ] = Order.newest,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="Leave out who has been silent since then.")
    ] = "1h",
    limit: Annotated[
        int | None,
        typer.Option("--limit", "-n", min=1, metavar="N", help="Only the first N conversations."),
    ] = None,
    every: Annotated[
        float, typer.Option(min=_LEAST_SECONDS, metavar="SECONDS", help="How often to look.")
    ] = 1.0,
    once: Annotated[
        bool, typer.Option("--once", help="Print once and end, as when the output is piped.")
    ] = False,
    output_format: FormatOption = OutputFormat.table,
    data_dir: DataDirectory = None,
) -> None:
    """
    Watch running conversations: tokens, cost and budgets.

    A conversation is shown if it has had a call lately, or has calls that are not
    sent yet, of whichever process on this machine. `unsent` is how many those are,
    `budget` how much is used of the limit for each session. q or Ctrl-C ends it.

    [bold]Examples[/]

      agentsight-tokens top

      agentsight-tokens top --order costliest --since 24h --limit 10

      agentsight-tokens top --once --format json
    """
    config = configuration(data_dir)
    read_time("--since", since, timezone.utc, now=datetime.now(timezone.utc))  # fail before drawing
    if output_format is not OutputFormat.table:
        from .activity import ACTIVITY_FIELDS, activity_row

        rows = [activity_row(each) for each in _look(config, since, order).conversations]
        write_rows(rows[:limit], output_format, ACTIVITY_FIELDS)
        return
    # Imported here: who wants rows needs no rich.
    from rich.console import Group
    from rich.live import Live

    from .keyboard import reading_keys
    from .screen import screen
    from .top_table import drawn

    console = screen()
    if once or not console.is_terminal:
        for part in drawn(console, _look(config, since, order), since, limit or _PRINTED_ROWS):
            console.print(part)
        return

    def draw() -> RenderableType:
        now = screen()  # as large as the window is now
        rows = max(now.height - _FRAME_LINES, 1)
        found = _look(config, since, order)
        return Group(*drawn(now, found, since, min(limit or rows, rows)), "[dim]q ends[/]")

    with (
        contextlib.suppress(KeyboardInterrupt),
        reading_keys() as pressed,
        Live(draw(), console=console, screen=True, auto_refresh=False) as live,
    ):
        while pressed(every) not in _ENDING:
            live.update(draw(), refresh=True)


def _look(config: TokenConfig, since: str, order: Order) -> Activity:
    from .activity import activity

    now = datetime.now(timezone.utc)
    earliest = read_time("--since", since, timezone.utc, now=now) or now - timedelta(hours=1)
    return activity(config, since=earliest, order=order.value)
