"""Says in plain lines why a call cost what it cost, and what a model costs."""

from __future__ import annotations

from decimal import Decimal

from agentsight_tokens.usage import UsageRecord

from .breakdown import Bucket, CostBreakdown
from .catalog import Catalog
from .estimator import CostEstimator
from .rows import Row

__all__ = ["explained", "model_sheet", "price_of_record"]


def price_of_record(record: UsageRecord, estimator: CostEstimator) -> CostBreakdown:
    """Return what a recorded call costs by the prices of its own time."""
    return estimator.price(
        record.usage,
        record.model,
        provider=record.provider,
        service_tier=record.service_tier,
        region=record.region,
        at=record.at,
    )


def explained(record: UsageRecord, estimator: CostEstimator) -> list[str]:
    """Return the arithmetic of a recorded call, a line for each kind of tokens."""
    cost = price_of_record(record, estimator)
    who = " · ".join(filter(None, (record.model, record.provider, record.service_tier)))
    lines = [f"{who or 'no model'} · {record.at:%Y-%m-%d %H:%M:%S} UTC"]
    if record.is_unreported:
        return [*lines, f"unreported ({record.unreported_reason}): the usage is not known"]
    if cost.card is None:
        return [*lines, f"unpriced: no price is known for {record.model!r}"]
    lines.append(f"price {cost.matched_key} ({cost.matched}), version {cost.price_version}")
    lines += [f"  {bucket.name:<16} {_term(bucket)}" for bucket in cost.buckets]
    lines.append(f"  total ${_plain(cost.total_cost or Decimal(0))}, {cost.status}")
    if record.cost_pico_usd != cost.cost_pico_usd:
        recorded = "no cost"
        if record.cost is not None:
            recorded = f"${_plain(record.cost)}, version {record.price_version}"
        lines.append(f"  recorded: {recorded}")
    return lines


def _term(bucket: Bucket) -> str:
    """Return one product: tokens at a price per million, fees at a price for each."""
    is_fee = bucket.name in ("search", "call")
    price = bucket.usd_per_million / 1_000_000 if is_fee else bucket.usd_per_million
    unit = "each" if is_fee else "per million"
    return f"{bucket.quantity:>13,} x ${_plain(price)} {unit} = ${_plain(bucket.cost)}"


def model_sheet(model: str, estimator: CostEstimator, *, provider: str | None = None) -> list[str]:
    """Return what is known of a model's prices; empty where nothing is."""
    match = estimator.match(model, provider=provider)
    if match is None:
        return []
    entry, catalog = match.entry, estimator.catalog
    facts = {
        "provider": entry.provider,
        "mode": entry.mode,
        "context": entry.max_input_tokens,
        "output": entry.max_output_tokens,
        "retires": entry.retires,
    }
    known = ", ".join(f"{name} {value}" for name, value in facts.items() if value is not None)
    lines = [f"{model} is {entry.key} ({match.how})", f"  {known}"]
    ends = [*(str(catalog.start(row).date()) for row in entry.rows[1:]), "further notice"]
    for row, end in zip(entry.rows, ends, strict=True):
        lines += _row_lines(catalog, row, end)
    return lines


def _row_lines(catalog: Catalog, row: Row, end: str) -> list[str]:
    checked = catalog.source_of(row.last)
    lines = [
        f"  {catalog.row_version(row)}, until {end} (as of {checked.day} by {checked.name}"
        + ("" if row.also is None else f", cache prices by {catalog.source_of(row.also).name}")
        + "), USD per million tokens:"
    ]
    lines += [f"    {name:<28} {_plain(rate)}" for name, rate in row.usd.items()]
    lines += [f"    times {_plain(factor)} when {name}" for name, factor in row.factor.items()]
    if row.search_usd is not None:
        per = "call with searches" if row.searches_per_prompt else "search"
        lines.append(f"    {_plain(row.search_usd)} per {per}")
    if row.call_usd:
        lines.append(f"    {_plain(row.call_usd)} per call")
    if row.off_peak is not None:
        hours = ", ".join(hours for window in row.off_peak.windows for hours in window.hours)
        rates = ", ".join(f"{name} {_plain(rate)}" for name, rate in row.off_peak.usd.items())
        lines.append(f"    in {hours} UTC: {rates}")
    return lines


def _plain(number: Decimal) -> str:
    """Return a number in full, without the zeros behind it."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
