"""The estimator: from a usage and a model's name to an exact cost."""

from __future__ import annotations

import logging
import warnings
from bisect import bisect_right
from collections.abc import Mapping
from datetime import date, datetime, timezone
from typing import Any, Final, NamedTuple

from agentsight_tokens.config import COST_RATE_PREFIXES, environment_variables
from agentsight_tokens.errors import (
    ConfigurationError,
    InconsistentUsageWarning,
    UnknownModelError,
    UnpricedModelWarning,
)
from agentsight_tokens.usage import CostStatus, TokenUsage, checked_count

from .breakdown import CostBreakdown
from .catalog import Catalog, bundled_catalog
from .model_price import ModelPrice, model_price_of
from .names import Match, resolved
from .off_peak import is_off_peak
from .rate_card import CallKind, RateCard, compiled, leaf_counts
from .rows import Entry, Row

__all__ = ["CostEstimator"]

_logger: Final = logging.getLogger("agentsight_tokens")
_STANDARD_TIERS: Final = frozenset(
    {"", "auto", "default", "standard", "standard_only", "on_demand"}
)
_TIER_OF: Final = {"fast": "priority", "batch": "batches"}
_STATUS_OF: Final[dict[str, CostStatus]] = {"base": "estimated"}
_SEPARATORS: Final = str.maketrans("_./:@", "-----")


def _same_name(name: str) -> str:
    return name.lower().translate(_SEPARATORS)


class _Line(NamedTuple):
    """The prices of one model for one kind of call, over time."""

    entry: Entry
    match: Match
    kind: CallKind
    starts: tuple[datetime, ...]
    cards: dict[tuple[int, bool], RateCard]
    versions: tuple[str, ...]


