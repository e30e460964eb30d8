"""Calls in a store, as the tests of the analytics need them."""

from __future__ import annotations

from collections.abc import Iterable

from agentsight_tokens import Cycle, UsageRecord
from agentsight_tokens.backend.store import DEFAULT_PROJECT_ID, Store
from tests.records import AT


def keep(
    store: Store,
    *records: UsageRecord,
    environment: str | None = None,
    project_id: int = DEFAULT_PROJECT_ID,
) -> None:
    """Store records as cycles of one call each."""
    store.ingest(
        [one_cycle([record], environment=environment) for record in records],
        project_id=project_id,
    )


def one_cycle(records: Iterable[UsageRecord], *, environment: str | None = None) -> Cycle:
    """Return a cycle of some calls of one conversation."""
    calls = list(records)
    return Cycle.of(
        calls,
        key=f"cycle-{calls[0].id}",
        conversation_id=calls[0].conversation_id or "c",
        sealed_by="send",
        sealed_at=AT,
        environment=environment,
    )
