"""`calls`: the newest calls, one row each."""

from __future__ import annotations

from typing import Annotated

import typer

from .embedded import DataDirectory, configuration, reading
from .filters import Selection, selecting
from .rows import CALL_FIELDS, FormatOption, OutputFormat, call_row, write_rows

__all__ = ["calls"]


@selecting
def calls(
    *,
    selection: Selection,
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=1, metavar="N", help="How many calls at most.")
    ] = 20,
    output_format: FormatOption = OutputFormat.table,
    data_dir: DataDirectory = None,
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

    config = configuration(data_dir)
    with reading(config) as store:
        found = newest_calls(store, where=selection.where, limit=limit)
        if output_format is not OutputFormat.table:
            write_rows([call_row(record) for record in found], output_format, CALL_FIELDS)
            return
        from .call_table import print_calls
        from .nothing import print_nothing

        if found:
            print_calls(found, selection)
        else:
            print_nothing(config, store, selection)
