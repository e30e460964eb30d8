"""Names that must not leave the process."""

from __future__ import annotations

import re
from typing import Final

from .config import TokenConfig

__all__ = ["hashed_user_id", "stored_user_id"]

_DIGITS: Final = 32
_HASH: Final = re.compile(rf"[0-9a-f]{{{_DIGITS}}}")


def hashed_user_id(user_id: str | None, config: TokenConfig) -> str | None:
    """Return the user's id, as an HMAC-SHA256 of it where the configuration asks for that."""
    if user_id is None or not config.hash_user_ids:
        return user_id
    # Imported here: it loads OpenSSL.
    import hmac

    key = (config.hash_key or "").encode()
    return hmac.new(key, user_id.encode(), "sha256").hexdigest()[:_DIGITS]


def stored_user_id(user_id: str, config: TokenConfig) -> str:
    """Return what a user's id, or its hash as reports show it, is in the store."""
    return (not _HASH.fullmatch(user_id) and hashed_user_id(user_id, config)) or user_id
