"""Records for tests of what lies below the tracker."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import msgspec

from agentsight_tokens import Scope, TokenUsage, UsageRecord
from agentsight_tokens.cycle import Cycle
from agentsight_tokens.destinations import Outcome
from agentsight_tokens.ids import time_ordered_id

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)


def call(number: int = 1, *, conversation: str = "c", **facts: object) -> UsageRecord:
    """Return a record whose counts tell its number."""
    fields = {
        "id": time_ordered_id(),
        "at": AT + timedelta(seconds=number),
        "usage": TokenUsage(input_tokens=number, output_tokens=2 * number),
        "scope": Scope(conversation_id=conversation, session_id=conversation),
        "model": "gpt-4o",
        "cost_pico_usd": 7 * number,
        "cost_status": "priced",
    }
    return UsageRecord(**{**fields, **facts})


def encoded(record: UsageRecord) -> bytes:
    """Return a record as the journal takes it."""
    return msgspec.json.encode(record)


class Collector:
    """A destination that keeps what it gets, and fails as told."""

    identity = "collector"

    def __init__(self) -> None:
        self.cycles: list[Cycle] = []
        self.deliveries = 0
        self.failures: list[Exception] = []
        self.poison: set[int] = set()
        self.refuses_by_record = False
        self.is_closed = False

    def deliver(self, cycles: list[Cycle]) -> list[Outcome]:
        """Take cycles, or fail with the next failure."""
        from agentsight_tokens.errors import DeliveryRefusedError

        self.deliveries += 1
        if self.failures:
            raise self.failures.pop(0)
        bad = [any(r.input_tokens in self.poison for r in cycle.records) for cycle in cycles]
        if any(bad) and not self.refuses_by_record:
            raise DeliveryRefusedError("400: poison")
        self.cycles += [c for c, is_bad in zip(cycles, bad, strict=True) if not is_bad]
        return [Outcome(not is_bad, "poison" if is_bad else None) for is_bad in bad]

    def check(self) -> None:
        """Always answer."""

    def close(self) -> None:
        """Note that it was closed."""
        self.is_closed = True

    def forget_after_fork(self) -> None:
        """Hold nothing that a child must not use."""

    def input_tokens(self) -> int:
        """Return the sum of what came, each cycle key and record id taken once."""
        records = {r.id: r for cycle in self.cycles for r in cycle.records}
        return sum(record.input_tokens for record in records.values())
