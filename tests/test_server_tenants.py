"""Every route, with no key, another's key, a lesser key, and bodies that mean harm."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.applications import Starlette

from agentsight_tokens.backend.accounts import Accounts
from agentsight_tokens.backend.app import create_app
from agentsight_tokens.backend.body import BodyLimits
from agentsight_tokens.backend.budgets import Budgets, NewBudget
from agentsight_tokens.backend.endpoint import Endpoint, Limits
from agentsight_tokens.backend.routes import ENDPOINTS
from agentsight_tokens.backend.store import SQLiteStore, Store
from agentsight_tokens.cycle import Cycle, encode_cycles
from tests.dashboard_kit import SAME_ORIGIN, form, form_token, session_with
from tests.records import AT, call
from tests.server_kit import Answer, ask

MARK = "belongs-to-a"
"""In every text of the first tenant's data."""

GUARDED = [each for each in ENDPOINTS if each.scope is not None]
API = [each for each in GUARDED if each.kind == "api"]
PAGES = [each for each in GUARDED if each.kind == "page"]
TAKING = [each for each in ENDPOINTS if each.body is not None]


def named(endpoint: Endpoint) -> str:
    return f"{endpoint.method} {endpoint.path}"


class Tenants:
    """A store in which the first tenant has something of everything, and the second one a key."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.app = create_app(store, limits=Limits(BodyLimits(200_000, 1_000_000)))
        accounts = Accounts(store)
        self.first = accounts.project(f"p-{MARK}", organisation=f"o-{MARK}").id
        self.second = accounts.project("p-of-b", organisation="o-of-b").id
        self.key_of_first, _ = accounts.create_key(self.first, name=f"k-{MARK}", scopes=["admin"])
        _, self.key = accounts.create_key(self.second, name="k-of-b", scopes=["admin"])
        record = call(1, id=f"r-{MARK}", model=f"m-{MARK}", conversation=f"c-{MARK}")
        cycle = Cycle.of(
            [record], key=f"y-{MARK}", conversation_id=f"c-{MARK}", sealed_by="send", sealed_at=AT
        )
        store.ingest([cycle], project_id=self.first)
        store.reprice([record], repriced_at=AT, project_id=self.first)
        budget = NewBudget(
            name=f"b-{MARK}",
            scope="model",
            value=f"m-{MARK}",
            window="total",
            token_limit=1,
            webhook_urls=(f"https://{MARK}.example/hook",),
        )
        self.budget_of_first = Budgets(store).create(self.first, budget)

    def contents(self, project_id: int | None = None) -> list[object]:
        """Return every row of a project, or of all; when a key was used is no content."""
        columns = dict.fromkeys(("calls", "cycles", "hourly_usage", "repricings"), "*")
        columns |= dict.fromkeys(("budgets", "budget_usage", "alerts", "webhook_deliveries"), "*")
        columns["api_keys"] = "id, name, digest, scopes, expires_at, revoked_at"
        condition = "1 = 1" if project_id is None else f"project_id = {project_id}"
        return [
            self.store.rows(f"SELECT {names} FROM {table} WHERE {condition}")
            for table, names in columns.items()
        ]

    def paths(self, endpoint: Endpoint) -> list[str]:
        """Return the path, each of its parameters being an id of the first tenant's."""
        ids = [
            self.key_of_first.id,
            self.budget_of_first.id,
            f"c-{MARK}",
            f"r-{MARK}",
            f"y-{MARK}",
            str(self.first),
        ]
        before, brace, rest = endpoint.path.partition("{")
        return [f"{before}{id}{rest.partition('}')[2]}" for id in ids] if brace else [endpoint.path]

    def ask(self, endpoint: Endpoint, path: str, key: str, body: bytes = b"") -> Answer:
        """Ask with a key, or where it is a page, with a session that the key has begun."""
        if endpoint.kind == "api":
            return ask(self.app, endpoint.method, path, key=key, body=body)
        session = session_with(key)
        if endpoint.method == "POST":
            body += b"&" + form(form_token=form_token(key, session))
        return ask(self.app, endpoint.method, path, body=body, **SAME_ORIGIN, **session)


@pytest.fixture
def tenants(tmp_path: Path) -> Iterator[Tenants]:
    with SQLiteStore(tmp_path / "store.db") as store:
        yield Tenants(store)


