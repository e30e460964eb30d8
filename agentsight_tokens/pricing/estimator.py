"""The estimator: from a usage and a model's name to an exact cost."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import datetime
from threading import RLock
from typing import Any, Final

from msgspec.structs import astuple, replace

from agentsight_tokens.config import COST_RATE_PREFIXES, environment_variables
from agentsight_tokens.errors import (
    ConfigurationError,
    InconsistentUsageWarning,
    UnknownModelError,
    UnpricedModelWarning,
)
from agentsight_tokens.faults import warn
from agentsight_tokens.usage import (
    COUNTERS,
    MAX_COUNT,
    USAGE_FIELDS,
    Scope,
    TokenUsage,
    UsageRecord,
    checked_count,
)

from .breakdown import CostBreakdown
from .catalog import Catalog, Overlay, bundled_table
from .cost import cost_of, rounded, text_cost_of
from .installed_map import installed_map
from .model_price import ModelPrice, dated_prices_of
from .names import Match
from .price_book import Line, PriceBook
from .price_file import read_price_file
from .rate_card import RateCard

__all__ = ["CostEstimator"]

_NO_MODEL: Final = "a call names no model, so that it has no price"
_LEVELS_TO_THE_CALLER: Final = 5
_MOST_WARNINGS: Final = 1000
"""A server prices what its clients name, and they may make names up."""


class CostEstimator:
    """
    Prices calls, exactly and at the time they were made.

    Prices come from `cost_rates`, else the environment, else `prices_file`, else the cost map
    of an installed LiteLLM that is newer than the package's, else the package's.

    Args:
        cost_rates: Your own prices by model: USD per 1,000 tokens both ways, a mapping of
            `ModelPrice`'s fields, a `ModelPrice`, or several of them with their first days.
        strict: Raise for a model without a price, instead of a warning and a cost of None.
        prices_file: A file of prices: yours, a LiteLLM cost map, or what `prices update`
            wrote. `AGENTSIGHT_PRICES_FILE` when None.
        deployments: Names of your own, such as Azure deployments, and the models behind them.

    Raises:
        ConfigurationError: If a rate or the file cannot be read.
    """

    def __init__(
        self,
        cost_rates: Mapping[str, Any] | None = None,
        *,
        strict: bool = False,
        prices_file: str | os.PathLike[str] | None = None,
        deployments: Mapping[str, str] | None = None,
    ) -> None:
        variables = environment_variables()
        self._strict = strict
        self._user = {**_rates_of(variables), **(cost_rates or {})}
        for name, rate in self._user.items():
            _check_rate(name, rate)
        self._prices_file = prices_file or variables.get("AGENTSIGHT_PRICES_FILE")
        self._deployments = dict(deployments or {})
        self._lock = RLock()
        self._opened: PriceBook | None = None
        self._plain: dict[str | None, tuple[int, int, int, str, RateCard, int]] = {}
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
            at: When the call was made, in UTC when naive; now when None.

        Raises:
            InvalidCountError: For a count that cannot be one.
            UnknownModelError: If the estimator is strict and the model has no price.
        """
        plain = self._plain.get(model)
        if (
            plain is not None
            and usage is None
            and provider is None
            and at is None
            and service_tier is None
            and region is None
            and not cached_tokens
            and not batch
        ):
            limit, input_rate, output_rate, status, card, scale = plain
            if (
                type(input_tokens) is int is type(output_tokens)
                and 0 <= input_tokens <= limit
                and output_tokens >= 0
            ):
                prompt = input_tokens * input_rate
                total = prompt + output_tokens * output_rate
                if scale != 1:
                    total, prompt = rounded(total, scale), rounded(prompt, scale)
                return CostBreakdown(
                    total,
                    prompt,
                    total - prompt,
                    0,
                    status,  # type: ignore[arg-type]  # the card's own
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
        service_tier: str | None = None,
        batch: bool = False,
        region: str | None = None,
        at: datetime | None = None,
    ) -> CostBreakdown:
        """Return what a usage costs; see `estimate`."""
        if not model:
            return self._unpriced(usage, model)
        line = (self._opened or self._book).lines[model, provider, service_tier, batch, region]
        if line is None:
            return self._unpriced(usage, model)
        card = line.current
        if card is None or not (at >= line.since if at and at.tzinfo else line.holds(at)):
            card = line.card_at(at)
        elif at is None and not (provider or service_tier or batch or region):
            self._keep_at_hand(model, card)
        text = text_cost_of(usage, card)
        if text is not None:
            total, prompt, completion, status = text
            return CostBreakdown(total, prompt, completion, 0, status, model, card, usage)
        cost = cost_of(usage, card, model)
        if cost is None:
            return self._unpriced(usage, model)
        if cost.status == "inconsistent":
            self._warn_inconsistent(usage, model)
        return cost

    def priced(self, record: UsageRecord, *, scope: Scope | None = None) -> UsageRecord:
        """
        Return a record with its cost: none if it is unreported, its own if it has one.

        Args:
            record: The call.
            scope: The scope that it is to have, where that is another one.

        Raises:
            InvalidCountError: For a count that is too large.
        """
        usage, at = record.usage, record.at
        if sum(counts := astuple(usage)[COUNTERS]) > MAX_COUNT:
            for name, count in zip(USAGE_FIELDS, counts, strict=True):
                checked_count(name, count)
        if record.unreported_reason is not None or record.cost_pico_usd is not None:
            return record if scope is None else replace(record, scope=scope)
        model, provider = record.model, record.provider
        tier, region = record.service_tier, record.region
        # Nearly all calls are of text, and priced now; for these there is a short way.
        lines = (self._opened or self._book).lines
        line = lines[model, provider, tier, False, region] if model else None
        card = None if line is None or at < line.since else line.current
        text = None if card is None else text_cost_of(usage, card)
        total: int | None
        prompt: int | None
        completion: int | None
        if text is not None:
            total, prompt, completion, status = text
        else:
            cost = self.price(
                usage, model, provider=provider, service_tier=tier, region=region, at=at
            )
            total, prompt = cost.cost_pico_usd, cost.prompt_cost_pico_usd
            completion, status, card = cost.completion_cost_pico_usd, cost.status, cost.card
        return replace(
            record,
            scope=record.scope if scope is None else scope,
            cost_pico_usd=total,
            prompt_cost_pico_usd=prompt,
            completion_cost_pico_usd=completion,
            cost_status=status,
            price_key=None if card is None else card.key,
            price_version=None if card is None else card.version,
        )

    def match(self, model: str, *, provider: str | None = None) -> Match | None:
        """Return the catalog's entry of a model and how its name matched; None without one."""
        return self._book.match(model, provider=provider)

    def line(
        self,
        model: str,
        *,
        provider: str | None = None,
        service_tier: str | None = None,
        region: str | None = None,
    ) -> Line | None:
        """Return the prices of a model over time, standard ones by default; None without any."""
        return self._book.lines[model, provider, service_tier, False, region]

    def set_rate(self, model: str, rate: Any) -> None:
        """Set your own price of a model; see `cost_rates` of the class."""
        _check_rate(model, rate)
        with self._lock:
            self._user[model] = rate
            if self._opened is not None:
                self._opened.set_price(model, rate)
            self._plain = {}

    def get_rate(self, model: str, *, provider: str | None = None) -> ModelPrice | None:
        """Return the standard price of a model now; None where it has none."""
        match = self._book.match(model, provider=provider)
        return None if match is None else self._book.price_of(match)

    def get_all_rates(self) -> dict[str, ModelPrice]:
        """Return the price of every model that has one, your own among them."""
        return self._book.all_prices()

    @property
    def catalog(self) -> Catalog:
        """The catalog behind your own prices; read when first used."""
        return self._book.catalog

    @property
    def _book(self) -> PriceBook:
        with self._lock:
            if self._opened is None:
                self._opened = self._open()
            return self._opened

    def _open(self) -> PriceBook:
        table = bundled_table()
        overlays: list[Overlay] = []
        deployments = self._deployments
        if self._prices_file:
            file = read_price_file(self._prices_file)
            overlays.append(file)
            deployments = {**file.deployments, **deployments}
        installed = installed_map(newer_than=table.header)
        if installed is not None:
            overlays.append(installed)
        return PriceBook(Catalog(table, overlays), self._user, deployments)

    def _keep_at_hand(self, model: str, card: RateCard) -> None:
        if card.fits_text:
            band = card.bands[0]
            rates = band.rates
            self._plain[model] = (
                band.limit, rates[0] or 0, rates[7] or 0, band.text_status, card, card.scale
            )  # fmt: skip

    def _unpriced(self, usage: TokenUsage, model: str | None) -> CostBreakdown:
        if self._strict:
            what = f"no price is known for {model!r}" if model else _NO_MODEL
            raise UnknownModelError(
                f"{what}; give one with cost_rates or set_rate, or set strict=False"
            )
        if model:
            self._warn_once(
                UnpricedModelWarning,
                model,
                f"no price is known for {model!r}: its cost is None, not 0; give one with "
                f"cost_rates, set_rate or {COST_RATE_PREFIXES[-1]}<MODEL>",
            )
        return CostBreakdown(None, None, None, None, "unpriced", model, None, usage)

    def _warn_inconsistent(self, usage: TokenUsage, model: str) -> None:
        self._warn_once(
            InconsistentUsageWarning,
            model,
            f"a usage of {model!r} contradicts itself: its details exceed its "
            f"{usage.input_tokens} input or {usage.output_tokens} output tokens; such usages "
            "are priced without their details",
        )

    def _warn_once(self, category: type[Warning], model: str, message: str) -> None:
        mark = (category.__name__, model)
        if mark not in self._warned and len(self._warned) < _MOST_WARNINGS:
            self._warned.add(mark)
            warn(message, category, levels=_LEVELS_TO_THE_CALLER)


def _rates_of(variables: Mapping[str, str]) -> dict[str, str]:
    return {
        variable[len(prefix) :]: text
        for prefix in COST_RATE_PREFIXES
        for variable, text in variables.items()
        if variable.startswith(prefix)
    }


def _check_rate(name: str, rate: Any) -> None:
    try:
        dated_prices_of(rate)
    except ConfigurationError as error:
        raise ConfigurationError(f"the rate of {name!r}: {error}") from None
