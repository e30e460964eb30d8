"""Pages: a part of a long list, and the cursor at which the next part begins."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Final, Generic, TypeVar

import msgspec

from agentsight_tokens.errors import InvalidQueryError

__all__ = ["LONGEST_PAGE", "Page", "checked_limit", "page_of", "position_of"]

LONGEST_PAGE: Final = 1_000
"""The most rows of one page."""

_SEAL_BYTES: Final = 8
_Row = TypeVar("_Row")
_Position = TypeVar("_Position")


class Page(msgspec.Struct, Generic[_Row], frozen=True):
    """
    Some rows of a list.

    A cursor names the last row that was shown, not a number of rows: what is inserted
    meanwhile neither repeats rows nor hides those that stay where they are.
    """

    rows: tuple[_Row, ...]
    next_cursor: str | None
    """What asks for the rows behind these; None if there are none."""


def page_of(
    rows: Sequence[_Row], limit: int, kind: str, position: Callable[[_Row], tuple[Any, ...]]
) -> Page[_Row]:
    """
    Return the page of at most `limit` rows.

    Args:
        rows: The rows that were found, at least one more than the limit if there are more.
        limit: How many rows the page has at most.
        kind: Which list and order the cursor is good for.
        position: Returns where a row stands in that order.
    """
    shown = tuple(rows[:limit])
    more = len(rows) > limit
    return Page(shown, _cursor(kind, position(shown[-1])) if more else None)


def position_of(cursor: str | None, kind: str, shape: type[_Position]) -> _Position | None:
    """
    Return the position that a cursor names; None gives None.

    Raises:
        InvalidQueryError: If it is no cursor of this list and order.
    """
    if cursor is None:
        return None
    try:
        content = urlsafe_b64decode(cursor.encode("ascii"))
        seal, position = content[:_SEAL_BYTES], content[_SEAL_BYTES:]
        if seal != _seal(kind, position) or cursor != urlsafe_b64encode(content).decode():
            raise ValueError
        return msgspec.json.decode(position, type=shape)
    except (binascii.Error, ValueError):  # what msgspec and the codecs raise are ValueErrors
        raise InvalidQueryError(
            f"the cursor {cursor[:40]!r} is none of this list in this order: "
            "take next_cursor of the page before, or none for the first page"
        ) from None


def checked_limit(limit: int) -> int:
    """
    Return how many rows a page may have.

    Raises:
        InvalidQueryError: For none, or too many.
    """
    if not 1 <= limit <= LONGEST_PAGE:
        raise InvalidQueryError(f"limit must lie between 1 and {LONGEST_PAGE:,}, not {limit!r}")
    return limit


def _cursor(kind: str, position: tuple[Any, ...]) -> str:
    content = msgspec.json.encode(position)
    return urlsafe_b64encode(_seal(kind, content) + content).decode()


def _seal(kind: str, content: bytes) -> bytes:
    # It is no secret, for a position opens nothing; it tells a mistake from a cursor.
    return blake2b(content, digest_size=_SEAL_BYTES, key=kind.encode()).digest()
