"""What the prompt caches of models saved."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from agentsight_tokens.backend.analytics import CacheUse, cache_use
from agentsight_tokens.backend.endpoint import Asked

from .figures import NOTHING, Figure, count, money, share
from .page import page
from .selection import Selection, SelectionQuery, selection_of

__all__ = ["ENDPOINTS"]

_MOST_ROWS: Final = 200


class Row(NamedTuple):
    """A model."""

    name: str | None
    provider: str | None
    link: str
    input: Figure
    read: Figure
    written: Figure
    hit: Figure
    width: str
    saved: Figure
    is_loss: bool
    """Whether writing has cost more than reading saved."""
    unknown: Figure | None
    """Tokens of which no price says what they saved."""


def view_of(asked: Asked, query: SelectionQuery) -> Mapping[str, Any]:
    """Read what caches did."""
    selection = selection_of("/models/cache", query, asked.server.accounts.now())
    found = cache_use(asked.project, where=selection.where, estimator=asked.server.meter.estimator)
    return {
        "selection": selection,
        "rows": [_row(each, selection) for each in found.models[:_MOST_ROWS]],
        "total": _row(found.total, selection),
        "is_estimated": found.is_estimated,
    }


def _row(found: CacheUse, selection: Selection) -> Row:
    usage, saved = found.usage, found.saved_pico_usd
    return Row(
        name=found.model,
        provider=found.provider,
        link=selection.link("/usage", model=found.model, by="feature") if found.model else "",
        input=count(usage.input_tokens),
        read=count(usage.cache_read_tokens),
        written=count(usage.cache_creation_tokens),
        hit=share(usage.cache_read_tokens, usage.input_tokens),
        width=f"{100 * usage.cache_read_tokens / max(usage.input_tokens, 1):.2f}",
        saved=NOTHING if saved is None else _signed(saved),
        is_loss=saved is not None and saved < 0,
        unknown=count(found.unknown_tokens) if found.unknown_tokens else None,
    )


def _signed(pico_usd: int) -> Figure:
    figure = money(abs(pico_usd))
    sign = "-" if pico_usd < 0 else ""
    return Figure(f"{sign}{figure.text}", f"{sign}{figure.exact}")


ENDPOINTS: Final = (
    page("/models/cache", view_of, SelectionQuery, template="model_cache.html", title="Models"),
)
