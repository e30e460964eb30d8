"""`keys`: who may send to the server and see what is there."""

from __future__ import annotations

from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Final

import typer

from agentsight_tokens.errors import InvalidScopeError

from .database import DatabaseURL, opened_store, server_configuration
from .embedded import DataDirectory
from .project_option import ORGANISATION, PROJECT, OrganisationOption, ProjectOption
from .rows import FormatOption, OutputFormat, write_rows

if TYPE_CHECKING:
    from agentsight_tokens.backend.accounts import Accounts
    from agentsight_tokens.backend.api_key import ApiKey

__all__ = ["keys"]

keys: Final = typer.Typer(
    help="Make, list and revoke the keys of the server's projects.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

_FIELDS: Final = (
    "id", "organisation", "project", "name", "scopes", "state",
    "created_at", "expires_at", "last_used_at",
)  # fmt: skip


class Scope(str, Enum):
    """What a key allows."""

    ingest = "ingest"
    read = "read"
    admin = "admin"


@keys.callback()
def group() -> None:
    """Take the command that follows."""


@keys.command()
def create(  # noqa: PLR0913  # the options of the command
    name: Annotated[str, typer.Argument(help="What the key is for, to know it by later.")],
    *,
    project: ProjectOption = PROJECT,
    organisation: OrganisationOption = ORGANISATION,
    scope: Annotated[
        list[Scope] | None,
        typer.Option(
            help="ingest: may send calls; read: may see them; admin: both, and manage keys. "
            "May be given more than once.  [default: ingest]",
            show_default=False,
        ),
    ] = None,
    expires_days: Annotated[
        float | None, typer.Option(min=0.001, help="The days for which it is valid; for ever.")
    ] = None,
    database_url: DatabaseURL = None,
    data_dir: DataDirectory = None,
) -> None:
    """
    Make a key, and print it: it is shown this once, and stored as a hash only.

    The project and the organisation are made if there are none of these names.
    With the first key, the server asks everybody for one.

    [bold]Examples[/]

      agentsight-tokens keys create production

      agentsight-tokens keys create grafana --scope read --expires-days 90
    """
    with opened_store(server_configuration(database_url, data_dir)) as store:
        from agentsight_tokens.backend.accounts import Accounts

        accounts = Accounts(store)
        of = accounts.project(project, organisation=organisation)
        key, secret = accounts.create_key(
            of.id,
            name=name,
            scopes=[each.value for each in scope or [Scope.ingest]],
            expires_at=accounts.now() + timedelta(days=expires_days) if expires_days else None,
        )
    until = f", until {key.expires_at:%Y-%m-%d %H:%M} UTC" if key.expires_at else ""
    typer.echo(
        f"key {key.id} of {of.organisation}/{of.name} may {', '.join(key.scopes)}{until}; "
        "keep it now, it is not shown again:",
        err=True,
    )
    typer.echo(secret)


@keys.command("list")
def list_keys(
    *,
    output_format: FormatOption = OutputFormat.table,
    database_url: DatabaseURL = None,
    data_dir: DataDirectory = None,
) -> None:
    """
    List the keys of all projects, without their secrets.

    [bold]Example[/]

      agentsight-tokens keys list --format json
    """
    with opened_store(server_configuration(database_url, data_dir)) as store:
        from agentsight_tokens.backend.accounts import Accounts

        rows = _rows(Accounts(store))
    if output_format is not OutputFormat.table:
        write_rows(rows, output_format, _FIELDS)
        return
    from .screen import cell, screen
    from .sheet import Column, print_sheet

    console = screen()
    if not rows:
        console.print(cell("There is no key: the server lets in everybody on this machine."))
        console.print("Make one: agentsight-tokens keys create NAME", markup=False)
        return
    columns = [
        Column(field.removesuffix("_at"), [cell(str(row[field] or "-")) for row in rows], rank=rank)
        for rank, field in enumerate(_FIELDS)
    ]
    print_sheet(console, columns, folds=True)


@keys.command()
def revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The key's id, as `list` shows it.")],
    *,
    database_url: DatabaseURL = None,
    data_dir: DataDirectory = None,
) -> None:
    """
    End a key for ever, at once.

    [bold]Example[/]

      agentsight-tokens keys revoke 6f1e0c55ab21
    """
    with opened_store(server_configuration(database_url, data_dir)) as store:
        from agentsight_tokens.backend.accounts import Accounts

        key = Accounts(store).revoke(key_id)
    if key is None:
        raise InvalidScopeError(f"there is no key {key_id!r}; `agentsight-tokens keys list`")
    typer.echo(f"key {key.id} ({key.name}) is revoked")


def _rows(accounts: Accounts) -> list[dict[str, object]]:
    projects = {project.id: project for project in accounts.projects()}
    now = accounts.now()
    return [
        {
            "id": key.id,
            "organisation": projects[key.project_id].organisation,
            "project": projects[key.project_id].name,
            "name": key.name,
            "scopes": " ".join(key.scopes),
            "state": _state(key, is_valid=key.fault(now) is None),
            **{
                name: at and f"{at:%Y-%m-%d %H:%M}"
                for name, at in (
                    ("created_at", key.created_at),
                    ("expires_at", key.expires_at),
                    ("last_used_at", key.last_used_at),
                )
            },
        }
        for key in accounts.list_keys()
    ]


def _state(key: ApiKey, *, is_valid: bool) -> str:
    if is_valid:
        return "valid"
    return "expired" if key.revoked_at is None else "revoked"
