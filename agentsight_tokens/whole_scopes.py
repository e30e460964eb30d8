"""Scopes as they are stored: with a conversation, a session and no name that must not be told."""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from .config import TokenConfig
from .privacy import hashed_user_id
from .usage import Scope

__all__ = ["WholeScopes"]

_MOST_SCOPES: Final = 1_000
"""How many scopes are remembered as they are when they are whole."""


class WholeScopes(dict[Scope, Scope]):
    """
    Scopes by what is known of them when a call begins; those that are not there are made.

    Args:
        conversation_id: The conversation of a call that names none.
        config: Whether user ids are hashed, and how.
    """

    def __init__(self, *, conversation_id: str, config: TokenConfig) -> None:
        super().__init__()
        self._conversation_id = conversation_id
        self._config = config

    def __missing__(self, scope: Scope) -> Scope:
        conversation_id = scope.conversation_id or self._conversation_id
        whole = replace(
            scope,
            conversation_id=conversation_id,
            session_id=scope.session_id or conversation_id,
            user_id=hashed_user_id(scope.user_id, self._config),
        )
        if len(self) >= _MOST_SCOPES:
            self.clear()
        self[scope] = whole
        return whole
