"""A server with a month of calls, and a browser that reports what it should not have done."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Request, Response, sync_playwright

from agentsight_tokens import Scope, TokenUsage, UsageRecord
from agentsight_tokens.backend.accounts import Accounts
from agentsight_tokens.backend.store import SQLiteStore
from agentsight_tokens.cycle import Cycle
from tests.records import call
from tests.server_process import ServerProcess

NOW = datetime.now(timezone.utc)
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PHONE = {"width": 390, "height": 844}


class Site(NamedTuple):
    """A server, and keys of it."""

    url: str
    admin: str
    reader: str
    spare_id: str
    """The id of a key that a test may revoke."""


def some_call(number: int) -> UsageRecord:
    """Return one of 600 calls of the last month, of three models, four users, sixty conversations."""
    models = (("gpt-4o", "openai"), ("claude-sonnet-4-5", "anthropic"), ("in-house-9", None))
    model, provider = models[number % 7 % 3]
    scope = Scope(
        conversation_id=f"conversation-{number % 60:02}",
        user_id=f"user-{number % 4}",
        feature=("search", "chat")[number % 2],
        agent="planner",
    )
    return call(
        number,
        at=NOW - timedelta(hours=number),
        model=model,
        provider=provider,
        scope=scope,
        usage=TokenUsage(input_tokens=900 + number, output_tokens=80, cache_read_tokens=400),
        cost_pico_usd=None if provider is None else 2_000_000_000 + number,
        cost_status="unpriced" if provider is None else "priced",
        duration_seconds=1 + number % 5 / 10,
        time_to_first_token_seconds=0.2,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server of its own for each file of tests."""
    directory = tmp_path_factory.mktemp("server")
    with SQLiteStore(directory / "store.db") as store:
        for conversation in range(60):
            records = [some_call(number) for number in range(conversation, 600, 60)]
            cycle = Cycle.of(
                records,
                key=f"k-{conversation}",
                conversation_id=f"conversation-{conversation:02}",
                sealed_by="send",
                sealed_at=NOW,
                environment=("production", "staging")[conversation % 3 == 0],
            )
            store.ingest([cycle])
        accounts = Accounts(store)
        _, admin = accounts.create_key(1, name="admin", scopes=["admin"])
        _, reader = accounts.create_key(1, name="reader", scopes=["read"])
        spare, _ = accounts.create_key(1, name="spare", scopes=["ingest"])
    with ServerProcess(directory) as server:
        yield Site(server.url, admin, reader, spare.id)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium; it fails loudly where there is none."""
    path = shutil.which("chromium")
    assert path is not None, "these tests need Debian's Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=[*ARGUMENTS])
        yield browser
        browser.close()


class Watch:
    """What a page has done that it should not have."""

    def __init__(self, page: Page, origin: str) -> None:
        self.faults: list[str] = []
        self.requests = 0
        self._origin = urlsplit(origin).netloc
        page.on("console", lambda message: self._note(message.type, message.text))
        page.on("pageerror", lambda error: self.faults.append(f"error: {error}"))
        page.on("request", lambda request: self._request(request.url))
        page.on("requestfailed", self._failed)
        page.on("response", self._response)

    def _note(self, kind: str, text: str) -> None:
        # Chromium notes it as an error that a page, too, has the status 400.
        if kind in {"error", "warning"} and "status of 400" not in text:
            self.faults.append(f"{kind}: {text}")

    def _request(self, url: str) -> None:
        self.requests += 1
        if urlsplit(url).netloc != self._origin:
            self.faults.append(f"left the server: {url}")

    def _failed(self, request: Request) -> None:
        # A browser gives up what it still loads of a page that it leaves, as its icon.
        if request.failure != "net::ERR_ABORTED":
            self.faults.append(f"failed: {request.url}: {request.failure}")

    def _response(self, response: Response) -> None:
        # 400 is the answer to a form that says what cannot be.
        if response.status >= 500 or response.status in {401, 403, 404}:
            self.faults.append(f"{response.status}: {response.url}")


Opener = Callable[..., Page]


@pytest.fixture
def opened(chromium: Browser, site: Site) -> Iterator[Opener]:
    """Return what opens a page in a clean browser; no page may fault, or ask another server."""
    watches: list[Watch] = []
    contexts: list[Any] = []

    def open_page(*, key: str | None = site.admin, **options: Any) -> Page:
        context = chromium.new_context(base_url=site.url, **options)
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        watches.append(Watch(page, site.url))
        if key is not None:
            page.goto("/login")
            page.get_by_label("API key").fill(key)
            page.get_by_role("button", name="Log in").click()
            page.wait_for_url(f"{site.url}/")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [fault for watch in watches for fault in watch.faults] == []
    assert all(watch.requests for watch in watches)
