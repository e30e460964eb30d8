"""What an import tells at its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

from .screen import cell, cost_decimals, cost_text, plural, screen
from .sheet import Column, print_sheet

if TYPE_CHECKING:
    from agentsight_tokens.importing import Summary

__all__ = ["print_summaries"]


def print_summaries(summaries: Sequence[Summary], *, is_dry: bool, endpoint: str | None) -> None:
    """Print a table of the files, what was left out, and what to do next."""
    costs = [each.cost_pico_usd for each in summaries]
    print_sheet(
        screen(),
        [
            Column("file", [cell(each.source) for each in summaries], "id"),
            Column("format", [cell(each.format) for each in summaries], rank=2),
            _numbers("rows", [each.rows for each in summaries]),
            _numbers("calls", [each.calls for each in summaries]),
            _numbers("input", [each.usage.input_tokens for each in summaries], rank=1),
            _numbers("output", [each.usage.output_tokens for each in summaries], rank=1),
            _numbers("skipped", [sum(each.skipped.values()) for each in summaries], rank=1),
            _numbers("set aside", [each.set_aside for each in summaries]),
            Column(
                "cost", [cell(cost_text(each, cost_decimals(costs))) for each in costs], "number"
            ),
        ],
    )
    for each in summaries:
        _tell(each)
    calls = sum(each.calls for each in summaries)
    typer.echo("")
    if is_dry:
        typer.echo("nothing was stored: run it again without --dry-run")
    elif calls and endpoint is None:
        typer.echo("next: agentsight-tokens report --by model")
    elif calls:
        typer.echo(f"next: look at {endpoint}")
    else:
        typer.echo("there was nothing new to import")


def _tell(summary: Summary) -> None:
    """Print what a table has no room for."""
    if summary.resumed_after:
        typer.echo(f"{summary.source}: went on after row {summary.resumed_after:,}")
    for reason, count in summary.skipped.most_common():
        typer.echo(f"{summary.source}: skipped {plural(count, 'row')}: {reason}")
    for fault in summary.faults:
        typer.echo(f"{summary.source}: row {fault}")
    if summary.set_aside > len(summary.faults):
        typer.echo(f"{summary.source}: and {summary.set_aside - len(summary.faults):,} more")
    if summary.set_aside_file:
        typer.echo(f"{summary.source}: what was set aside is in {summary.set_aside_file}")
    if summary.unreported_calls:
        typer.echo(f"{summary.source}: {plural(summary.unreported_calls, 'call')} tell no use")
    if summary.unpriced_models:
        models = ", ".join(name for name, _ in summary.unpriced_models.most_common(5))
        typer.echo(
            f"{summary.source}: no price is known of {models} "
            f"({plural(summary.unpriced_calls, 'call')}): see agentsight-tokens prices --help"
        )


def _numbers(title: str, numbers: Sequence[int], *, rank: int = 0) -> Column:
    return Column(title, [cell(f"{number:,}") for number in numbers], "number", rank)
