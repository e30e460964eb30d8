"""
Usage and cost exports of providers, read into one shape.

Known are the answers of OpenAI's usage and costs endpoints and of Anthropic's usage and cost
reports, as JSON (one page, a list of pages, or JSON lines), and the CSV files of both consoles.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime, timezone
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final

import msgspec

from agentsight_tokens.errors import ConfigurationError
from agentsight_tokens.usage import TokenUsage

__all__ = ["ProviderUsage", "read_export"]

_PICO_PER_USD: Final = 10**12
_PICO_PER_CENT: Final = 10**10

_UNREADABLE: Final = (
    OSError,
    TypeError,
    ValueError,
    KeyError,
    InvalidOperation,
    msgspec.MsgspecError,
)

# The columns of both consoles' CSV files, by what they mean here.
_COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "day": ("usage_date_utc", "start_time_iso", "start_time", "date"),
    "model": ("model_version", "model", "line_item"),
    "requests": ("num_model_requests", "requests"),
    "input": ("input_tokens",),
    "uncached": ("usage_input_tokens_no_cache",),
    "read": ("input_cached_tokens", "usage_input_tokens_cache_read"),
    "written_5m": ("usage_input_tokens_cache_write_5m",),
    "written_1h": ("usage_input_tokens_cache_write_1h",),
    "output": ("output_tokens", "usage_output_tokens"),
    "searches": ("web_search_count",),
    "cost": ("amount_value", "cost_usd"),
}


class ProviderUsage(msgspec.Struct, frozen=True):
    """What a provider says that one model used, or cost, on one day."""

    provider: str
    day: date
    model: str | None
    usage: TokenUsage | None = None
    """None in a report of costs."""
    cost_pico_usd: int | None = None
    """None in a report of usage."""
    calls: int | None = None


def read_export(path: str | os.PathLike[str]) -> list[ProviderUsage]:
    """
    Return the lines of an export.

    Raises:
        ConfigurationError: If the file cannot be read or has none of the known shapes.
    """
    file = Path(path)
    try:
        if file.suffix.lower() == ".csv":
            with file.open(newline="", encoding="utf-8-sig") as lines:
                found = list(_of_csv(csv.DictReader(lines)))
        else:
            found = list(_of_pages(_pages(file.read_bytes())))
    except _UNREADABLE as error:
        raise ConfigurationError(f"the export {str(file)!r} cannot be read: {error!r}") from None
    if not found:
        raise ConfigurationError(
            f"the export {str(file)!r} has no line of usage or cost that is known: it should be "
            "an answer of OpenAI's usage or costs endpoint or Anthropic's usage or cost report"
        )
    return found


def _pages(data: bytes) -> Iterator[Mapping[str, Any]]:
    try:
        decoded = msgspec.json.decode(data)
    except msgspec.DecodeError:
        decoded = [msgspec.json.decode(line) for line in data.splitlines() if line.strip()]
    pages = decoded if isinstance(decoded, list) else [decoded]
    for page in pages:
        # A single bucket may stand where a page of them is usual.
        yield page if "data" in page else {"data": [page]}


def _of_pages(pages: Iterable[Mapping[str, Any]]) -> Iterator[ProviderUsage]:
    for page in pages:
        for bucket in page["data"]:
            is_anthropic = "starting_at" in bucket
            day = _day(bucket["starting_at"] if is_anthropic else bucket["start_time"])
            for result in bucket.get("results", bucket.get("result", ())):
                yield _of_anthropic(day, result) if is_anthropic else _of_openai(day, result)


def _of_openai(day: date, result: Mapping[str, Any]) -> ProviderUsage:
    amount = result.get("amount")
    if amount is not None:
        model = (result.get("line_item") or "").partition(",")[0] or None
        return ProviderUsage("openai", day, model, cost_pico_usd=_pico(amount["value"]))
    inputs = _count(result, "input_tokens")
    is_embedding = "embeddings" in str(result.get("object"))
    usage = (
        TokenUsage(embedding_tokens=inputs)
        if is_embedding
        else TokenUsage(
            input_tokens=inputs,
            output_tokens=_count(result, "output_tokens"),
            cache_read_tokens=_count(result, "input_cached_tokens"),
        )
    )
    calls = _count(result, "num_model_requests")
    return ProviderUsage("openai", day, result.get("model"), usage, calls=calls)


def _of_anthropic(day: date, result: Mapping[str, Any]) -> ProviderUsage:
    amount = result.get("amount")
    if amount is not None:  # in cents, as a decimal string
        cost = _pico(amount, unit=_PICO_PER_CENT)
        return ProviderUsage("anthropic", day, result.get("model"), cost_pico_usd=cost)
    creation = result.get("cache_creation") or {}
    searches = result.get("server_tool_use") or {}
    return ProviderUsage(
        "anthropic",
        day,
        result.get("model"),
        _inclusive(
            _count(result, "uncached_input_tokens"),
            _count(result, "cache_read_input_tokens"),
            _count(creation, "ephemeral_5m_input_tokens"),
            _count(creation, "ephemeral_1h_input_tokens"),
            output=_count(result, "output_tokens"),
            searches=_count(searches, "web_search_requests"),
        ),
    )


def _of_csv(lines: Iterable[Mapping[str, str]]) -> Iterator[ProviderUsage]:
    for line in lines:
        cells = {
            meaning: next((line[name] for name in names if line.get(name)), "")
            for meaning, names in _COLUMNS.items()
        }
        model = cells["model"].partition(",")[0] or None
        provider = "anthropic" if "usage_date_utc" in line else "openai"
        day = _day(cells["day"])
        if cells["cost"]:
            yield ProviderUsage(provider, day, model, cost_pico_usd=_pico(cells["cost"]))
        elif provider == "anthropic":
            usage = _inclusive(
                *(
                    int(cells[name] or 0)
                    for name in ("uncached", "read", "written_5m", "written_1h")
                ),
                output=int(cells["output"] or 0),
                searches=int(cells["searches"] or 0),
            )
            yield ProviderUsage(provider, day, model, usage)
        else:
            usage = TokenUsage(
                input_tokens=int(cells["input"] or 0),
                output_tokens=int(cells["output"] or 0),
                cache_read_tokens=int(cells["read"] or 0),
            )
            calls = int(cells["requests"]) if cells["requests"] else None
            yield ProviderUsage(provider, day, model, usage, calls=calls)


def _inclusive(
    uncached: int, read: int, written_5m: int, written_1h: int, *, output: int, searches: int
) -> TokenUsage:
    """Return a usage whose input contains what was read from and written to caches."""
    return TokenUsage(
        input_tokens=uncached + read + written_5m + written_1h,
        output_tokens=output,
        cache_read_tokens=read,
        cache_creation_tokens=written_5m + written_1h,
        cache_creation_1h_tokens=written_1h,
        web_search_requests=searches,
    )


def _count(fields: Mapping[str, Any], name: str) -> int:
    return int(fields.get(name) or 0)


def _pico(amount: Any, *, unit: int = _PICO_PER_USD) -> int:
    return int((Decimal(str(amount)) * unit).to_integral_value())


def _day(moment: Any) -> date:
    """Return the day in UTC of a Unix time or an ISO date or time."""
    text = str(moment)
    if text.replace(".", "", 1).isdigit():
        return datetime.fromtimestamp(float(text), timezone.utc).date()
    if len(text) == len("2026-01-01"):
        return date.fromisoformat(text)
    parsed = datetime.fromisoformat(text.replace("Z", "+00:00"))
    return parsed.date() if parsed.tzinfo is None else parsed.astimezone(timezone.utc).date()
