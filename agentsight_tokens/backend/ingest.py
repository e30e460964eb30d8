"""
Ingest: the body of `POST /v1/cycles` becomes rows, and a receipt tells what became of each cycle.

A cycle that cannot be stored, or a record of it, costs no other: what is refused is named with
the reason, and everything else is committed durably before the receipt is returned.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from agentsight_tokens.cycle import WIRE_VERSION, Cycle, decode_cycles
from agentsight_tokens.errors import UnstorableError
from agentsight_tokens.receipt import CycleReceipt, RefusedRecord
from agentsight_tokens.usage import UsageRecord

from .store import DEFAULT_PROJECT_ID, Store

__all__ = ["ingest"]

_Take = Callable[[Sequence[Cycle]], object]
"""Stores cycles, all or none."""


class _Envelope(msgspec.Struct):
    cycles: list[msgspec.Raw]


class _Parts(msgspec.Struct):
    key: str
    records: list[msgspec.Raw]


class _Id(msgspec.Struct):
    id: str


_raw_envelope: Final = msgspec.json.Decoder(_Envelope)
_raw_parts: Final = msgspec.json.Decoder(_Parts)
_raw_fields: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def ingest(
    store: Store,
    body: bytes,
    *,
    project_id: int = DEFAULT_PROJECT_ID,
    on_stored: Callable[[Sequence[Cycle]], object] = len,
) -> list[CycleReceipt]:
    """
    Store what a body holds, and return a receipt for each cycle, in their order.

    Args:
        store: Where it goes.
        body: The body.
        project_id: Whose it is.
        on_stored: Is told of the cycles that are on disk.

    Raises:
        msgspec.DecodeError: If the body is no list of cycles; nothing is stored.
        Exception: What the store raises when it cannot be written; it must be sent again.
    """

    def take(cycles: Sequence[Cycle]) -> None:
        store.ingest(cycles, project_id=project_id)
        on_stored(cycles)

    try:
        cycles = decode_cycles(body)
    except msgspec.ValidationError:
        return [_ingest_raw(take, raw) for raw in _raw_cycles(body)]
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(str(error)) from None
    faults = [_fault(cycle) for cycle in cycles]
    try:
        take([cycle for cycle, fault in zip(cycles, faults, strict=True) if not fault])
    except UnstorableError:
        return [_ingest_alone(take, cycle) for cycle in cycles]
    return [
        _rejected(cycle.key, fault) if fault else _accepted(cycle.key)
        for cycle, fault in zip(cycles, faults, strict=True)
    ]


def _raw_cycles(body: bytes) -> list[msgspec.Raw]:
    try:
        body.decode()  # raw parts are not checked for it
    except UnicodeDecodeError as error:
        raise msgspec.DecodeError(str(error)) from None
    return _raw_envelope.decode(body).cycles


def _fault(cycle: Cycle) -> str | None:
    """Return what is wrong with a cycle as a whole."""
    if cycle.version > WIRE_VERSION:
        return f"version {cycle.version} of the format is newer than this server knows"
    if not cycle.records or cycle.calls != len(cycle.records):
        return f"it says {cycle.calls} calls and has {len(cycle.records)}"
    total = sum(record.usage.total_tokens for record in cycle.records)
    if total != cycle.totals.total_tokens:
        return f"it says {cycle.totals.total_tokens} tokens and its records sum up to {total}"
    return None


def _ingest_alone(take: _Take, cycle: Cycle) -> CycleReceipt:
    """Store a cycle of a body that could not be stored whole."""
    if fault := _fault(cycle):
        return _rejected(cycle.key, fault)
    reason = _unstorable(take, cycle)
    if reason is None:
        return _accepted(cycle.key)
    if len(cycle.records) == 1:
        return _rejected(cycle.key, reason)
    return _ingest_records(take, cycle, cycle.records, {})


def _ingest_raw(take: _Take, raw: msgspec.Raw) -> CycleReceipt:
    """Store a cycle of a body that could not be read whole."""
    try:
        cycle = msgspec.json.decode(raw, type=Cycle)
    except msgspec.ValidationError as error:
        return _ingest_parts(take, raw, str(error))
    return _ingest_alone(take, cycle)


def _ingest_parts(take: _Take, raw: msgspec.Raw, fault: str) -> CycleReceipt:
    """Store the records that can be read of a cycle that cannot."""
    try:
        parts = _raw_parts.decode(raw)
    except msgspec.ValidationError:
        return _rejected(_key(raw), fault)
    refused: dict[str, str] = {}
    records = []
    try:
        for each in parts.records:
            record, reason = _read_record(each)
            if isinstance(record, UsageRecord):
                records.append(record)
            else:
                refused[record] = reason
    except msgspec.ValidationError:  # it has not even an id
        return _rejected(parts.key, fault)
    if not records or not refused:
        return _rejected(parts.key, fault)
    try:
        fields = _raw_fields.decode(raw)
        fields["records"] = msgspec.Raw(msgspec.json.encode(records))
        cycle = msgspec.json.decode(msgspec.json.encode(fields), type=Cycle)
    except msgspec.ValidationError as error:
        return _rejected(parts.key, str(error))
    return _ingest_records(take, cycle, records, refused)


def _ingest_records(
    take: _Take, cycle: Cycle, records: Sequence[UsageRecord], refused: dict[str, str]
) -> CycleReceipt:
    """Store records one by one."""
    for record in records:
        if fault := _unstorable(take, _with_record(cycle, record)):
            refused[record.id] = fault
    if len(refused) == cycle.calls:
        return _rejected(cycle.key, next(iter(refused.values())))
    return CycleReceipt(
        cycle.key, "accepted", refused=tuple(RefusedRecord(*each) for each in refused.items())
    )


def _unstorable(take: _Take, cycle: Cycle) -> str | None:
    """Store a cycle; return what in it cannot be stored."""
    try:
        take([cycle])
    except UnstorableError as error:
        return str(error)
    return None


def _read_record(raw: msgspec.Raw) -> tuple[UsageRecord | str, str]:
    """Return a record, or the id of one that cannot be read and why."""
    try:
        return msgspec.json.decode(raw, type=UsageRecord), ""
    except msgspec.ValidationError as error:
        return msgspec.json.decode(raw, type=_Id).id, str(error)


def _with_record(cycle: Cycle, record: UsageRecord) -> Cycle:
    return Cycle.of(
        [record],
        key=cycle.key,
        conversation_id=cycle.conversation_id,
        sealed_by=cycle.sealed_by,
        sealed_at=cycle.sealed_at,
        environment=cycle.environment,
    )


def _key(raw: msgspec.Raw) -> str:
    fields: Any = msgspec.json.decode(raw)
    key = fields.get("key") if isinstance(fields, dict) else None
    return key if isinstance(key, str) else ""


def _accepted(key: str) -> CycleReceipt:
    return CycleReceipt(key, "accepted")


def _rejected(key: str, reason: str) -> CycleReceipt:
    return CycleReceipt(key, "rejected", reason)