class CostEstimator:
    """
    Prices calls, exactly and at the time they were made.

    Args:
        cost_rates: Your own prices by model: USD per 1,000 tokens both ways, a mapping or a
            `ModelPrice`. They win over the environment's, and those over the catalog.
        strict: Raise for a model without a price, instead of a warning and a cost of None.
    """

    def __init__(
        self,
        cost_rates: Mapping[str, Any] | None = None,
        *,
        strict: bool = False,
        prices_file: str | None = None,
    ) -> None:
        self._strict = strict
        self._prices_file = prices_file
        self._user: dict[str, ModelPrice] = {}
        for name, price in {**_environment_rates(), **(cost_rates or {})}.items():
            self._user[_same_name(name)] = model_price_of(price)
        self._catalog: Catalog | None = None
        self._plain: dict[str | None, RateCard] = {}
        self._lines: dict[tuple[object, ...], _Line | RateCard | None] = {}
        self._warned: set[tuple[str, str | None]] = set()

    def estimate(  # noqa: PLR0913  # the call's facts, each with its own word
        self,
        input_tokens: int = 0,
        output_tokens: int = 0,
        model: str | None = None,
        *,
        provider: str | None = None,
        cached_tokens: int = 0,
        usage: TokenUsage | None = None,
        service_tier: str | None = None,
        batch: bool = False,
        region: str | None = None,
        at: datetime | None = None,
    ) -> CostBreakdown:
        """
        Return what a call costs.

        Args:
            input_tokens: The input, cache included; ignored when `usage` is given.
            output_tokens: The output, reasoning included; ignored when `usage` is given.
            model: The model, in any spelling that providers and frameworks use.
            provider: Who answered; decides between prices of the same model.
            cached_tokens: The part of the input that was read from a prompt cache.
            usage: All the counts, instead of the three above.
            service_tier: The tier that served the call: `flex`, `priority`, `fast`, ...
            batch: Whether the call was made through a batch interface.
            region: Where it was served, for models that cost more there: `us`, `eu`, ...
            at: When the call was made; now when None.

        Raises:
            InvalidCountError: For a count that cannot be one.
            UnknownModelError: If the estimator is strict and the model has no price.
        """
        if (
            provider is None
            and usage is None
            and service_tier is None
            and region is None
            and at is None
            and not batch
            and not cached_tokens
            and type(input_tokens) is int
            and type(output_tokens) is int
            and input_tokens >= 0 <= output_tokens
        ):
            card = self._plain.get(model)
            if card is not None:
                _, rates, _, status = card.band(input_tokens)
                scale = card.scale
                prompt = input_tokens * rates[0]  # type: ignore[operator]  # plain cards have both
                total = prompt + output_tokens * rates[7]  # type: ignore[operator]
                if scale != 1:
                    total, prompt = _rounded(total, scale), _rounded(prompt, scale)
                return CostBreakdown(
                    total,
                    prompt,
                    total - prompt,
                    0,
                    status,
                    model,
                    card,
                    (input_tokens, output_tokens),
                )
        if usage is None:
            usage = TokenUsage(
                input_tokens=checked_count("input_tokens", input_tokens),
                output_tokens=checked_count("output_tokens", output_tokens),
                cache_read_tokens=checked_count("cached_tokens", cached_tokens),
            )
        return self.price(
            usage,
            model,
            provider=provider,
            service_tier=service_tier,
            batch=batch,
            region=region,
            at=at,
        )

    def price(  # noqa: PLR0913  # the call's facts, each with its own word
        self,
        usage: TokenUsage,
        model: str | None,
        *,
        provider: str | None = None,
        operation: str = "chat",
        service_tier: str | None = None,
        batch: bool = False,
        region: str | None = None,
        at: datetime | None = None,
    ) -> CostBreakdown:
        """Return what a usage costs; see `estimate`."""
        card = self._card(model, provider, service_tier, batch, region, at)
        if card is None:
            return self._unpriced(usage, model)
        return self._cost(usage, card, model)

    # -- how a card is found ---------------------------------------------------------------

    def _card(
        self,
        model: str | None,
        provider: str | None,
        service_tier: str | None,
        batch: bool,  # noqa: FBT001
        region: str | None,
        at: datetime | None,
    ) -> RateCard | None:
        if not model:
            return None
        key = (model, provider, service_tier, batch, region)
        try:
            line = self._lines[key]
        except KeyError:
            line = self._line(model, provider, service_tier, batch, region)
            self._lines[key] = line
        if line is None or isinstance(line, RateCard):
            return line
        card = _card_at(line, at)
        if at is None and len(line.cards) and line.entry.rows[-1].off_peak is None:
            self._lines_now(key, line, card)
        return card

    def _lines_now(self, key: tuple[object, ...], line: _Line, card: RateCard) -> None:
        """Keep the card of a plain call at hand: it holds until the catalog changes."""
        model, *rest = key
        if not any(rest) and line.starts[-1] <= datetime.now(timezone.utc):
            if card.prices_text:
                self._plain[str(model)] = card

    def _line(
        self,
        model: str,
        provider: str | None,
        service_tier: str | None,
        batch: bool,  # noqa: FBT001
        region: str | None,
    ) -> _Line | RateCard | None:
        user = self._user_card(model, provider)
        if user is not None:
            return user
        catalog = self.catalog
        match = resolved(catalog, model, provider=provider, region=region)
        if match is None:
            return None
        entry = catalog.entry(match.key)
        return _Line(
            entry,
            match,
            _kind(service_tier, batch, region, entry.rows[-1]),
            tuple(_start(catalog, row) for row in entry.rows),
            {},
            tuple(_version(catalog, row) for row in entry.rows),
        )

    def _user_card(self, model: str, provider: str | None) -> RateCard | None:
        names = [f"{provider}/{model}"] if provider else []
        names += [model, model.partition("/")[2]]
        for name in names:
            price = self._user.get(_same_name(name))
            if name and price is not None:
                row = Row(first=0, last=0, usd=price.rates())
                return compiled(
                    row, CallKind(), key=name, version=f"{price.source}", matched="user"
                )
        return None

    @property
    def catalog(self) -> Catalog:
        """The catalog, loaded when first used."""
        if self._catalog is None:
            self._catalog = bundled_catalog()
        return self._catalog

    # -- arithmetic ------------------------------------------------------------------------

    def _cost(self, usage: TokenUsage, card: RateCard, model: str | None) -> CostBreakdown:
        band = card.band(usage.input_tokens)
        rates, scale, status = band.rates, card.scale, card.status
        counts = leaf_counts(usage)
        if min(counts) < 0:
            status = "inconsistent"
            self._warn(
                InconsistentUsageWarning,
                model,
                f"the usage of {model!r} contradicts itself: its details exceed the "
                f"{usage.input_tokens} input or {usage.output_tokens} output tokens; "
                "it is priced without its details",
            )
            counts = (usage.input_tokens, 0, 0, 0, 0, 0, 0, usage.output_tokens, 0, 0, 0)
        elif band.derived and status == "priced":
            if any(counts[leaf] for leaf in band.derived):
                status = "derived"
        sums = [0, 0]
        for leaf, count in enumerate(counts):
            if count:
                rate = rates[leaf]
                if rate is None:
                    return self._unpriced(usage, model)
                sums[leaf >= 7] += count * rate
        prompt, completion = sums
        embedding = 0
        if usage.embedding_tokens:
            input_rate = card.bands[0].rates[0]
            if input_rate is None:
                return self._unpriced(usage, model)
            embedding = usage.embedding_tokens * input_rate
        fee = card.call_fee
        searches = usage.web_search_requests
        if searches:
            if card.search_fee is None:
                status = "estimated" if status != "inconsistent" else status
            else:
                fee += card.search_fee * (1 if card.searches_per_prompt else searches)
        # Rounded as running sums, so that the parts add up to the total that is rounded once.
        first = _rounded(prompt, scale)
        second = _rounded(prompt + completion, scale)
        third = _rounded(prompt + completion + embedding, scale)
        total = _rounded(prompt + completion + embedding + fee, scale)
        return CostBreakdown(
            total, first, second - first, third - second, status, model, card, usage
        )

    def _unpriced(self, usage: TokenUsage, model: str | None) -> CostBreakdown:
        if self._strict:
            raise UnknownModelError(
                f"no price is known for {model!r}; "
                "give one with cost_rates or set_rate, or set strict=False"
            )
        if model:
            self._warn(
                UnpricedModelWarning,
                model,
                f"no price is known for {model!r}: its cost is None, not 0; give one with "
                f"cost_rates, set_rate or {COST_RATE_PREFIXES[-1]}<MODEL>",
            )
        return CostBreakdown(None, None, None, None, "unpriced", model, None, usage)

    def _warn(self, category: type[Warning], model: str | None, message: str) -> None:
        mark = (category.__name__, model)
        if mark not in self._warned:
            self._warned.add(mark)
            _logger.warning(message)
            warnings.warn(message, category, stacklevel=4)

    # -- rates -----------------------------------------------------------------------------

    def set_rate(self, model: str, rate: Any) -> None:
        """Set your own price of a model: USD per 1,000 tokens, a mapping or a `ModelPrice`."""
        self._user[_same_name(model)] = model_price_of(rate)
        self._lines.clear()
        self._plain.clear()

    def get_rate(self, model: str, *, provider: str | None = None) -> ModelPrice | None:
        """Return the standard price of a model now; None where it has none."""
        names = ([f"{provider}/{model}"] if provider else []) + [model]
        for name in names:
            if _same_name(name) in self._user:
                return self._user[_same_name(name)]
        match = resolved(self.catalog, model, provider=provider)
        return None if match is None else _model_price(self.catalog, match.key)

    def get_all_rates(self) -> dict[str, ModelPrice]:
        """Return the price of every model that has one, your own among them."""
        prices = {
            key: price
            for key in self.catalog
            if (price := _model_price(self.catalog, key)) is not None
        }
        return prices | self._user


