"""`reconcile`: the ledger beside a provider's own report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .embedded import DataDirectory, configuration, reading
from .rows import FormatOption, OutputFormat, exact, write_rows

if TYPE_CHECKING:
    from agentsight_tokens.pricing.reconciliation import Comparison

__all__ = ["reconcile"]

_FIELDS = ("day", "model", "agrees", "calls", "input_tokens", "output_tokens", "cost_usd")


def reconcile(
    export: Annotated[
        Path, typer.Argument(help="The provider's usage or cost report, JSON or CSV.")
    ],
    *,
    only_differences: Annotated[
        bool, typer.Option("--only-differences", help="Leave out what agrees.")
    ] = False,
    output_format: FormatOption = OutputFormat.table,
    data_dir: DataDirectory = None,
) -> None:
    """
    Compare the ledger with a provider's usage report, by day and model.

    It reads OpenAI's usage and costs and Anthropic's usage and cost reports, as
    their APIs and consoles export them. Numbers are the ledger's; where the
    provider says otherwise, the difference stands behind it (ledger less provider).
    Exit code 1 if anything differs.

    [bold]Example[/]

      agentsight-tokens reconcile openai-usage-2026-11.json --only-differences
    """
    from agentsight_tokens.backend.analytics import newest_calls
    from agentsight_tokens.pricing.provider_exports import read_export
    from agentsight_tokens.pricing.reconciliation import reconciled

    lines = read_export(export)
    with reading(configuration(data_dir)) as store:
        found = reconciled(newest_calls(store), lines)
    shown = [each for each in found if not (only_differences and each.agrees)]
    if output_format is not OutputFormat.table:
        write_rows([_row(each) for each in shown], output_format, _FIELDS)
    else:
        _print(shown)
    differing = sum(not each.agrees for each in found)
    typer.echo(f"{differing:,} of {len(found):,} days and models differ", err=True)
    if differing:
        raise typer.Exit(1)


def _row(each: Comparison) -> dict[str, object]:
    usage = each.ledger.usage
    shown: dict[str, object] = {
        "calls": each.ledger.calls,
        "input_tokens": usage and usage.input_tokens,
        "output_tokens": usage and usage.output_tokens,
        "cost_usd": exact(each.ledger.cost_pico_usd),
    }
    row: dict[str, object] = {"day": each.day, "model": each.model, "agrees": each.agrees}
    for name, value in shown.items():
        difference = each.differences.get(name.replace("cost_usd", "cost_pico_usd"))
        if difference:
            sign = "+" if difference > 0 else ""
            text = exact(difference) if name == "cost_usd" else f"{difference:,}"
            value = f"{value} ({sign}{text})"
        row[name] = value
    return row


def _print(found: list[Comparison]) -> None:
    from .screen import cell, screen
    from .sheet import Column, print_sheet

    console = screen()
    if not found:
        console.print(cell("There is nothing to compare, or nothing that differs."))
        return
    rows = [_row(each) for each in found]
    columns = [
        Column(
            name.removesuffix("_tokens").replace("_", " "),
            [cell({True: "yes", False: "no"}.get(row[name], row[name])) for row in rows],  # type: ignore[call-overload]  # any value
            "id" if name == "model" else "word",
        )
        for name in _FIELDS
    ]
    print_sheet(console, columns, folds=True)
