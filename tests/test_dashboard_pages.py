"""The pages beside the overview: their numbers, their order, and whose they are."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import openai
import pytest
from starlette.applications import Starlette

from agentsight_tokens import ConversationTracker, Scope, TokenUsage, UsageRecord
from agentsight_tokens.backend.accounts import Accounts
from agentsight_tokens.backend.analytics import usage_by
from agentsight_tokens.backend.app import create_app
from agentsight_tokens.backend.store import SQLiteStore, Store
from agentsight_tokens.backend.store.postgres import PostgreSQLStore
from agentsight_tokens.cycle import Cycle
from agentsight_tokens.testing import LoopbackProvider
from tests.dashboard_kit import Visitor, text_of, titles_of, values_of
from tests.openai_kit import asking
from tests.postgres_kit import PostgreSQL
from tests.records import call
from tests.server_kit import Answer, ask
from tests.store_kit import postgresql

__all__ = ["postgresql"]

NOW = datetime.now(timezone.utc)
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "مرحبا",
    "x" * 1000,
    "a/b?c",
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with SQLiteStore(tmp_path / "store.db") as store:
        yield store


@pytest.fixture
def app(store: Store) -> Starlette:
    return create_app(store)


@pytest.fixture
def visitor(app: Starlette) -> Visitor:
    return Visitor(app)


def ingest(store: Store, *records: UsageRecord, project_id: int = 1) -> None:
    """Store calls, each conversation's in a cycle of its own."""
    by_conversation: dict[str, list[UsageRecord]] = {}
    for record in records:
        by_conversation.setdefault(record.scope.conversation_id or "", []).append(record)
    store.ingest(
        [
            Cycle.of(
                its,
                key=f"k-{its[0].id}",
                conversation_id=name,
                sealed_by="send",
                sealed_at=NOW,
                environment="production",
            )
            for name, its in by_conversation.items()
        ],
        project_id=project_id,
    )


def some(number: int, **facts: object) -> UsageRecord:
    """Return a call of one of five users in one of ten conversations."""
    scope = Scope(conversation_id=f"c-{number % 10}", user_id=f"u-{number % 5}", agent="planner")
    given = {
        "at": NOW - timedelta(hours=number),
        "model": f"m-{number % 3}",
        "scope": scope,
        "cost_pico_usd": 10**9 * number,
        "usage": TokenUsage(
            input_tokens=10 * number, output_tokens=number, cache_read_tokens=number
        ),
    }
    return call(number, **{**given, **facts})


def rows_of(answer: Answer) -> list[list[str]]:
    """Return the cells of the last table of a page."""
    table = re.findall(r"<tbody.*?</tbody>", answer.body.decode(), flags=re.S)[-1]
    return [
        [
            " ".join(html.unescape(re.sub(r"<[^>]*>", " ", cell)).split())
            for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, flags=re.S)
        ]
        for row in re.findall(r"<tr.*?</tr>", table, flags=re.S)
    ]


def follow(answer: Answer, label: str) -> str:
    """Return the address of the link with a label."""
    found = re.search(
        rf'<a [^>]*href="([^"]*)"[^>]*>(?:<svg.*?</svg>)?{label}', answer.body.decode()
    )
    assert found is not None, label
    return html.unescape(found[1])


@pytest.mark.parametrize("by", ["user", "model", "conversation", "day", "hour", "environment"])
def test_usage_is_the_stores(store: Store, visitor: Visitor, by: str) -> None:
    """By any dimension: the table, its total and the chart."""
    ingest(store, *map(some, range(1, 41)))
    report = usage_by(store, [by])

    answer = visitor.get(f"/usage?by={by}")

    titles = titles_of(answer)
    shown = {row[0] for row in rows_of(answer)}
    assert shown == {key[0] for key, _ in report.groups}
    for _, usage in report.groups:
        assert f"{usage.cost.normalize():f} USD" in titles
    assert f"{report.total.cost.normalize():f} USD" in titles
    assert sum(map(Decimal, values_of(answer))) == report.total.cost


