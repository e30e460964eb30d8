"""What destinations have refused for ever: each delivery with an id to name it by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence, Set
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from agentsight_tokens.errors import ConfigurationError
from agentsight_tokens.ledger import Ledger, Parcel
from agentsight_tokens.outbox import Outbox

from .rows import exact
from .waiting import opened_outbox

__all__ = ["REFUSED_FIELDS", "Refused", "decide", "named_in", "refused_in", "refused_row"]

REFUSED_FIELDS: Final = (
    "id",
    "destination",
    "conversation_id",
    "calls",
    "total_tokens",
    "cost_usd",
    "sealed_at",
    "reason",
    "key",
)
_DIGITS: Final = 10


class Refused(NamedTuple):
    """A cycle, or a part of one, that a destination has refused."""

    id: str
    """The same for as long as it is kept; a beginning that is nobody else's names it too."""
    parcel: Parcel


def refused_in(directory: Path, destination: str | None = None) -> list[Refused]:
    """Return what was refused, by any destination or by one."""
    with opened_outbox(directory) as outbox:
        return [found for _, found in _refused(outbox, destination)]


def refused_row(refused: Refused) -> dict[str, Any]:
    """Return a refused delivery as a flat row."""
    cycle = refused.parcel.cycle
    values = (
        refused.id,
        refused.parcel.destination,
        cycle.conversation_id,
        cycle.calls,
        cycle.totals.total_tokens + cycle.totals.embedding_tokens,
        exact(cycle.cost_pico_usd),
        cycle.sealed_at,
        refused.parcel.reason,
        cycle.key,
    )
    return dict(zip(REFUSED_FIELDS, values, strict=True))


def named_in(directory: Path, ids: Sequence[str], destination: str | None) -> list[Refused]:
    """
    Return what some ids name, or everything without one.

    Raises:
        ConfigurationError: For an id that names none or several.
    """
    with opened_outbox(directory) as outbox:
        return [found for _, found in _named(outbox, ids, destination)]


def decide(
    directory: Path,
    ids: Sequence[str],
    destination: str | None,
    state: Literal["pending", "dropped"],
) -> int:
    """
    Send what some ids name, or everything without one, once more, or drop it.

    Args:
        directory: The data directory.
        ids: Which; none for all.
        destination: Whose; None for everybody's.
        state: `pending` to send, `dropped` to drop.

    Returns:
        How many there still were.

    Raises:
        ConfigurationError: For an id that names none or several; then nothing is done.
    """
    with opened_outbox(directory) as outbox:
        of_ledger: defaultdict[Ledger, list[int]] = defaultdict(list)
        for ledger, refused in _named(outbox, ids, destination):
            of_ledger[ledger].append(refused.parcel.id)
        return sum(ledger.decide(parcels, state) for ledger, parcels in of_ledger.items())


def _named(
    outbox: Outbox, ids: Sequence[str], destination: str | None
) -> list[tuple[Ledger, Refused]]:
    found = list(_refused(outbox, destination))
    named = {_full(id, {refused.id for _, refused in found}) for id in ids}
    return [each for each in found if not ids or each[1].id in named]


def _refused(outbox: Outbox, destination: str | None) -> Iterator[tuple[Ledger, Refused]]:
    for ledger in outbox.ledgers():
        after = 0
        while parcels := ledger.kept("dead", after=after):
            for parcel in parcels:
                if destination in {None, parcel.destination}:
                    yield ledger, Refused(_id(parcel), parcel)
            after = parcels[-1].id


def _id(parcel: Parcel) -> str:
    text = f"{parcel.destination}\n{parcel.cycle.key}"
    return sha256(text.encode()).hexdigest()[:_DIGITS]


def _full(id: str, known: Set[str]) -> str:
    matches = sorted(each for each in known if each.startswith(id.lower()))
    if len(matches) != 1:
        problem = f"could be {' or '.join(matches)}" if matches else "is none of those"
        raise ConfigurationError(
            f"{id!r} {problem} that `agentsight-tokens outbox dead list` shows; nothing was changed"
        )
    return matches[0]
