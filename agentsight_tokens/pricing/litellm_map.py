"""Reads the fields of a LiteLLM cost map entry into an entry of the catalog."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Context, Decimal, InvalidOperation
from typing import Any, Final

from .rows import Entry, OffPeak, Row, Window

__all__ = ["RESERVED_KEYS", "entry_of_litellm"]

RESERVED_KEYS: Final = frozenset(
    {"sample_spec", "fallback_generalizations", "fireworks-ai-default"}
)
"""Keys of the map that are no models."""

_LEAF_OF_FIELD: Final = {
    "input_cost_per_token": "input",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost": "cache_write",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "output_cost_per_reasoning_token": "reasoning",
    "input_cost_per_audio_token": "audio_input",
    "output_cost_per_audio_token": "audio_output",
    "cache_read_input_audio_token_cost": "cache_read_audio",
    "cache_read_input_token_cost_per_audio_token": "cache_read_audio",
    "input_cost_per_image_token": "image_input",
    "output_cost_per_image_token": "image_output",
}
_FIELD: Final = re.compile(
    r"(?P<field>"
    + "|".join(sorted(_LEAF_OF_FIELD, key=len, reverse=True))
    + r")(?:_above_(?P<thousands>\d+)k_tokens)?"
    r"(?:_(?P<tier>batches|priority|flex|balanced|ultrafast|decisions))?"
)
# Floats print 15 digits faithfully; what comes after them is noise of someone's division.
_FAITHFUL: Final = Context(prec=15)
_MILLION: Final = Decimal(10**6)
_SEARCH_SIZES: Final = ("medium", "low", "high")
_WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_UTC_OFFSETS: Final = {"Asia/Shanghai": 8, "UTC": 0}


def entry_of_litellm(key: str, fields: Mapping[str, Any], source: int = 0) -> Entry | None:
    """
    Return the entry of a model of the map; None where it has no price for tokens.

    Args:
        key: The model's key in the map.
        fields: The model's fields, numbers as float or Decimal.
        source: The index of the map among the catalog's sources.
    """
    rates = _rates(fields)
    per_call = _number(fields.get("input_cost_per_request"))
    if not any(rates.values()):
        # A row of zeros beside another price is billed by that one, not by tokens.
        per_call = per_call or _number(fields.get("input_cost_per_query"))
        if not per_call and any(_number(v) for k, v in fields.items() if "cost_per" in k):
            return None
    if not rates:
        return None
    provider = fields.get("litellm_provider")
    if provider == "fireworks_ai" and "input" in rates:
        # docs.fireworks.ai/serverless/overview, read 2026-11-12: half, unless a model lists its own.
        rates.setdefault("cache_read", rates["input"] / 2)
    search = fields.get("search_context_cost_per_query")
    row = Row(
        first=source,
        last=source,
        usd=rates,
        factor=_factors(fields),
        search_usd=_search_price(search),
        searches_per_prompt=_bills_prompts(key, provider, fields),
        call_usd=per_call,
        off_peak=_off_peak(fields.get("off_peak_pricing")),
    )
    return Entry(
        rows=(row,),
        key=key,
        provider=provider,
        mode=fields.get("mode"),
        max_input_tokens=_whole(fields.get("max_input_tokens") or fields.get("max_tokens")),
        max_output_tokens=_whole(fields.get("max_output_tokens")),
        retires=fields.get("deprecation_date"),
        inclusive_threshold=provider == "xai",
    )


def _number(value: Any) -> Decimal | None:
    if value is None or isinstance(value, bool):
        return None
    try:
        number = _FAITHFUL.create_decimal(str(value))
    except InvalidOperation:
        return None
    return number if number.is_finite() and number >= 0 else None


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _per_million(value: Any) -> Decimal | None:
    """Return a rate per token as one per million tokens, in its shortest form."""
    number = _number(value)
    if number is None:
        return None
    scaled = (number * _MILLION).normalize(_FAITHFUL)
    return scaled.quantize(Decimal(1)) if scaled == scaled.to_integral_value() else scaled


def _rates(fields: Mapping[str, Any]) -> dict[str, Decimal]:
    rates: dict[str, Decimal] = {}
    for name, value in fields.items():
        match = _FIELD.fullmatch(name)
        rate = _per_million(value) if match else None
        if match is None or rate is None:
            continue
        threshold, tier = match["thousands"], match["tier"]
        rates[
            _LEAF_OF_FIELD[match["field"]]
            + (f">{int(threshold) * 1000}" if threshold else "")
            + (f"~{tier}" if tier else "")
        ] = rate
    hit = _per_million(fields.get("input_cost_per_token_cache_hit"))
    if hit is not None:
        rates.setdefault("cache_read", hit)
    for tier_fields in fields.get("tiered_pricing") or ():
        bounds = tier_fields.get("range")
        if bounds:
            for leaf, rate in _rates(
                {k: v for k, v in tier_fields.items() if k != "range"}
            ).items():
                rates[f"{leaf}<={int(bounds[1])}"] = rate
    return rates


def _factors(fields: Mapping[str, Any]) -> dict[str, Decimal]:
    factors: dict[str, Decimal] = {}
    specific = fields.get("provider_specific_entry") or {}
    for name, value in specific.items():
        number = _number(value) if isinstance(value, (int, float, Decimal)) else None
        if number is not None:
            factors["fast" if name == "fast" else f"region:{name}"] = number
    for region in ("us", "eu"):
        number = _number(fields.get(f"regional_processing_uplift_multiplier_{region}"))
        if number is not None:
            factors[f"region:{region}"] = number
    number = _number(fields.get("regional_endpoint_uplift_multiplier"))
    if number is not None:
        factors["region:*"] = number
    return {name: number.normalize() for name, number in factors.items() if number != 1}


def _search_price(sizes: Any) -> Decimal | None:
    """Return the price of one search of the size that is the providers' default."""
    if not isinstance(sizes, Mapping):
        return _number(sizes)
    for size in _SEARCH_SIZES:
        price = _number(sizes.get(f"search_context_size_{size}"))
        if price is not None:
            return price
    return None


def _bills_prompts(key: str, provider: str | None, fields: Mapping[str, Any]) -> bool:
    """Return whether a grounded prompt is billed once, however many searches it made."""
    if provider == "perplexity":  # a fee for each request, but for deep research
        return "sonar" in key and "deep-research" not in key
    is_gemini = "gemini" in key and (provider or "").startswith(("gemini", "vertex_ai"))
    return is_gemini and fields.get("web_search_billing_unit") != "per_query"


def _off_peak(block: Any) -> OffPeak | None:
    if not isinstance(block, Mapping):
        return None
    windows = [
        Window(hours=_texts(rule.get("hours_utc")), weekdays=_weekdays(rule.get("weekdays")))
        for rule in block.get("windows") or ()
    ]
    if block.get("hours_utc"):
        windows.append(Window(hours=_texts(block["hours_utc"])))
    zone = block.get("weekday_timezone") or "UTC"
    rates = _rates(block)
    if not windows or not rates or zone not in _UTC_OFFSETS:
        return None
    return OffPeak(windows=tuple(windows), usd=rates, utc_offset_hours=_UTC_OFFSETS[zone])


def _weekdays(days: Any) -> tuple[int, ...]:
    """Return ISO weekdays of numbers or English names."""
    return tuple(
        day if isinstance(day, int) else _WEEKDAYS.index(str(day).lower()[:3]) + 1
        for day in days or ()
    )


def _texts(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())
