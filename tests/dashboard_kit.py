"""The dashboard, visited in this process as a browser would."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from html import unescape
from typing import Any
from urllib.parse import urlencode

from starlette.applications import Starlette

from agentsight_tokens.backend.api_key import digest, id_of
from agentsight_tokens.backend.session import SESSION_COOKIE, begin_session, session_of
from tests.server_kit import Answer, ask

SAME_ORIGIN = {"sec_fetch_site": "same-origin", "host": "localhost:8765"}


def session_with(secret: str) -> dict[str, str]:
    """Return the headers of a session that a key's owner has begun."""
    cookie = begin_session(id_of(secret), digest(secret), datetime.now(timezone.utc))
    return {"cookie": f"{SESSION_COOKIE}={cookie}"}


def form_token(secret: str, headers: dict[str, str]) -> str:
    """Return what the forms of a session carry."""
    session = session_of(headers["cookie"].partition("=")[2])
    assert session is not None
    return session.form_token(digest(secret))


def form(**fields: Any) -> bytes:
    """Return a form as browsers send it."""
    return urlencode(fields, doseq=True).encode()


class Visitor:
    """Somebody with a browser: keeps the session, sends forms as pages hold them."""

    def __init__(self, app: Starlette, secret: str | None = None) -> None:
        self.app = app
        self.secret = secret
        self.session = {} if secret is None else session_with(secret)

    def get(self, path: str, **headers: str) -> Answer:
        path, _, query = path.partition("?")
        return ask(self.app, "GET", path, query=query, **{**SAME_ORIGIN, **self.session, **headers})

    def post(self, path: str, **fields: Any) -> Answer:
        if self.secret is not None:
            fields.setdefault("form_token", form_token(self.secret, self.session))
        return ask(self.app, "POST", path, body=form(**fields), **{**SAME_ORIGIN, **self.session})


def text_of(answer: Answer) -> str:
    """Return what a page says, its marks of whitespace as one blank."""
    html = re.sub(
        r"<(script|style|datalist|select)\b.*?</\1>", " ", answer.body.decode(), flags=re.S
    )
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def titles_of(answer: Answer) -> list[str]:
    """Return the exact values, which stand in titles."""
    return [unescape(each) for each in re.findall(r'title="([^"]*)"', answer.body.decode())]


def values_of(answer: Answer) -> list[str]:
    """Return the plain numbers of the charts, row by row."""
    return re.findall(r'data-value="([^"]*)"', answer.body.decode())
