"""What LiteLLM's exceptions say about the bill."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Final

__all__ = ["CANCELLATIONS", "causes_of", "is_unbilled", "status_of"]

CANCELLATIONS: Final = (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt)
"""What ends a call because nobody wants its answer any more."""

_MADE_UP: Final = frozenset({"APIConnectionError", "MidStreamFallbackError", "Timeout"})
"""Exceptions of LiteLLM's own whose status no server has sent."""

_NEVER_SENT: Final = frozenset(
    {
        *("ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError"),  # of httpx
        *("ClientConnectorError", "ClientProxyConnectionError"),  # of aiohttp
        "ConnectionRefusedError",
    }
)
"""Exceptions that are raised before a request reaches the provider."""

_NO_ANSWER: Final = frozenset(
    {
        *("NetworkError", "ProtocolError", "TimeoutException"),  # of httpx
        *("ClientPayloadError", "ServerConnectionError"),  # of aiohttp
        *("APIConnectionError", "TimeoutError", "ConnectionError"),
    }
)
"""Exceptions, with those derived from them, that leave open what the provider did."""


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that an exception carries."""
    for holder, name in ((error, "status_code"), (error, "status"), (error, "response")):
        found = getattr(holder, name, None)
        status = getattr(found, "status_code", None) if name == "response" else found
        if type(status) is int:
            return status
    return None


def is_unbilled(error: BaseException, *, before: BaseException | None = None) -> bool:
    """
    Tell whether the call surely cost nothing: it was refused or never arrived.

    LiteLLM puts a status on whatever it raises, so what its transport raised is asked first.

    Args:
        error: What ended the call.
        before: What was being handled when the call began, such as the failure of an earlier
            attempt. It is the error's context and says nothing of this call.
    """
    causes = list(causes_of(error, before=before))
    names = {kind.__name__ for each in causes for kind in type(each).__mro__}
    if names & _NEVER_SENT:
        return True
    answers = (status_of(each) for each in causes if not _is_of_litellm(each))
    if any(status is not None and status >= 400 for status in answers):
        return True
    if names & _NO_ANSWER:
        return False
    stated = (status_of(each) for each in causes if type(each).__name__ not in _MADE_UP)
    return any(status is not None and status >= 400 for status in stated)


def _is_of_litellm(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] == "litellm"


def causes_of(
    error: BaseException | None, *, before: BaseException | None = None
) -> Iterator[BaseException]:
    """Return an exception and those behind it, as far as one that was there before."""
    seen = {id(before)}
    each = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        # LiteLLM maps exceptions without `from`, so the cause is often only the context.
        each = getattr(each, "original_exception", None) or each.__cause__ or each.__context__
