"""`budgets`: what may be used on the server, and what is left of it."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from agentsight_tokens.errors import InvalidBudgetError

from .database import DatabaseURL, opened_store, server_configuration
from .embedded import DataDirectory
from .project_option import ORGANISATION, PROJECT, OrganisationOption, ProjectOption, project_of
from .rows import FormatOption, OutputFormat, write_rows

if TYPE_CHECKING:
    from agentsight_tokens.backend.budgets import BudgetStanding

__all__ = ["budgets"]

budgets: Final = typer.Typer(
    help="Make, list and delete the budgets of the server's projects, and see what is left.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_FIELDS: Final = (
    "id", "name", "scope", "value", "window", "timezone", "token_limit", "cost_limit_usd",
    "levels", "webhooks", "enabled", "key", "used_tokens", "used_cost_usd", "fraction",
    "resets_at",
)  # fmt: skip
_STATUS_FIELDS: Final = (
    "key", "used_tokens", "tokens_left", "used_cost_usd", "cost_left_usd", "fraction", "calls",
    "unreported_calls", "unpriced_calls", "projected_tokens", "projected_cost_usd",
    "exhausted_at", "starts_at", "resets_at",
)  # fmt: skip


class Scope(str, Enum):
    """Whose use a budget limits."""

    everybody = "global"
    org = "org"
    user = "user"
    agent = "agent"
    feature = "feature"
    session = "session"
    conversation = "conversation"
    model = "model"
    provider = "provider"
    environment = "environment"


@budgets.callback()
def group() -> None:
    """Take the command that follows."""


@budgets.command()
def create(  # noqa: PLR0913  # the options of the command
    name: Annotated[str, typer.Argument(help="What the budget is called.")],
    *,
    tokens: Annotated[
        int | None, typer.Option(min=0, help="The tokens that may be used; 0 allows none.")
    ] = None,
    usd: Annotated[
        str | None, typer.Option(metavar="AMOUNT", help="The USD that may be used: 250 or 0.5.")
    ] = None,
    scope: Annotated[Scope, typer.Option(help="Whose use is limited.")] = Scope.everybody,
    value: Annotated[
        str,
        typer.Option(help="Which user, model, ...; '*' gives each of them the limit by itself."),
    ] = "*",
    window: Annotated[
        str,
        typer.Option(help="hour, day, week, month, total, or a sliding one: 'rolling 7d'."),
    ] = "month",
    timezone: Annotated[
        str, typer.Option(help="The IANA zone in which hours, days, weeks and months begin.")
    ] = "UTC",
    level: Annotated[
        list[float] | None,
        typer.Option(
            help="A part of the limit with which an alert is given; may be given more than once.  "
            "[default: 0.5, 0.8, 1.0]",
            show_default=False,
        ),
    ] = None,
    webhook: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="Is told of alerts; may be given more than once."),
    ] = None,
    webhook_secret: Annotated[
        str | None, typer.Option(metavar="SECRET", help="Signs what webhooks are told.")
    ] = None,
    project: ProjectOption = PROJECT,
    organisation: OrganisationOption = ORGANISATION,
    database_url: DatabaseURL = None,
    data_dir: DataDirectory = None,
) -> None:
    """
    Make a budget; what is stored of its current window counts at once.

    It stops no call: it is counted when calls are stored, and tells when a level is reached. The
    server delivers what webhooks are told.

    [bold]Examples[/]

      agentsight-tokens budgets create everything --usd 2000 --timezone Europe/Berlin

      agentsight-tokens budgets create "each user" --scope user --window day --tokens 500000

      agentsight-tokens budgets create agent --scope agent --value support --usd 50 --window "rolling 24h"

      agentsight-tokens budgets create all --usd 100 --webhook https://hooks.slack.com/services/...
    """
    with opened_store(server_configuration(database_url, data_dir)) as store:
        from agentsight_tokens.backend.budgets import DEFAULT_LEVELS, Budgets, NewBudget

        project_id = project_of(store, project, organisation)
        new = NewBudget(
            name=name,
            scope=scope.value,
            value=value,
            window=window,
            timezone=timezone,
            token_limit=tokens,
            cost_limit_usd=None if usd is None else _amount(usd),
            levels=tuple(level or DEFAULT_LEVELS),
            webhook_urls=tuple(webhook or ()),
            webhook_secret=webhook_secret,
        )
        made = Budgets(store)
        budget = made.create(project_id, new)
        standing = made.status(project_id, budget.id, limit=1)
    typer.echo(budget.id)
    if standing is not None and standing.fraction >= 1:
        typer.echo(f"{name!r} has used {standing.fraction:.0%} of its limit already", err=True)


@budgets.command("list")
def list_budgets(
    *,
    output_format: FormatOption = OutputFormat.table,
    project: ProjectOption = PROJECT,
    organisation: OrganisationOption = ORGANISATION,
    database_url: DatabaseURL = None,
    data_dir: DataDirectory = None,
) -> None:
    """
    List a project's budgets, each with the key that is nearest to its limit.

    [bold]Example[/]

      agentsight-tokens budgets list
    """
    with opened_store(server_configuration(database_url, data_dir)) as store:
        from agentsight_tokens.backend.budgets import Budgets

        standings = Budgets(store).statuses(project_of(store, project, organisation))
    if output_format is not OutputFormat.table:
        write_rows([_row(each) for each in standings], output_format, _FIELDS)
        return
    from .budget_tables import print_budgets

    print_budgets(standings)


@budgets.command()
def status(  # noqa: PLR0913  # the options of the command
    budget_id: Annotated[str, typer.Argument(metavar="ID", help="As `budgets list` shows it.")],
    *,
    limit: Annotated[int, typer.Option(min=1, help="The keys to show, the fullest first.")] = 20,
    output_format: FormatOption = OutputFormat.table,
    project: ProjectOption = PROJECT,
    organisation: OrganisationOption = ORGANISATION,
    database_url: DatabaseURL = None,
    data_dir: DataDirectory = None,
) -> None:
    """
    Show what is used and left in a budget's current window, and where it leads to.

    [bold]Example[/]

      agentsight-tokens budgets status 01a229dd66a3700096a2a0454da5572a
    """
    with opened_store(server_configuration(database_url, data_dir)) as store:
        from agentsight_tokens.backend.budgets import Budgets

        project_id = project_of(store, project, organisation)
        standing = Budgets(store).status(project_id, budget_id, limit=limit)
    if standing is None:
        raise _unknown(budget_id)
    if output_format is not OutputFormat.table:
        write_rows(_status_rows(standing), output_format, _STATUS_FIELDS)
        return
    from .budget_tables import print_standing

    print_standing(standing)


@budgets.command()
def delete(
    budget_id: Annotated[str, typer.Argument(metavar="ID", help="As `budgets list` shows it.")],
    *,
    project: ProjectOption = PROJECT,
    organisation: OrganisationOption = ORGANISATION,
    database_url: DatabaseURL = None,
    data_dir: DataDirectory = None,
) -> None:
    """
    Forget a budget and what it has counted; the alerts that it gave stay.

    [bold]Example[/]

      agentsight-tokens budgets delete 01a229dd66a3700096a2a0454da5572a
    """
    with opened_store(server_configuration(database_url, data_dir)) as store:
        from agentsight_tokens.backend.budgets import Budgets

        is_deleted = Budgets(store).delete(project_of(store, project, organisation), budget_id)
    if not is_deleted:
        raise _unknown(budget_id)
    typer.echo(f"budget {budget_id} is deleted")


def _unknown(budget_id: str) -> InvalidBudgetError:
    return InvalidBudgetError(
        f"the project has no budget {budget_id!r}; `agentsight-tokens budgets list`"
    )


def _amount(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise InvalidBudgetError(f"--usd {text!r} is no amount, such as 250 or 0.5") from None


def _row(standing: BudgetStanding) -> dict[str, Any]:
    budget = standing.budget
    nearest = standing.keys[0] if standing.keys else None
    return {
        "id": budget.id,
        "name": budget.name,
        "scope": budget.scope,
        "value": budget.value,
        "window": budget.window,
        "timezone": budget.timezone,
        "token_limit": budget.token_limit,
        "cost_limit_usd": _usd(budget.cost_limit_usd),
        "levels": " ".join(f"{level:g}" for level in budget.levels),
        "webhooks": len(budget.webhook_urls),
        "enabled": budget.enabled,
        "key": nearest and nearest.key,
        "used_tokens": nearest and nearest.used_tokens,
        "used_cost_usd": nearest and _usd(nearest.used_cost_usd),
        "fraction": standing.fraction,
        "resets_at": standing.resets_at and standing.resets_at.isoformat(),
    }


def _status_rows(standing: BudgetStanding) -> list[dict[str, Any]]:
    return [
        {
            "key": key.key,
            "used_tokens": key.used_tokens,
            "tokens_left": key.tokens_left,
            "used_cost_usd": _usd(key.used_cost_usd),
            "cost_left_usd": _usd(key.cost_left_usd),
            "fraction": key.fraction,
            "calls": key.calls,
            "unreported_calls": key.unreported_calls,
            "unpriced_calls": key.unpriced_calls,
            "projected_tokens": key.projection and key.projection.tokens,
            "projected_cost_usd": key.projection and _usd(key.projection.cost_usd),
            "exhausted_at": key.projection
            and key.projection.exhausted_at
            and key.projection.exhausted_at.isoformat(),
            "starts_at": standing.starts_at and standing.starts_at.isoformat(),
            "resets_at": standing.resets_at and standing.resets_at.isoformat(),
        }
        for key in standing.keys
    ]


def _usd(amount: Decimal | None) -> str | None:
    return None if amount is None else f"{amount:f}"
