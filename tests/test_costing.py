"""What a record lacks until it is counted."""

from __future__ import annotations

from datetime import datetime, timezone

from agentsight_tokens.config import TokenConfig
from agentsight_tokens.costing import Completion
from agentsight_tokens.pricing import CostEstimator
from agentsight_tokens.usage import Scope, UsageRecord


def record(**scope: str) -> UsageRecord:
    return UsageRecord(id="1", at=datetime.now(timezone.utc), scope=Scope(**scope))


def test_scopes_are_whole_however_many_there_are() -> None:
    """Each call has its own conversation, session and user, seen before or long ago or never."""
    completion = Completion(CostEstimator(), conversation_id="c", config=TokenConfig())
    names = [*(f"u{number}" for number in range(1_002)), "u0", "u0", "u1001"]

    scopes = [completion.completed(record(user_id=name)).scope for name in names]

    assert scopes == [Scope(conversation_id="c", session_id="c", user_id=n) for n in names]
    assert completion.completed(record(conversation_id="d")).scope.session_id == "d"
