"""
Sessions of the dashboard: what a cookie says, and how its truth is known.

Nothing is kept of them, so any process answers any request. A session is proved with what is
stored of its key: it ends when the key is revoked, expires or is deleted, at once.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta
from typing import Final, NamedTuple

__all__ = ["LIFETIME", "SESSION_COOKIE", "Session", "begin_session", "session_of"]

SESSION_COOKIE: Final = "agentsight_session"
LIFETIME: Final = timedelta(days=7)
_PARTS: Final = 4
_MOST_CHARACTERS: Final = 200


class Session(NamedTuple):
    """What a cookie claims; true only if `is_genuine`."""

    key_id: str
    """Empty for the key that the configuration names."""
    expires_at: int
    """Seconds since 1970 UTC."""
    nonce: str
    proof: str

    def is_genuine(self, digest: str, now: datetime) -> bool:
        """Return whether the server made this of the key with that digest, and it lasts."""
        claim = _claim(self.key_id, self.expires_at, self.nonce)
        is_proved = hmac.compare_digest(self.proof.encode(), _proof(digest, claim).encode())
        return is_proved and now.timestamp() < self.expires_at

    def form_token(self, digest: str) -> str:
        """Return what the forms of this session carry, which no other site can know."""
        return _proof(digest, f"form.{self.proof}")


def begin_session(key_id: str | None, digest: str, now: datetime) -> str:
    """Return the cookie of a new session of a key; None names the configured one."""
    expires_at = int((now + LIFETIME).timestamp())
    claim = _claim(key_id or "", expires_at, secrets.token_hex(8))
    return f"{claim}.{_proof(digest, claim)}"


def session_of(cookie: str) -> Session | None:
    """Return what a cookie claims, or None if it is no session's."""
    parts = cookie.split(".") if len(cookie) <= _MOST_CHARACTERS else []
    if len(parts) != _PARTS or not cookie.isascii() or not parts[1].isdecimal():
        return None
    key_id, expires_at, nonce, proof = parts
    return Session(key_id, int(expires_at), nonce, proof)


def _claim(key_id: str, expires_at: int, nonce: str) -> str:
    return f"{key_id}.{expires_at}.{nonce}"


def _proof(digest: str, claim: str) -> str:
    return hmac.new(digest.encode(), f"session.{claim}".encode(), hashlib.sha256).hexdigest()
