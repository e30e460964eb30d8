"""`count`: how many tokens a text or messages have for a model, before anything is sent."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .rows import FormatOption, OutputFormat, exact, write_rows

if TYPE_CHECKING:
    from agentsight_tokens.counting import TokenCounter

__all__ = ["count"]

_FIELDS = ("source", "model", "tokens", "is_estimate", "encoding", "window", "left", "input_cost_usd")  # fmt: skip
_DEFAULT_MODEL = "gpt-4o"


def count(
    texts: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TEXT]...", help="What to count; - or nothing is stdin."),
    ] = None,
    *,
    file: Annotated[
        list[Path] | None, typer.Option("--file", "-f", help="A file of text to count.")
    ] = None,
    messages: Annotated[
        bool,
        typer.Option(
            "--messages",
            help="It is JSON: a list of messages, or a request with `messages` and `tools`.",
        ),
    ] = False,
    model: Annotated[str, typer.Option(help="The model that it is for.")] = _DEFAULT_MODEL,
    download: Annotated[
        bool,
        typer.Option(
            "--download", help="Fetch the model's tokenizer, once, if this machine lacks it."
        ),
    ] = False,
    output_format: FormatOption = OutputFormat.table,
) -> None:
    """
    Count the tokens of texts, files or messages for a model, without asking it.

    Beside the count stand the model's context window, what is left of it, and
    what such an input costs. Models whose tokens nobody else can count exactly
    (Claude, Gemini) are estimated, and say so.

    [bold]Examples[/]

      agentsight-tokens count "How are you?"

      agentsight-tokens count --model claude-sonnet-4-5 --file prompt.txt

      agentsight-tokens count --messages < request.json
    """
    from agentsight_tokens.context import ContextMonitor
    from agentsight_tokens.counting import TokenCounter
    from agentsight_tokens.errors import EstimatedCountWarning
    from agentsight_tokens.pricing import CostEstimator

    estimator = CostEstimator()
    counter = TokenCounter(model=model, allow_download=download)
    window = ContextMonitor(model, estimator=estimator).window_of()
    has_price = estimator.line(model) is not None

    def price(tokens: int) -> int | None:
        return estimator.estimate(tokens, 0, model).cost_pico_usd if has_price else None

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EstimatedCountWarning)  # the table says it
        rows = [
            _row(
                source,
                _counted(counter, source, text, is_messages=messages),
                counter,
                window,
                price,
            )
            for source, text in _sources(texts or [], file or [])
        ]
    if output_format is not OutputFormat.table:
        write_rows([dict(zip(_FIELDS, row, strict=True)) for row in rows], output_format, _FIELDS)
        return
    _print(rows)


def _sources(texts: list[str], files: list[Path]) -> list[tuple[str, str]]:
    """Return what is counted, with its names."""
    found = [(str(path), path.read_text(encoding="utf-8", errors="replace")) for path in files]
    for number, text in enumerate(texts, start=1):
        if text == "-":
            found.append(("stdin", sys.stdin.read()))
        else:
            found.append(("text" if len(texts) == 1 else f"text {number}", text))
    return found or [("stdin", sys.stdin.read())]


def _counted(counter: TokenCounter, source: str, text: str, *, is_messages: bool) -> int:
    return _messages(counter, source, text) if is_messages else counter.count(text)


def _row(
    source: str,
    tokens: int,
    counter: TokenCounter,
    window: int | None,
    price: Callable[[int], int | None],
) -> tuple[Any, ...]:
    left = None if window is None else window - tokens
    cost = exact(price(tokens))
    return (
        source,
        counter.model,
        tokens,
        counter.is_estimate,
        counter.encoding,
        window,
        left,
        cost,
    )


def _messages(counter: TokenCounter, source: str, text: str) -> int:
    import msgspec

    try:
        given: Any = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise typer.BadParameter(f"{source} is no JSON: {error}", param_hint="--messages") from None
    tools = given.get("tools") if isinstance(given, dict) else None
    listed = given.get("messages") if isinstance(given, dict) else given
    if not isinstance(listed, list) or not all(isinstance(each, dict) for each in listed):
        raise typer.BadParameter(
            f"{source} is no list of messages, such as "
            '[{"role": "user", "content": "How are you?"}]',
            param_hint="--messages",
        )
    return counter.count_messages(listed, tools=tools)


def _print(rows: list[tuple[Any, ...]]) -> None:
    from .screen import cell, screen
    from .sheet import Column, print_sheet

    def numbers(position: int) -> list[Any]:
        return [cell(None if r[position] is None else f"{r[position]:,}") for r in rows]

    tokens = [cell(f"{'~' if row[3] else ''}{row[2]:,}") for row in rows]
    print_sheet(
        screen(),
        [
            Column("source", [cell(row[0]) for row in rows], "id"),
            Column("model", [cell(row[1]) for row in rows]),
            Column("tokens", tokens, "number"),
            Column("window", numbers(5), "number", rank=2),
            Column("left", numbers(6), "number", rank=1),
            Column("input cost", [cell(f"${row[7]}" if row[7] else row[7]) for row in rows], "number", rank=1),
        ],
    )  # fmt: skip
    if any(row[3] for row in rows):
        typer.echo("~ is an estimate: only the model's own provider counts its tokens exactly")