@pytest.mark.parametrize("endpoint", GUARDED, ids=named)
def test_anothers_key_opens_nothing(tenants: Tenants, endpoint: Endpoint) -> None:
    """Nothing of the first tenant is shown to the second, or changed by it."""
    before = tenants.contents(tenants.first)
    budget = b'{"name": "x", "token_limit": 1}'
    bodies = [b"", b"{}", b'{"name": "x"}', budget, b"name=x", encode_cycles([])]
    for path in tenants.paths(endpoint):
        for body in [b""] if endpoint.body is None else bodies:
            answer = tenants.ask(endpoint, path, tenants.key, body)

            assert answer.status < 500
            assert MARK not in answer.body.decode()
            assert "{" not in path
    assert tenants.contents(tenants.first) == before


@pytest.mark.parametrize("endpoint", API, ids=named)
def test_without_a_valid_key_nothing_opens(tenants: Tenants, endpoint: Endpoint) -> None:
    """401 whatever is shown; 403 for a key that may not do this."""
    accounts = Accounts(tenants.store)
    revoked, secret = accounts.create_key(tenants.first, name="r", scopes=["admin"])
    accounts.revoke(revoked.id)
    before = tenants.contents()
    path = tenants.paths(endpoint)[0]
    for key in (None, "", "nonsense", tenants.key + "x", tenants.key[:-1], secret, "ats__", "ü"):
        assert ask(tenants.app, endpoint.method, path, key=key).status == 401
    basic = ask(tenants.app, endpoint.method, path, authorization=f"Basic {tenants.key}")
    assert basic.status == 401
    assert tenants.contents() == before

    for scope in {"ingest", "read"} - {endpoint.scope} if endpoint.scope != "any" else set():
        _, lesser = accounts.create_key(tenants.first, name=scope, scopes=[scope])  # type: ignore[list-item]
        assert tenants.ask(endpoint, path, lesser).status == 403


@pytest.mark.parametrize("endpoint", PAGES, ids=named)
def test_without_a_session_no_page_opens(tenants: Tenants, endpoint: Endpoint) -> None:
    """The login whatever is shown, a key included; 403 for a session that may not do this."""
    accounts = Accounts(tenants.store)
    revoked, secret = accounts.create_key(tenants.first, name="r", scopes=["admin"])
    accounts.revoke(revoked.id)
    before = tenants.contents()
    path = tenants.paths(endpoint)[0]
    forged = session_with(tenants.key + "x")
    shown = {"authorization": f"Bearer {tenants.key}"}
    for headers in ({}, {"cookie": "agentsight_session=x"}, shown, forged, session_with(secret)):
        answer = ask(tenants.app, endpoint.method, path, **SAME_ORIGIN, **headers)

        assert answer.status == 303
        assert answer.headers["location"].startswith("/login")
    assert tenants.contents() == before

    for scope in {"ingest", "read"} - {endpoint.scope} if endpoint.scope != "any" else set():
        _, lesser = accounts.create_key(tenants.first, name=scope, scopes=[scope])  # type: ignore[list-item]
        assert tenants.ask(endpoint, path, lesser).status == 403


def gzipped(content: bytes) -> tuple[bytes, dict[str, str]]:
    return gzip.compress(content), {"content_encoding": "gzip"}


def bomb() -> bytes:
    """Return some kilobytes that are a gigabyte."""
    zipper = zlib.compressobj(9, wbits=31)
    chunk = b" " * 10_000_000
    return b"".join(
        [zipper.compress(b'{"cycles": ['), *(zipper.compress(chunk) for _ in range(10))]
    )


