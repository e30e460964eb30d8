"""What commands print on: a terminal, or plain text where the output is piped."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from decimal import Decimal
from typing import Final

import typer
from rich.console import Console, RenderableType
from rich.text import Text

from agentsight_tokens.usage import usd

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
_MOST_DECIMALS: Final = 6


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


def cost_decimals(costs: Iterable[int | None]) -> int:
    """Return how many decimals show two digits of the smallest cost, 2 to 6 of them."""
    smallest = min((cost for cost in costs if cost), default=0)
    return next(
        (n for n in range(2, _MOST_DECIMALS) if smallest >= 10 ** (13 - n)),
        _MOST_DECIMALS if smallest else 2,
    )


def cost_text(pico_usd: int | None, decimals: int) -> str:
    """Return a cost in USD for reading; what is too small for the decimals is said to be so."""
    if pico_usd is None:
        return "unpriced"
    if not pico_usd:
        return "$0"
    unit = Decimal(1).scaleb(-decimals)
    cost = usd(pico_usd)
    return f"<${unit:f}" if cost < unit else f"${cost.quantize(unit):,f}"


def plural(number: int, word: str, several: str | None = None) -> str:
    """Return a number with its noun: `1 call`, `2,000 calls`."""
    return f"{number:,} {word if number == 1 else several or word + 's'}"
