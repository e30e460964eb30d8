"""Prompt caches: how much was read from them, and what that saved."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Final, NamedTuple

from agentsight_tokens.backend.store import Reader
from agentsight_tokens.pricing import CostEstimator
from agentsight_tokens.pricing.cost import rounded
from agentsight_tokens.pricing.rate_card import RateCard
from agentsight_tokens.pricing.rows import LEAVES
from agentsight_tokens.summary import UsageSummary
from agentsight_tokens.usage import STATED_BY_PROVIDER

from .filters import condition_of
from .sample import Sample, newest_sample
from .usage import usage_by

__all__ = ["CacheReport", "CacheUse", "Cached", "cache_use", "saving_of"]

_Key = tuple[str | None, str | None]
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_INPUT, _READ, _WRITE, _WRITE_1H, _AUDIO, _READ_AUDIO = map(
    LEAVES.index,
    ("input", "cache_read", "cache_write", "cache_write_1h", "audio_input", "cache_read_audio"),
)
_COLUMNS: Final = (
    "model, provider, service_tier, region, at, price_key, price_version, input_tokens, "
    "cache_read_tokens, cache_read_audio_tokens, cache_creation_tokens, cache_creation_1h_tokens"
)
_USED: Final = "(cache_read_tokens > 0 OR cache_creation_tokens > 0)"
_IS_PRICED: Final = "cost_pico_usd IS NOT NULL AND cost_status <> 'inconsistent'"


class CacheUse(NamedTuple):
    """What one model's prompt caches did."""

    model: str | None
    provider: str | None
    usage: UsageSummary
    hit_ratio: float | None
    """Tokens read from a cache by input tokens, 0 to 1; None without input."""
    saved_pico_usd: int | None
    """
    What the reads would have cost as input, less what they cost, less what writes cost more.

    Negative where writing has cost more than reading saved; None where no price is known.
    """
    unknown_tokens: int
    """Tokens read and written of which no price says what they saved."""


class CacheReport(NamedTuple):
    """What prompt caches did, by model."""

    models: tuple[CacheUse, ...]
    """Those that saved most come first, then those with the most input."""
    total: CacheUse
    sample: Sample
    """The calls that could be priced one by one."""
    is_estimated: bool
    """
    Whether savings are of daily sums, because the calls are too many to be priced one by one.

    They are then at the standard tier's price of the day, for requests of the first length.
    """


class _Saving:
    """Adds up what is saved, and what is not known."""

    def __init__(self) -> None:
        self.pico_usd: int | None = None
        self.unknown_tokens = 0

    def add(self, saved: int | None, tokens: int) -> None:
        if saved is None:
            self.unknown_tokens += tokens
        else:
            self.pico_usd = (self.pico_usd or 0) + saved


class Cached(NamedTuple):
    """What went through a cache."""

    input_tokens: int
    read: int
    read_audio: int
    written: int
    written_1h: int


def cache_use(
    reader: Reader,
    *,
    where: Mapping[str, Any] | None = None,
    estimator: CostEstimator | None = None,
) -> CacheReport:
    """
    Return how much input came from prompt caches, and what that saved.

    Args:
        reader: Where the calls are.
        where: The filter, as `usage_by` takes it.
        estimator: The prices; those of the configuration when not given.

    Raises:
        InvalidScopeError: For an unknown filter.
    """
    filters = dict(where or {})
    estimator = estimator or CostEstimator()
    sample, _ = newest_sample(reader, filters)
    is_estimated = sample.since is not None
    savings: dict[_Key, _Saving] = defaultdict(_Saving)
    if is_estimated:
        usages = _by_day(reader, filters, estimator, savings)
    else:
        usages = _by_call(reader, filters, estimator, savings)
    models = [_use(*key, usage=usage, saving=savings[key]) for key, usage in usages.items()]
    models.sort(key=lambda use: (-(use.saved_pico_usd or 0), -use.usage.input_tokens))
    whole = _Saving()
    for saving in savings.values():
        whole.unknown_tokens += saving.unknown_tokens
        if saving.pico_usd is not None:
            whole.add(saving.pico_usd, 0)
    total = UsageSummary.merged(usages.values())
    return CacheReport(
        tuple(models), _use(None, None, usage=total, saving=whole), sample, is_estimated
    )


