"""Who is let in, and to what."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import Response

from agentsight_tokens.backend.accounts import Accounts
from agentsight_tokens.backend.app import create_app
from agentsight_tokens.backend.endpoint import Asked, Endpoint
from agentsight_tokens.backend.store import SQLiteStore, Store
from agentsight_tokens.cycle import encode_cycles
from agentsight_tokens.errors import InvalidScopeError
from tests.server_kit import Answer, ask, cycle


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with SQLiteStore(tmp_path / "store.db") as store:
        yield store


@pytest.fixture
def accounts(store: Store) -> Accounts:
    return Accounts(store)


@pytest.fixture
def app(store: Store) -> Starlette:
    return create_app(store)


def test_projects_are_made_once(accounts: Accounts) -> None:
    """A project is known by its organisation and its name; the default one is always there."""
    first = accounts.project("web", organisation="acme")

    assert accounts.project("web", organisation="acme") == first
    assert accounts.project("web", organisation="other").id != first.id
    assert accounts.project().id == 1
    assert [(p.organisation, p.name) for p in accounts.projects()] == [
        ("acme", "web"),
        ("default", "default"),
        ("other", "web"),
    ]


@pytest.mark.parametrize("name", ["", " ", "x" * 201, "a\nb", "a\0"])
def test_names_are_checked(accounts: Accounts, name: str) -> None:
    """A name is short and can be printed."""
    with pytest.raises(InvalidScopeError, match="printable"):
        accounts.project(name)
    with pytest.raises(InvalidScopeError, match="printable"):
        accounts.create_key(1, name=name)


def test_a_key_is_known_by_its_secret_alone(accounts: Accounts, store: Store) -> None:
    """The secret is in no table; one letter less is another secret."""
    key, secret = accounts.create_key(1, name="k", scopes=["read", "ingest"])

    assert accounts.key_of(secret) == key
    assert accounts.key_of(secret[:-1]) is None
    assert accounts.key_of("ats_000000000000_x") is None
    assert accounts.key_of("anything") is None
    assert key.scopes == ("ingest", "read")
    assert secret.split("_", 2)[2] not in str(store.rows("SELECT * FROM api_keys"))


def test_scopes_and_ends_are_checked(accounts: Accounts) -> None:
    """A key allows something, and does not end before it begins."""
    with pytest.raises(InvalidScopeError, match="scopes"):
        accounts.create_key(1, name="k", scopes=[])
    with pytest.raises(InvalidScopeError, match="scopes"):
        accounts.create_key(1, name="k", scopes=["everything"])  # type: ignore[list-item]
    with pytest.raises(InvalidScopeError, match="future"):
        accounts.create_key(1, name="k", expires_at=datetime(2020, 1, 1, tzinfo=timezone.utc))


def test_without_a_key_this_machine_is_let_in(app: Starlette) -> None:
    """As long as no key was ever made; no page of the web is, through its reader's browser."""
    assert ask(app, "GET", "/v1/project", host="127.0.0.1:8765").status == 200
    assert ask(app, "GET", "/v1/project", host="[::1]:8765").status == 200
    assert ask(app, "GET", "/v1/project", host="localhost").status == 200
    assert ask(app, "GET", "/v1/project", authorization="Bearer old").status == 200

    rebound = ask(app, "GET", "/v1/project", host="evil.example:8765")
    assert (rebound.status, rebound.json["error"]["code"]) == (403, "forbidden")
    assert (
        ask(app, "GET", "/v1/project", host="localhost", sec_fetch_site="cross-site").status == 403
    )


