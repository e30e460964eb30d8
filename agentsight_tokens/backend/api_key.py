"""API keys: what one says, what it allows, and how it is recognised without being kept."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from datetime import datetime
from typing import Final, Literal, NamedTuple, get_args

import msgspec

__all__ = ["KEY_SCOPES", "Access", "ApiKey", "KeyScope", "digest", "id_of", "is_same", "new_secret"]

KeyScope = Literal["ingest", "read", "admin"]
"""`ingest` may send calls, `read` may see them, `admin` may do both and manage keys."""

KEY_SCOPES: Final[tuple[KeyScope, ...]] = get_args(KeyScope)
_PREFIX: Final = "ats"


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A key of a project, without its secret."""

    id: str
    project_id: int
    name: str
    scopes: tuple[KeyScope, ...]
    created_at: datetime
    expires_at: datetime | None = None
    """When it ends to be valid, excluded."""
    last_used_at: datetime | None = None
    """To the minute."""
    revoked_at: datetime | None = None

    def fault(self, now: datetime) -> str | None:
        """Return why the key is not valid any more, or None if it is."""
        if self.revoked_at is not None:
            return f"the key was revoked at {self.revoked_at:%Y-%m-%d %H:%M} UTC"
        if self.expires_at is not None and now >= self.expires_at:
            return f"the key expired at {self.expires_at:%Y-%m-%d %H:%M} UTC"
        return None


class Access(NamedTuple):
    """Whose data a request may see, and what it may do with them."""

    project_id: int
    scopes: frozenset[KeyScope]
    key_id: str | None = None
    """The key; None for the one that the configuration names, and without any."""
    form_token: str | None = None
    """What the forms of a dashboard's session carry; None where there is no session."""

    def allows(self, scope: KeyScope) -> bool:
        """Return whether this may be done."""
        return scope in self.scopes or "admin" in self.scopes


def new_secret() -> tuple[str, str]:
    """Return a new key as its owner shows it, and its id."""
    id = secrets.token_hex(6)
    return f"{_PREFIX}_{id}_{secrets.token_urlsafe(32)}", id


def id_of(secret: str) -> str | None:
    """Return the id that a key says it has."""
    prefix, _, rest = secret.partition("_")
    id, _, proof = rest.partition("_")
    return id if prefix == _PREFIX and id and proof else None


def digest(secret: str) -> str:
    """
    Return what is stored of a key.

    A plain SHA-256 is enough: a key has 256 random bits, which nobody guesses at any speed.
    """
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


def is_same(secret: str, other: str) -> bool:
    """Compare secrets in a time that tells nothing of them."""
    return hmac.compare_digest(digest(secret), digest(other))
