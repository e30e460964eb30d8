"""`prices`: what models cost, where that is known from, and why a call cost what it cost."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from .embedded import DataDirectory, configuration, reading
from .filters import Selection, selecting
from .rows import FormatOption, OutputFormat, exact, write_rows

if TYPE_CHECKING:
    from agentsight_tokens.config import TokenConfig
    from agentsight_tokens.pricing import CostEstimator
    from agentsight_tokens.pricing.repricing import Repricing
    from agentsight_tokens.pricing.updates import PriceChange

__all__ = ["prices"]

prices: Final = typer.Typer(
    help="Show prices, take newer ones over, and explain or recompute costs.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Origin = Annotated[
    str,
    typer.Option(
        "--from",
        metavar="ORIGIN",
        help="An https address, a file, or `litellm` for the map of the installed package.",
    ),
]


@prices.callback()
def group() -> None:
    """Take the command that follows."""


@prices.command()
def show(
    model: Annotated[str, typer.Argument(help="The model, by any name that its provider uses.")],
    *,
    provider: Annotated[str | None, typer.Option(help="Who sells it, such as azure.")] = None,
    data_dir: DataDirectory = None,
) -> None:
    """
    Show what a model costs and has cost, in USD per million tokens, and who says so.

    [bold]Example[/]

      agentsight-tokens prices show claude-sonnet-4-5
    """
    from agentsight_tokens.pricing.explanation import model_sheet

    from .screen import failure

    lines = model_sheet(model, _estimator(configuration(data_dir)), provider=provider)
    if not lines:
        raise failure(
            f"no price is known for {model!r}; give one with AGENTSIGHT_COST_RATES__<MODEL> "
            "or `agentsight-tokens prices import FILE.csv`",
            1,
        )
    typer.echo("\n".join(lines))


@prices.command()
def diff(
    *,
    origin: Origin = "litellm",
    output_format: FormatOption = OutputFormat.table,
    data_dir: DataDirectory = None,
) -> None:
    """
    Show what another cost map would change; nothing is written.

    [bold]Example[/]

      agentsight-tokens prices diff --from cost-map.json
    """
    import tempfile

    from agentsight_tokens.pricing.updates import update_prices

    configuration(data_dir)
    with tempfile.TemporaryDirectory() as nowhere:
        changes = update_prices(origin, nowhere, allow_fewer=True).changes
    _print_changes(changes, output_format)


@prices.command()
def update(
    *,
    origin: Origin = "",
    allow_fewer: Annotated[
        bool, typer.Option("--allow-fewer", help="Take a map over that lost many models.")
    ] = False,
    output_format: FormatOption = OutputFormat.table,
    data_dir: DataDirectory = None,
) -> None:
    """
    Take a newer cost map over into the data directory, and show what it changes.

    Without --from it is fetched from where LiteLLM publishes it. Calls that are
    recorded already keep their cost; `prices reprice` recomputes them.

    [bold]Examples[/]

      agentsight-tokens prices update

      agentsight-tokens prices update --from cost-map.json
    """
    from agentsight_tokens.pricing.updates import LITELLM_URL, update_prices

    config = configuration(data_dir)
    taken = update_prices(
        origin or LITELLM_URL, config.directory / "prices", allow_fewer=allow_fewer
    )
    _print_changes(taken.changes, output_format)
    typer.echo(f"{taken.models:,} models in {taken.path}, sha256 {taken.sha256}", err=True)


@prices.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A CSV file with model, input and output.")],
    *,
    to: Annotated[Path, typer.Option(help="The prices file to write or to add to.")] = Path(
        "prices.json"
    ),
) -> None:
    """
    Take your own prices over from a CSV file.

    Columns: model, input, output and any of provider, cache_read, cache_write,
    per (1, 1000 or 1000000 tokens), currency, usd_per_unit, since.

    [bold]Example[/]

      agentsight-tokens prices import ours.csv --to ours.json
    """
    from agentsight_tokens.pricing.price_csv import import_csv

    models = import_csv(file, to)
    typer.echo(f"{models:,} models written to {to}; use it: AGENTSIGHT_PRICES_FILE={to.absolute()}")


@prices.command()
def explain(
    call: Annotated[
        str, typer.Argument(help="The call's id, as `calls --format json` prints it.")
    ] = "newest",
    *,
    data_dir: DataDirectory = None,
) -> None:
    """
    Print the arithmetic of a call's cost, line by line; by default of the newest call.

    [bold]Examples[/]

      agentsight-tokens prices explain

      agentsight-tokens prices explain 01a229f14ebb700091290affcf5d5595
    """
    from agentsight_tokens.backend.analytics import call_of_id, newest_calls
    from agentsight_tokens.pricing.explanation import explained

    from .screen import failure

    config = configuration(data_dir)
    with reading(config) as store:
        newest = newest_calls(store, limit=1) if call == "newest" else []
        record = newest[0] if newest else call_of_id(store, call)
    if record is None:
        raise failure(
            f"there is no call {call!r} in {config.directory}; "
            "`agentsight-tokens calls --format json` lists the ids",
            1,
        )
    typer.echo("\n".join(explained(record, _estimator(config))))


@prices.command()
@selecting
def reprice(
    *,
    selection: Selection,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would change.")
    ] = False,
    output_format: FormatOption = OutputFormat.table,
    data_dir: DataDirectory = None,
) -> None:
    """
    Recompute the cost of recorded calls with the prices known now, each at its own time.

    The old cost and its version are kept beside the new one. Costs that the
    provider itself has stated are left alone.

    [bold]Example[/]

      agentsight-tokens prices reprice --since 2026-01-01 --dry-run
    """
    from agentsight_tokens.backend.analytics import newest_calls
    from agentsight_tokens.pricing.repricing import repriced

    config = configuration(data_dir)
    with reading(config) as store:
        records = newest_calls(store, where=selection.where)
        changes = [each for each in repriced(records, _estimator(config)) if each.is_change]
        if not dry_run:
            store.reprice(
                [each.new_record for each in changes], repriced_at=datetime.now(timezone.utc)
            )
    _print_repricings(changes, output_format)
    more = sum(each.difference_pico_usd for each in changes)
    verb = "would change" if dry_run else "changed"
    typer.echo(
        f"{len(changes):,} of {len(records):,} calls {verb}, together by {exact(more)} USD",
        err=True,
    )


def _estimator(config: TokenConfig) -> CostEstimator:
    import warnings

    from agentsight_tokens.errors import AgentSightWarning
    from agentsight_tokens.pricing import CostEstimator

    # What has no price is printed where it stands.
    warnings.simplefilter("ignore", AgentSightWarning)
    return CostEstimator(prices_file=config.prices)


def _print_changes(changes: tuple[PriceChange, ...], output_format: OutputFormat) -> None:
    fields = ("model", "kind", "rate", "before", "after")
    rows = [
        {
            "model": change.model,
            "kind": change.kind,
            "rate": change.rate,
            "before": None if change.before is None else f"{change.before:f}",
            "after": None if change.after is None else f"{change.after:f}",
        }
        for change in changes
    ]
    _print(rows, fields, output_format, nothing="No price differs.")


def _print_repricings(changes: list[Repricing], output_format: OutputFormat) -> None:
    fields = ("id", "at", "model", "old_cost_usd", "new_cost_usd", "old_version", "new_version")
    rows = [
        {
            "id": each.record.id,
            "at": each.record.at.isoformat(timespec="seconds"),
            "model": each.record.model,
            "old_cost_usd": exact(each.record.cost_pico_usd),
            "new_cost_usd": exact(each.new.cost_pico_usd),
            "old_version": each.record.price_version,
            "new_version": each.new.price_version,
        }
        for each in changes
    ]
    _print(rows, fields, output_format, nothing="No cost changes.")


def _print(
    rows: list[dict[str, str | None]],
    fields: tuple[str, ...],
    output_format: OutputFormat,
    *,
    nothing: str,
) -> None:
    if output_format is not OutputFormat.table:
        write_rows(rows, output_format, fields)
        return
    from .screen import cell, screen
    from .sheet import Column, print_sheet

    console = screen()
    if not rows:
        console.print(cell(nothing))
        return
    columns = [
        Column(
            name.replace("_", " "),
            [cell(row[name]) for row in rows],
            "id" if name in {"id", "model"} else "word",
            rank=1 if name.endswith("version") else 0,
        )
        for name in fields
    ]
    print_sheet(console, columns, folds=True)