def test_with_the_first_key_everybody_needs_one(app: Starlette, accounts: Accounts) -> None:
    """A key that is revoked lets nobody in, with or without it."""
    key, secret = accounts.create_key(1, name="k", scopes=["read"])
    assert ask(app, "GET", "/v1/project").status == 401
    accounts.revoke(key.id)

    assert ask(app, "GET", "/v1/project").status == 401
    refused = ask(app, "GET", "/v1/project", key=secret)
    assert (refused.status, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert "revoked" in refused.message


def test_a_server_for_other_machines_is_never_open(store: Store) -> None:
    """Even if all keys were deleted behind its back."""
    assert ask(create_app(store, is_open=False), "GET", "/v1/project").status == 401


def test_keys_expire(store: Store, app: Starlette) -> None:
    """From its end on a key is as good as none, and the answer says why."""
    earlier = datetime.now(timezone.utc) - timedelta(days=2)
    _, secret = Accounts(store, now=lambda: earlier).create_key(
        1, name="k", scopes=["read"], expires_at=earlier + timedelta(days=1)
    )

    refused = ask(app, "GET", "/v1/project", key=secret)

    assert refused.status == 401
    assert "expired" in refused.message


@pytest.mark.parametrize(
    ("scope", "allowed"),
    [("ingest", {"ingest"}), ("read", {"read"}), ("admin", {"ingest", "read", "admin"})],
)
def test_scopes_allow(accounts: Accounts, app: Starlette, scope: str, allowed: set[str]) -> None:
    """A key does what its scopes say; what it may not do is told with 403."""
    _, secret = accounts.create_key(1, name="k", scopes=[scope])  # type: ignore[list-item]
    body = encode_cycles([cycle("a", 1)])

    assert ask(app, "POST", "/v1/cycles", body=body, key=secret).status == (
        200 if "ingest" in allowed else 403
    )
    listed = ask(app, "GET", "/v1/keys", key=secret)
    assert listed.status == (200 if "admin" in allowed else 403)
    if listed.status == 403:
        assert repr("admin") in listed.message


def test_uses_are_noted_to_the_minute(store: Store) -> None:
    """The first use of a minute is written."""
    times = [datetime(2026, 1, 1, 0, 0, tzinfo=timezone.utc)]
    accounts = Accounts(store, now=lambda: times[0])
    key, secret = accounts.create_key(1, name="k")
    for seconds, noted in ((0, 0), (59, 0), (60, 60)):
        times[0] = datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=seconds)
        accounts.note_use(accounts.key_of(secret) or key)

        last = accounts.list_keys()[0].last_used_at
        assert last == datetime(2026, 1, 1, tzinfo=timezone.utc) + timedelta(seconds=noted)


def test_keys_are_managed_over_http(accounts: Accounts, app: Starlette) -> None:
    """An admin makes a key, sees it without its secret, and revokes it."""
    _, admin = accounts.create_key(1, name="admin", scopes=["admin"])
    made = ask(app, "POST", "/v1/keys", body=b'{"name": "new", "scopes": ["ingest"]}', key=admin)
    secret = made.json["secret"]
    assert made.status == 201
    assert ask(app, "GET", "/v1/project", key=secret).json["scopes"] == ["ingest"]
    listed = ask(app, "GET", "/v1/keys", key=admin)
    assert [key["name"] for key in listed.json["keys"]] == ["admin", "new"]
    assert secret.encode() not in listed.body

    path = f"/v1/keys/{made.json['key']['id']}"
    assert ask(app, "DELETE", path, key=admin).json["revoked_at"]
    assert ask(app, "GET", "/v1/project", key=secret).status == 401
    assert ask(app, "DELETE", "/v1/keys/none", key=admin).status == 404


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b'{"name": 1}', b'{"name": ""}', b'{"name": "k", "scopes": ["all"]}', b"\xff"],
)
def test_a_new_key_is_checked(app: Starlette, accounts: Accounts, body: bytes) -> None:
    """What is no key is told with 400, and makes none."""
    _, admin = accounts.create_key(1, name="admin", scopes=["admin"])

    assert ask(app, "POST", "/v1/keys", body=body, key=admin).status == 400
    assert len(accounts.list_keys()) == 1


def test_the_first_key_is_not_made_by_whoever_comes_first(
    store: Store, app: Starlette, accounts: Accounts
) -> None:
    """It would lock out all others; who has the configured key, or the machine, makes it."""
    body = b'{"name": "first"}'
    assert ask(app, "POST", "/v1/keys", body=body).status == 403
    assert not accounts.has_keys()

    configured = create_app(store, api_key="configured")
    assert ask(configured, "POST", "/v1/keys", body=body, key="configured").status == 201


def test_what_is_not_there_is_told_as_json(app: Starlette) -> None:
    """An unknown path and an unknown method are answered like any other problem."""
    assert ask(app, "GET", "/nowhere").json["error"]["code"] == "not_found"
    assert ask(app, "PUT", "/v1/keys").json["error"]["code"] == "method_not_allowed"


def test_a_failure_of_the_server_is_told(store: Store) -> None:
    """The answer holds nothing of it but its class; the traceback goes to the log."""

    async def fail(_: Asked) -> Response:
        raise LookupError("private")

    app = create_app(store, endpoints=[Endpoint("GET", "/", fail, None, "Fail.")])
    answers: list[Answer] = []
    with pytest.raises(LookupError):
        ask(app, "GET", "/", answers=answers)

    assert answers[0].json["error"] == {
        "code": "internal",
        "message": "the server failed: LookupError",
    }
