"""`insights`: where the spend goes, and what to do about it."""

from __future__ import annotations

from typing import Any

import msgspec
import typer

from .database import DatabaseURL
from .embedded import DataDirectory
from .filters import Selection, selecting
from .project_option import ORGANISATION, PROJECT, OrganisationOption, ProjectOption
from .rows import FormatOption, OutputFormat, write_rows
from .source import reading_from

__all__ = ["insights"]

_FIELDS = ("insight", "subject", "usd", "text")


@selecting
def insights(  # its options
    *,
    selection: Selection,
    output_format: FormatOption = OutputFormat.table,
    data_dir: DataDirectory = None,
    database_url: DatabaseURL = None,
    project: ProjectOption = PROJECT,
    organisation: OrganisationOption = ORGANISATION,
) -> None:
    """
    Show where the spend goes, and what could be done about it.

    The trend over the last 30 days or since --since, the spend to expect by the
    end of the month, days that cost unusually much or little, what prompt
    caches saved, and recommendations with what speaks for each. How all of it
    is computed: docs/analytics.md.

    JSON is what the server answers at /v1/trend, /v1/forecast, /v1/anomalies,
    /v1/cache and /v1/recommendations, in one object.

    [bold]Examples[/]

      agentsight-tokens insights

      agentsight-tokens insights --feature search --since 90d

      agentsight-tokens insights --format json | jq .forecast
    """
    from agentsight_tokens.backend.wire import wire

    from .insight_sheet import insights_of, print_insights

    with reading_from(data_dir, database_url, project, organisation) as source:
        found = insights_of(source.reader, selection, prices_file=source.config.prices)
        if output_format is OutputFormat.json:
            body = msgspec.json.encode(wire(found))
            typer.echo(msgspec.json.format(body, indent=2).decode())
        elif output_format is OutputFormat.csv:
            rows: list[dict[str, Any]] = [
                dict(zip(_FIELDS, row, strict=True)) for row in found.rows()
            ]
            write_rows(rows, output_format, _FIELDS)
        elif found.trend.total.request_count or found.forecast.so_far.request_count:
            print_insights(found, selection)
        else:
            from .nothing import print_nothing

            print_nothing(source, selection)
