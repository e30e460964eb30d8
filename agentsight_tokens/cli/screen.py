"""What commands print on: a terminal, or plain text where the output is piped."""

from __future__ import annotations

import contextlib
from typing import Final

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from agentsight_tokens.figures import cost_decimals, cost_text, plural

__all__ = [
    "cell",
    "cost_decimals",
    "cost_text",
    "failure",
    "plural",
    "screen",
    "show",
    "waiting_sign",
]

_PIPE_WIDTH: Final = 10_000
"""Where nobody watches, no line is folded."""


def screen(*, is_stderr: bool = False) -> Console:
    """Return the console of stdout or stderr; it honours NO_COLOR."""
    console = Console(stderr=is_stderr, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = _PIPE_WIDTH
    return console


def failure(message: str, code: int) -> typer.Exit:
    """Print what went wrong on stderr, and return what ends the command with a code."""
    line = Text("error: ", style="bold red").append_text(cell(message))
    screen(is_stderr=True).print(line, soft_wrap=True)
    return typer.Exit(code)


def waiting_sign(text: str) -> contextlib.AbstractContextManager[object]:
    """Show on stderr that something goes on, if somebody watches."""
    console = screen(is_stderr=True)
    return console.status(cell(text)) if console.is_terminal else contextlib.nullcontext()


def show(console: Console, renderable: RenderableType) -> None:
    """Print, without the blanks at the ends of lines where nobody watches."""
    if console.is_terminal:
        console.print(renderable)
        return
    with console.capture() as captured:
        console.print(renderable)
    for line in captured.get().splitlines():
        console.print(line.rstrip(), markup=False, soft_wrap=True)


def cell(value: object, *, style: str = "") -> Text:
    """Return any value as text that neither markup nor control characters can colour."""
    if value is None:
        return Text("-", style="dim")
    text = str(value)
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return Text(text, style=style)
