"""The keys of a project, over HTTP."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated, Final

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from agentsight_tokens.backend.accounts import Project
from agentsight_tokens.backend.api_key import ApiKey, KeyScope
from agentsight_tokens.backend.endpoint import Asked, Endpoint, answer
from agentsight_tokens.backend.problem import Problem
from agentsight_tokens.errors import InvalidScopeError

__all__ = ["ENDPOINTS"]


class Identity(msgspec.Struct):
    """Whose a key is."""

    project: Project
    scopes: list[KeyScope]


class NewKey(msgspec.Struct, forbid_unknown_fields=True):
    """A key to be made."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    scopes: Annotated[list[KeyScope], msgspec.Meta(min_length=1)] = msgspec.field(
        default_factory=lambda: ["ingest"]
    )
    expires_at: datetime | None = None


class CreatedKey(msgspec.Struct):
    """A key, and its secret, which is shown this once."""

    key: ApiKey
    secret: str


class Keys(msgspec.Struct):
    """The keys of a project, the oldest first."""

    keys: list[ApiKey]


async def get_project(asked: Asked) -> Response:
    """Tell whose the key is that was shown."""
    project = await run_in_threadpool(asked.server.accounts.project_of, asked.access.project_id)
    if project is None:
        raise Problem(404, "the project of this key is gone")
    return answer(Identity(project, sorted(asked.access.scopes)))


async def get_keys(asked: Asked) -> Response:
    """List the keys of the project."""
    return answer(
        Keys(await run_in_threadpool(asked.server.accounts.list_keys, asked.access.project_id))
    )


async def post_key(asked: Asked) -> Response:
    """Make a key of the project; the first one is not made by whoever comes first."""
    if asked.access.key_id is None and asked.server.api_key is None:
        raise Problem(403, "make the first key on the server: agentsight-tokens keys create NAME")
    new = await asked.json(NewKey)
    create = partial(
        asked.server.accounts.create_key,
        asked.access.project_id,
        name=new.name,
        scopes=new.scopes,
        expires_at=new.expires_at,
    )
    try:
        key, secret = await run_in_threadpool(create)
    except InvalidScopeError as error:
        raise Problem(400, str(error)) from None
    return answer(CreatedKey(key, secret), status=201)


async def delete_key(asked: Asked) -> Response:
    """Revoke a key of the project; it stays in the list."""
    revoke = partial(
        asked.server.accounts.revoke,
        asked.request.path_params["key_id"],
        project_id=asked.access.project_id,
    )
    key = await run_in_threadpool(revoke)
    if key is None:
        raise Problem(404, "this project has no such key")
    return answer(key)


ENDPOINTS: Final = (
    Endpoint("GET", "/v1/project", get_project, "any", "Tell whose the key is.", result=Identity),
    Endpoint("GET", "/v1/keys", get_keys, "admin", "List the project's keys.", result=Keys),
    Endpoint(
        "POST",
        "/v1/keys",
        post_key,
        "admin",
        "Make a key of the project.",
        body=NewKey,
        result=CreatedKey,
        status=201,
    ),
    Endpoint(
        "DELETE",
        "/v1/keys/{key_id}",
        delete_key,
        "admin",
        "Revoke a key of the project for ever.",
        result=ApiKey,
    ),
)
