"""Scopes as they are stored."""

from __future__ import annotations

from agentsight_tokens.config import TokenConfig
from agentsight_tokens.usage import Scope
from agentsight_tokens.whole_scopes import WholeScopes


def test_scopes_are_whole_however_many_there_are() -> None:
    """Each call has its own conversation, session and user, seen before or long ago or never."""
    whole = WholeScopes(conversation_id="c", config=TokenConfig())
    names = [*(f"u{number}" for number in range(1_002)), "u0", "u0", "u1001"]

    scopes = [whole[Scope(user_id=name)] for name in names]

    assert scopes == [Scope(conversation_id="c", session_id="c", user_id=n) for n in names]
    assert whole[Scope(conversation_id="d")].session_id == "d"
