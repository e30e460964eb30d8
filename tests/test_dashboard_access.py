"""Who may see the dashboard, and what a page or another site can make a browser do."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from starlette.applications import Starlette

from agentsight_tokens.backend.accounts import Accounts
from agentsight_tokens.backend.api_key import digest
from agentsight_tokens.backend.app import create_app
from agentsight_tokens.backend.attempts import Attempts
from agentsight_tokens.backend.dashboard import ENDPOINTS
from agentsight_tokens.backend.problem import Problem
from agentsight_tokens.backend.session import SESSION_COOKIE, begin_session
from agentsight_tokens.backend.store import SQLiteStore, Store
from tests.dashboard_kit import SAME_ORIGIN, Visitor, form, session_with, text_of
from tests.server_kit import Answer, ask

PAGES = [each for each in ENDPOINTS if each.method == "GET" and each.scope is not None]


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


def log_in(app: Starlette, key: str, *, next: str = "/", **headers: str) -> Answer:
    return ask(app, "POST", "/login", body=form(key=key, next=next), **{**SAME_ORIGIN, **headers})


def cookie_of(answer: Answer) -> dict[str, str]:
    return {"cookie": answer.headers["set-cookie"].partition(";")[0]}


@pytest.mark.parametrize("scope", ["read", "admin"])
def test_a_key_opens_the_dashboard(app: Starlette, accounts: Accounts, scope: str) -> None:
    """The cookie is of no use to scripts, to other sites, or as a key."""
    _, secret = accounts.create_key(1, name="k", scopes=[scope])  # type: ignore[list-item]

    answer = log_in(app, f" {secret} ")

    assert (answer.status, answer.headers["location"]) == (303, "/")
    assert re.fullmatch(
        rf"{SESSION_COOKIE}=[\w.]+; HttpOnly; Max-Age=604800; Path=/; SameSite=strict",
        answer.headers["set-cookie"],
    )
    assert secret not in answer.headers["set-cookie"]
    assert digest(secret) not in answer.headers["set-cookie"]
    page = ask(app, "GET", "/", **cookie_of(answer))
    assert page.status == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert ask(app, "GET", "/v1/project", **cookie_of(answer)).status == 401


def test_the_cookie_is_secure_over_tls(app: Starlette, accounts: Accounts) -> None:
    """And is taken back by the logout."""
    _, secret = accounts.create_key(1, name="k", scopes=["read"])
    visitor = Visitor(app, secret)

    gone = visitor.post("/logout")

    assert (gone.status, gone.headers["location"]) == (303, "/login")
    assert f'{SESSION_COOKIE}=""' in gone.headers["set-cookie"]
    assert "Max-Age=0" in gone.headers["set-cookie"]
    assert (
        "Secure"
        in ask(app, "POST", "/login", scheme="https", body=form(key=secret), **SAME_ORIGIN).headers[
            "set-cookie"
        ]
    )


def test_the_servers_own_key_opens_it_too(store: Store) -> None:
    """As long as the server is started with that key."""
    answer = log_in(create_app(store, api_key="configured"), "configured")

    assert answer.status == 303
    assert (
        ask(create_app(store, api_key="configured"), "GET", "/", **cookie_of(answer)).status == 200
    )
    assert ask(create_app(store, api_key="another"), "GET", "/", **cookie_of(answer)).status == 303
    assert ask(create_app(store, is_open=False), "GET", "/", **cookie_of(answer)).status == 303


def test_any_process_knows_a_session(store: Store, app: Starlette, accounts: Accounts) -> None:
    """Nothing is kept of it."""
    _, secret = accounts.create_key(1, name="k", scopes=["read"])

    cookie = cookie_of(log_in(app, secret))

    assert ask(create_app(store), "GET", "/", **cookie).status == 200


def test_a_session_ends_with_its_key(store: Store, accounts: Accounts, app: Starlette) -> None:
    """When the key is revoked, at once; when it expires; after seven days."""
    key, secret = accounts.create_key(1, name="k", scopes=["read"])
    visitor = Visitor(app, secret)
    assert visitor.get("/").status == 200
    accounts.revoke(key.id)
    assert visitor.get("/").headers["location"] == "/login"

    earlier = datetime.now(timezone.utc) - timedelta(days=2)
    _, expired = Accounts(store, now=lambda: earlier).create_key(
        1, name="k", scopes=["read"], expires_at=earlier + timedelta(days=1)
    )
    assert Visitor(app, expired).get("/").status == 303

    lasting, secret = accounts.create_key(1, name="k", scopes=["read"])
    for age, status in ((6, 200), (8, 303)):
        began = datetime.now(timezone.utc) - timedelta(days=age)
        cookie = begin_session(lasting.id, digest(secret), began)
        assert ask(app, "GET", "/", cookie=f"{SESSION_COOKIE}={cookie}").status == status


@pytest.mark.parametrize("position", range(4))
def test_a_changed_session_is_none(app: Starlette, accounts: Accounts, position: int) -> None:
    """Neither another key, nor a later end, nor another proof."""
    _, secret = accounts.create_key(1, name="k", scopes=["read"])
    other, _ = accounts.create_key(1, name="other", scopes=["admin"])
    parts = session_with(secret)["cookie"].partition("=")[2].split(".")
    parts[position] = [other.id, str(int(parts[1]) + 1), "0" * 16, "0" * 64][position]

    assert ask(app, "GET", "/", cookie=f"{SESSION_COOKIE}={'.'.join(parts)}").status == 303


@pytest.mark.parametrize(
    "cookie", ["", "x", "a.b.c.d", "a.1.c.ü", "\0.1.2.3", "." * 9, "x" * 9000, "a.99999999999.b.c"]
)
def test_nonsense_is_no_session(app: Starlette, accounts: Accounts, cookie: str) -> None:
    """It leads to the login."""
    accounts.create_key(1, name="k", scopes=["read"])

    assert ask(app, "GET", "/", cookie=f"{SESSION_COOKIE}={cookie}").status == 303


def test_keys_that_open_nothing_are_told(app: Starlette, accounts: Accounts) -> None:
    """Unknown, revoked, and those that may only send."""
    revoked, secret = accounts.create_key(1, name="k", scopes=["read"])
    accounts.revoke(revoked.id)
    _, sending = accounts.create_key(1, name="k", scopes=["ingest"])
    for key, reason in (
        (secret, "was revoked"),
        (sending, "may only send"),
        ("ats_x", "not known"),
    ):
        answer = log_in(app, key)

        assert answer.status == 401
        assert reason in text_of(answer)
        assert "set-cookie" not in answer.headers


def test_logins_that_fail_are_limited(app: Starlette, accounts: Accounts) -> None:
    """After ten of them, even the right key must wait; who logs in is not limited."""
    _, secret = accounts.create_key(1, name="k", scopes=["read"])
    for _ in range(12):
        assert log_in(app, secret).status == 303
    for _ in range(10):
        assert log_in(app, "ats_wrong_key").status == 401

    refused = log_in(app, secret)

    assert refused.status == 429
    assert 0 < int(refused.headers["retry-after"]) <= 60


def test_failures_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """After their time, and the oldest where too many addresses fail."""
    now = [0.0]
    attempts = Attempts(2, seconds=60, clock=lambda: now[0])
    attempts.note_failure("a")
    attempts.note_failure("a")
    with pytest.raises(Problem, match="60 seconds"):
        attempts.check("a")
    attempts.check("b")
    now[0] = 61
    attempts.check("a")

    monkeypatch.setattr("agentsight_tokens.backend.attempts._MOST_ADDRESSES", 2)
    for address in "aabbccc":
        attempts.note_failure(address)
    attempts.check("a")
    with pytest.raises(Problem):
        attempts.check("c")


def test_the_way_back_leads_nowhere_else(app: Starlette, accounts: Accounts) -> None:
    """A page that was asked for is shown after the login; another site never is."""
    _, secret = accounts.create_key(1, name="k", scopes=["read"])
    asked = ask(app, "GET", "/", query="range=7d")
    assert asked.headers["location"] == "/login"
    assert log_in(app, secret, next="/usage?by=user").headers["location"] == "/usage?by=user"
    for elsewhere in (
        "//evil.example",
        "/\\evil.example",
        "https://evil.example",
        "/\r\nx: y",
        "x",
    ):
        assert log_in(app, secret, next=elsewhere).headers["location"] == "/"


def test_a_part_of_a_page_is_not_replaced_by_the_login(app: Starlette, accounts: Accounts) -> None:
    """The browser is sent there as a whole."""
    accounts.create_key(1, name="k", scopes=["read"])

    answer = ask(app, "GET", "/", hx_request="true")

    assert (answer.status, answer.headers["hx-redirect"]) == (401, "/login")


def test_without_a_key_this_machine_sees_it(app: Starlette) -> None:
    """Also by a link from elsewhere; no other site's page may read it, nor send a form."""
    assert ask(app, "GET", "/", host="127.0.0.1:8765").status == 200
    linked = {"sec_fetch_site": "cross-site", "sec_fetch_dest": "document"}
    assert ask(app, "GET", "/", host="localhost", **linked).status == 200
    assert ask(app, "GET", "/", host="localhost", sec_fetch_site="cross-site").status == 403
    assert ask(app, "GET", "/", host="evil.example", **linked).status == 403
    assert ask(app, "POST", "/logout", host="localhost", **linked).status == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site", "origin": "http://localhost:8765"},
        {"origin": "http://evil.example", "host": "localhost:8765"},
        {"origin": "http://localhost:9999", "host": "localhost:8765"},
        {"origin": "null", "host": "localhost:8765"},
        {"host": "localhost:8765"},
        {},
    ],
)
def test_another_sites_form_does_nothing(
    app: Starlette, accounts: Accounts, headers: dict[str, str]
) -> None:
    """Neither with the session nor at the login."""
    _, secret = accounts.create_key(1, name="k", scopes=["admin"])
    visitor = Visitor(app, secret)

    for path, body in (("/logout", b""), ("/login", form(key=secret))):
        answer = ask(app, "POST", path, body=body, **visitor.session, **headers)

        assert answer.status == 403
        assert "another site" in text_of(answer)
        assert "set-cookie" not in answer.headers


