"""What waits in the outbox, and what was refused."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, NamedTuple

from agentsight_tokens.outbox import Outbox

from .screen import plural

__all__ = ["Loss", "State", "Waiting", "losses_in", "opened_outbox", "waiting_in"]

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


class Loss(NamedTuple):
    """What a process could not keep."""

    folder: Path
    lost_calls: int
    """Calls that neither the disk nor the memory could hold."""
    damaged_entries: int
    """Entries of its journal that cannot be read."""

    def __str__(self) -> str:
        parts = []
        if self.lost_calls:
            parts.append(
                f"{plural(self.lost_calls, 'call')} lost, which neither disk nor memory could hold"
            )
        if self.damaged_entries:
            damaged = plural(self.damaged_entries, "damaged entry", "damaged entries")
            parts.append(f"{damaged} of the journal passed, the file is kept")
        return f"{self.folder}: {'; '.join(parts)}"


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


def losses_in(directory: Path) -> list[Loss]:
    """Return what the processes of a data directory have lost, as far as they could note it."""
    with opened_outbox(directory) as outbox:
        found = [
            Loss(outbox.processes / ledger.journal_id, ledger.lost, ledger.damaged)
            for ledger in outbox.ledgers()
        ]
    return [loss for loss in found if loss.lost_calls or loss.damaged_entries]
