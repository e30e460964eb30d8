"""HTML for notebooks: tables that are sober on light and on dark."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from .figures import cost_decimals, cost_text, plural

if TYPE_CHECKING:
    from .summary import UsageSummary

__all__ = ["html_table", "missing_from", "usage_table"]

_LINE: Final = "1px solid rgba(128,128,128,.45)"
_CELL: Final = "padding:.15em .8em .15em 0;background:transparent;color:inherit;border:none;white-space:nowrap;"
_AMBER: Final = "#b7791f"
"""Seen on white and on black alike."""

_COUNTERS: Final = (
    ("calls", "request_count", True),
    ("input", "input_tokens", True),
    ("cached", "cache_read_tokens", False),
    ("output", "output_tokens", True),
    ("reasoning", "reasoning_tokens", False),
    ("embedded", "embedding_tokens", False),
    ("unpriced", "unpriced_tokens", False),
    ("unreported", "unreported_calls", False),
    ("estimated", "estimated_calls", False),
)
"""Columns, what they show, and whether they are there although everything is 0."""
_MOST_ROWS: Final = 30


def html_table(
    title: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    words: int = 1,
    has_total: bool = False,
    notes: Sequence[str] = (),
) -> str:
    """
    Return a table as HTML; everything is escaped.

    Args:
        title: What stands above it.
        header: The names of its columns.
        rows: The cells, texts all of them.
        words: How many columns of words come before the columns of numbers.
        has_total: Whether the last row is the sum of the others.
        notes: What stands below it, a line each.
    """
    # Imported here: only notebooks pay for its table of entities.
    from html import escape

    cells = [_row("th", header, words, f"border-bottom:{_LINE};opacity:.75;font-weight:normal;")]
    for number, row in enumerate(rows, start=1):
        is_total = has_total and number == len(rows)
        style = f"border-top:{_LINE};font-weight:bold;" if is_total else ""
        cells.append(_row("td", row, words, style))
    below = "".join(f'<div style="color:{_AMBER}">{escape(note)}</div>' for note in notes)
    return (
        '<div style="font-variant-numeric:tabular-nums;line-height:1.4">'
        f"<div><b>{escape(title)}</b></div>"
        f'<table style="border-collapse:collapse;margin:.3em 0">{"".join(cells)}</table>'
        f"{below}</div>"
    )


def usage_table(
    title: str,
    by: Sequence[str],
    groups: Sequence[tuple[Sequence[str | None], UsageSummary]],
    total: UsageSummary,
) -> str:
    """
    Return usage by group as HTML, with columns for what there is.

    Args:
        title: What stands above it.
        by: What the groups' keys name.
        groups: Keys and their usage; of many, the first are shown.
        total: The sum of all groups.
    """
    shown = [*groups[:_MOST_ROWS]]
    has_total = len(groups) != 1
    keyed = [(["-" if each is None else each for each in key], usage) for key, usage in shown]
    if has_total:
        keyed.append((["total", *[""] * (len(by) - 1)], total))
    decimals = cost_decimals(usage.cost_pico_usd for _, usage in keyed)
    columns = [
        (column, name) for column, name, always in _COUNTERS if always or getattr(total, name)
    ]
    rows = [
        [*key, *(f"{getattr(usage, name):,}" for _, name in columns), _cost(usage, decimals)]
        for key, usage in keyed
    ]
    hidden = len(groups) - len(shown)
    notes = [f"{hidden:,} more rows are in the total"] if hidden else []
    return html_table(
        title,
        [*by, *(column for column, _ in columns), "cost"],
        rows,
        words=len(by),
        has_total=has_total,
        notes=[*notes, *missing_from(total)],
    )


def missing_from(usage: UsageSummary) -> list[str]:
    """Return what the cost and the counts of a summary do not hold, a sentence each."""
    notes = []
    if usage.unpriced_calls:
        notes.append(
            f"unpriced: {plural(usage.unpriced_tokens, 'token')} of "
            f"{plural(usage.unpriced_calls, 'call')} have no known price and are not in the cost"
        )
    if usage.unreported_calls:
        notes.append(
            f"unreported: of {plural(usage.unreported_calls, 'call')} the provider never said "
            "what they used"
        )
    if usage.estimated_calls:
        notes.append(
            f"estimated: the tokens of {plural(usage.estimated_calls, 'call')} were counted "
            "here, not by the provider"
        )
    return notes


def _row(kind: str, cells: Sequence[str], words: int, style: str) -> str:
    from html import escape  # as above

    texts = []
    for number, cell in enumerate(cells):
        align = "left" if number < words else "right"
        texts.append(f'<{kind} style="{_CELL}text-align:{align};{style}">{escape(cell)}</{kind}>')
    return f'<tr style="background:transparent">{"".join(texts)}</tr>'


def _cost(usage: UsageSummary, decimals: int) -> str:
    if not usage.cost_pico_usd and usage.unpriced_calls:
        return cost_text(None, decimals)
    if usage.request_count and usage.unreported_calls == usage.request_count:
        return "?"
    return cost_text(usage.cost_pico_usd, decimals)
