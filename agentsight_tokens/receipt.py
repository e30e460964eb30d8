"""The receipt: what `POST /v1/cycles` answers, cycle by cycle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

__all__ = ["CycleReceipt", "Receipt", "RefusedRecord", "decode_receipt", "encode_receipt"]


class RefusedRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A record that is refused for ever."""

    id: str
    reason: str = "refused without a reason"


class CycleReceipt(msgspec.Struct, frozen=True, omit_defaults=True):
    """What has become of one cycle."""

    key: str
    status: Literal["accepted", "rejected"]
    """`accepted`: what is not refused below is stored, now or before."""
    reason: str | None = None
    """Why it is rejected."""
    refused: tuple[RefusedRecord, ...] = ()
    """Of an accepted cycle, the records that are not."""


class Receipt(msgspec.Struct, frozen=True):
    """The answer to a delivery. Without results, everything is accepted."""

    results: tuple[CycleReceipt, ...] | None = None


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(Receipt)


def encode_receipt(results: Sequence[CycleReceipt]) -> bytes:
    """Return the body of the answer."""
    return _encoder.encode(Receipt(tuple(results)))


def decode_receipt(body: bytes) -> Receipt:
    """
    Read the body of the answer; an empty one has no results.

    Raises:
        msgspec.DecodeError: If it is none.
    """
    return _decoder.decode(body) if body.strip() else Receipt()
