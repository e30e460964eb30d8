"""What the clients of every framework share: a provider, a meter, and how to wait."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from agentsight_tokens.testing import LoopbackProvider

from .meter_under_test import MeterUnderTest

__all__ = ["Clients", "drain", "expect_failure", "run"]


class Clients:
    """
    Makes the clients of a framework, all of them for one provider.

    Args:
        provider: Whom the clients call.
    """

    meter: MeterUnderTest
    """What counts the calls; set once it is switched on."""

    def __init__(self, provider: LoopbackProvider) -> None:
        self.provider = provider
        self.built: Any = None
        """What the scenario's `build` has made."""


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in an event loop of its own."""
    return asyncio.run(work)


async def drain(stream: Any) -> list[Any]:
    """Return everything that an asynchronous iterator gives, or the awaitable of one."""
    found = stream if hasattr(stream, "__aiter__") else await stream
    return [each async for each in found]


@contextmanager
def expect_failure(word: str) -> Iterator[None]:
    """
    Run a block that must raise, as a call that a provider refuses does.

    Args:
        word: What the error's text must contain.
    """
    try:
        yield
    except Exception as error:
        if word not in str(error):
            raise
    else:
        raise AssertionError(f"nothing was raised that says {word!r}")
