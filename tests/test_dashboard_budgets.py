"""Budgets and alerts in the dashboard: made by a form, and shown with what is used and left."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path

import pytest
from starlette.applications import Starlette

from agentsight_tokens import Scope, TokenUsage, UsageRecord
from agentsight_tokens.backend.accounts import Accounts
from agentsight_tokens.backend.app import create_app
from agentsight_tokens.backend.budgets import Budgets, NewBudget
from agentsight_tokens.backend.store import SQLiteStore, Store
from agentsight_tokens.cycle import Cycle
from tests.dashboard_kit import Visitor, text_of, titles_of, values_of
from tests.records import call

NOW = datetime.now(timezone.utc)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with SQLiteStore(tmp_path / "store.db") as store:
        yield store


@pytest.fixture
def app(store: Store) -> Starlette:
    return create_app(store)


@pytest.fixture
def visitor(app: Starlette, store: Store) -> Visitor:
    _, secret = Accounts(store).create_key(1, name="k", scopes=["admin"])
    return Visitor(app, secret)


def ingest(store: Store, *records: UsageRecord) -> None:
    cycle = Cycle.of(
        records, key=records[0].id, conversation_id="c", sealed_by="send", sealed_at=NOW
    )
    store.ingest([cycle])


def spent(usd: str, *, user: str = "u", **facts: object) -> UsageRecord:
    """Return a call of now that cost so much and used a hundred tokens."""
    given = {
        # Of the time of the test itself: since this file was read an hour may have begun.
        "at": datetime.now(timezone.utc),
        "cost_pico_usd": int(Decimal(usd).scaleb(12)),
        "usage": TokenUsage(input_tokens=90, output_tokens=10),
        "scope": Scope(conversation_id="c", user_id=user),
    }
    return call(1, **{**given, **facts})


def test_a_budget_is_made_by_a_form(store: Store, visitor: Visitor) -> None:
    """As people write numbers."""
    answer = visitor.post(
        "/budgets",
        name="Users",
        scope="user",
        value="*",
        window="rolling 7d",
        timezone="Europe/Zurich",
        cost_limit_usd="$1,234.50",
        token_limit="2 000 000",
        levels="12.5%, 90; 100",
        webhook_urls="https://a.example/x\r\nhttps://b.example/y",
        webhook_secret="s" * 20,
    )

    [budget] = Budgets(store).list(1)
    assert answer.headers["location"] == f"/budgets/one?id={budget.id}"
    assert (budget.name, budget.scope, budget.value, budget.window, budget.timezone) == (
        "Users",
        "user",
        "*",
        "rolling 7d",
        "Europe/Zurich",
    )
    assert (budget.cost_limit_usd, budget.token_limit) == (Decimal("1234.50"), 2_000_000)
    assert budget.levels == (0.125, 0.9, 1.0)
    assert budget.webhook_urls == ("https://a.example/x", "https://b.example/y")
    assert budget.is_signed
    page = visitor.get(answer.headers["location"])
    assert "https://a.example/x" not in page.body.decode()
    assert "a.example" in text_of(page)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"cost_limit_usd": "much"}, "must be a number"),
        ({"cost_limit_usd": "nan"}, "must be a number"),
        ({"cost_limit_usd": "1e999999999"}, "must be a number"),
        ({"cost_limit_usd": "9" * 5000}, "must be a number"),
        ({"cost_limit_usd": "-1"}, "-1"),
        ({"token_limit": "1.5"}, "whole number"),
        ({"cost_limit_usd": "1", "levels": "x"}, "must be a number"),
        ({"cost_limit_usd": "1", "levels": "0"}, "level"),
        ({"cost_limit_usd": "1", "window": "century"}, "century"),
        ({"cost_limit_usd": "1", "timezone": "Mars/Olympus"}, "Mars"),
        ({"cost_limit_usd": "1", "webhook_urls": "ftp://x"}, "ftp"),
        ({}, "limit"),
    ],
)
def test_a_budget_that_cannot_be_is_told(
    store: Store, visitor: Visitor, fields: dict[str, str], reason: str
) -> None:
    """In the form, with what was written in it; nothing is made."""
    answer = visitor.post("/budgets", name="<b>mine</b>", **fields)

    assert answer.status == 400
    assert reason in text_of(answer)
    assert 'value="&lt;b&gt;mine&lt;/b&gt;"' in answer.body.decode()
    assert Budgets(store).list(1) == ()


def test_what_is_used_and_left_is_shown(store: Store, visitor: Visitor) -> None:
    """By the key that is nearest to the limit, with what is not in the sums; the overview too."""
    Budgets(store).create(
        1,
        NewBudget(name="Users", scope="user", cost_limit_usd=Decimal(2), token_limit=1000),
    )
    Budgets(store).create(1, NewBudget(name="All", cost_limit_usd=Decimal(100)))
    ingest(store, spent("1.5", user="ann"), spent("0.25", user="bob"))
    ingest(store, spent("0.75", user="ann", source="estimated"))
    ingest(store, spent("0", user="ann", cost_pico_usd=None, cost_status="unpriced"))

    text = text_of(visitor.get("/budgets"))

    assert "Users over Each user , each month $2.25 of $2.00 112% 300 of 1,000 tokens 30.0%" in text
    assert "the nearest of 2 : ann" in text
    assert "1 unpriced, 1 estimated calls" in text
    assert "All All calls , each month $2.50 of $100.00 2.5%" in text
    assert all(f"Users ann {level}% $2.25 $2.00" in text for level in (100, 80))
    assert "Users ann 50% $1.50 $2.00" in text
    overview = visitor.get("/")
    assert "Users $2.25 of $2.00 112%" in text_of(overview)
    assert "2.25 USD" in titles_of(overview)


def test_the_burn_down_is_what_is_left(store: Store, visitor: Visitor) -> None:
    """Of the limit, step by step, beside an even pace; nothing of the time that is to come."""
    budget = Budgets(store).create(1, NewBudget(name="All", cost_limit_usd=Decimal(10)))
    ingest(store, spent("2.5"))
    first = NOW.replace(day=1, hour=0, minute=0, second=0, microsecond=0)

    answer = visitor.get(f"/budgets/one?id={budget.id}")

    values = values_of(answer)
    left, pace = values[::2], values[1::2]
    today = (NOW - first).days
    assert (left[today], left[:today]) == ("7.5", ["10"] * today)
    assert not any(left[today + 1 :])
    assert pace[-1] == "0"
    assert 28 <= len(left) == len(pace) <= 31
    assert "What is left by day" in text_of(answer)


@pytest.mark.parametrize("window", ["hour", "day", "week", "total", "rolling 24h"])
def test_every_window_is_shown(store: Store, visitor: Visitor, window: str) -> None:
    """Also those that have no end to burn down to, before and after something is used."""
    budgets = Budgets(store)
    limits = {"cost_limit_usd": Decimal(0), "token_limit": 1000}
    each = budgets.create(1, NewBudget(name="E", scope="model", window=window, token_limit=1000))
    every = budgets.create(1, NewBudget(name="A", window=window, **limits))
    for budget in (each, every):
        assert visitor.get(f"/budgets/one?id={budget.id}").status == 200
    ingest(store, spent("2.5"))

    for budget in (each, every):
        text = text_of(visitor.get(f"/budgets/one?id={budget.id}"))
        assert "100 of 1,000 tokens 10.0%" in text
        assert ("What is left" in text) is (window in {"day", "week"})
    assert "never resets" in text_of(visitor.get("/budgets")) or window != "total"


def test_a_budget_is_changed_and_forgotten(store: Store, visitor: Visitor) -> None:
    """What the form leaves empty is no limit; webhooks stay unless they are removed."""
    new = NewBudget(
        name="B",
        cost_limit_usd=Decimal("12.50"),
        levels=(0.555, 1.5),
        webhook_urls=("https://a.example/x",),
    )
    budget = Budgets(store).create(1, new)
    page = visitor.get(f"/budgets/one?id={budget.id}").body.decode()
    assert 'value="12.5"' in page
    assert 'value="55.5, 150"' in page

    answer = visitor.post(f"/budgets/{budget.id}", name="C", token_limit="500", levels="50")
    assert answer.headers["location"] == f"/budgets/one?id={budget.id}"
    [changed] = Budgets(store).list(1)
    assert (changed.name, changed.cost_limit_usd, changed.token_limit) == ("C", None, 500)
    assert (changed.levels, changed.enabled) == ((0.5,), False)
    assert changed.webhook_urls == ("https://a.example/x",)
    visitor.post(
        f"/budgets/{budget.id}", name="C", token_limit="500", enabled="1", remove_webhooks="1"
    )
    [changed] = Budgets(store).list(1)
    assert (changed.enabled, changed.webhook_urls) == (True, ())

    refused = visitor.post(f"/budgets/{budget.id}", name="C")
    assert refused.status == 400
    assert 'role="alert"' in refused.body.decode()
    assert visitor.post(f"/budgets/{budget.id}/delete").headers["location"] == "/budgets"
    assert Budgets(store).list(1) == ()
    for path in (f"/budgets/{budget.id}", f"/budgets/{budget.id}/delete", "/budgets/%00/delete"):
        assert visitor.post(path, name="C", token_limit="5").status == 404
    assert visitor.get(f"/budgets/one?id={budget.id}").status == 404


def test_alerts_come_page_by_page(store: Store, visitor: Visitor) -> None:
    """The newest first."""
    Budgets(store).create(1, NewBudget(name="U", scope="user", token_limit=100, levels=(1.0,)))
    ingest(store, *(spent("1", user=f"user-{n:02}") for n in range(40)))

    first = visitor.get("/budgets")
    older = [each for each in first.body.decode().split('"') if each.startswith("/budgets?cursor=")]
    second = visitor.get(older[0])

    found = [
        f"user-{n:02}"
        for n in range(40)
        for page in (first, second)
        if f"U user-{n:02} 100%" in text_of(page)
    ]
    assert found == [f"user-{n:02}" for n in range(40)]
    assert visitor.get("/budgets?cursor=x").status == 400


def test_who_may_read_only_sees(store: Store, app: Starlette) -> None:
    """The budgets, and no forms; they could not send them either."""
    budget = Budgets(store).create(1, NewBudget(name="B", token_limit=5))
    _, secret = Accounts(store).create_key(1, name="r", scopes=["read"])
    reader = Visitor(app, secret)

    for path in ("/budgets", f"/budgets/one?id={budget.id}"):
        answer = reader.get(path)
        assert answer.status == 200
        assert '<form method="post" action="/budgets' not in answer.body.decode()
    for path in ("/budgets", f"/budgets/{budget.id}", f"/budgets/{budget.id}/delete"):
        assert reader.post(path, name="C", token_limit="5").status == 403
    assert [each.name for each in Budgets(store).list(1)] == ["B"]


def test_another_projects_budget_is_not_found(store: Store, visitor: Visitor) -> None:
    """It is neither shown, nor changed, nor forgotten."""
    other = Accounts(store).project("p", organisation="o").id
    budget = Budgets(store).create(other, NewBudget(name="theirs", token_limit=5))

    assert "theirs" not in text_of(visitor.get("/budgets"))
    assert visitor.get(f"/budgets/one?id={budget.id}").status == 404
    for path in (f"/budgets/{budget.id}", f"/budgets/{budget.id}/delete"):
        assert visitor.post(path, name="C", token_limit="7").status == 404
    assert Budgets(store).list(other) == (budget,)


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "مرحبا", "x" * 190, "a'b\"c"])
def test_names_are_text(store: Store, visitor: Visitor, name: str) -> None:
    """Of budgets, and of those whose use they limit."""
    budget = Budgets(store).create(
        1, NewBudget(name=name, scope="user", value=name, token_limit=10, levels=(0.1,))
    )
    ingest(store, spent("1", user=name))

    for path in ("/", "/budgets", f"/budgets/one?id={budget.id}"):
        page = visitor.get(path)
        assert page.status == 200
        assert "<script>alert" not in page.body.decode()
        assert name in text_of(page)