def test_a_form_is_of_one_session(app: Starlette, accounts: Accounts) -> None:
    """Without its token, or with another session's, it does nothing."""
    _, secret = accounts.create_key(1, name="k", scopes=["admin"])
    visitor, other = Visitor(app, secret), Visitor(app, secret)
    page = other.get("/")
    token = re.search(r'name="form_token" value="(\w+)"', page.body.decode())
    assert token is not None

    assert visitor.post("/logout", form_token="").status == 403
    assert visitor.post("/logout", form_token="ü").status == 403
    assert visitor.post("/logout", form_token=token[1]).status == 403
    assert other.post("/logout", form_token=token[1]).status == 303


def test_older_browsers_tell_their_origin(app: Starlette, accounts: Accounts) -> None:
    """It is compared with the host."""
    _, secret = accounts.create_key(1, name="k", scopes=["read"])

    answer = ask(
        app,
        "POST",
        "/login",
        body=form(key=secret),
        origin="http://ledger.internal:8765",
        host="ledger.internal:8765",
    )

    assert answer.status == 303


@pytest.mark.parametrize("path", ["/", "/login", "/?range=nothing", "/?unknown=1"])
def test_no_page_loads_or_runs_anything_else(app: Starlette, path: str) -> None:
    """Nothing from elsewhere, nothing inline, in no frame; told of problems, too."""
    answer = Visitor(app).get(path)
    html = answer.body.decode()

    policy = dict(
        rule.split(" ", 1) for rule in answer.headers["content-security-policy"].split("; ")
    )
    assert policy["default-src"] == "'none'"
    assert {policy[f"{kind}-src"] for kind in ("script", "style", "img", "connect", "font")} == {
        "'self'"
    }
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=|javascript:", html)
    assert not re.search(r'(src|href|action)="(?!/|#)', html)