PLAIN = {
    "nothing": b"",
    "no JSON": b"cycles",
    "cut off": b'{"cycles": [{"key": "a"',
    "no UTF-8": b'{"cycles": [{"key": "\xff\xfe"}]}',
    "UTF-16": '{"cycles": []}'.encode("utf-16"),
    "a byte-order mark": b'\xef\xbb\xbf{"cycles": []}',
    "half a surrogate": b'{"cycles": [{"key": "\\ud800"}]}',
    "NUL": b"\0" * 100,
    "deep": b'{"cycles": ' + b"[" * 90_000 + b"]" * 90_000 + b"}",
    "deep in what is not read": b'{"x": ' + b"[" * 90_000 + b"]" * 90_000 + b', "cycles": 1}',
    "a number of many digits": b'{"cycles": ' + b"9" * 100_000 + b"}",
    "huge": b'{"cycles": "' + b"x" * 300_000 + b'"}',
}
BODIES = {
    **{name: (body, {}) for name, body in PLAIN.items()},
    "a bomb": (bomb(), {"content_encoding": "gzip"}),
    "deep, compressed": gzipped(PLAIN["deep"]),
    "gzip cut off": (gzipped(b"{}")[0][:-9], {"content_encoding": "gzip"}),
    "no gzip": (b"{}", {"content_encoding": "gzip"}),
    "another encoding": (b"{}", {"content_encoding": "br"}),
    "two encodings": (b"{}", {"content_encoding": "gzip, gzip"}),
}


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("endpoint", TAKING, ids=named)
def test_harm_is_refused(tenants: Tenants, endpoint: Endpoint, body: str) -> None:
    """A body that is none gets 4xx with a reason, and leaves no row."""
    before = tenants.contents()
    content, headers = BODIES[body]
    if endpoint.binary is not None:  # it asks what kind of body it gets
        headers = headers | {"content_type": "application/json"}
        content = content.replace(b'"cycles"', b'"resourceSpans"')

    answer = ask(
        tenants.app,
        endpoint.method,
        tenants.paths(endpoint)[0],
        body=content,
        **(SAME_ORIGIN if endpoint.kind == "page" else {}),
        **(session_with(tenants.key) if endpoint.kind == "page" else {}),
        **({"authorization": f"Bearer {tenants.key}"} if endpoint.kind == "api" else {}),
        **headers,
    )

    assert 400 <= answer.status < 500
    assert endpoint.kind == "page" or answer.message
    assert tenants.contents() == before


def of_spans(attribute: bytes) -> bytes:
    """Return the protobuf of a request, one span of which has this as its attribute."""
    content = attribute
    for field in (b"\x4a", b"\x12", b"\x12", b"\x0a"):  # attributes, spans, scopes, resources
        content = field + varint(len(content)) + content
    return content


def varint(number: int) -> bytes:
    digits = []
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*digits, number])


def nested(depth: int) -> bytes:
    """Return an attribute whose value is a list in a list in a list ..."""
    value = b""
    for _ in range(depth):
        value = b"\x2a" + varint(len(value) + 1 + len(varint(len(value)))) + b"\x0a" + (
            varint(len(value)) + value
        )  # fmt: skip
    return b"\x0a\x01k\x12" + varint(len(value)) + value


PROTOBUFS = {
    "JSON": b'{"resourceSpans": []}',
    "cut off": of_spans(b"\x0a\x01k")[:-2],
    "no UTF-8": of_spans(b"\x0a\x02\xff\xfe"),
    "deep": of_spans(nested(200)),
    "a length beyond the end": b"\x0a\xff\xff\xff\xff\x0f",
    "NUL": b"\0" * 100,
    "huge": of_spans(b"\x0a" + varint(300_000) + b"k" * 300_000),
}


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("body", PROTOBUFS)
@pytest.mark.parametrize("endpoint", [e for e in TAKING if e.binary is not None], ids=named)
def test_harm_in_protobuf_is_refused(
    tenants: Tenants, endpoint: Endpoint, body: str, compressed: bool
) -> None:
    """A body that is none gets 4xx in protobuf, and leaves no row."""
    assert endpoint.binary is not None
    before = tenants.contents()
    content, headers = gzipped(PROTOBUFS[body]) if compressed else (PROTOBUFS[body], {})
    answer = ask(
        tenants.app,
        endpoint.method,
        endpoint.path,
        body=content,
        key=tenants.key,
        content_type=endpoint.binary,
        **headers,
    )

    if compressed and body == "huge":
        assert answer.status == 200  # some bytes compressed, and fewer than are allowed
    else:
        assert 400 <= answer.status < 500
        assert answer.body
    assert answer.headers["content-type"] == endpoint.binary
    assert tenants.contents() == before


def test_every_route_is_an_endpoint(tenants: Tenants) -> None:
    """The application has no other way in."""
    app: Starlette = tenants.app
    assert len(app.routes) == len(ENDPOINTS)
    assert {each.path for each in ENDPOINTS if each.scope is None} == {
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/login",
        "/static/{name:path}",
    }