def test_usage_is_sorted_as_asked(store: Store, visitor: Visitor) -> None:
    """A click on a column sorts by it, and another one turns it round."""
    ingest(store, *map(some, range(1, 41)))
    page = visitor.get("/usage?by=user")
    assert [row[0] for row in rows_of(page)] == ["u-0", "u-4", "u-3", "u-2", "u-1"]

    down = visitor.get(follow(page, "Output"))
    up = visitor.get(follow(down, "Output"))
    by_name = visitor.get(follow(up, "User</a></th>"))

    assert [int(row[4]) for row in rows_of(down)] == [180, 172, 164, 156, 148]
    assert [int(row[4]) for row in rows_of(up)] == [148, 156, 164, 172, 180]
    assert 'aria-sort="ascending"' in up.body.decode()
    assert [row[0] for row in rows_of(by_name)] == ["u-0", "u-1", "u-2", "u-3", "u-4"]


def test_a_long_table_comes_in_pages(store: Store, visitor: Visitor) -> None:
    """A hundred rows each; the total is of all of them."""
    ingest(store, *(some(n, model=f"model-{n:03}") for n in range(1, 251)))

    first = visitor.get("/usage?by=model&sort=name&order=asc")
    second = visitor.get(follow(first, "Next"))
    third = visitor.get(follow(second, "Next"))

    names = [row[0] for page in (first, second, third) for row in rows_of(page)]
    assert names == [f"model-{n:03}" for n in range(1, 251)]
    assert "201 to 250 of 250" in text_of(third)
    assert "Next" not in text_of(third)
    assert [row[0] for row in rows_of(visitor.get(follow(third, "Back")))] == names[100:200]
    assert f"{usage_by(store, []).total.cost.normalize():f} USD" in titles_of(third)


def test_of_many_sessions_those_that_cost_most_are_read_page_by_page(
    store: Store, visitor: Visitor
) -> None:
    """There may be millions: no more are added up than a page needs, and the total is of all."""
    ingest(
        store,
        *(
            some(n, at=NOW, scope=Scope(conversation_id="c", session_id=f"s{n}"))
            for n in range(250)
        ),
    )
    pages, address = [], "/usage?by=session"
    while address:
        pages.append(visitor.get(address))
        address = follow(pages[-1], "Next") if ">Next<" in pages[-1].body.decode() else ""

    assert [row[0] for page in pages for row in rows_of(page)] == [
        f"s{number}" for number in reversed(range(250))
    ]
    assert "Sessions that cost most" in text_of(pages[0])
    assert "101 to 200 Back Next" in text_of(pages[1])
    assert "201 to 250 of 250 Back" in text_of(pages[2])
    total = usage_by(store, []).total.cost
    for page in pages:  # the chart is of all of them, too
        assert f"{total.normalize():f} USD" in titles_of(page)
        assert sum(map(Decimal, values_of(page))) == total


def test_usage_is_opened_step_by_step(store: Store, visitor: Visitor) -> None:
    """From a model to its users, from a user to what it used, from a day to its hours."""
    ingest(store, *map(some, range(1, 41)))
    by_model = visitor.get("/usage?range=90d")
    of_model = visitor.get(follow(by_model, "<bdi>m-1</bdi>"))
    of_user = visitor.get(follow(of_model, "<bdi>u-2</bdi>"))

    assert usage_by(store, [], where={"model": "m-1", "user_id": "u-2"}).total.request_count == 3
    assert [row[1] for row in rows_of(of_user)] == ["3"]
    assert "range=90d" in follow(of_user, "Overview")
    day = visitor.get(
        follow(visitor.get("/usage?by=day"), f"<bdi>{NOW - timedelta(hours=1):%Y-%m-%d}</bdi>")
    )
    assert day.status == 200


def test_usage_comes_as_csv(store: Store, visitor: Visitor) -> None:
    """With every digit, all groups, and the filters of the page."""
    ingest(store, *(some(n, model=f'm,"{n}"') for n in range(1, 1200)))
    page = visitor.get("/usage?range=all&agent=planner")

    answer = visitor.get(follow(page, "CSV"))

    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert 'filename="usage-by-model.csv"' in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.body.decode(), newline="")))
    total = usage_by(store, []).total
    assert len(rows) == 1199
    assert {row["model"] for row in rows} >= {'m,"1"', 'm,"1199"'}
    assert sum(Decimal(row["cost_usd"]) for row in rows) == total.cost
    assert sum(int(row["input_tokens"]) for row in rows) == total.input_tokens
    assert visitor.get("/usage.csv?agent=nobody").body.count(b"\n") == 1


