"""The price book: which compiled card prices a model, for one kind of call, at a moment."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, Final

from agentsight_tokens.usage import CostStatus

from .catalog import Catalog
from .model_price import ModelPrice, dated_prices_of
from .names import HowMatched, Match, resolved
from .off_peak import is_off_peak
from .rate_card import CallKind, RateCard, compiled
from .rows import Entry, Row

__all__ = ["Line", "PriceBook", "in_utc"]

_STANDARD_TIERS: Final = frozenset(
    {"", "auto", "default", "standard", "standard_only", "on_demand", "none"}
)
_TIER_OF: Final = {
    "fast": "priority",
    "batch": "batches",
    "on_demand_priority": "priority",
    "on_demand_flex": "flex",
}
_STATUS_OF: Final[dict[HowMatched, CostStatus]] = {"base": "estimated"}
_SEPARATORS: Final = str.maketrans("_./:@", "-----")
_MOST_LINES: Final = 10_000


def _same_name(name: str) -> str:
    return name.lower().translate(_SEPARATORS)


def in_utc(at: datetime | None) -> datetime:
    """Return a moment in UTC; a naive one is taken as UTC, None as now."""
    if at is None:
        return datetime.now(timezone.utc)
    return at.replace(tzinfo=timezone.utc) if at.tzinfo is None else at.astimezone(timezone.utc)


class Line:
    """The prices of one model for one kind of call, over time."""

    __slots__ = (
        "_cards",
        "_catalog",
        "_how",
        "_is_settled",
        "_kind",
        "_starts",
        "current",
        "entry",
        "since",
    )

    def __init__(self, catalog: Catalog, entry: Entry, how: HowMatched, kind: CallKind) -> None:
        self.entry = entry
        self._catalog = catalog
        self._how = how
        self._kind = kind
        self._starts = [catalog.start(row) for row in entry.rows]
        self._cards: dict[tuple[int, bool], RateCard] = {}
        self.since = self._starts[-1]
        """When the last row begins."""
        has_one_price = entry.rows[-1].off_peak is None
        self.current = self._card(len(entry.rows) - 1, off_peak=False) if has_one_price else None
        """The card from `since` on; None where it depends on the hour."""
        self._is_settled = self.since <= datetime.now(timezone.utc)

    def holds(self, at: datetime | None) -> bool:
        """Return whether the last row holds at a moment."""
        if at is None:
            return self._is_settled or self.since <= datetime.now(timezone.utc)
        return (at if at.tzinfo is not None else in_utc(at)) >= self.since

    def card_at(self, at: datetime | None) -> RateCard:
        """Return the card of a moment; the first row also holds before it began."""
        moment = in_utc(at)
        position = max(bisect_right(self._starts, moment, lo=1) - 1, 0)
        row = self.entry.rows[position]
        off_peak = row.off_peak is not None and is_off_peak(row.off_peak, moment)
        return self._card(position, off_peak=off_peak)

    def card_of(self, version: str, at: datetime) -> RateCard | None:
        """Return the card of a version as it was at a moment; None where there is no such row."""
        for position, row in enumerate(self.entry.rows):
            if self._catalog.row_version(row) == version:
                off_peak = row.off_peak is not None and is_off_peak(row.off_peak, in_utc(at))
                return self._card(position, off_peak=off_peak)
        return None

    def _card(self, position: int, *, off_peak: bool) -> RateCard:
        card = self._cards.get((position, off_peak))
        if card is None:
            row = self.entry.rows[position]
            card = compiled(
                row,
                self._kind,
                key=self.entry.key,
                version=self._catalog.row_version(row),
                matched=self._how,
                status=_STATUS_OF.get(self._how, "priced"),
                inclusive_threshold=self.entry.inclusive_threshold,
                is_off_peak=off_peak,
            )
            self._cards[position, off_peak] = card
        return card


_LineKey = tuple[str, str | None, str | None, bool, str | None]
"""A model, its provider, the service tier, whether it is a batch, and the region."""


class _Lines(dict[_LineKey, Line | None]):
    """Remembers lines; those that it does not have are found when they are asked for."""

    def __init__(self, find: Callable[[_LineKey], Line | None]) -> None:
        super().__init__()
        self._find = find

    def __missing__(self, key: _LineKey) -> Line | None:
        if len(self) >= _MOST_LINES:  # a host that makes names up
            self.clear()
        line = self[key] = self._find(key)
        return line


class PriceBook:
    """
    Finds the prices of calls: the user's own first, then the catalog's.

    Args:
        catalog: The dated rows.
        user: The user's own prices by model; see `CostEstimator`.
        deployments: Names of the user's own, such as Azure deployments, and their models.
    """

    def __init__(
        self,
        catalog: Catalog,
        user: Mapping[str, Any],
        deployments: Mapping[str, str],
    ) -> None:
        self.catalog = catalog
        self.lines: Final = _Lines(self._line)
        """The prices of models; None where one has none."""
        self._deployments = {_same_name(name): model for name, model in deployments.items()}
        self._user: dict[str, tuple[str, tuple[ModelPrice, ...]]] = {}
        for name, prices in user.items():
            self.set_price(name, prices)

    def set_price(self, model: str, prices: Any) -> None:
        """Set the user's own price of a model, or several with their first days."""
        self._user[_same_name(model)] = model, dated_prices_of(prices)
        self.lines.clear()

    @property
    def user_prices(self) -> dict[str, ModelPrice]:
        """The user's own prices of today, by the names they were given."""
        today = in_utc(None).date().isoformat()
        return {name: _last_begun(prices, today) for name, prices in self._user.values()}

    def price_of(self, match: Match) -> ModelPrice | None:
        """Return the standard price of an entry now; None where it is not by input tokens."""
        entry = match.entry
        if match.how == "user":
            return self.user_prices[entry.key]
        now = self.catalog.row_at(entry, in_utc(None))
        usd = now.usd
        first = usd.get("input", usd.get(_first_range(usd, "input")))
        if first is None:
            return None
        source = self.catalog.source_of(now.last)
        return ModelPrice(
            input=first,
            output=usd.get("output", usd.get(_first_range(usd, "output"), Decimal(0))),
            cache_read=usd.get("cache_read"),
            cache_write=usd.get("cache_write"),
            since=now.since,
            source=source.name,
            as_of=source.day or None,
        )

    def all_prices(self) -> dict[str, ModelPrice]:
        """Return the standard price of every model now, the user's own by their names."""
        prices = {}
        for name in self.catalog:
            entry = self.catalog.decoded(name)
            meant = entry if entry.alias is None else self.catalog.find(entry.alias)
            price = None if meant is None else self.price_of(Match(meant, "exact"))
            if price is not None:
                prices[entry.key] = price
        return prices | self.user_prices

    def match(
        self, model: str, *, provider: str | None = None, region: str | None = None
    ) -> Match | None:
        """Return the entry of a model and how its name matched."""
        return self._found(model, provider, region)

    def _line(self, key: _LineKey) -> Line | None:
        model, provider, service_tier, batch, region = key
        found = self._found(model, provider, region)
        if found is None:
            return None
        kind = _kind(service_tier, found.entry.rows[-1], region, batch=batch)
        return Line(self.catalog, found.entry, found.how, kind)

    def _found(self, model: str, provider: str | None, region: str | None) -> Match | None:
        bare = model.rpartition("/")[2]
        names = (f"{provider}/{model}", model, bare) if provider else (model, bare)
        for name in names:
            user = self._user.get(_same_name(name))
            if user is not None:
                return Match(_entry_of_user(*user), "user")
        for name in names:
            meant = self._deployments.get(_same_name(name))
            if meant is not None:
                seller = provider or model.rpartition("/")[0] or None
                return resolved(self.catalog, meant, provider=seller, region=region)
        return resolved(self.catalog, model, provider=provider, region=region)


def _last_begun(prices: tuple[ModelPrice, ...], today: str) -> ModelPrice:
    begun = [price for price in prices if (price.since or "") <= today]
    return begun[-1] if begun else prices[0]


def _first_range(usd: Mapping[str, Decimal], leaf: str) -> str:
    """Return the rate of the shortest requests, where a row has only ranges of them."""
    names = (name for name in usd if name.startswith(f"{leaf}<=") and "~" not in name)
    return min(names, key=lambda name: int(name.partition("<=")[2]), default="")


def _entry_of_user(name: str, prices: tuple[ModelPrice, ...]) -> Entry:
    rows = tuple(Row(first=-1, last=-1, usd=price.rates(), since=price.since) for price in prices)
    return Entry(key=name, rows=rows, provider="user")


def _kind(service_tier: str | None, row: Row, region: str | None, *, batch: bool) -> CallKind:
    tier = (service_tier or "").lower()
    area = None if region is None else region.lower()
    if batch or tier in ("batch", "batches"):
        return CallKind("batches", area)
    if tier in _STANDARD_TIERS:
        return CallKind(None, area)
    if tier == "fast" and "fast" in row.factor:
        return CallKind(None, area, is_fast=True)
    return CallKind(_TIER_OF.get(tier, tier), area)
