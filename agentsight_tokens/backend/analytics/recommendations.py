"""Recommendations: what could cost less or be known better, each with its evidence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, Final, Literal, NamedTuple

from agentsight_tokens.backend.store import Reader
from agentsight_tokens.pricing import CostEstimator
from agentsight_tokens.pricing.cost import rounded
from agentsight_tokens.pricing.rate_card import RateCard
from agentsight_tokens.pricing.rows import LEAVES

from .filters import condition_of
from .sample import Sample, newest_sample
from .siblings import cheaper_sibling, current_card
from .usage import usage_by

__all__ = ["Recommendation", "RecommendationKind", "Recommendations", "recommendations"]

RecommendationKind = Literal[
    "could_downgrade", "caching_would_pay", "price_models", "report_streams", "paid_failures"
]

_FEWEST_CALLS: Final = 20
"""Of fewer calls nothing is concluded."""
_SMALL_INPUT: Final = 2_000
_SMALL_OUTPUT: Final = 200
_CACHEABLE_INPUT: Final = 1_024
"""Providers cache no shorter beginning of a prompt (OpenAI, Anthropic; read 2026-11)."""
_LITTLE_READ: Final = 0.2
_CACHE_MICROSECONDS: Final = 300 * 1_000_000
"""How long a provider keeps what it cached, by default."""
_RETRY_MICROSECONDS: Final = 60 * 1_000_000
"""A call that follows a failure so soon is taken as its repetition."""
_INPUT, _READ, _WRITE, _OUTPUT = map(LEAVES.index, ("input", "cache_read", "cache_write", "output"))
_STANDARD: Final = "COALESCE(service_tier, '') IN ('', 'default', 'standard', 'auto')"
_TEXT: Final = (
    "operation IN ('chat', 'completion') AND status = 'ok' AND cost_pico_usd IS NOT NULL "
    "AND audio_input_tokens + audio_output_tokens + image_input_tokens + image_output_tokens = 0"
)
_TOKENS: Final = "CAST(COALESCE(SUM(total_tokens + embedding_tokens), 0) AS BIGINT)"
_COST: Final = (
    "CAST(SUM(cost_pico_usd / 1000000) AS BIGINT), CAST(SUM(cost_pico_usd % 1000000) AS BIGINT)"
)
"""In two halves: 64 bits of pico-USD end at 9.2 million USD."""

_SUMS: Final = (
    ", ".join(
        f"CAST(SUM({name}) AS BIGINT)"
        for name in ("input_tokens", "cache_read_tokens", "output_tokens")
    )
    + f", {_COST}"
)


class Recommendation(NamedTuple):
    """Something to do, and what speaks for it."""

    kind: RecommendationKind
    model: str | None
    provider: str | None
    feature: str | None
    advice: str
    instead: str | None
    """The model to try, if it is one."""
    calls: int
    """The calls that it is about."""
    tokens: int
    """What they used."""
    cost_pico_usd: int | None
    """What they cost; None where that is not known."""
    saving_pico_usd: int | None
    """What it would have saved of that; None where that cannot be known."""
    evidence: str
    """What was seen, and how the saving is computed."""


class Recommendations(NamedTuple):
    """What is recommended, that which saves most first."""

    found: tuple[Recommendation, ...]
    sample: Sample
    """The calls that were looked at; models without a price are looked for in all."""


def recommendations(
    reader: Reader,
    *,
    where: Mapping[str, Any] | None = None,
    estimator: CostEstimator | None = None,
    now: datetime | None = None,
) -> Recommendations:
    """
    Return what the newest 20,000 selected calls suggest.

    Args:
        reader: Where the calls are.
        where: The filter, as `usage_by` takes it.
        estimator: The prices; those of the configuration when not given.
        now: The present, aware, whose prices savings are computed with.

    Raises:
        InvalidScopeError: For an unknown filter.
    """
    filters = dict(where or {})
    estimator = estimator or CostEstimator()
    at = now or datetime.now(timezone.utc)
    sample, bounded = newest_sample(reader, filters)
    condition, values = condition_of(reader, bounded)
    calls = _Calls(reader, condition, values)
    found = [
        *_could_downgrade(calls, estimator, at),
        *_caching_would_pay(calls, estimator, at),
        *_price_models(reader, filters),
        *_report_streams(calls),
        *_paid_failures(calls),
    ]
    found.sort(key=lambda each: (each.saving_pico_usd or 0, each.cost_pico_usd or 0), reverse=True)
    return Recommendations(tuple(found), sample)


class _Calls(NamedTuple):
    """The calls that are looked at."""

    reader: Reader
    condition: str
    values: list[Any]

    def grouped(self, columns: str, sums: str, condition: str) -> list[tuple[Any, ...]]:
        width = columns.count(",") + 1
        return self.reader.rows(
            f"SELECT {columns}, {sums} FROM calls WHERE {self.condition} AND {condition} "  # noqa: S608  # our own names
            f"GROUP BY {', '.join(str(n + 1) for n in range(width))}",
            self.values,
        )


def _could_downgrade(
    calls: _Calls, estimator: CostEstimator, at: datetime
) -> Iterator[Recommendation]:
    small = (
        f"{_TEXT} AND {_STANDARD} AND output_tokens BETWEEN 1 AND {_SMALL_OUTPUT} "
        f"AND input_tokens <= {_SMALL_INPUT} AND reasoning_tokens = 0 AND cache_creation_tokens = 0"
    )
    for model, provider, feature, count, given, read, written, *halves in calls.grouped(
        "model, provider, feature", f"COUNT(*), {_SUMS}", small
    ):
        if model is None or count < _FEWEST_CALLS:
            continue
        sibling = cheaper_sibling(model, provider, estimator, at)
        if sibling is None:
            continue
        name, card = sibling
        cost = _whole(halves)
        other = _price(card, {_INPUT: given - read, _READ: read, _OUTPUT: written})
        if other >= cost:  # it was billed for less than its price is now
            continue
        yield Recommendation(
            kind="could_downgrade",
            model=model,
            provider=provider,
            feature=feature,
            advice=f"try {name} for the short calls of {model}{_within(feature)}",
            instead=name,
            calls=count,
            tokens=given + written,
            cost_pico_usd=cost,
            saving_pico_usd=cost - other,
            evidence=f"{count:,} calls of at most {_SMALL_INPUT:,} input and {_SMALL_OUTPUT} "
            f"output tokens without reasoning; the saving is their cost less the same tokens at "
            f"the price of {name}. Whether it answers well enough is not known here.",
        )


def _caching_would_pay(
    calls: _Calls, estimator: CostEstimator, at: datetime
) -> Iterator[Recommendation]:
    for model, provider, feature, follow, *sums in _repetitions(calls):
        given, read, repeated, unread, *halves = sums
        if model is None or follow < _FEWEST_CALLS or read >= _LITTLE_READ * given:
            continue
        card = current_card(model, provider, estimator, at)
        if card is None:
            continue
        rates = card.bands[0].rates
        plain, cached, write = rates[_INPUT], rates[_READ], rates[_WRITE]
        if plain is None or cached is None or write is None or cached >= plain:
            continue
        saving = rounded(
            unread * (plain - cached) - (given - repeated) * (write - plain), card.scale
        )
        if saving <= 0:
            continue
        yield Recommendation(
            kind="caching_would_pay",
            model=model,
            provider=provider,
            feature=feature,
            advice=f"let the prompts of {model}{_within(feature)} be cached: keep their "
            "beginning the same" + ("" if write == plain else " and mark it for the cache"),
            instead=None,
            calls=follow,
            tokens=unread,
            cost_pico_usd=_whole(halves),
            saving_pico_usd=saving,
            evidence=f"{follow:,} calls followed another of their conversation within 5 minutes "
            f"with at least {_CACHEABLE_INPUT:,} input tokens, and {read / given:.0%} of the input "
            "was read from a cache. At most this is saved: as if each had repeated the whole "
            "input before it, read at the cache's price, and all other input been written.",
        )


def _repetitions(calls: _Calls) -> list[tuple[Any, ...]]:
    before = "LAG(input_tokens) OVER turns"
    is_soon = f"at - LAG(at) OVER turns <= {_CACHE_MICROSECONDS}"
    return calls.reader.rows(
        "WITH turns AS (SELECT model, provider, feature, input_tokens, cache_read_tokens, "  # noqa: S608  # our own names
        f"cost_pico_usd, CASE WHEN {is_soon} THEN CASE WHEN {before} < input_tokens "
        f"THEN {before} ELSE input_tokens END ELSE 0 END AS repeated "
        f"FROM calls WHERE {calls.condition} AND {_TEXT} AND {_STANDARD} "
        f"AND input_tokens >= {_CACHEABLE_INPUT} AND conversation_id IS NOT NULL "
        "WINDOW turns AS (PARTITION BY project_id, conversation_id, model, provider, feature "
        "ORDER BY at, id)) "
        "SELECT model, provider, feature, COUNT(CASE WHEN repeated > 0 THEN 1 END), "
        "CAST(SUM(input_tokens) AS BIGINT), CAST(SUM(cache_read_tokens) AS BIGINT), "
        "CAST(SUM(repeated) AS BIGINT), "
        "CAST(SUM(CASE WHEN repeated > cache_read_tokens THEN repeated - cache_read_tokens "
        f"ELSE 0 END) AS BIGINT), {_COST} "
        "FROM turns GROUP BY model, provider, feature",
        calls.values,
    )


def _price_models(reader: Reader, where: Mapping[str, Any]) -> Iterator[Recommendation]:
    for (model, provider), usage in usage_by(reader, ["model", "provider"], where=where).groups:
        if usage.unpriced_calls:
            what = f"a price of {model!r}" if model else "the name of the model"
            yield Recommendation(
                kind="price_models",
                model=model,
                provider=provider,
                feature=None,
                advice=f"give {what}: AGENTSIGHT_COST_RATES__<MODEL> or AGENTSIGHT_PRICES_FILE",
                instead=None,
                calls=usage.unpriced_calls,
                tokens=usage.unpriced_tokens,
                cost_pico_usd=None,
                saving_pico_usd=None,
                evidence=f"{_calls(usage.unpriced_calls)} used {usage.unpriced_tokens:,} tokens "
                "that are in no cost.",
            )


def _report_streams(calls: _Calls) -> Iterator[Recommendation]:
    silent = "unreported_reason = 'stream_without_usage'"
    for model, provider, feature, count in calls.grouped(
        "model, provider, feature", "COUNT(*)", silent
    ):
        yield Recommendation(
            kind="report_streams",
            model=model,
            provider=provider,
            feature=feature,
            advice=f"ask {model or 'the provider'} to tell the usage of its "
            f"streams{_within(feature)} "
            '(OpenAI: stream_options={"include_usage": true})',
            instead=None,
            calls=count,
            tokens=0,
            cost_pico_usd=None,
            saving_pico_usd=None,
            evidence=f"{count:,} {'stream' if count == 1 else 'streams'} came to the end and "
            "did not say what was used.",
        )


def _paid_failures(calls: _Calls) -> Iterator[Recommendation]:
    for model, provider, feature, status, count, retried, tokens, *halves in _failures(calls):
        again = (
            f" {retried:,} of them were followed within a minute by another call of the same "
            "conversation and model."
            if retried
            else ""
        )
        yield Recommendation(
            kind="paid_failures",
            model=model,
            provider=provider,
            feature=feature,
            advice=f"look into the calls of {model or 'no model'}{_within(feature)} that "
            f"ended with {status}: they were paid",
            instead=None,
            calls=count,
            tokens=tokens,
            cost_pico_usd=_whole(halves),
            saving_pico_usd=None,
            evidence=f"{_calls(count)} ended with {status} after the provider had billed "
            f"{tokens:,} tokens.{again}",
        )


def _failures(calls: _Calls) -> list[tuple[Any, ...]]:
    is_retried = f"LEAD(at) OVER turns - at <= {_RETRY_MICROSECONDS}"
    paid = "status <> 'ok' AND cost_pico_usd > 0"
    # Few conversations have one, and only these need be put in order.
    failed = f"SELECT COALESCE(conversation_id, '') FROM calls WHERE {calls.condition} AND {paid}"  # noqa: S608  # our own names
    return calls.reader.rows(
        "WITH turns AS (SELECT model, provider, feature, status, total_tokens, embedding_tokens, "  # noqa: S608  # our own names
        f"cost_pico_usd, CASE WHEN conversation_id <> '' AND {is_retried} THEN 1 END AS retried "
        f"FROM calls WHERE {calls.condition} AND COALESCE(conversation_id, '') IN ({failed}) "
        "WINDOW turns AS "
        "(PARTITION BY project_id, conversation_id, model ORDER BY at, id)) "
        f"SELECT model, provider, feature, status, COUNT(*), COUNT(retried), {_TOKENS}, {_COST} "
        f"FROM turns WHERE {paid} GROUP BY model, provider, feature, status",
        [*calls.values, *calls.values],
    )


def _whole(halves: Sequence[int]) -> int:
    micro_usd, rest_pico_usd = halves
    return micro_usd * 1_000_000 + rest_pico_usd


def _within(feature: str | None) -> str:
    return "" if feature is None else f" in {feature}"


def _calls(count: int) -> str:
    return f"{count:,} {'call' if count == 1 else 'calls'}"


def _price(card: RateCard, counts: Mapping[int, int]) -> int:
    """Return what counts of leaves cost at the rates of short requests, all of which are known."""
    rates = card.bands[0].rates
    return rounded(sum(count * (rates[leaf] or 0) for leaf, count in counts.items()), card.scale)
