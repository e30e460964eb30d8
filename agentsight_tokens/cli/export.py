"""`export`: every call that is selected, as a file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from agentsight_tokens.usage import UsageRecord

from .database import DatabaseURL
from .embedded import DataDirectory
from .filters import Selection, selecting
from .project_option import ORGANISATION, PROJECT, OrganisationOption, ProjectOption
from .source import reading_from

__all__ = ["export"]


class Format(str, Enum):
    """What the file is."""

    csv = "csv"
    jsonl = "jsonl"
    parquet = "parquet"


@selecting
def export(  # noqa: PLR0913  # its options
    *,
    selection: Selection,
    output_format: Annotated[
        Format,
        typer.Option("--format", help="parquet needs pip install 'agentsight-tokens[arrow]'."),
    ] = Format.csv,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to; to stdout by default."),
    ] = None,
    data_dir: DataDirectory = None,
    database_url: DatabaseURL = None,
    project: ProjectOption = PROJECT,
    organisation: OrganisationOption = ORGANISATION,
) -> None:
    """
    Write every call that is selected, the oldest first.

    Each has the fields that calls --format json prints, costs with every digit.
    Memory stays the same however many calls there are. In CSV, a text that a
    spreadsheet would run as a formula has an apostrophe in front. A file is
    there when it is complete.

    [bold]Examples[/]

      agentsight-tokens export --since 2026-01-01 -o january.csv

      agentsight-tokens export --format parquet -o calls.parquet

      agentsight-tokens export --format jsonl --user ana | gzip > ana.jsonl.gz
    """
    from agentsight_tokens.backend.analytics import every_call
    from agentsight_tokens.backend.export import exported

    if output is None and output_format is Format.parquet and sys.stdout.isatty():
        raise typer.BadParameter(
            "Parquet is nothing for a terminal: name a file", param_hint="--output"
        )
    with reading_from(data_dir, database_url, project, organisation) as source:
        counted = _Counted(every_call(source.reader, selection.where))
        pieces = exported(counted, output_format.value)
        if output is None:
            for piece in pieces:
                typer.echo(piece, nl=False)
            return
        _write(pieces, output)
    typer.echo(f"{counted.number:,} calls in {output}", err=True)


class _Counted:
    """Counts calls as they go by."""

    def __init__(self, calls: Iterator[UsageRecord]) -> None:
        self._calls = calls
        self.number = 0

    def __iter__(self) -> Iterator[UsageRecord]:
        for call in self._calls:
            self.number += 1
            yield call


def _write(pieces: Iterator[bytes], output: Path) -> None:
    part = output.with_name(f"{output.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.writelines(pieces)
        part.replace(output)
    finally:
        part.unlink(missing_ok=True)
