"""
What an HTTP status means for a delivery.

| status | meaning |
|---|---|
| 2xx, 409 | accepted; 409 says that it is there already |
| 400, 413, 422 | refused for what is in it, or for how much |
| 401, 403 | our key is not known |
| 429, 503, with Retry-After or without | not now |
| anything else | not now: a wrong address or a proxy must cost no count |
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Final

from agentsight_tokens.errors import (
    DeliveryRefusedError,
    DestinationUnauthorizedError,
    DestinationUnavailableError,
)

__all__ = ["raise_for_status", "retry_after_seconds"]

_REFUSED: Final = (400, 413, 422)
_UNAUTHORIZED: Final = (401, 403)
_EXCERPT: Final = 200


def raise_for_status(status: int, headers: Mapping[str, str], body: bytes) -> None:
    """
    Raise what a status means, unless it means that everything was accepted.

    Raises:
        DeliveryRefusedError: The server refuses the delivery for what is in it.
        DestinationUnavailableError: It does not take it now.
    """
    if 200 <= status < 300 or status == 409:
        return
    text = f"{status} {_excerpt(body)}".rstrip()
    if status in _REFUSED:
        raise DeliveryRefusedError(text)
    if status in _UNAUTHORIZED:
        raise DestinationUnauthorizedError(text)
    if 300 <= status < 400:
        text = f"{status}, a redirect to {headers.get('Location')!r}: correct the address"
    raise DestinationUnavailableError(text, retry_after_seconds=retry_after_seconds(headers))


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Return when the server asks to be tried again: seconds, or until a date by its clock."""
    text = headers.get("Retry-After", "").strip()
    if not text:
        return None
    if text.isdecimal():
        return float(text)
    until = _date(text)
    if until is None:
        return None
    now = _date(headers.get("Date", "")) or datetime.now(timezone.utc)
    return max((until - now).total_seconds(), 0.0)


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def _excerpt(body: bytes) -> str:
    text = body[: 4 * _EXCERPT].decode(errors="replace")
    return "".join(c if c.isprintable() else " " for c in text)[:_EXCERPT].strip()
