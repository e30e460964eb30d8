"""What waits in the outbox, and what was refused."""

from __future__ import annotations

import sqlite3
from collections import Counter
from pathlib import Path
from typing import Literal, NamedTuple

from agentsight_tokens.ledger import LEDGER_FILE, Ledger
from agentsight_tokens.outbox import Outbox

__all__ = ["Waiting", "waiting_in"]


class Waiting(NamedTuple):
    """Cycles, or parts of large ones, that a destination has not taken."""

    destination: str
    state: Literal["pending", "refused"]
    cycles: int


def waiting_in(directory: Path) -> list[Waiting]:
    """Return what the processes of a data directory still have to deliver, and what is dead."""
    counts: Counter[tuple[str, Literal["pending", "refused"]]] = Counter()
    outbox = Outbox(directory)
    try:
        for folder in outbox.folders():
            if not (folder / LEDGER_FILE).exists():
                continue
            try:
                with Ledger(folder, folder.name) as ledger:
                    destinations = ledger.destinations
                    for destination in destinations:
                        counts[destination, "pending"] += ledger.pending(destination)
                    counts[", ".join(destinations), "refused"] += ledger.dead()
            except sqlite3.OperationalError:  # delivered and deleted meanwhile
                continue
    finally:
        outbox.close()
    return [Waiting(*key, cycles) for key, cycles in sorted(counts.items()) if cycles]
