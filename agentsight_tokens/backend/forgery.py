"""Forgery: a form counts only if a page of this server was what sent it."""

from __future__ import annotations

import hmac
from typing import Final
from urllib.parse import urlsplit

from starlette.requests import Request

from .endpoint import FORM_TOKEN, Asked
from .problem import Problem

__all__ = ["check_forgery"]

_OWN: Final = {"same-origin", "none"}


async def check_forgery(asked: Asked) -> None:
    """
    See whether a form comes from a page of this server, and of the session it is sent in.

    Where there is no session, as before the login, the browser's word for its origin is enough.

    Raises:
        Problem: 403 if another site has sent it, or if it lacks the session's token.
    """
    if not _is_of_this_site(asked.request):
        raise Problem(403, "this form was sent by another site")
    expected = asked.access.form_token
    if expected is None:
        return
    given = (await asked.fields()).get(FORM_TOKEN, [""])[-1]
    if not hmac.compare_digest(given.encode(), expected.encode()):
        raise Problem(403, "this form is of a session that has ended; load the page again")


def _is_of_this_site(request: Request) -> bool:
    """Return whether the browser says so; each of them sends at least one of the headers."""
    # First, as it is right behind a proxy that changes Host, too; only sent to https and localhost.
    site = request.headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in _OWN
    origin = urlsplit(request.headers.get("Origin", "")).netloc
    return bool(origin) and origin == request.headers.get("Host")