@pytest.mark.parametrize(
    "path",
    [
        "/usage?by=happiness",
        "/usage?page=0",
        "/usage?page=x",
        "/usage?sort=x",
        "/usage.csv?by=x",
        "/conversations?order=x",
        "/conversations?cursor=x",
        "/conversations/one",
        "/conversations/one?id=c-1&cursor=x",
        "/conversations/one?id=c-1&zone=x",
    ],
)
def test_what_cannot_be_shown_is_told(store: Store, visitor: Visitor, path: str) -> None:
    """With 400 and a reason."""
    ingest(store, some(1))

    assert visitor.get(path).status == 400


@pytest.mark.parametrize("order", ["newest", "costliest", "largest"])
def test_conversations_come_page_by_page(store: Store, visitor: Visitor, order: str) -> None:
    """All of them once, in their order."""
    scopes = [Scope(conversation_id=f"c-{n:03}", user_id=f"u-{n}") for n in range(120)]
    ingest(store, *(some(n + 1, scope=scope) for n, scope in enumerate(scopes)))
    names, costs = [], []
    page = visitor.get(f"/conversations?order={order}&range=all")
    while True:
        rows = [row for row in rows_of(page) if len(row) > 1]
        names += [row[0] for row in rows]
        costs += [Decimal(row[6][1:]) for row in rows]
        if len(rows) < 50:
            break
        page = visitor.get(follow(page, "Show more"))

    assert sorted(names) == [f"c-{n:03}" for n in range(120)]
    assert names == sorted(names, reverse=order != "newest")
    assert sum(costs) == usage_by(store, []).total.cost


def test_a_conversation_is_shown_call_by_call(store: Store, visitor: Visitor) -> None:
    """With what each used, how it ended, and what nobody knows of it."""
    scope = Scope(conversation_id="c", user_id="u", agent="planner", tags=("vip",))
    ingest(
        store,
        some(1, scope=scope, at=NOW, tool_name="search", duration_seconds=0.25),
        some(
            2,
            scope=scope,
            at=NOW,
            status="error",
            unreported_reason="error_without_usage",
            usage=TokenUsage(),
            cost_pico_usd=None,
            cost_status=None,
        ),
        some(
            3, scope=scope, at=NOW, cost_pico_usd=None, cost_status="unpriced", source="estimated"
        ),
    )

    answer = visitor.get(follow(visitor.get("/conversations"), "<bdi>c</bdi>"))
    text = text_of(answer)

    assert "by u" in text
    assert "0.001 USD" in titles_of(answer)
    assert "m-1 chat agent planner tool search tags vip In 10 Cached 1 Out 1 Took 250 ms" in text
    assert "m-2 chat error unreported agent planner tags vip In - Cached - Out -" in text
    assert "m-0 chat estimated agent planner tags vip In 30 Cached 3 Out 3" in text
    assert "Cost unpriced" in text
    assert rows_of(answer)[0][1:4] == ["sent", "production", "3"]


def test_a_long_conversation_comes_in_parts(store: Store, visitor: Visitor) -> None:
    """The newest hundred calls first."""
    scope = Scope(conversation_id="c/1?&")
    ingest(store, *(some(n, scope=scope, model=f"model-{n:03}") for n in range(1, 231)))
    page = visitor.get(follow(visitor.get("/conversations"), "<bdi>"))
    names = []
    for _ in range(3):
        names += re.findall(r"<bdi[^>]*>(model-\d+)</bdi>", page.body.decode())
        if len(names) < 230:
            page = visitor.get(follow(page, "Show more"))

    assert names == [f"model-{n:03}" for n in range(1, 231)]


def test_models_tell_price_cache_and_cost(store: Store, visitor: Visitor) -> None:
    """What is not priced is told as such."""
    usage = TokenUsage(input_tokens=800_000, output_tokens=200_000, cache_read_tokens=400_000)
    known = some(1, model="gpt-4o", provider="openai", usage=usage, cost_pico_usd=4 * 10**12)
    odd = some(2, model="in-house-9", provider=None, cost_pico_usd=None, cost_status="unpriced")
    ingest(store, known, odd)

    rows = {row[0]: row[1:] for row in rows_of(visitor.get("/models"))}

    priced = rows["gpt-4o openai"]
    assert priced[:5] == ["$2.50", "$10.00", "1", "1.00M", "50.0%"]
    assert priced[6:] == ["$4.00", "$4.00", "$4.00", "100%"]
    assert rows["in-house-9 no provider"][0] == "no price known"
    assert "unpriced" in rows["in-house-9 no provider"]


