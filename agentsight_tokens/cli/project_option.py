"""The project that a command is about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

import typer

from agentsight_tokens.errors import InvalidScopeError

if TYPE_CHECKING:
    from agentsight_tokens.backend.store import Store

__all__ = ["ORGANISATION", "PROJECT", "OrganisationOption", "ProjectOption", "project_of"]

PROJECT: Final = "default"
ORGANISATION: Final = "default"

ProjectOption = Annotated[str, typer.Option("--project", help="The project.")]
OrganisationOption = Annotated[
    str, typer.Option("--organisation", help="The organisation that the project belongs to.")
]


def project_of(store: Store, project: str, organisation: str) -> int:
    """
    Return the id of a project.

    Raises:
        InvalidScopeError: If there is none of these names.
    """
    from agentsight_tokens.backend.accounts import Accounts

    for each in Accounts(store).projects():
        if (each.name, each.organisation) == (project, organisation):
            return each.id
    raise InvalidScopeError(
        f"there is no project {project!r} of the organisation {organisation!r}: "
        "`agentsight-tokens keys create` makes it with its first key"
    )
