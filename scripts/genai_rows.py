"""Turns the models of genai-prices into entries of the price catalog."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import time
from decimal import Decimal
from typing import Any

from genai_prices import data as genai_data
from genai_prices import types as genai

from agentsight_tokens.pricing.rows import Entry, OffPeak, Row, Window

__all__ = ["PREFIXES", "genai_entries", "names_of"]

# The names under which the catalog keeps a provider's models, the usual one first.
PREFIXES = {
    "openai": ("",),
    "anthropic": ("",),
    "google": ("gemini/", "", "vertex_ai/"),
    "x-ai": ("xai/",),
    "aws": ("", "bedrock/"),
    "azure": ("azure/",),
    "fireworks": ("fireworks_ai/",),
    "together": ("together_ai/",),
    "moonshotai": ("moonshot/",),
    "cohere": ("", "cohere/"),
    "deepseek": ("deepseek/", ""),
    "voyageai": ("voyage/",),
    "github-copilot": ("github_copilot/",),
    "meta": ("meta/",),
    "zhipuai": ("bigmodel/",),
}
# Their rows are of audio, files or voices, or repeat those of another provider.
_LEFT_OUT = {"elevenlabs", "openai-decisions", "cursor", "doubleword", "quicksilverpro"}
_LEAF_OF_UNIT = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "audio_input",
    "cache_audio_read_mtok": "cache_read_audio",
    "output_audio_mtok": "audio_output",
    "input_image_mtok": "image_input",
    "output_image_mtok": "image_output",
    "output_reasoning_mtok": "reasoning",
}
_OTHER_UNITS = {
    "web_searches_kcount",
    "requests_kcount",
    "storage_searches_kcount",
    "cache_image_read_mtok",
}
_TIER_OF = {"batch": "batches", "priority": "priority", "flex": "flex"}


def genai_entries(source: int) -> Iterator[tuple[str, Entry, tuple[str, ...]]]:
    """
    Yield the provider, the entry by the model's own id, and the other ids of the same model.

    Args:
        source: The index of genai-prices among the catalog's sources.
    """
    for provider in genai_data.providers:
        if provider.id in _LEFT_OUT:
            continue
        for model in provider.models:
            rows = _rows(model, source)
            if rows:
                entry = Entry(
                    rows=rows,
                    key=model.id,
                    provider=provider.id,
                    max_input_tokens=model.context_window,
                )
                yield provider.id, entry, tuple(_equal_ids(model.match))


def names_of(provider: str, model: str) -> tuple[str, ...]:
    """Return the catalog's names of a provider's model, the usual one first."""
    prefixes = PREFIXES.get(provider, (f"{provider.replace('-', '_')}/",))
    return tuple(
        model if prefix and model.startswith(prefix) else prefix + model for prefix in prefixes
    )


def _equal_ids(match: Any) -> Iterator[str]:
    if isinstance(match, genai.ClauseEquals):
        yield match.equals
    elif isinstance(match, genai.ClauseOr):
        for clause in match.or_:
            yield from _equal_ids(clause)


def _rows(model: genai.ModelInfo, source: int) -> tuple[Row, ...]:
    if isinstance(model.prices, genai.ModelPrice):
        conditional = [genai.ConditionalPrice(constraint=None, prices=model.prices)]
    else:
        conditional = model.prices
    always = [c for c in conditional if not isinstance(c.constraint, genai.TimeOfDateConstraint)]
    timed = [c for c in conditional if isinstance(c.constraint, genai.TimeOfDateConstraint)]
    starts = [c.constraint.start_date.isoformat() if c.constraint else None for c in always]
    rows = []
    for price, since, until in zip(always, starts, [*starts[1:], None], strict=True):
        row = _row(model, price.prices, source, (since, until))
        if row is None:
            return ()
        rows.append(row)
    if timed:
        peak = _row(model, timed[0].prices, source, (rows[-1].since, None))
        if peak is not None:
            rows[-1] = _with_off_peak(peak, rows[-1], timed)
    return tuple(rows)


def _with_off_peak(peak: Row, base: Row, timed: list[genai.ConditionalPrice]) -> Row:
    """Return the row of the peak hours, with the base price in all the others."""
    spans = sorted((c.constraint.start_time, c.constraint.end_time) for c in timed)
    hours = [
        f"{_clock(end)}-{_clock(spans[(at + 1) % len(spans)][0])}"
        for at, (_, end) in enumerate(spans)
    ]
    off_peak = OffPeak(windows=(Window(hours=tuple(hours)),), usd=base.usd)
    return Row(first=peak.first, last=peak.last, usd=peak.usd, since=peak.since, off_peak=off_peak)


def _clock(moment: time) -> str:
    return f"{moment.hour:02}:{moment.minute:02}"


def _row(
    model: genai.ModelInfo,
    price: genai.ModelPrice,
    source: int,
    period: tuple[str | None, str | None],
) -> Row | None:
    usd = dict(_rates(price, ""))
    if not _stated(price) and model.id.endswith(":free"):
        usd = {"input": Decimal(0), "output": Decimal(0)}
    if not usd or set(_stated(price)) - set(_LEAF_OF_UNIT) - _OTHER_UNITS:
        return None
    since, until = period
    for variant in model.price_variants or ():
        if len(variant.when) != 1 or not _falls_into(variant, since, until):
            continue
        (kind, value), *_ = variant.when.items()
        if kind in ("processing", "service_tier") and value in _TIER_OF:
            usd.update(_rates(variant.prices, f"~{_TIER_OF[value]}"))
    stated = _stated(price)
    searches, calls = stated.get("web_searches_kcount"), stated.get("requests_kcount")
    return Row(
        first=source,
        last=source,
        usd=usd,
        since=since,
        factor=_factors(model, usd),
        search_usd=None if searches is None else _base(searches) / 1000,
        call_usd=None if calls is None else _base(calls) / 1000,
    )


def _falls_into(variant: genai.PriceVariant, since: str | None, until: str | None) -> bool:
    """Return whether a tier's price belongs to the row of these days."""
    if variant.constraint is None:
        return until is None
    start = variant.constraint.start_date.isoformat()
    return (since is None or since <= start) and (until is None or start < until)


def _stated(price: genai.ModelPrice) -> dict[str, Any]:
    return {unit: value for unit, value in vars(price).items() if value is not None}


def _rates(price: genai.ModelPrice, suffix: str) -> Iterator[tuple[str, Decimal]]:
    for unit, value in _stated(price).items():
        leaf = _LEAF_OF_UNIT.get(unit)
        if leaf is None:
            continue
        yield leaf + suffix, _base(value)
        if isinstance(value, genai.TieredPrices):
            for tier in value.tiers:
                yield f"{leaf}>{tier.start}{suffix}", tier.price


def _base(value: Decimal | genai.TieredPrices) -> Decimal:
    return value.base if isinstance(value, genai.TieredPrices) else value


def _factors(model: genai.ModelInfo, usd: dict[str, Decimal]) -> dict[str, Decimal]:
    for variant in model.price_variants or ():
        if variant.when == {"speed": "fast"} and usd.get("input"):
            return {"fast": _base(variant.prices.input_mtok) / usd["input"]}
    return {}
