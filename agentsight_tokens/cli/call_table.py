"""The table of single calls."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo

from rich.text import Text

from agentsight_tokens.usage import UsageRecord

from .filters import Selection
from .screen import cell, cost_decimals, cost_text, plural, screen
from .sheet import Column, print_sheet

__all__ = ["print_calls"]


def print_calls(calls: Sequence[UsageRecord], selection: Selection) -> None:
    """Print calls, one row each; the day stands in the title where it is the same for all."""
    console = screen()
    zone = selection.zone
    days = {call.at.astimezone(zone).date() for call in calls}
    has_one_day = len(days) == 1 and console.is_terminal
    decimals = cost_decimals(call.cost_pico_usd for call in calls)
    if console.is_terminal:
        day = f" of {days.pop()}" if has_one_day else ""
        title = f"The newest {plural(len(calls), 'call')}{day}, {selection.zone_name}"
        console.print(cell(title, style="bold"))
    read, cached, written = zip(*map(_counts, calls), strict=True)
    columns = [
        Column("time", [_time(call, zone, has_one_day=has_one_day) for call in calls]),
        Column("conversation", [cell(call.conversation_id) for call in calls], "id"),
        Column("model", [cell(call.model) for call in calls], "id"),
        Column("in", read, "number"),
        Column("cached", cached, "number", rank=1),
        Column("out", written, "number"),
        Column("cost", [_cost(call, decimals) for call in calls], "number"),
        Column("took", [_duration(call.duration_seconds) for call in calls], "number", rank=2),
        Column("status", [_status(call) for call in calls]),
    ]
    print_sheet(console, columns, gap=1 if console.is_terminal else 2)


def _time(call: UsageRecord, zone: tzinfo, *, has_one_day: bool) -> Text:
    at = call.at.astimezone(zone)
    return Text(f"{at:%H:%M:%S}" if has_one_day else f"{at:%Y-%m-%d %H:%M:%S}")


def _counts(call: UsageRecord) -> tuple[Text, Text, Text]:
    if call.is_unreported:
        unknown = Text("?", style="yellow")
        return unknown, unknown, unknown
    usage = call.usage
    return (
        _count(usage.input_tokens + usage.embedding_tokens),
        _count(usage.cache_read_tokens),
        _count(usage.output_tokens),
    )


def _count(number: int) -> Text:
    return Text(f"{number:,}", style="" if number else "dim")


def _cost(call: UsageRecord, decimals: int) -> Text:
    if call.is_unreported:
        return Text("?", style="yellow")
    is_unpriced = call.cost_pico_usd is None
    return Text(cost_text(call.cost_pico_usd, decimals), style="yellow" if is_unpriced else "")


def _duration(seconds: float | None) -> Text:
    if seconds is None:
        return cell(None)
    return Text(f"{seconds * 1000:,.0f} ms" if seconds < 1 else f"{seconds:,.1f} s")


def _status(call: UsageRecord) -> Text:
    if call.status == "ok" and call.is_unreported:
        return Text("unreported", style="yellow")
    return Text(call.status, style="" if call.status == "ok" else "red")
