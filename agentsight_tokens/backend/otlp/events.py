"""The events of spans that are read."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

__all__ = ["exception_type_in", "is_first_token"]

_FIRST_TOKEN: Final = frozenset(("First Token Stream Event", "ai.stream.firstChunk"))
"""Of OpenInference, and of the AI SDK of Vercel."""


def is_first_token(name: str) -> bool:
    """Return whether an event of this name tells when the first token came."""
    return name in _FIRST_TOKEN


def exception_type_in(attributes: Iterable[tuple[str, object]]) -> str | None:
    """Return the class of the exception of which an event tells."""
    for name, value in attributes:
        if name == "exception.type" and isinstance(value, str) and value:
            return value
    return None
