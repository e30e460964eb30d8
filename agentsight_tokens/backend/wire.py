"""
The wire: results of the analytics as JSON, and the types that describe them.

One rule for all of them: a record is an object; a sum or a call is the same flat row that the
command line prints; and money, `..._pico_usd` inside, is `..._usd` outside, a string with every
digit.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, Union, get_args, get_origin, get_type_hints

import msgspec

from agentsight_tokens.rows import call_row, usage_row, written
from agentsight_tokens.summary import UsageSummary
from agentsight_tokens.usage import Scope, TokenUsage, UsageRecord, usd

__all__ = ["wire", "wire_type"]

_PICO: Final = "_pico_usd"


def wire(value: Any) -> Any:
    """Return a result as what JSON is made of."""
    if isinstance(value, UsageSummary):
        return written(usage_row(value))
    if isinstance(value, UsageRecord):
        return written(call_row(value))
    if isinstance(value, tuple):
        names = getattr(value, "_fields", None)
        if names is None:
            return [wire(each) for each in value]
        return {_named(name): _money(each, name) for name, each in zip(names, value, strict=True)}
    if isinstance(value, msgspec.Struct):
        return {name: wire(getattr(value, name)) for name in value.__struct_fields__}
    return value


def _named(name: str) -> str:
    return f"{name.removesuffix(_PICO)}_usd" if name.endswith(_PICO) else name


def _money(value: Any, name: str) -> Any:
    if not name.endswith(_PICO):
        return wire(value)
    if hasattr(value, "_fields"):
        return {each: f"{usd(amount):f}" for each, amount in value._asdict().items()}
    return None if value is None else f"{usd(value):f}"


@lru_cache(maxsize=256)
def wire_type(kind: Any) -> Any:
    """Return the type of what `wire` makes of a type of the analytics."""
    if kind is UsageSummary:
        return UsageRow
    if kind is UsageRecord:
        return CallRow
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        return Union[tuple(wire_type(each) for each in get_args(kind))]  # noqa: UP007  # made at run time
    if origin is tuple:
        first, *others = get_args(kind)
        return list[wire_type(first)] if others == [...] else kind  # type: ignore[misc]  # at run time
    is_record = isinstance(kind, type) and hasattr(kind, "_fields")
    return _struct(kind, kind.__name__, wire_type) if is_record else kind


def _struct(kind: Any, name: str, type_of: Callable[[Any], Any]) -> type[msgspec.Struct]:
    hints = get_type_hints(kind)
    fields: list[tuple[str, Any]] = []
    for field in kind._fields:
        hint = hints[field]
        fields.append(
            (_named(field), _money_type(hint) if field.endswith(_PICO) else type_of(hint))
        )
    return msgspec.defstruct(name, fields)


@lru_cache(maxsize=256)
def _money_type(hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        return Union[tuple(_money_type(each) for each in get_args(hint))]  # noqa: UP007  # made at run time
    if hint is int:
        return str
    is_record = isinstance(hint, type) and hasattr(hint, "_fields")
    return _struct(hint, f"{hint.__name__}InUSD", _money_type) if is_record else hint


UsageRow: Final = msgspec.defstruct(
    "UsageRow",
    [
        *((name, int) for name in TokenUsage.__struct_fields__),
        ("calls", int),
        ("cost_usd", str),
        ("unpriced_calls", int),
        ("unpriced_tokens", int),
        ("unreported_calls", int),
        ("estimated_calls", int),
    ],
)
"""A sum of calls."""

_RECORD_TYPES: Final = get_type_hints(UsageRecord)
_SCOPE_TYPES: Final = get_type_hints(Scope)

CallRow: Final = msgspec.defstruct(
    "CallRow",
    [
        ("id", str),
        ("at", datetime),
        *((name, _SCOPE_TYPES[name]) for name in Scope.__struct_fields__),
        *((name, int) for name in TokenUsage.__struct_fields__),
        *(
            (name.replace("pico_usd", "usd"), _money_type(_RECORD_TYPES[name]))
            if name.endswith(_PICO)
            else (name, _RECORD_TYPES[name])
            for name in UsageRecord.__struct_fields__
            if name not in {"id", "at", "usage", "scope"}
        ),
    ],
)
"""One call."""
