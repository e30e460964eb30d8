"""The login: a key for a session."""

from __future__ import annotations

from typing import Final

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from agentsight_tokens.backend.api_key import digest, is_same
from agentsight_tokens.backend.endpoint import Asked, Endpoint
from agentsight_tokens.backend.session import LIFETIME, SESSION_COOKIE, begin_session

from .page import rendered, to_page

__all__ = ["ENDPOINTS"]


class LoginQuery(msgspec.Struct, frozen=True):
    """Where to go once one is in."""

    next: str = "/"


class Login(msgspec.Struct, frozen=True):
    """A key, and where to go."""

    key: str = ""
    next: str = "/"


class _RefusedError(Exception):
    """Why a key opens no dashboard."""


async def get_login(asked: Asked) -> Response:
    """Show the form."""
    return await _form(asked, asked.query(LoginQuery).next)


async def post_login(asked: Asked) -> Response:
    """Begin a session, if the key is one that may see something."""
    login = await asked.form(Login)
    client = asked.request.client
    address = client.host if client else ""
    asked.server.logins.check(address)
    try:
        cookie = await run_in_threadpool(_session, asked, login.key.strip())
    except _RefusedError as error:
        asked.server.logins.note_failure(address)
        return await _form(asked, login.next, fault=str(error))
    response = to_page(_local(login.next))
    response.set_cookie(
        SESSION_COOKIE,
        cookie,
        max_age=int(LIFETIME.total_seconds()),
        httponly=True,
        samesite="strict",
        secure=_is_https(asked.request),
    )
    return response


async def post_logout(asked: Asked) -> Response:
    """End the session in this browser."""
    response = to_page("/login")
    response.delete_cookie(
        SESSION_COOKIE, httponly=True, samesite="strict", secure=_is_https(asked.request)
    )
    return response


async def _form(asked: Asked, next: str, *, fault: str | None = None) -> Response:
    def made() -> Response:
        return rendered(
            asked,
            "login.html",
            title="Log in",
            status=200 if fault is None else 401,
            next=_local(next),
            fault=fault,
        )

    return await run_in_threadpool(made)


def _session(asked: Asked, secret: str) -> str:
    accounts, configured = asked.server.accounts, asked.server.api_key
    now = accounts.now()
    if configured is not None and is_same(secret, configured):
        return begin_session(None, digest(configured), now)
    key = accounts.key_of(secret)
    if key is None:
        raise _RefusedError("This key is not known. A key is printed once, when it is made.")
    if fault := key.fault(now):
        raise _RefusedError(f"{fault[0].upper()}{fault[1:]}.")
    if not {"read", "admin"} & {*key.scopes}:
        raise _RefusedError("This key may only send calls. The dashboard needs read or admin.")
    return begin_session(key.id, digest(secret), now)


def _local(address: str) -> str:
    """Return an address of this server; any other is its first page."""
    is_local = address.startswith("/") and address[1:2] not in {"/", "\\"} and address.isprintable()
    return address if is_local else "/"


def _is_https(request: Request) -> bool:
    return request.url.scheme == "https"


ENDPOINTS: Final = (
    Endpoint("GET", "/login", get_login, None, "Show the login.", query=LoginQuery, kind="page"),
    Endpoint("POST", "/login", post_login, None, "Log in.", body=Login, kind="page"),
    Endpoint("POST", "/logout", post_logout, "any", "Log out.", kind="page"),
)
