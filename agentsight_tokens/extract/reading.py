"""Reading of responses: the same fields from an SDK's object, a dict or decoded JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec

from agentsight_tokens.usage import Operation, TokenUsage, checked_count

__all__ = ["Extracted", "count", "field", "has", "items", "text", "usage_of"]

_UNSET_TYPES: Final = frozenset({"NotGiven", "Omit", "Unset"})
"""Types by which the SDKs mark a field that was not sent."""


_NOTHING: Final[Mapping[str, Any]] = {}


class Extracted(msgspec.Struct, frozen=True, kw_only=True):
    """What one response says about its own use."""

    usage: TokenUsage | None = None
    """What the provider reported; None when the response reports nothing."""
    model: str | None = None
    """The model that answered, as the provider names it."""
    provider: str | None = None
    """Who answered; None where the shape alone does not tell."""
    operation: Operation = "chat"
    response_id: str | None = None
    service_tier: str | None = None
    """The tier that served the call, in lower case."""
    region: str | None = None
    """Where inference ran, when the provider prices by it."""
    reported_cost_usd: Decimal | None = None
    """What the provider itself says that the call cost."""
    others: tuple[Extracted, ...] = ()
    """What the same response used of other models, none of it part of `usage`."""


def field(source: Any, *names: str) -> Any:
    """Return the first of the fields that is there and not None; None when there is none."""
    read = _reader(source)
    for name in names:
        value = read(name)
        if value is not None and type(value).__name__ not in _UNSET_TYPES:
            return value
    return None


def _reader(source: Any) -> Callable[[str], Any]:
    """Return what reads a field of a source by its name; of None there is nothing to read."""
    if source is None:
        return _NOTHING.get
    kind = _kind_of(type(source))  # type: ignore[arg-type]  # mypy takes a type for unhashable
    if kind == "object":
        return lambda name: getattr(source, name, None)
    fields: Mapping[str, Any] = source if kind == "mapping" else _fields_of_model(source)
    return fields.get


@lru_cache(maxsize=1024)
def _kind_of(source_type: type) -> Literal["mapping", "model", "object"]:
    """Return how a type's fields are read; asked once a type, as the answer takes a while."""
    if issubclass(source_type, Mapping):
        return "mapping"
    return "model" if hasattr(source_type, "__pydantic_validator__") else "object"


def _fields_of_model(source: Any) -> Mapping[str, Any]:
    """
    Return the fields of a pydantic model, those that its class does not know included.

    Asking a model for an attribute that it lacks takes it ten times as long as a dict.
    """
    fields: dict[str, Any] = source.__dict__
    extra: dict[str, Any] | None = source.__pydantic_extra__
    return {**extra, **fields} if extra else fields


def has(source: Any, *names: str) -> bool:
    """Return whether one of the fields is there and not None."""
    return field(source, *names) is not None


def count(source: Any, *names: str) -> int:
    """
    Return the first of the counts that is not 0; what is missing or None counts as 0.

    The names are synonyms, and a provider that sends two of them leaves one at 0.

    Raises:
        InvalidCountError: If the count is negative, too large or no whole number.
    """
    read = _reader(source)
    for name in names:
        value = read(name)
        if value and type(value).__name__ not in _UNSET_TYPES:
            # Cohere and protobuf's JSON send counts as 12.0.
            is_whole = isinstance(value, float) and value.is_integer()
            return checked_count(name, int(value) if is_whole else value)
    return 0


def text(source: Any, *names: str) -> str | None:
    """Return the first of the fields that is a string with something in it."""
    read = _reader(source)
    for name in names:
        value = read(name)
        if isinstance(value, str) and value:
            return str(value.value) if isinstance(value, Enum) else value
    return None


def items(source: Any, *names: str) -> tuple[Any, ...]:
    """Return a field's list; () when it is missing or is no list."""
    value = field(source, *names)
    if value is None or isinstance(value, (str, bytes, Mapping)) or not hasattr(value, "__iter__"):
        return ()
    return tuple(value)


def usage_of(response: Any, key: str, *counts: str) -> Any:
    """
    Return the response's usage object, or the response itself when it is a bare one.

    Args:
        response: A response or a usage object.
        key: The field of a response that holds its usage.
        counts: The fields of a usage object; one of them must be there and not None.
    """
    usage = field(response, key)
    if usage is None:
        usage = response
    return usage if has(usage, *counts) else None
