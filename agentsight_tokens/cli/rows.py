"""Rows for programs: flat mappings, written as JSON or CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from agentsight_tokens import rows
from agentsight_tokens.rows import CALL_FIELDS, USAGE_ROW_FIELDS, csv_cell, written
from agentsight_tokens.usage import UsageRecord, usd

if TYPE_CHECKING:
    from agentsight_tokens.backend.analytics import UsageReport

__all__ = [
    "CALL_FIELDS",
    "FormatOption",
    "OutputFormat",
    "call_row",
    "exact",
    "usage_fields",
    "usage_rows",
    "write_rows",
]


class OutputFormat(str, Enum):
    """How a command prints what it found."""

    table = "table"
    json = "json"
    csv = "csv"


FormatOption = Annotated[
    OutputFormat, typer.Option("--format", help="table to read, json and csv to go on with.")
]


def exact(pico_usd: int | None) -> str | None:
    """Return a cost in USD with every digit it has: `0.000123`; None stays None."""
    if pico_usd is None:
        return None
    text = f"{usd(pico_usd):f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def usage_rows(report: UsageReport) -> list[dict[str, Any]]:
    """Return a row for each group: its key, its counters and its cost."""
    return [written(row) for row in report.rows()]


def usage_fields(report: UsageReport) -> list[str]:
    """Return the fields of a report's rows."""
    return [*report.by, *USAGE_ROW_FIELDS]


def call_row(record: UsageRecord) -> dict[str, Any]:
    """Return a call as one flat row; `cost_usd` is None where the call has no price."""
    return written(rows.call_row(record))


def write_rows(
    rows: Sequence[Mapping[str, Any]], output_format: OutputFormat, fields: Iterable[str]
) -> None:
    """
    Print rows as JSON or CSV.

    Args:
        rows: The rows, all with the same keys.
        output_format: JSON or CSV.
        fields: Those keys, for the header of a CSV.
    """
    if output_format is OutputFormat.json:
        typer.echo(msgspec.json.format(msgspec.json.encode(list(rows)), indent=2))
        return
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(fields)
    for row in rows:
        writer.writerow(csv_cell(value) for value in row.values())
    typer.echo(text.getvalue(), nl=False)