def _model_price(catalog: Catalog, key: str) -> ModelPrice | None:
    row = catalog.entry(key).rows[-1]
    usd = row.usd
    if "input" not in usd:
        return None
    return ModelPrice(
        input=usd["input"],
        output=usd.get("output", usd["input"] * 0),
        cache_read=usd.get("cache_read"),
        cache_write=usd.get("cache_write"),
        since=_start(catalog, row).date().isoformat(),
        source=catalog.source(row.last).name,
        as_of=catalog.source(row.last).day,
    )


def _rounded(scaled: int, scale: int) -> int:
    """Divide and round half to even."""
    quotient, rest = divmod(scaled, scale)
    twice = 2 * rest
    return quotient + (twice > scale or (twice == scale and quotient & 1))


def _environment_rates() -> dict[str, str]:
    rates: dict[str, str] = {}
    variables = environment_variables()
    for prefix in COST_RATE_PREFIXES:
        for variable, text in variables.items():
            if variable.startswith(prefix):
                try:
                    model_price_of(text)
                except ConfigurationError as error:
                    raise ConfigurationError(f"{variable}={text!r}: {error}") from None
                rates[variable[len(prefix) :]] = text
    return rates


def _kind(
    service_tier: str | None,
    batch: bool,  # noqa: FBT001
    region: str | None,
    row: Row,
) -> CallKind:
    tier = (service_tier or "").lower()
    area = None if region is None else region.lower()
    if batch:
        return CallKind("batches", area)
    if tier in _STANDARD_TIERS:
        return CallKind(None, area)
    if tier == "fast" and "fast" in row.factor:
        return CallKind(None, area, is_fast=True)
    return CallKind(_TIER_OF.get(tier, tier), area)


def _start(catalog: Catalog, row: Row) -> datetime:
    day = row.since or catalog.source(row.first).day
    return datetime.combine(date.fromisoformat(day), datetime.min.time(), timezone.utc)


def _version(catalog: Catalog, row: Row) -> str:
    source = catalog.source(row.first)
    return f"{row.since or source.day} {source.name}"


def _card_at(line: _Line, at: datetime | None) -> RateCard:
    moment = _in_utc(at)
    position = max(bisect_right(line.starts, moment) - 1, 0)
    row = line.entry.rows[position]
    off_peak = row.off_peak is not None and is_off_peak(row.off_peak, moment)
    card = line.cards.get((position, off_peak))
    if card is None:
        card = compiled(
            row,
            line.kind,
            key=line.match.key,
            version=line.versions[position],
            matched=line.match.how,
            status=_STATUS_OF.get(line.match.how, "priced"),
            inclusive_threshold=line.entry.inclusive_threshold,
            is_off_peak=off_peak,
        )
        line.cards[position, off_peak] = card
    return card


def _in_utc(at: datetime | None) -> datetime:
    if at is None:
        return datetime.now(timezone.utc)
    return at.replace(tzinfo=timezone.utc) if at.tzinfo is None else at.astimezone(timezone.utc)