def test_files_are_kept_by_browsers(app: Starlette) -> None:
    """Under the address that pages use for ever, and their licences are with them."""
    html = Visitor(app).get("/login").body.decode()
    addresses = re.findall(r'(?:src|href)="(/static/[^"]+)"', html)
    assert len(addresses) >= 5
    for each in addresses:
        path, _, query = each.partition("?")
        answer = ask(app, "GET", path, query=query)
        assert answer.status == 200
        assert "immutable" in answer.headers["cache-control"]
        again = ask(app, "GET", path, if_none_match=answer.headers["etag"])
        assert (again.status, again.body) == (304, b"")
        zipped = ask(app, "GET", path, accept_encoding="gzip, br")
        assert gzip.decompress(zipped.body) == answer.body
        assert zipped.headers["cache-control"] == "public, no-cache"
    for licence in ("htmx-LICENSE.txt", "uPlot-LICENSE.txt"):
        assert ask(app, "GET", f"/static/vendor/{licence}").status == 200
    for absent in ("../page.py", "nothing", "", "../../../../../etc/passwd"):
        assert ask(app, "GET", f"/static/{absent}").status == 404


@pytest.mark.parametrize("theme", ["light", "dark", None, "x"])
def test_the_theme_is_remembered(app: Starlette, theme: str | None) -> None:
    """Pages come in it at once, without a flash of the other."""
    answer = Visitor(app).get("/", cookie=f"agentsight_theme={theme}")

    is_set = theme in {"light", "dark"}
    assert (f'<html lang="en" data-theme="{theme}">' in answer.body.decode()) is is_set


def test_pages_are_not_in_the_openapi_document(app: Starlette) -> None:
    """It describes the interface for programs."""
    paths = ask(app, "GET", "/openapi.json").json["paths"]

    assert paths
    assert not {*paths} & {each.path for each in ENDPOINTS}


def test_the_store_away_is_told(store: Store, app: Starlette, tmp_path: Path) -> None:
    """As a page, with a status that says: later."""
    store.close()
    (tmp_path / "store.db").unlink()

    answer = Visitor(app).get("/")

    assert answer.status == 503
    assert "Service Unavailable" in text_of(answer)
