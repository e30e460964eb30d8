"""What waits and what was refused, as a file of the wire format."""

from __future__ import annotations

from collections.abc import Iterator, Set
from pathlib import Path

import msgspec

from agentsight_tokens.cycle import Cycle
from agentsight_tokens.ledger import Ledger, ParcelState

from .waiting import State, opened_outbox

__all__ = ["kept_cycles", "written"]


def kept_cycles(
    directory: Path, states: Set[State], destination: str | None = None
) -> Iterator[Cycle]:
    """Return the cycles that not every destination has taken, each once."""
    with opened_outbox(directory) as outbox:
        for ledger in outbox.ledgers():
            seen: set[str] = set()
            for state in sorted(states):
                for cycle in _cycles(
                    ledger, "dead" if state == "refused" else "pending", destination
                ):
                    if cycle.key not in seen:
                        seen.add(cycle.key)
                        yield cycle


def written(cycles: Iterator[Cycle]) -> Iterator[tuple[bytes, int]]:
    """Return the pieces of a body of `POST /v1/cycles`, each with its number of calls."""
    encoder = msgspec.json.Encoder()
    beginning = b'{"cycles":['
    for cycle in cycles:
        yield beginning + b"\n" + encoder.encode(cycle), cycle.calls
        beginning = b","
    yield (beginning if beginning != b"," else b"") + b"\n]}\n", 0


def _cycles(ledger: Ledger, state: ParcelState, destination: str | None) -> Iterator[Cycle]:
    after = 0
    while parcels := ledger.kept(state, after=after):
        yield from (p.cycle for p in parcels if destination in {None, p.destination})
        after = parcels[-1].id
