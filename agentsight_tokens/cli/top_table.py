"""The screen of `top`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Final

from rich.console import Console, RenderableType
from rich.text import Text

from agentsight_tokens.budgets.status import WindowStatus
from agentsight_tokens.summary import UsageSummary

from .activity import Active, Activity
from .screen import cell, cost_decimals, cost_text, plural
from .sheet import Column, sheet

__all__ = ["drawn"]

_NEARLY: Final = 0.8
_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


def drawn(console: Console, found: Activity, since: str, rows: int) -> list[RenderableType]:
    """
    Return what is to be seen: a summary, the limits that all share, and a row for each.

    Args:
        console: Where it is shown.
        found: What goes on.
        since: What --since says.
        rows: How many conversations are shown at most.
    """
    if not found.conversations:
        quiet = Text(f"No conversation has had a call since {since} ago, and none is unsent.")
        return [
            quiet,
            Text("agentsight-tokens report shows what was used before."),
            *_limits(found),
        ]
    shown = found.conversations[:rows]
    total = UsageSummary.merged(each.usage for each in found.conversations)
    unsent = sum(each.unsent_calls for each in found.conversations)
    cost = cost_text(total.cost_pico_usd, cost_decimals([total.cost_pico_usd]))
    head = Text(
        f"{plural(len(found.conversations), 'conversation')}, "
        f"{plural(total.total_tokens, 'token')}, {cost}, {plural(unsent, 'call')} unsent",
        style="bold",
    )
    parts: list[RenderableType] = [head, *_limits(found), Text("")]
    parts.append(sheet(console, _columns(shown)))
    hidden = len(found.conversations) - len(shown)
    if hidden:
        parts.append(Text(f"{plural(hidden, 'more conversation')} in the sums", style="dim"))
    return parts


def _columns(shown: Sequence[Active]) -> list[Column]:
    now = datetime.now(timezone.utc)
    decimals = cost_decimals(each.usage.cost_pico_usd for each in shown)
    columns = [
        Column("conversation", [cell(each.conversation_id) for each in shown], "id"),
        Column("user", [cell(each.user_id) for each in shown], "id", rank=3),
        Column("calls", [Text(f"{each.usage.request_count:,}") for each in shown], "number"),
        Column("unsent", [_unsent(each) for each in shown], "number", rank=2),
        Column("tokens", [Text(f"{each.usage.total_tokens:,}") for each in shown], "number"),
        Column("cost", [_cost(each.usage, decimals) for each in shown], "number"),
    ]
    if any(each.budget_used is not None for each in shown):
        columns.append(Column("budget", [_part(each.budget_used) for each in shown], "number"))
    columns.append(Column("last", [Text(_ago(now, each.last_at)) for each in shown], "number", 1))
    return columns


def _unsent(active: Active) -> Text:
    return Text(f"{active.unsent_calls:,}", style="green" if active.unsent_calls else "dim")


def _cost(usage: UsageSummary, decimals: int) -> Text:
    if not usage.cost_is_complete:
        known = cost_text(usage.cost_pico_usd, decimals) if usage.cost_pico_usd else "?"
        return Text(f"{known}+" if usage.cost_pico_usd else known, style="yellow")
    return Text(cost_text(usage.cost_pico_usd, decimals))


def _limits(found: Activity) -> Iterator[Text]:
    """Yield a line for each limit that all conversations share."""
    for window in found.common_limits:
        for name, used, limit in _amounts(window):
            line = Text(f"{name} per {window.window}: {used} of {limit} ")
            yield line.append_text(_part(window.fraction))


def _amounts(window: WindowStatus) -> Iterator[tuple[str, str, str]]:
    if window.token_limit is not None:
        yield "tokens", f"{window.used_tokens:,}", f"{window.token_limit:,}"
    if window.cost_limit is not None:
        yield "USD", f"{window.used_cost:,.4f}", f"{window.cost_limit:,f}"


def _part(fraction: float | None) -> Text:
    if fraction is None:
        return Text("-", style="dim")
    style = "red" if fraction >= 1 else "yellow" if fraction >= _NEARLY else ""
    return Text(f"{fraction:.0%}", style=style)


def _ago(now: datetime, at: datetime) -> str:
    seconds = max(int((now - at).total_seconds()), 0)
    return next((f"{seconds // size}{unit}" for size, unit in _UNITS if seconds >= size), "now")
