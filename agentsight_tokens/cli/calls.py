"""`calls`: the newest calls, one row each."""

from __future__ import annotations

from typing import Annotated

import typer

from .database import DatabaseURL
from .embedded import DataDirectory
from .filters import Selection, selecting
from .project_option import ORGANISATION, PROJECT, OrganisationOption, ProjectOption
from .rows import CALL_FIELDS, FormatOption, OutputFormat, call_row, write_rows
from .source import reading_from

__all__ = ["calls"]


@selecting
def calls(  # noqa: PLR0913  # its options
    *,
    selection: Selection,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, metavar="N", help="How many calls at most.")
    ] = 20,
    output_format: FormatOption = OutputFormat.table,
    data_dir: DataDirectory = None,
    database_url: DatabaseURL = None,
    project: ProjectOption = PROJECT,
    organisation: OrganisationOption = ORGANISATION,
) -> None:
    """
    List the newest calls, the newest first.

    The table shows when a call ended, the conversation, the model, what it read
    (and of that from a cache) and wrote, what it cost, how long it took and how
    it ended. JSON and CSV have every field of the record.

    [bold]Examples[/]

      agentsight-tokens calls --conversation support-7 --limit 50

      agentsight-tokens calls --status error --since 24h

      agentsight-tokens calls --limit 1000 --format csv > calls.csv
    """
    from agentsight_tokens.backend.analytics import newest_calls

    with reading_from(data_dir, database_url, project, organisation) as source:
        found = newest_calls(source.reader, where=selection.where, limit=limit)
        if output_format is not OutputFormat.table:
            write_rows([call_row(record) for record in found], output_format, CALL_FIELDS)
            return
        from .call_table import print_calls
        from .nothing import print_nothing

        if found:
            print_calls(found, selection)
        else:
            print_nothing(source, selection)
