"""The table of what `doctor` has found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich.table import Table
from rich.text import Text

from .finding import Finding, State
from .screen import cell, plural, screen, show

__all__ = ["print_findings"]

_STYLES: Final[dict[State, str]] = {
    "ok": "green",
    "off": "dim",
    "note": "yellow",
    "broken": "bold red",
}


def print_findings(findings: Sequence[Finding]) -> None:
    """Print findings, and below them how many are broken."""
    console = screen()
    sheet = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    sheet.add_column(no_wrap=True)
    sheet.add_column(no_wrap=True)
    sheet.add_column(overflow="fold")
    for finding in findings:
        text = Text("\n").join(cell(line) for line in finding.text.split("\n"))
        if finding.advice:
            text.append("\n-> ", style="bold").append_text(cell(finding.advice))
        sheet.add_row(Text(finding.state, _STYLES[finding.state]), finding.subject, text)
    show(console, sheet)
    broken = sum(finding.state == "broken" for finding in findings)
    notes = sum(finding.state == "note" for finding in findings)
    console.print()
    if broken:
        console.print(f"[bold red]{plural(broken, 'thing is', 'things are')} broken.[/]")
    elif notes:
        console.print(f"[green]Everything works[/], with {plural(notes, 'note')}.")
    else:
        console.print("[green]Everything works.[/]")
