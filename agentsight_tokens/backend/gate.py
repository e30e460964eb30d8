"""The gate: finds out whose a request is, and whether it is allowed."""

from __future__ import annotations

import ipaddress
from typing import Final, Literal

from starlette.requests import Request

from .api_key import Access, KeyScope, is_same
from .endpoint import Server
from .problem import Problem
from .store import DEFAULT_PROJECT_ID

__all__ = ["access_of", "is_this_machine"]

_EVERYTHING: Final = Access(DEFAULT_PROJECT_ID, frozenset(("admin",)))


def access_of(request: Request, server: Server, scope: KeyScope | Literal["any"]) -> Access:
    """
    Return the access of a request.

    Raises:
        Problem: 401 without a valid key, 403 with one that does not allow this.
    """
    access = _access(request, server)
    if scope != "any" and not access.allows(scope):
        allowed = ", ".join(sorted(access.scopes))
        raise Problem(403, f"this needs a key with the scope {scope!r}; this one has: {allowed}")
    return access


def _access(request: Request, server: Server) -> Access:
    kind, _, secret = request.headers.get("Authorization", "").partition(" ")
    is_shown = kind.lower() == "bearer" and bool(secret)
    if server.api_key is not None and is_shown and is_same(secret, server.api_key):
        return _EVERYTHING
    if is_shown and (key := server.accounts.key_of(secret)) is not None:
        if fault := key.fault(server.accounts.now()):
            raise _unauthorized(fault)
        server.accounts.note_use(key)
        return Access(key.project_id, frozenset(key.scopes), key.id)
    if server.is_open and server.api_key is None and not server.accounts.has_keys():
        _check_origin(request)
        return _EVERYTHING
    raise _unauthorized(
        "the key is not known" if is_shown else "show a key: Authorization: Bearer <key>"
    )


def _check_origin(request: Request) -> None:
    """Let no page of the web reach, through its reader's browser, a server without keys."""
    host = request.headers.get("Host")
    if host is not None and not is_this_machine(_without_port(host)):
        raise Problem(403, f"without a key this server answers on this machine, not as {host!r}")
    if request.headers.get("Sec-Fetch-Site") in {"cross-site", "same-site"}:
        raise Problem(403, "without a key this server answers no other site's pages")


def is_this_machine(host: str) -> bool:
    """Return whether a host's name or address is of this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _without_port(host: str) -> str:
    name, _, port = host.rpartition(":")
    return name if name and port.isdecimal() else host


def _unauthorized(message: str) -> Problem:
    return Problem(401, message, {"WWW-Authenticate": "Bearer"})
