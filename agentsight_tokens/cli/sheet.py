"""Tables that fit: no number is ever cut, and what is left out is what matters least."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from .screen import show

__all__ = ["Column", "print_sheet", "sheet"]

_LEAST_WIDTH: Final = 12
_TIGHTEST_WIDTH: Final = 6


class Column(NamedTuple):
    """A column and its cells, one for each row."""

    title: str
    cells: Sequence[Text]
    kind: Literal["number", "word", "id"] = "word"
    """Numbers and words stay whole; ids share the room that is left."""
    rank: int = 0
    """Columns of a higher rank are left out first where it is narrow; 0 is never left out."""

    @property
    def width(self) -> int:
        """The width at which nothing is cut."""
        return max([len(self.title), *(cell.cell_len for cell in self.cells)])

    def least_width(self, id_width: int = _LEAST_WIDTH) -> int:
        """Return the width below which it is of no use."""
        return min(self.width, max(id_width, len(self.title))) if self.kind == "id" else self.width


def print_sheet(
    console: Console,
    columns: Sequence[Column],
    *,
    has_total: bool = False,
    folds: bool = False,
    gap: int = 2,
) -> None:
    """
    Print a table, at most as wide as the terminal as far as its columns allow.

    Args:
        console: Where to print; lines are drawn only if it is a terminal.
        columns: The columns, with cells of all rows.
        has_total: Whether the last row is the sum of the others.
        folds: Whether ids go on in a second line instead of ending in dots.
        gap: The blanks between columns.
    """
    table = sheet(console, columns, has_total=has_total, folds=folds, gap=gap)
    show(console, table)


def sheet(
    console: Console,
    columns: Sequence[Column],
    *,
    has_total: bool = False,
    folds: bool = False,
    gap: int = 2,
) -> Table:
    """Return the table that `print_sheet` prints; the console is made as wide as it needs."""
    columns, widths, gap = _arranged(columns, console.width, gap)
    console.width = max(console.width, _needed(widths, gap))
    box = SIMPLE_HEAD if console.is_terminal else None
    padding = gap - 1 if box else gap  # a box parts columns by a blank of its own
    table = Table(box=box, pad_edge=False, padding=(0, padding, 0, 0), show_edge=False)
    for column, width in zip(columns, widths, strict=True):
        table.add_column(
            column.title,
            width=width,
            justify="right" if column.kind == "number" else "left",
            overflow="fold" if folds else "ellipsis",
            no_wrap=not folds,
        )
    rows = list(zip(*(column.cells for column in columns), strict=True))
    for number, row in enumerate(rows, start=1):
        is_total = has_total and number == len(rows)
        if is_total:
            table.add_section()
        table.add_row(*row, style="bold" if is_total else "")
    return table


def _arranged(
    columns: Sequence[Column], room: int, gap: int
) -> tuple[list[Column], list[int], int]:
    """Return the columns that are shown, their widths, and the blanks between them."""
    for narrower, id_width in ((gap, _LEAST_WIDTH), (1, _LEAST_WIDTH)):
        fitting = _fitting(columns, room, narrower, id_width)
        widths = _widths(fitting, room, narrower, id_width)
        if _needed(widths, narrower) <= room:
            return fitting, widths, narrower
    fitting = _fitting(columns, room, 1, _TIGHTEST_WIDTH)
    return fitting, _widths(fitting, room, 1, _TIGHTEST_WIDTH), 1


def _fitting(columns: Sequence[Column], room: int, gap: int, id_width: int) -> list[Column]:
    """Return the columns that fit side by side."""
    kept = list(columns)
    while _needed([column.least_width(id_width) for column in kept], gap) > room:
        worst = max(kept, key=lambda column: column.rank)
        if not worst.rank:
            break
        kept.remove(worst)
    return kept


def _widths(columns: Sequence[Column], room: int, gap: int, id_width: int) -> list[int]:
    """Share what is left of the room among the ids, the shortest first."""
    widths = [column.least_width(id_width) for column in columns]
    ids = [i for i, column in enumerate(columns) if column.kind == "id"]
    ids.sort(key=lambda i: columns[i].width)
    for position, i in enumerate(ids):
        left = max(room - _needed(widths, gap), 0)
        widths[i] += min(left // (len(ids) - position), columns[i].width - widths[i])
    return widths


def _needed(widths: Sequence[int], gap: int) -> int:
    return sum(widths) + gap * (len(widths) - 1)
