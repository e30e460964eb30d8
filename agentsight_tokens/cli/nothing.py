"""What a command says that found nothing, and what to do next."""

from __future__ import annotations

from textwrap import indent
from typing import TYPE_CHECKING, Final

from .filters import Selection
from .screen import cell, plural, screen

if TYPE_CHECKING:
    from .source import Source

__all__ = ["FIRST_LINES", "FIRST_LINES_BY_HAND", "indented", "print_nothing"]

FIRST_LINES: Final = """\
from agentsight_tokens import ConversationTracker
tracker = ConversationTracker(token_handler="auto")  # before your calls
tracker.send_tracked_data()                          # after them
"""
"""The lines that a program needs where a framework makes its calls."""

FIRST_LINES_BY_HAND: Final = """\
from agentsight_tokens import ConversationTracker
tracker = ConversationTracker()
tracker.record(response)     # after each call: the response, an object or JSON
tracker.send_tracked_data()  # after them all
"""
"""The lines of a program that makes its calls itself."""


def print_nothing(source: Source, selection: Selection) -> None:
    """Say that no call was found, and whether that is the filter's doing."""
    from agentsight_tokens.backend.analytics import usage_by

    console = screen()
    total = usage_by(source.reader, ()).total.request_count
    if total:
        console.print(cell(f"No call matches {selection.words}."))
        console.print(
            f"Without the filters there are {plural(total, 'call')} in {source.place}.",
            markup=False,
        )
        return
    console.print(cell(f"No calls in {source.place} yet."))
    if source.config.endpoint is not None:
        console.print(
            cell(
                f"They are delivered to {source.config.endpoint}; this is the store of this machine."
            )
        )
    console.print("See it at work: agentsight-tokens demo")
    console.print("Count your own calls of LangChain or LlamaIndex, in a few lines:\n")
    console.print(indented(FIRST_LINES), markup=False)


def indented(lines: str) -> str:
    """Return lines indented, as code is shown."""
    return indent(lines.rstrip(), "  ")
