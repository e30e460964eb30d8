"""Delivering what waits, beside programs that do so as well."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Final, NamedTuple

from agentsight_tokens.config import TokenConfig
from agentsight_tokens.destinations import Destination
from agentsight_tokens.errors import ConfigurationError
from agentsight_tokens.sender import Sender

from .waiting import opened_outbox, waiting_in

__all__ = ["Flushed", "flushed", "readdressed"]

LOOK_SECONDS: Final = 0.2
STOP_SECONDS: Final = 1.0
"""How long to wait for a delivery under way; it comes again if it is not noted."""


class Flushed(NamedTuple):
    """What has become of what waited for a destination."""

    destination: str
    delivered: int
    """Cycles, or parts of large ones."""
    refused: int
    """Those that it refuses for ever, these and older ones."""
    waiting: int
    error: str | None
    """Why they wait, as far as that is known."""


def readdressed(config: TokenConfig, destinations: Sequence[Destination], old: str) -> int:
    """
    Let what waits for a destination of former settings wait for one of its kind.

    Args:
        config: Where the outbox is.
        destinations: Those of today.
        old: The former one's identity.

    Returns:
        How many cycles.

    Raises:
        ConfigurationError: If nothing waits for it, or there is not one of its kind.
    """
    waiting = {each.destination for each in waiting_in(config.directory)}
    if old not in waiting:
        known = f"something waits for {', '.join(sorted(waiting))}" if waiting else "nothing waits"
        raise ConfigurationError(f"--from {old!r}: nothing waits for it; {known}")
    kind = old.partition(":")[0]
    heirs = [d.identity for d in destinations if d.identity.partition(":")[0] == kind]
    if len(heirs) != 1:
        raise ConfigurationError(
            f"--from {old!r}: {len(heirs) or 'no'} destinations of the kind {kind!r} are configured, "
            "and it takes one; see AGENTSIGHT_DESTINATIONS and AGENTSIGHT_API_ENDPOINT"
        )
    with opened_outbox(config.directory) as outbox:
        return sum(ledger.readdress(old, heirs[0]) for ledger in outbox.ledgers())


def flushed(
    config: TokenConfig, destinations: Sequence[Destination], *, seconds: float
) -> Iterator[Flushed]:
    """
    Deliver what waits, dead processes' open cycles included, and say what has become of it.

    Args:
        config: Where the outbox is.
        destinations: Where to deliver.
        seconds: How long to try.
    """
    with opened_outbox(config.directory) as outbox:
        outbox.adopt(destinations[0].identity)
    before = _counts(config, "pending")
    days = timedelta(days=config.outbox_max_days)
    senders = [Sender(config.directory, each, longest_wait=days) for each in destinations]
    busy = [each for each in senders if before[each.destination.identity]]
    deadline = time.monotonic() + seconds
    for sender in busy:
        sender.start()
    try:
        still = list(busy)
        while still and time.monotonic() < deadline:
            still = [
                sender
                for sender in still
                if not sender.drain(min(time.monotonic() + LOOK_SECONDS, deadline))
            ]
        errors = {each.destination.identity: each.last_error for each in still}
    finally:
        for sender in busy:
            sender.stop(STOP_SECONDS)
    waiting, refused = _counts(config, "pending"), _counts(config, "refused")
    for sender in senders:
        name = sender.destination.identity
        yield Flushed(
            name,
            delivered=max(before[name] - waiting[name], 0),
            refused=refused[name],
            waiting=waiting[name],
            error=(errors.get(name) or "time is up") if waiting[name] else None,
        )


def _counts(config: TokenConfig, state: str) -> Counter[str]:
    found: Counter[str] = Counter()
    for each in waiting_in(config.directory):
        if each.state == state:
            found[each.destination] = each.cycles
    return found
