"""The ledger beside a provider's own report, by day and model."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, timezone
from decimal import Decimal
from typing import Final

import msgspec

from agentsight_tokens.usage import TokenUsage, UsageRecord

from .provider_exports import ProviderUsage
from .spellings import undated

__all__ = ["Comparison", "Side", "reconciled"]

_COMPARED: Final = ("input_tokens", "output_tokens", "embedding_tokens", "cache_read_tokens")
_PICO_PER_USD: Final = 10**12
_ONE_CENT: Final = Decimal("0.01")


class Side(msgspec.Struct, frozen=True):
    """What one side says of a model on a day; None is what it does not say."""

    calls: int | None = None
    usage: TokenUsage | None = None
    cost_pico_usd: int | None = None

    def __add__(self, other: Side) -> Side:
        return Side(
            _sum(self.calls, other.calls),
            self.usage if other.usage is None else (self.usage or TokenUsage()) + other.usage,
            _sum(self.cost_pico_usd, other.cost_pico_usd),
        )


class Comparison(msgspec.Struct, frozen=True):
    """A model on a day: the ledger and the provider."""

    day: date
    model: str | None
    """The family, without a date; None where the provider did not group by model."""
    ledger: Side
    provider: Side
    differences: dict[str, int]
    """Ledger less provider, by what differs: a counter, `calls` or `cost_pico_usd`."""
    unreported_calls: int = 0
    """Calls of the ledger whose usage is not known: the likely cause of a difference."""

    @property
    def agrees(self) -> bool:
        """Whether nothing differs that both sides report."""
        return not self.differences


def reconciled(
    records: Iterable[UsageRecord],
    export: Iterable[ProviderUsage],
    *,
    cost_tolerance_usd: Decimal = _ONE_CENT,
) -> list[Comparison]:
    """
    Compare recorded calls with a provider's export, by day (UTC) and model family.

    Only the days of the export are compared, and only calls of its provider or of none.

    Args:
        records: The ledger's calls.
        export: The provider's lines, from `read_export`.
        cost_tolerance_usd: By how much costs may differ; counts may not.
    """
    lines = list(export)
    providers = {line.provider for line in lines}
    days = {line.day for line in lines}
    by_model = any(line.model is not None for line in lines)
    ledger: dict[tuple[date, str | None], Side] = {}
    unreported: dict[tuple[date, str | None], int] = {}
    for record in records:
        day = record.at.astimezone(timezone.utc).date()
        if day not in days or (record.provider or "").lower() not in {*providers, ""}:
            continue
        key = (day, _family(record.model) if by_model else None)
        usage = None if record.is_unreported else record.usage
        ledger[key] = ledger.get(key, Side()) + Side(1, usage, record.cost_pico_usd)
        unreported[key] = unreported.get(key, 0) + record.is_unreported
    theirs: dict[tuple[date, str | None], Side] = {}
    for line in lines:
        key = (line.day, _family(line.model))
        side = Side(line.calls, line.usage, line.cost_pico_usd)
        theirs[key] = theirs.get(key, Side()) + side
    tolerance = int(cost_tolerance_usd * _PICO_PER_USD)
    return [
        Comparison(
            day,
            model,
            mine := ledger.get((day, model), Side(0, TokenUsage(), 0)),
            other := theirs.get((day, model), _nothing(lines)),
            _differences(mine, other, tolerance),
            unreported.get((day, model), 0),
        )
        for day, model in sorted({*ledger, *theirs}, key=lambda key: (key[0], key[1] or ""))
    ]


def _nothing(lines: list[ProviderUsage]) -> Side:
    """Return what an export says by its silence of a model: zero of all that it reports."""
    return Side(
        0 if any(line.calls is not None for line in lines) else None,
        TokenUsage() if any(line.usage is not None for line in lines) else None,
        0 if any(line.cost_pico_usd is not None for line in lines) else None,
    )


def _differences(mine: Side, theirs: Side, cost_tolerance: int) -> dict[str, int]:
    found: dict[str, int] = {}
    if theirs.calls is not None:
        found["calls"] = (mine.calls or 0) - theirs.calls
    if theirs.usage is not None:
        ours = mine.usage or TokenUsage()
        for name in _COMPARED:
            found[name] = getattr(ours, name) - getattr(theirs.usage, name)
        if theirs.usage.cache_creation_tokens:  # not every provider reports writes
            found["cache_creation_tokens"] = (
                ours.cache_creation_tokens - theirs.usage.cache_creation_tokens
            )
    if theirs.cost_pico_usd is not None:
        difference = (mine.cost_pico_usd or 0) - theirs.cost_pico_usd
        found["cost_pico_usd"] = difference if abs(difference) > cost_tolerance else 0
    return {name: difference for name, difference in found.items() if difference}


def _family(model: str | None) -> str | None:
    """Return a model's name without its date and its provider: both sides may name either."""
    if model is None:
        return None
    name = model.strip().lower().rpartition("/")[2].replace(" ", "-")
    return next(undated(name), name)


def _sum(left: int | None, right: int | None) -> int | None:
    return left if right is None else (left or 0) + right