def test_prices_tell_who_says_so_and_since_when(store: Store, visitor: Visitor) -> None:
    """Of the models that were used, and of any that is looked up."""
    ingest(store, some(1, model="gpt-4o", provider="openai"))
    ingest(store, some(2, model="in-house-9", cost_pico_usd=None, cost_status="unpriced"))

    page = visitor.get("/prices?model=claude-sonnet-4-5")

    rows = {row[0]: row[1:] for row in rows_of(page)}
    assert rows["gpt-4o openai"][:5] == ["$2.50", "$1.25", "-", "$10.00", "gpt-4o"]
    assert "AGENTSIGHT_COST_RATES__IN-HOUSE-9" in rows["in-house-9 no provider"][0]
    assert re.search(r"Newest source 20\d\d-\d\d-\d\d \d+ days old", text_of(page))
    assert "claude-sonnet-4-5 is claude-sonnet-4-5 (exact)" in text_of(page)
    assert "No price of it is known" in text_of(visitor.get("/prices?model=in-house-9"))


def test_keys_are_made_and_revoked(store: Store, app: Starlette) -> None:
    """A secret is shown once; what is revoked is refused at once."""
    accounts = Accounts(store)
    own, secret = accounts.create_key(1, name="mine", scopes=["admin"])
    visitor = Visitor(app, secret)

    made = visitor.post("/keys", name="web <b>", scopes=["ingest", "read"], expires_days="30")

    key = accounts.list_keys(1)[1]
    found = re.search(r'value="(ats_[\w-]+)"', made.body.decode())
    assert found is not None
    assert accounts.key_of(found[1]) == key
    assert (key.name, key.scopes) == ("web <b>", ("ingest", "read"))
    assert key.expires_at is not None
    assert timedelta(days=29) < key.expires_at - NOW < timedelta(days=31)
    listed = visitor.get("/keys")
    assert found[1] not in listed.body.decode()
    assert "web <b>" in text_of(listed)
    assert "web <b>" not in listed.body.decode()
    assert visitor.post(f"/keys/{key.id}/revoke").headers["location"] == "/keys"
    assert ask(app, "GET", "/v1/project", key=found[1]).status == 401
    assert "revoked" in text_of(visitor.get("/keys"))

    assert visitor.post(f"/keys/{own.id}/revoke").status == 303
    assert visitor.get("/keys").headers["location"].startswith("/login")


def test_a_key_that_cannot_be_is_told(store: Store, app: Starlette) -> None:
    """In the form, with what was written in it."""
    accounts = Accounts(store)
    _, secret = accounts.create_key(1, name="mine", scopes=["admin"])
    visitor = Visitor(app, secret)

    for fields in ({"name": "x" * 201, "scopes": "read"}, {"name": "none"}, {"scopes": "read"}):
        answer = visitor.post("/keys", **fields)
        assert answer.status == 400
        assert 'role="alert"' in answer.body.decode()
    for fields in ({"name": "x", "scopes": "all"}, {"name": "x", "expires_days": "0"}, {"x": "1"}):
        assert visitor.post("/keys", **fields).status == 400
    assert visitor.post("/keys/nothing/revoke").status == 404
    assert len(accounts.list_keys()) == 1


def test_the_first_key_is_not_made_here(visitor: Visitor, store: Store) -> None:
    """It would lock out all others."""
    assert "This server is open" in text_of(visitor.get("/keys"))
    assert visitor.post("/keys", name="x", scopes="admin").status == 403
    assert not Accounts(store).has_keys()