def saving_of(cached: Cached, card: RateCard) -> int | None:
    """Return what a cache saved, in pico-USD; None where the card lacks a rate."""
    rates = card.band(cached.input_tokens).rates
    saved = 0
    for count, instead_of, rate in (
        (cached.read - cached.read_audio, _INPUT, _READ),
        (cached.read_audio, _AUDIO, _READ_AUDIO),
        (cached.written - cached.written_1h, _INPUT, _WRITE),
        (cached.written_1h, _INPUT, _WRITE_1H),
    ):
        plain, own = rates[instead_of], rates[rate]
        if count and (plain is None or own is None):
            return None
        saved += count * ((plain or 0) - (own or 0))
    return rounded(saved, card.scale)


def _by_call(
    reader: Reader,
    where: Mapping[str, Any],
    estimator: CostEstimator,
    savings: Mapping[_Key, _Saving],
) -> dict[_Key, UsageSummary]:
    """Return the usage by model and provider, and add the saving of each call."""
    condition, values = condition_of(reader, where)
    rows = reader.rows(
        f"SELECT {_COLUMNS}, {_IS_PRICED} FROM calls WHERE {condition} AND {_USED}",  # noqa: S608  # our own names
        values,
    )
    for model, provider, tier, region, at, key, version, *counts, is_priced in rows:
        cached = Cached(*counts)
        saved = None
        if is_priced and key != STATED_BY_PROVIDER and model:
            line = estimator.line(model, provider=provider, service_tier=tier, region=region)
            moment = _EPOCH + timedelta(microseconds=at)
            card = None if line is None else line.card_of(version, moment)
            saved = None if card is None else saving_of(cached, card)
        savings[model, provider].add(saved, cached.read + cached.written)
    report = usage_by(reader, ["model", "provider"], where=where)
    return {(model, provider): usage for (model, provider), usage in report.groups}


def _by_day(
    reader: Reader,
    where: Mapping[str, Any],
    estimator: CostEstimator,
    savings: Mapping[_Key, _Saving],
) -> dict[_Key, UsageSummary]:
    """Return the usage by model and provider, and add the saving of each day."""
    usages: dict[_Key, list[UsageSummary]] = defaultdict(list)
    report = usage_by(reader, ["day", "model", "provider"], where=where)
    for (day, model, provider), usage in report.groups:
        usages[model, provider].append(usage)
        tokens = usage.cache_read_tokens + usage.cache_creation_tokens
        line = estimator.line(model, provider=provider) if model and tokens else None
        saved = None
        if line is not None:
            noon = datetime.fromisoformat(f"{day}T12:00:00+00:00")
            cached = Cached(
                0,  # a sum is no length of a request
                usage.cache_read_tokens,
                usage.cache_read_audio_tokens,
                usage.cache_creation_tokens,
                usage.cache_creation_1h_tokens,
            )
            saved = saving_of(cached, line.card_at(noon))
        savings[model, provider].add(saved, tokens)
    return {key: UsageSummary.merged(found) for key, found in usages.items()}


def _use(model: str | None, provider: str | None, usage: UsageSummary, saving: _Saving) -> CacheUse:
    has_none = not usage.cache_read_tokens and not usage.cache_creation_tokens
    return CacheUse(
        model=model,
        provider=provider,
        usage=usage,
        hit_ratio=usage.cache_read_tokens / usage.input_tokens if usage.input_tokens else None,
        saved_pico_usd=0 if has_none else saving.pico_usd,
        unknown_tokens=saving.unknown_tokens,
    )
