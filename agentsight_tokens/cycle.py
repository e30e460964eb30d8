"""Cycles and their wire format: what one conversation used between two sends."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from functools import reduce
from operator import add
from typing import Final, Literal

import msgspec

from .usage import TokenUsage, UsageRecord, usd

__all__ = ["WIRE_VERSION", "Cycle", "SealedBy", "cycle_key", "decode_cycles", "encode_cycles"]

WIRE_VERSION: Final = 1
"""The version of the format; a field may be added to it, never changed or taken away."""

SealedBy = Literal["send", "reset", "close", "recovery"]
"""What ended the cycle; `recovery` is the death of its process."""


def cycle_key(journal_id: str, conversation_id: str, sequence: int, part: str = "") -> str:
    """
    Return the key of a cycle, the same whenever it is sealed or sealed again.

    Args:
        journal_id: The id of the process's journal.
        conversation_id: The conversation.
        sequence: The number of the cycle in that journal.
        part: Which part of a cycle that is too large to be delivered whole.
    """
    return f"{journal_id}:{conversation_id}:{sequence}{part and f':{part}'}"


class Cycle(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Everything that one conversation used between two sends."""

    version: int
    """The version of the wire format."""
    key: str
    """The deterministic key; a store takes each key once, for ever."""
    conversation_id: str
    sealed_by: SealedBy
    opened_at: datetime
    """When the first call of the cycle ended, aware and in UTC."""
    sealed_at: datetime
    """When the cycle was sealed, aware and in UTC."""
    environment: str | None = None
    """production, staging, ... as the configuration says."""
    calls: int
    unreported_calls: int = 0
    unpriced_calls: int = 0
    cost_pico_usd: int = 0
    """The cost of the calls that have one."""
    totals: TokenUsage
    """The sum of the records."""
    records: tuple[UsageRecord, ...]

    @classmethod
    def of(
        cls,
        records: Sequence[UsageRecord],
        *,
        key: str,
        conversation_id: str,
        sealed_by: SealedBy,
        sealed_at: datetime,
        environment: str | None = None,
    ) -> Cycle:
        """Return the cycle of at least one record, its totals added up."""
        return cls(
            version=WIRE_VERSION,
            key=key,
            conversation_id=conversation_id,
            sealed_by=sealed_by,
            opened_at=min(record.at for record in records),
            sealed_at=sealed_at,
            environment=environment,
            calls=len(records),
            unreported_calls=sum(record.is_unreported for record in records),
            unpriced_calls=sum(
                record.cost_pico_usd is None and bool(record.usage) for record in records
            ),
            cost_pico_usd=sum(record.cost_pico_usd or 0 for record in records),
            totals=reduce(add, (record.usage for record in records)),
            records=tuple(records),
        )

    @property
    def cost(self) -> Decimal:
        """The cost in USD of the calls that have one."""
        return usd(self.cost_pico_usd)


class _Envelope(msgspec.Struct):
    cycles: list[Cycle]


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(_Envelope)


def encode_cycles(cycles: Sequence[Cycle]) -> bytes:
    """Return the body of `POST /v1/cycles`."""
    return _encoder.encode(_Envelope(list(cycles)))


def decode_cycles(body: bytes) -> list[Cycle]:
    """
    Read the body of `POST /v1/cycles`.

    Raises:
        msgspec.DecodeError: If it is no such body; the message names the place.
    """
    return _decoder.decode(body).cycles
