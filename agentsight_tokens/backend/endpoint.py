"""
Endpoints: what is asked, what must be allowed, and what is answered.

Every route of the server is one, so none can forget to ask for a key, and the OpenAPI document
is made of the same list.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, Literal, NamedTuple, TypeVar
from urllib.parse import parse_qs

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from .accounts import Accounts
from .api_key import Access, KeyScope
from .attempts import Attempts
from .body import BodyLimits, read_body
from .metrics import Metrics
from .otlp import Meter
from .problem import Problem, ProblemBody
from .rate_limit import RateLimit
from .store import ProjectReader, Store

__all__ = ["ANYONE", "FORM_TOKEN", "Asked", "Endpoint", "Handler", "Limits", "Server", "answer"]

ANYONE: Final = Access(project_id=0, scopes=frozenset())
"""The access of a request that shows no key: to a project that nobody has."""

FORM_TOKEN: Final = "form_token"  # noqa: S105  # its name
"""The field by which a form shows that it is of the session's own page."""

_MOST_FIELDS: Final = 200
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
    meter: Meter
    api_key: str | None
    """A key of the default project that may do everything and is in no table."""
    is_open: bool
    """Whether everybody is let into the default project as long as there is no key."""
    logins: Attempts
    """The logins that have failed."""


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

    async def fields(self) -> dict[str, list[str]]:
        """Return the fields of the body, which is a form."""
        if not hasattr(self.request.state, "fields"):
            try:
                text = (await self.body()).decode()
                fields = parse_qs(text, keep_blank_values=True, max_num_fields=_MOST_FIELDS)
            except ValueError as error:
                raise Problem(400, f"the form: {error}") from None
            self.request.state.fields = fields
        found: dict[str, list[str]] = self.request.state.fields
        return found

    async def form(self, kind: type[_Parameters]) -> _Parameters:
        """Return the body, which is a form, as a record; a field left empty is not given."""
        fields = await self.fields()
        filled = {name: [v for v in values if v] for name, values in fields.items()}
        filled.pop(FORM_TOKEN, None)
        return _record({name: v for name, v in filled.items() if v}, kind, "the form")

    def query(self, kind: type[_Parameters]) -> _Parameters:
        """Return the parameters of the query as a record; one may come more than once."""
        parameters = self.request.query_params
        return _record({name: parameters.getlist(name) for name in parameters}, kind, "the query")


def _record(given: dict[str, list[str]], kind: type[_Parameters], where: str) -> _Parameters:
    """Return texts by name as a record; the last one counts where one is wanted."""
    texts: dict[str, Any] = {}
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    for name, values in given.items():
        if name not in fields:
            raise Problem(400, f"{where}: {name[:80]!r} is no parameter here")
        texts[name] = values if _is_list(fields[name].type) else values[-1]
    try:
        return msgspec.convert(texts, kind, strict=False)
    except msgspec.ValidationError as error:
        raise Problem(400, f"{where}: {error}") from None


def _is_list(kind: Any) -> bool:
    info = msgspec.inspect.type_info(kind)
    if isinstance(info, msgspec.inspect.Metadata):  # it has a description
        info = info.type
    return isinstance(info, _MANY)


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
    kind: Literal["api", "page"] = "api"
    """A page is for browsers: it is asked for by session, and told of problems as a page."""
    media_types: tuple[str, ...] = ("text/plain",)
    """What the answer may be where it is not JSON."""
    binary: str | None = None
    """Another type that the body and the answer may be of, each in that of the other."""
    problem: Any = ProblemBody
    """The type of the JSON answer that is no success."""
    refusal: Callable[[Request, HTTPException], Response] | None = None
    """Makes that answer, where it is not as everywhere."""


def answer(result: object, *, status: int = 200) -> Response:
    """Return an answer in JSON."""
    return Response(msgspec.json.encode(result), status, media_type="application/json")