def test_without_admin_there_are_no_forms(store: Store, app: Starlette) -> None:
    """Who may only read sees neither keys nor the link to them."""
    _, secret = Accounts(store).create_key(1, name="r", scopes=["read"])
    visitor = Visitor(app, secret)

    assert visitor.get("/keys").status == 403
    assert "Keys" not in text_of(visitor.get("/"))
    assert visitor.post("/keys", name="x", scopes="admin").status == 403


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text_on_every_page(store: Store, visitor: Visitor, name: str) -> None:
    """Whatever users call things."""
    scope = Scope(conversation_id=name, user_id=name, agent=name, feature=name, tags=(name,))
    ingest(store, some(1, scope=scope, model=name, provider=name, tool_name=name))
    pages = [visitor.get(f"/usage?by={by}") for by in ("model", "user", "conversation", "tool")]
    pages += [visitor.get(p) for p in ("/conversations", "/models", "/prices")]
    pages += [visitor.get(follow(pages[4], "<bdi>"))]

    for page in pages:
        source = page.body.decode()
        assert page.status == 200
        assert "<script>alert" not in source
        assert "<img" not in source
        assert html.escape(name, quote=False) in source.replace("&#34;", '"').replace("&#39;", "'")


def test_another_projects_conversation_is_not_found(store: Store, app: Starlette) -> None:
    """Nor anything else of it, on any page, whatever is asked for."""
    accounts = Accounts(store)
    other = accounts.project("p", organisation="o").id
    ingest(
        store,
        some(1, model="secret-model", scope=Scope(conversation_id="secret", user_id="u")),
        project_id=other,
    )
    _, secret = accounts.create_key(1, name="k", scopes=["admin"])
    visitor = Visitor(app, secret)

    assert visitor.get("/conversations/one?id=secret").status == 404
    for path in ("/", "/usage", "/usage.csv", "/conversations", "/models", "/prices", "/keys"):
        for query in (
            ("range=all", "conversation=secret", "user=u") if path in {"/", "/usage"} else ("",)
        ):
            answer = visitor.get(f"{path}?{query}")
            assert answer.status == 200
            assert "secret-model" not in answer.body.decode()


def test_the_dashboard_shows_what_the_provider_billed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own ledger, the dashboard, its CSV and the API agree on the same run."""
    monkeypatch.setenv("AGENTSIGHT_TOKEN_HANDLER_TYPE", "openai")
    with (
        LoopbackProvider() as provider,
        ConversationTracker() as tracker,
        openai.OpenAI(base_url=provider.openai_url, api_key="k", max_retries=0) as client,
    ):
        for conversation in ("one", "two", "three"):
            with tracker.conversation(conversation, user_id=f"of-{conversation}"):
                for _ in range(4):
                    client.chat.completions.create(**asking())
                tracker.send_tracked_data()
        assert tracker.flush(20)
        billed, cost, calls = provider.billed(), tracker.get_usage().cost, len(provider.ledger)

    with SQLiteStore(tmp_path / "data" / "store.db") as store:
        visitor = Visitor(create_app(store))
        page = visitor.get("/usage?by=user")
        rows = list(csv.DictReader(io.StringIO(visitor.get("/usage.csv?by=user").body.decode())))
        told = ask(visitor.app, "GET", "/v1/usage", query="by=user").json

    assert cost > 0
    assert [{k: str(v) for k, v in row.items()} for row in told["rows"]] == rows
    for name in ("input_tokens", "output_tokens", "total_tokens", "cache_read_tokens"):
        assert sum(int(row[name]) for row in rows) == getattr(billed, name)
    assert sum(Decimal(row["cost_usd"]) for row in rows) == cost
    assert sum(map(Decimal, values_of(page))) == cost
    assert f"{cost.normalize():f} USD" in titles_of(page)
    assert sum(int(row[1]) for row in rows_of(page)) == calls == 12


def test_every_page_answers_on_postgresql(postgresql: PostgreSQL) -> None:
    """With the same numbers."""
    with PostgreSQLStore(postgresql.database()) as store:
        ingest(store, *map(some, range(1, 41)))
        visitor = Visitor(create_app(store))
        total = usage_by(store, []).total

        for path in (
            "/usage",
            "/usage?by=user&model=m-1",
            "/usage.csv?by=day",
            "/ranking?by=user",
            "/conversations",
            "/conversations/one?id=c-1",
            "/insights",
            "/insights/costly",
            "/models",
            "/models/cache",
            "/models/speed",
            "/budgets",
            "/prices",
            "/keys",
        ):
            assert visitor.get(path).status == 200, path
        assert f"{total.cost.normalize():f} USD" in titles_of(visitor.get("/"))
        assert visitor.get("/conversations/one?id=%00").status == 404
