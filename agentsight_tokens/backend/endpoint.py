"""
Endpoints: what is asked, what must be allowed, and what is answered.

Every route of the server is one, so none can forget to ask for a key, and the OpenAPI document
is made of the same list.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeVar

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from .accounts import Accounts
from .api_key import Access, KeyScope
from .body import BodyLimits, read_body
from .metrics import Metrics
from .problem import Problem
from .rate_limit import RateLimit
from .store import ProjectReader, Store

__all__ = ["ANYONE", "Asked", "Endpoint", "Handler", "Limits", "Server", "answer"]

ANYONE: Final = Access(project_id=0, scopes=frozenset())
"""The access of a request that shows no key: to a project that nobody has."""

_T = TypeVar("_T")
_Parameters = TypeVar("_Parameters", bound=msgspec.Struct)


class Limits(NamedTuple):
    """What one client may ask of the server."""

    body: BodyLimits = BodyLimits()
    requests_per_second: float | None = None
    """Of each key, in each process; None for no limit."""


class Server(NamedTuple):
    """What the endpoints share."""

    store: Store
    accounts: Accounts
    metrics: Metrics
    rate_limit: RateLimit
    endpoints: Sequence[Endpoint]
    limits: Limits
    api_key: str | None
    """A key of the default project that may do everything and is in no table."""
    is_open: bool
    """Whether everybody is let into the default project as long as there is no key."""


class Asked(NamedTuple):
    """A request whose key allows what it asks for."""

    request: Request
    server: Server
    access: Access

    @property
    def project(self) -> ProjectReader:
        """The data of the key's project."""
        return self.server.store.of_project(self.access.project_id)

    async def body(self) -> bytes:
        """Return the body, decompressed; see `read_body`."""
        return await read_body(self.request, self.server.limits.body)

    async def json(self, kind: type[_T]) -> _T:
        """Return the body, which is JSON, as a record."""
        try:
            return msgspec.json.decode(await self.body(), type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Problem(400, f"the body: {error}") from None

    def query(self, kind: type[_Parameters]) -> _Parameters:
        """Return the parameters of the query as a record; one may come more than once."""
        parameters = self.request.query_params
        given: dict[str, Any] = {}
        for field in msgspec.structs.fields(kind):
            values = parameters.getlist(field.encode_name)
            if values:
                is_list = msgspec.inspect.type_info(field.type).__class__ in _MANY
                given[field.encode_name] = values if is_list else values[-1]
        unknown = {*parameters} - {f.encode_name for f in msgspec.structs.fields(kind)}
        if unknown:
            raise Problem(400, f"the query: {min(unknown)!r} is no parameter here")
        try:
            return msgspec.convert(given, kind, strict=False)
        except msgspec.ValidationError as error:
            raise Problem(400, f"the query: {error}") from None


_MANY: Final = (msgspec.inspect.ListType, msgspec.inspect.VarTupleType)

Handler = Callable[[Asked], Awaitable[Response]]


class Endpoint(NamedTuple):
    """One thing that the server does."""

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    handler: Handler
    scope: KeyScope | Literal["any"] | None
    """What the key must be allowed; `any` if it must be valid only, None without a key."""
    summary: str
    """A sentence for the OpenAPI document."""
    body: Any = None
    """The type of the JSON body."""
    query: type[msgspec.Struct] | None = None
    """The parameters of the query."""
    result: Any = None
    """The type of the JSON answer."""
    status: int = 200
    """Of success."""


def answer(result: object, *, status: int = 200) -> Response:
    """Return an answer in JSON."""
    return Response(msgspec.json.encode(result), status, media_type="application/json")
