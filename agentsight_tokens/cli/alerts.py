"""`alerts`: what the server's budgets have told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from .database import DatabaseURL, opened_store, server_configuration
from .embedded import DataDirectory
from .project_option import ORGANISATION, PROJECT, OrganisationOption, ProjectOption, project_of
from .rows import FormatOption, OutputFormat, write_rows

if TYPE_CHECKING:
    from agentsight_tokens.backend.budgets import Alert

__all__ = ["alerts"]

_FIELDS: Final = (
    "id", "at", "budget_id", "budget", "scope", "key", "window", "starts_at", "resets_at", "unit",
    "level", "used", "limit", "message", "webhooks",
)  # fmt: skip


def alerts(  # noqa: PLR0913  # the options of the command
    *,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, the newest first.")] = 20,
    budget: Annotated[
        str | None, typer.Option(metavar="ID", help="Of this budget only, as `budgets list` shows.")
    ] = None,
    output_format: FormatOption = OutputFormat.table,
    project: ProjectOption = PROJECT,
    organisation: OrganisationOption = ORGANISATION,
    database_url: DatabaseURL = None,
    data_dir: DataDirectory = None,
) -> None:
    """
    List the alerts that the server's budgets have given, the newest first.

    [bold]Examples[/]

      agentsight-tokens alerts

      agentsight-tokens alerts --format json --limit 100
    """
    with opened_store(server_configuration(database_url, data_dir)) as store:
        from agentsight_tokens.backend.budgets import Budgets

        project_id = project_of(store, project, organisation)
        found = Budgets(store).alerts(project_id, limit=limit, budget_id=budget).alerts
    if output_format is not OutputFormat.table:
        write_rows([_row(each) for each in found], output_format, _FIELDS)
        return
    from .budget_tables import print_alerts

    print_alerts(found)


def _row(alert: Alert) -> dict[str, Any]:
    return {
        "id": alert.id,
        "at": alert.at.isoformat(),
        "budget_id": alert.budget_id,
        "budget": alert.budget_name,
        "scope": alert.scope,
        "key": alert.key,
        "window": alert.window,
        "starts_at": alert.starts_at.isoformat(),
        "resets_at": alert.resets_at and alert.resets_at.isoformat(),
        "unit": alert.unit,
        "level": alert.level,
        "used": f"{alert.used:f}",
        "limit": f"{alert.limit:f}",
        "message": alert.message,
        "webhooks": " ".join(each.state for each in alert.deliveries),
    }
