"""The keys of a project: made, listed, revoked."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from agentsight_tokens.backend.api_key import KEY_SCOPES, ApiKey, KeyScope
from agentsight_tokens.backend.endpoint import Asked, Endpoint
from agentsight_tokens.backend.problem import Problem
from agentsight_tokens.errors import InvalidScopeError

from .figures import Figure, moment
from .page import page, rendered, to_page

__all__ = ["ENDPOINTS"]

_TITLE: Final = "Keys"
_EXPIRIES: Final = {"": "Never", "30": "In 30 days", "90": "In 90 days", "365": "In a year"}


class NoQuery(msgspec.Struct, frozen=True):
    """The page takes no parameters."""


class NewKey(msgspec.Struct, frozen=True):
    """The form that makes a key."""

    name: str = ""
    scopes: list[KeyScope] = []
    expires_days: Annotated[int, msgspec.Meta(ge=1, le=3650)] | None = None


class Row(NamedTuple):
    """A key."""

    id: str
    name: str
    scopes: tuple[KeyScope, ...]
    created: Figure
    used: Figure
    expires: Figure
    fault: str | None
    """Why it is not valid any more."""
    is_own: bool
    """Whether this session was begun with it."""


def view_of(asked: Asked, _: NoQuery) -> Mapping[str, Any]:
    """Read the keys."""
    return _view(asked)


async def post_key(asked: Asked) -> Response:
    """Make a key, and show its secret this once."""
    new = await asked.form(NewKey)
    return await run_in_threadpool(_made, asked, new)


async def post_revoke(asked: Asked) -> Response:
    """Revoke a key for ever."""
    revoke = partial(
        asked.server.accounts.revoke,
        asked.request.path_params["key_id"],
        project_id=asked.access.project_id,
    )
    if await run_in_threadpool(revoke) is None:
        raise Problem(404, "this project has no such key")
    return to_page("/keys")


def _made(asked: Asked, new: NewKey) -> Response:
    if not _may_make(asked):
        raise Problem(403, "make the first key on the server: agentsight-tokens keys create NAME")
    accounts = asked.server.accounts
    days = new.expires_days
    try:
        key, secret = accounts.create_key(
            asked.access.project_id,
            name=new.name,
            scopes=new.scopes,
            expires_at=None if days is None else accounts.now() + timedelta(days=days),
        )
    except InvalidScopeError as error:
        view = _view(asked, fault=str(error), given=new)
        return rendered(asked, "keys.html", title=_TITLE, status=400, **view)
    return rendered(asked, "keys.html", title=_TITLE, **_view(asked, made=key, secret=secret))


def _may_make(asked: Asked) -> bool:
    """Return whether it is known who asks: the first key is not made by whoever comes first."""
    return asked.access.key_id is not None or asked.server.api_key is not None


def _view(
    asked: Asked,
    *,
    made: ApiKey | None = None,
    secret: str | None = None,
    fault: str | None = None,
    given: NewKey | None = None,
) -> dict[str, Any]:
    now = asked.server.accounts.now()
    found = asked.server.accounts.list_keys(asked.access.project_id)
    rows = [_row(key, now, asked.access.key_id) for key in found]
    rows.sort(key=lambda row: row.fault is not None)
    return {
        "rows": rows,
        "made": made,
        "secret": secret,
        "fault": fault,
        "given": given or NewKey(scopes=["ingest"]),
        "all_scopes": KEY_SCOPES,
        "expiries": _EXPIRIES,
        "may_make": _may_make(asked),
    }


def _row(key: ApiKey, now: datetime, own_id: str | None) -> Row:
    return Row(
        id=key.id,
        name=key.name,
        scopes=key.scopes,
        created=moment(key.created_at, timezone.utc),
        used=moment(key.last_used_at, timezone.utc),
        expires=moment(key.expires_at, timezone.utc),
        fault=key.fault(now),
        is_own=key.id == own_id,
    )


ENDPOINTS: Final = (
    page("/keys", view_of, NoQuery, template="keys.html", title=_TITLE, scope="admin"),
    Endpoint("POST", "/keys", post_key, "admin", "Make a key.", body=NewKey, kind="page"),
    Endpoint("POST", "/keys/{key_id}/revoke", post_revoke, "admin", "Revoke a key.", kind="page"),
)
