"""`doctor --conformance`: the scenarios, and what is counted with the versions installed here."""

from __future__ import annotations

import contextlib
import logging
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec
import typer

from .rows import OutputFormat, write_rows

if TYPE_CHECKING:
    from agentsight_tokens.conformance import Figures, Result, Verdict

__all__ = ["ConformanceOption", "HandlersOption", "conform"]

ConformanceOption = Annotated[
    bool,
    typer.Option(
        "--conformance",
        help="Call a provider on this machine in every way that there is, and hold what is "
        "counted against what was billed. Nothing leaves the machine.",
    ),
]

HandlersOption = Annotated[
    str | None,
    typer.Option(
        "--handlers",
        metavar="NAMES",
        help="With --conformance: switch these on together, with commas, or auto for all; "
        "without it, each framework is checked with its own.",
        show_default=False,
    ),
]

_STYLES: Final[dict[Verdict, str]] = {
    "exact": "green",
    "unreported": "cyan",
    "over": "bold red",
    "under": "bold red",
    "skipped": "dim",
}


def conform(handlers: str | None, output_format: OutputFormat) -> None:
    """
    Run the scenarios and print what became of each.

    Raises:
        typer.BadParameter: If a handler is unknown, or none has scenarios.
        typer.Exit: With 1 if anything is counted too high or, without a word, too low.
    """
    from agentsight_tokens.conformance import versions

    results = [
        result for framework in _frameworks(handlers) for result in _results(framework, handlers)
    ]
    if output_format is OutputFormat.table:
        _print(results, versions())
    elif output_format is OutputFormat.json:
        document = {"versions": versions(), "results": [_row(result) for result in results]}
        typer.echo(msgspec.json.format(msgspec.json.encode(document), indent=2))
    else:
        rows = [_row(result) for result in results]
        write_rows(rows, output_format, rows[0])
    if any(result.verdict in {"over", "under"} for result in results):
        raise typer.Exit(1)


def _frameworks(handlers: str | None) -> list[str]:
    """Return the frameworks whose own handlers are to be switched on."""
    from agentsight_tokens.conformance import FRAMEWORKS
    from agentsight_tokens.handlers import registered_handlers

    known = registered_handlers()
    named = [part.strip().lower() for part in (handlers or "auto").split(",")]
    unknown = [name for name in named if name != "auto" and name not in known]
    if unknown:
        raise typer.BadParameter(
            f"{unknown[0]!r} is no handler; there are {', '.join(sorted(known))} and auto",
            param_hint="--handlers",
        )
    found = [name for name in FRAMEWORKS if name in known and {"auto", name} & {*named}]
    if not found:
        raise typer.BadParameter(
            f"{handlers!r} names no handler that has scenarios; {', '.join(FRAMEWORKS)} have",
            param_hint="--handlers",
        )
    return found


def _results(framework: str, handlers: str | None) -> Iterator[Result]:
    from agentsight_tokens.conformance import run_suite

    from .screen import waiting_sign

    with waiting_sign(f"Checking {framework} ..."), _quiet():
        yield from run_suite(framework, handlers=handlers)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the frameworks say of the provider's failures from the output."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


def _print(results: Sequence[Result], versions: dict[str, str]) -> None:
    # Imported here: other commands do not load what draws tables.
    from .screen import cell, plural, screen
    from .sheet import Column, print_sheet

    console = screen()
    console.print(cell(", ".join(f"{name} {version}" for name, version in versions.items())))
    console.print()
    columns = [
        Column("Framework", [cell(result.framework) for result in results], rank=1),
        Column("Scenario", [cell(result.scenario) for result in results]),
        Column("Result", [cell(r.verdict, style=_STYLES[r.verdict]) for r in results]),
        Column("Expected", [cell(_short(result.expected)) for result in results], rank=2),
        Column("Counted", [cell(_short(result.counted)) for result in results], rank=2),
        Column("Why", [cell(result.reason or "") for result in results], "id", rank=3),
    ]
    print_sheet(console, columns)
    counts = Counter(result.verdict for result in results)
    console.print()
    console.print(
        f"{plural(len(results), 'scenario')}: "
        + ", ".join(f"{counts[verdict]} {verdict}" for verdict in _STYLES)
    )


def _short(figures: Figures | None) -> str | None:
    """Return input/output, what was embedded, and how many calls are unreported."""
    if figures is None:
        return None
    parts = [f"{figures.input_tokens}/{figures.output_tokens}"]
    if figures.embedding_tokens:
        parts.append(f"embedded {figures.embedding_tokens}")
    if figures.unreported_calls:
        parts.append(f"unreported {figures.unreported_calls}")
    return " ".join(parts)


def _row(result: Result) -> dict[str, Any]:
    billed = {f"expected_{name}": value for name, value in result.expected._asdict().items()}
    names = result.expected._fields
    counted = result.counted or (None,) * len(names)
    return {
        "framework": result.framework,
        "scenario": result.scenario,
        "verdict": result.verdict,
        "reason": result.reason,
        **billed,
        **{f"counted_{name}": value for name, value in zip(names, counted, strict=True)},
    }
