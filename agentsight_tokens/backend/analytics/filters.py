"""Filters: which calls a query is about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from agentsight_tokens.backend.store import Reader
from agentsight_tokens.calls import selection

__all__ = ["condition_of", "holds_nul"]


def condition_of(store: Reader, where: Mapping[str, Any]) -> tuple[str, list[Any]]:
    """
    Return the SQL condition, and its values, of a filter of calls.

    Args:
        store: Where the calls are.
        where: The filter, as `calls.selection` takes it, and `environment`.

    Raises:
        InvalidScopeError: For an unknown filter.
    """
    if store.dialect.name == "postgresql" and holds_nul(where.values()):
        return "1 = 0", []  # it stores no such text, and refuses the question too
    environment = where.get("environment")
    condition, values = selection(
        {k: v for k, v in where.items() if k != "environment"}, has_tag=store.dialect.has_tag
    )
    if environment is None:
        return condition, values
    return f"{condition} AND environment = ?", [*values, environment]


def holds_nul(values: Iterable[Any]) -> bool:
    """Return whether a text among the values of a filter has a NUL, which not all stores know."""
    return any("\0" in text for value in values for text in _texts(value))


def _texts(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        return (value,)
    return value if isinstance(value, (list, tuple)) else ()
