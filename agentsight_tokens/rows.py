"""Rows: calls and sums of calls as flat mappings, with costs in USD."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, Final

import msgspec

from .summary import UsageSummary
from .usage import SCOPE_FIELDS, USAGE_FIELDS, UsageRecord, usd

__all__ = ["CALL_FIELDS", "USAGE_ROW_FIELDS", "call_row", "csv_cell", "usage_row", "written"]

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def usage_row(usage: UsageSummary) -> dict[str, Any]:
    """Return a sum as one flat row; `cost_usd` is that of the calls that have a price."""
    return {
        **{name: getattr(usage, name) for name in USAGE_FIELDS},
        "calls": usage.request_count,
        "cost_usd": usage.cost,
        "unpriced_calls": usage.unpriced_calls,
        "unpriced_tokens": usage.unpriced_tokens,
        "unreported_calls": usage.unreported_calls,
        "estimated_calls": usage.estimated_calls,
    }


def call_row(record: UsageRecord) -> dict[str, Any]:
    """Return a call as one flat row; `cost_usd` is None where the call has no price."""
    facts: dict[str, Any] = {}
    for name, value in msgspec.structs.asdict(record).items():
        if name.endswith("pico_usd"):
            facts[name.replace("pico_usd", "usd")] = None if value is None else usd(value)
        elif name not in {"id", "at", "usage", "scope"}:
            facts[name] = value
    scope = {name: getattr(record.scope, name) for name in SCOPE_FIELDS}
    usage = {name: getattr(record.usage, name) for name in USAGE_FIELDS}
    return {"id": record.id, "at": record.at, **scope, **usage, **facts}


USAGE_ROW_FIELDS: Final = tuple(usage_row(UsageSummary()))
"""The fields of a sum's row."""

CALL_FIELDS: Final = tuple(call_row(UsageRecord(id="", at=datetime.now(timezone.utc))))
"""The fields of a call's row."""


def written(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with each amount as a text that has every digit."""
    return {k: f"{v:f}" if isinstance(v, Decimal) else v for k, v in row.items()}


def csv_cell(value: Any) -> Any:
    """
    Return a value as a CSV holds it.

    A text that a spreadsheet would run as a formula gets an apostrophe in front, as
    spreadsheets themselves mark texts.
    """
    if isinstance(value, tuple):
        value = " ".join(value)
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    return value.isoformat() if hasattr(value, "isoformat") else value
