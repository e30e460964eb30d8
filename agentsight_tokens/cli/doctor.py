"""`doctor`: what is installed, what is active and why not, and whether it works."""

from __future__ import annotations

import typer

from .conformance import ConformanceOption, HandlersOption, conform
from .embedded import DataDirectory
from .rows import FormatOption, OutputFormat, write_rows

__all__ = ["doctor"]

_FIELDS = ("subject", "state", "text", "advice", "facts")


def doctor(
    *,
    output_format: FormatOption = OutputFormat.table,
    data_dir: DataDirectory = None,
    conformance: ConformanceOption = False,
    handlers: HandlersOption = None,
) -> None:
    """
    Look at the installation and say what is wrong with it.

    Versions, settings, the data directory, the destination, what waits in the
    outbox, the prices, and each handler: active, off, or skipped, and why.
    Nothing is changed. The exit code is 1 if something is broken.

    [bold]Examples[/]

      agentsight-tokens doctor

      AGENTSIGHT_TOKEN_HANDLER_TYPE=auto agentsight-tokens doctor

      agentsight-tokens doctor --format json

      agentsight-tokens doctor --conformance --handlers auto
    """
    import msgspec

    if conformance:
        conform(handlers, output_format)
        return

    from .examination import examine

    findings = list(examine(data_dir))
    if output_format is OutputFormat.table:
        from .finding_table import print_findings

        print_findings(findings)
    else:
        rows = [msgspec.structs.asdict(finding) for finding in findings]
        write_rows(rows, output_format, _FIELDS)
    if any(finding.state == "broken" for finding in findings):
        raise typer.Exit(1)
