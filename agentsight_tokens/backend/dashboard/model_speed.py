"""How fast models answer, how often they fail, and what their output costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from agentsight_tokens.backend.analytics import SpeedGroup, speed
from agentsight_tokens.backend.endpoint import Asked

from .figures import NOTHING, Figure, count, duration, money, share
from .insights import sample_text
from .page import page
from .selection import Selection, SelectionQuery, selection_of

__all__ = ["ENDPOINTS"]

_MOST_ROWS: Final = 200


class Row(NamedTuple):
    """A model."""

    name: str | None
    link: str
    calls: Figure
    median: Figure
    p95: Figure
    first_token: Figure
    rate: Figure
    failed: Figure
    per_output: Figure
    """What 1,000 tokens of output cost, everything included."""
    per_conversation: Figure


def view_of(asked: Asked, query: SelectionQuery) -> Mapping[str, Any]:
    """Read the speed of models."""
    selection = selection_of("/models/speed", query, asked.server.accounts.now())
    found = speed(asked.project, ["model"], where=selection.where)
    rows = [_row(group, selection) for group in found.groups[:_MOST_ROWS]]
    return {"selection": selection, "rows": rows, "sample": sample_text(found.sample)}


def _row(group: SpeedGroup, selection: Selection) -> Row:
    [name] = group.key
    rate = group.tokens_per_second
    return Row(
        name=name,
        link=selection.link("/usage", model=name, by="user") if name else "",
        calls=count(group.usage.request_count),
        median=duration(group.duration.p50_seconds),
        p95=duration(group.duration.p95_seconds),
        first_token=duration(group.first_token.p50_seconds),
        rate=NOTHING if rate is None else Figure(f"{rate:,.0f}", f"{rate:,.3f} tokens a second"),
        failed=share(group.failed_calls, group.usage.request_count),
        per_output=_money(group.cost_per_1000_output_tokens_pico_usd),
        per_conversation=_money(group.cost_per_conversation_pico_usd),
    )


def _money(pico_usd: int | None) -> Figure:
    return NOTHING if pico_usd is None else money(pico_usd)


ENDPOINTS: Final = (
    page("/models/speed", view_of, SelectionQuery, template="model_speed.html", title="Models"),
)
