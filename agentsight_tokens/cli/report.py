"""`report`: usage by conversation, user, model, day or anything else that is known."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from .database import DatabaseURL
from .embedded import DataDirectory
from .filters import Selection, selecting
from .project_option import ORGANISATION, PROJECT, OrganisationOption, ProjectOption
from .rows import FormatOption, OutputFormat, usage_fields, usage_rows, write_rows
from .source import reading_from

if TYPE_CHECKING:
    from agentsight_tokens.backend.analytics import UsageGroup, UsageReport

__all__ = ["KNOWN", "report"]

KNOWN = (
    "conversation, session, user, org, agent, feature, model, provider, operation, status, "
    "source, handler, tool, tier, environment, hour, day, week, month, year"
)


class Order(str, Enum):
    """What comes first: the most, or the first of the names."""

    cost = "cost"
    tokens = "tokens"
    calls = "calls"
    name = "name"


_RANKS: Final[dict[Order, Callable[[UsageGroup], Any]]] = {
    Order.cost: lambda group: -group.usage.cost_pico_usd,
    Order.tokens: lambda group: -(group.usage.total_tokens + group.usage.embedding_tokens),
    Order.calls: lambda group: -group.usage.request_count,
    Order.name: lambda group: [(value is None, value or "") for value in group.key],
}


@selecting
def report(  # noqa: PLR0913  # its options
    *,
    selection: Selection,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME[,NAME]",
            help=f"What a row stands for, or several at once: {KNOWN}.",
            show_default="conversation",
            autocompletion=lambda incomplete: _names_after(incomplete),
        ),
    ] = None,
    output_format: FormatOption = OutputFormat.table,
    limit: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Only the first N rows; the total is of all."),
    ] = None,
    order: Annotated[
        Order | None,
        typer.Option(help="What comes first; by default time or, without a period, cost."),
    ] = None,
    data_dir: DataDirectory = None,
    database_url: DatabaseURL = None,
    project: ProjectOption = PROJECT,
    organisation: OrganisationOption = ORGANISATION,
) -> None:
    """
    Show who used what, and what it cost.

    Rows come in the order of time if --by names a period, else the costliest
    first. The cost is that of the calls that have a price; tokens without one
    are unpriced, and calls of which the provider never said what they used are
    unreported. Embedded tokens are not part of the total.

    JSON is a list of rows, cost_usd a string with every digit; [] for nothing.

    [bold]Examples[/]

      agentsight-tokens report --by user

      agentsight-tokens report --by day,model --since 7d --timezone Europe/Berlin

      agentsight-tokens report --by model --user ana --format csv > ana.csv

      agentsight-tokens report --by day --order cost --limit 5
    """
    from agentsight_tokens.backend.analytics import DIMENSIONS, usage_by

    names = [name.strip().lower() for given in by or ["conversation"] for name in given.split(",")]
    unknown = next((n for n in names if n not in {*DIMENSIONS, *DIMENSIONS.values()}), None)
    if unknown is not None:
        raise typer.BadParameter(
            f"{unknown!r} is nothing to group by; known are {', '.join(DIMENSIONS)}",
            param_hint="--by",
        )
    with reading_from(data_dir, database_url, project, organisation) as source:
        found = usage_by(source.reader, names, where=selection.where, zone=selection.zone)
        if order is not None:
            found = found._replace(groups=tuple(sorted(found.groups, key=_RANKS[order])))
        shown = found._replace(groups=found.groups[:limit])
        if output_format is not OutputFormat.table:
            write_rows(usage_rows(shown), output_format, usage_fields(shown))
            return
        from .nothing import print_nothing
        from .screen import screen
        from .usage_table import print_age_of_prices, print_usage, print_what_is_missing

        if not found.groups:
            print_nothing(source, selection)
            return
        console = screen()
        title = _title(shown, selection) if console.is_terminal else None
        print_usage(console, shown, title=title)
        if len(shown.groups) < len(found.groups):
            hidden = len(found.groups) - len(shown.groups)
            console.print(f"{hidden:,} more rows: the total is of all of them, --limit shows more.")
        print_what_is_missing(console, found.total)
        print_age_of_prices(console, source.config.prices)


def _names_after(incomplete: str) -> list[str]:
    """Return what a shell offers after `--by model,p`."""
    before, comma, begun = incomplete.rpartition(",")
    return [f"{before}{comma}{n}" for n in KNOWN.split(", ") if n.startswith(begun)]


def _title(report: UsageReport, selection: Selection) -> str:
    names = " and ".join(key.removesuffix("_id").replace("_", " ") for key in report.by)
    return f"Usage by {names}" + (f" · {selection.words}" if selection.where else "")
