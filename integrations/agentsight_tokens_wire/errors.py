"""What a provider's exception says about the bill."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

__all__ = ["CANCELLATIONS", "http_status", "is_unbilled"]

CANCELLATIONS: Final = (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt)
"""What ends a call because nobody wants its answer any more."""

_NEVER_SENT: Final = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError"})
"""Exceptions of httpx that are raised before a request reaches the provider."""


def http_status(error: BaseException) -> int | None:
    """Return the HTTP status that a provider's SDK put on its exception."""
    status = getattr(error, "status_code", None)
    if status is None:  # botocore and google-api-core name it otherwise
        status = getattr(error, "code", None)
    return status if type(status) is int else None


def is_unbilled(error: BaseException) -> bool:
    """Tell whether the call surely cost nothing: it was refused or never arrived."""
    for each in _causes(error):
        status = http_status(each)
        if status is not None and status >= 400:
            return True
        if type(each).__name__ in _NEVER_SENT:
            return True
    return False


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__
