"""The gate: finds out whose a request is, and whether it is allowed."""

from __future__ import annotations

import ipaddress
from typing import Final

from starlette.requests import Request

from .api_key import Access, digest, is_same
from .endpoint import Endpoint, Server
from .problem import Problem
from .session import SESSION_COOKIE, session_of
from .store import DEFAULT_PROJECT_ID

__all__ = ["access_of", "is_this_machine"]

_EVERYTHING: Final = Access(DEFAULT_PROJECT_ID, frozenset(("admin",)))


def access_of(request: Request, server: Server, endpoint: Endpoint) -> Access:
    """
    Return the access of a request: by its key, or where a page is asked for, by its session.

    Raises:
        Problem: 401 without a valid key, 403 with one that does not allow this.
    """
    is_page = endpoint.kind == "page"
    access = _by_session(request, server) if is_page else _by_key(request, server)
    if access is None:
        access = _without_key(request, server, is_page=is_page)
    scope = endpoint.scope
    if scope is not None and scope != "any" and not access.allows(scope):
        allowed = ", ".join(sorted(access.scopes))
        raise Problem(403, f"this needs a key with the scope {scope!r}; this one has: {allowed}")
    return access


def _by_key(request: Request, server: Server) -> Access | None:
    secret = _shown(request)
    if server.api_key is not None and secret and is_same(secret, server.api_key):
        return _EVERYTHING
    key = server.accounts.key_of(secret) if secret else None
    if key is None:
        return None
    if fault := key.fault(server.accounts.now()):
        raise _unauthorized(fault)
    server.accounts.note_use(key)
    return Access(key.project_id, frozenset(key.scopes), key.id)


def _by_session(request: Request, server: Server) -> Access | None:
    session = session_of(request.cookies.get(SESSION_COOKIE, ""))
    if session is None:
        return None
    now = server.accounts.now()
    if not session.key_id:
        if server.api_key is None or not session.is_genuine(digest(server.api_key), now):
            return None
        return _EVERYTHING._replace(form_token=session.form_token(digest(server.api_key)))
    found = server.accounts.key_of_id(session.key_id)
    if found is None or not session.is_genuine(found[1], now) or found[0].fault(now):
        return None
    key, secret_digest = found
    server.accounts.note_use(key)
    return Access(key.project_id, frozenset(key.scopes), key.id, session.form_token(secret_digest))


def _without_key(request: Request, server: Server, *, is_page: bool) -> Access:
    if server.is_open and server.api_key is None and not server.accounts.has_keys():
        _check_origin(request, may_be_linked=is_page and request.method == "GET")
        return _EVERYTHING
    if is_page:
        raise _unauthorized("log in with a key")
    raise _unauthorized(
        "the key is not known" if _shown(request) else "show a key: Authorization: Bearer <key>"
    )


def _shown(request: Request) -> str:
    """Return the secret that a request shows, or nothing."""
    kind, _, secret = request.headers.get("Authorization", "").partition(" ")
    return secret if kind.lower() == "bearer" else ""


def _check_origin(request: Request, *, may_be_linked: bool) -> None:
    """
    Let no page of the web reach, through its reader's browser, a server without keys.

    A link to a page may be followed: who has set it does not see what it leads to.
    """
    host = request.headers.get("Host")
    if host is not None and not is_this_machine(_without_port(host)):
        raise Problem(403, f"without a key this server answers on this machine, not as {host!r}")
    is_link = may_be_linked and request.headers.get("Sec-Fetch-Dest") == "document"
    if not is_link and request.headers.get("Sec-Fetch-Site") in {"cross-site", "same-site"}:
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
