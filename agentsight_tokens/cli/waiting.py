"""What waits in the outbox, and what was refused."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, NamedTuple

from agentsight_tokens.outbox import Outbox

__all__ = ["State", "Waiting", "opened_outbox", "waiting_in"]

State = Literal["pending", "refused"]
_STATES: Final[dict[str, State]] = {"pending": "pending", "dead": "refused"}


class Waiting(NamedTuple):
    """Cycles, or parts of large ones, that a destination has not taken."""

    destination: str
    state: State
    cycles: int
    calls: int
    bytes: int
    """The size of their records as JSON."""
    oldest_at: datetime
    """When the oldest of them was sealed."""


@contextlib.contextmanager
def opened_outbox(directory: Path) -> Iterator[Outbox]:
    """Look into the outbox of a data directory; what cannot be read is reported and passed."""
    outbox = Outbox(directory)
    try:
        yield outbox
    finally:
        outbox.close()


def waiting_in(directory: Path) -> list[Waiting]:
    """Return what the processes of a data directory still have to deliver, and what is dead."""
    found: defaultdict[tuple[str, State], list[Waiting]] = defaultdict(list)
    with opened_outbox(directory) as outbox:
        for ledger in outbox.ledgers():
            for each in ledger.waiting():
                key = (each.destination, _STATES[each.state])
                found[key].append(
                    Waiting(*key, each.parcels, each.calls, each.size, each.oldest_at)
                )
    return [
        Waiting(
            *key,
            cycles=sum(each.cycles for each in parts),
            calls=sum(each.calls for each in parts),
            bytes=sum(each.bytes for each in parts),
            oldest_at=min(each.oldest_at for each in parts),
        )
        for key, parts in sorted(found.items())
    ]
