"""Budgets and alerts over HTTP, and a server that is killed between an alert and its webhook."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import urllib3

from agentsight_tokens.backend.accounts import Accounts
from agentsight_tokens.backend.app import create_app
from agentsight_tokens.backend.budgets import Budgets, NewBudget
from agentsight_tokens.backend.store import SQLiteStore, Store
from agentsight_tokens.backend.store.postgres import PostgreSQLStore
from agentsight_tokens.destinations.http import HTTPDestination
from tests.postgres_kit import PostgreSQL
from tests.records import AT
from tests.server_kit import Answer, ask, cycle
from tests.server_process import ServerProcess
from tests.store_kit import postgresql
from tests.test_server_kills import delivering
from tests.webhook_kit import Webhook

__all__ = ["postgresql"]


class Client:
    """Asks a server's budgets with a key of each scope."""

    def __init__(self, store: SQLiteStore) -> None:
        self.store = store
        self.app = create_app(store)
        accounts = Accounts(store)
        self.keys = {
            scope: accounts.create_key(1, name=scope, scopes=[scope])[1]  # type: ignore[list-item]
            for scope in ("admin", "read", "ingest")
        }

    def ask(
        self, method: str, path: str, body: Any = None, *, scope: str = "admin", query: str = ""
    ) -> Answer:
        content = b"" if body is None else json.dumps(body).encode()
        return ask(self.app, method, path, key=self.keys[scope], body=content, query=query)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with SQLiteStore(tmp_path / "store.db") as store:
        yield Client(store)


NEW = {
    "name": "each model",
    "scope": "model",
    "window": "total",
    "token_limit": 10,
    "cost_limit_usd": "0.5",
    "webhook_urls": ["https://hooks.example/services/T1/B2/secret-path"],
    "webhook_secret": "s3cret",
}


def test_a_budget_lives_over_http(client: Client) -> None:
    """Made, seen, changed, reported and deleted; webhooks' paths and the secret are never shown."""
    client.store.ingest([cycle("a", 2)])
    made = client.ask("POST", "/v1/budgets", NEW)
    path = f"/v1/budgets/{made.json['id']}"

    assert made.status == 201
    assert made.json["cost_limit_usd"] == "0.5"
    assert made.json["levels"] == [0.5, 0.8, 1.0]
    assert made.json["webhook_urls"] == ["https://hooks.example/…"]
    assert made.json["is_signed"]
    assert client.ask("GET", "/v1/budgets", scope="read").json == {"budgets": [made.json]}
    assert client.ask("GET", path, scope="read").json == made.json
    status = client.ask("GET", f"{path}/status", scope="read").json
    [key] = status["keys"]
    assert (key["key"], key["used_tokens"], key["tokens_left"]) == ("gpt-4o", 6, 4)
    assert (key["used_cost_usd"], key["fraction"]) == ("1.4E-11", 0.6)
    assert status["projection_method"].startswith("none: ")
    [alert] = client.ask("GET", "/v1/alerts", scope="read").json["alerts"]
    assert (alert["level"], alert["unit"], alert["used"], alert["limit"]) == (
        0.5,
        "tokens",
        "6",
        "10",
    )
    assert [(d["url"], d["state"]) for d in alert["deliveries"]] == [
        ("https://hooks.example/…", "waiting")
    ]
    burnt = client.ask("GET", f"{path}/burn-down", scope="read", query="key=gpt-4o").json
    assert [(p["used_tokens"], p["used_cost_usd"]) for p in burnt["points"]][-1] == (6, "1.4E-11")
    assert client.ask("GET", f"{path}/burn-down").status == 400
    assert client.ask("GET", f"{path}/burn-down", query="key=%00").status == 400
    changed = client.ask("PATCH", path, {"token_limit": None, "webhook_secret": None})
    assert changed.json == {
        **made.json,
        "token_limit": None,
        "is_signed": False,
        "updated_at": changed.json["updated_at"],
    }
    assert client.ask("DELETE", path).json == changed.json
    assert client.ask("GET", path).status == client.ask("DELETE", path).status == 404
    assert client.ask("GET", f"{path}/status").status == 404
    assert client.ask("PATCH", path, {}).status == 404
    everything = json.dumps([made.json, status, alert, changed.json])
    assert "secret-path" not in everything
    assert "s3cret" not in everything


@pytest.mark.parametrize(
    ("method", "path", "scopes"),
    [
        ("GET", "/v1/budgets", {"read", "admin"}),
        ("GET", "/v1/alerts", {"read", "admin"}),
        ("POST", "/v1/budgets", {"admin"}),
        ("PATCH", "/v1/budgets/x", {"admin"}),
        ("DELETE", "/v1/budgets/x", {"admin"}),
        ("GET", "/v1/budgets/x/status", {"read", "admin"}),
    ],
)
def test_reading_and_changing_are_allowed_apart(
    client: Client, method: str, path: str, scopes: set[str]
) -> None:
    """`read` sees and `admin` changes."""
    allowed = {
        scope for scope in client.keys if client.ask(method, path, scope=scope).status != 403
    }

    assert allowed == scopes


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"name": "b"}, "needs a token_limit, a cost_limit_usd, or both"),
        ({"name": "b", "token_limit": -1}, ">= 0"),
        ({"name": "b", "token_limit": 1.5}, "int"),
        ({"name": "b", "cost_limit_usd": "-1"}, "must be USD between 0"),
        ({"name": "b", "cost_limit_usd": "NaN"}, "must be USD between 0"),
        ({"name": "b", "cost_limit_usd": "ten"}, "cost_limit_usd"),
        ({"name": "b", "token_limit": 1, "timezone": "Mars"}, "'Mars' is no zone"),
        ({"name": "b", "token_limit": 1, "window": "rolling 1M"}, "duration '1M' is not known"),
        ({"name": "b", "token_limit": 1, "levels": [0.5, 50]}, "50.0 is none"),
        ({"name": "b", "token_limit": 1, "levels": "high"}, "levels"),
        ({"name": "b", "token_limit": 1, "scope": "planet"}, "planet"),
        ({"name": "b", "token_limit": 1, "webhook_urls": ["file:///x"]}, "a webhook's address"),
        ({"name": "b", "token_limit": 1, "limit": 1}, "unknown field `limit`"),
    ],
)
def test_a_body_that_is_no_budget_is_refused(
    client: Client, body: dict[str, Any], message: str
) -> None:
    """400 with what is wrong, and nothing is made."""
    answer = client.ask("POST", "/v1/budgets", body)

    assert answer.status == 400
    assert message in answer.message
    assert client.ask("GET", "/v1/budgets").json == {"budgets": []}


def test_what_a_budget_counts_by_cannot_change(client: Client) -> None:
    """What was counted is counted by it."""
    path = f"/v1/budgets/{client.ask('POST', '/v1/budgets', NEW).json['id']}"

    for field in ({"scope": "user"}, {"window": "day"}, {"timezone": "UTC"}, {"value": "x"}):
        answer = client.ask("PATCH", path, field)

        assert answer.status == 400
        assert f"unknown field `{next(iter(field))}`" in answer.message
    assert client.ask("PATCH", path, {"token_limit": None, "cost_limit_usd": None}).status == 400


def test_alerts_come_in_pages_over_http(client: Client) -> None:
    """A cursor of nobody is refused."""
    client.ask("POST", "/v1/budgets", {"name": "b", "window": "total", "token_limit": 1})
    client.store.ingest([cycle("a", 1)])

    first = client.ask("GET", "/v1/alerts", query="limit=2").json
    second = client.ask("GET", "/v1/alerts", query=f"limit=2&cursor={first['next_cursor']}").json

    assert [a["level"] for a in first["alerts"] + second["alerts"]] == [1.0, 0.8, 0.5]
    assert second["next_cursor"] is None
    for query in ("cursor=x", "cursor=1.%00", "limit=0", "limit=9999", "order=up"):
        assert client.ask("GET", "/v1/alerts", query=query).status == 400
    assert client.ask("GET", "/v1/alerts", query="budget_id=%00").json["alerts"] == []
    assert client.ask("GET", "/v1/budgets/%00".replace("%00", "\0")).status == 404


Opening = Callable[[], Store]


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[tuple[str, ...], Opening]:
    """Return the server's arguments, and what opens its store."""
    if request.param == "sqlite":
        return (), lambda: SQLiteStore(tmp_path / "store.db")
    url = request.getfixturevalue("postgresql").database()
    return ("--database-url", url), lambda: PostgreSQLStore(url)


@pytest.mark.services
def test_kill_9_between_an_alert_and_its_webhook(
    tmp_path: Path, database: tuple[tuple[str, ...], Opening]
) -> None:
    """Recorded once, delivered at least once, under the same key; whoever is asked says so."""
    arguments, open_store = database
    asked = threading.Event()
    with closing(Webhook()) as webhook:
        store = open_store()
        new = NewBudget(
            name="b", window="total", token_limit=4, levels=(1.0,), webhook_urls=(webhook.url,)
        )
        Budgets(store).create(1, new)

        def hold(_: object) -> None:
            asked.set()
            webhook.is_closing.wait(20)

        webhook.behaviours = [hold]
        with ServerProcess(tmp_path, *arguments, "--allow-private-webhooks") as server:
            destination = HTTPDestination(server.url, None, timeout_seconds=20)
            destination.deliver([cycle("a", 1, 2)])
            destination.close()
            assert asked.wait(30)
            server.end()
            # As if the minute for which the dead one had claimed it were over.
            with store.transaction() as transaction:
                transaction.run("UPDATE webhook_deliveries SET due_at = 0 WHERE state = 'waiting'")
            server.begin()
            deadline = time.monotonic() + 30
            delivery = None
            while time.monotonic() < deadline:
                [alert] = Budgets(store).alerts(1).alerts
                [delivery] = alert.deliveries
                if delivery.state == "delivered":
                    break
                time.sleep(0.02)
            text = urllib3.request("GET", f"{server.url}/metrics").data.decode()

        assert delivery is not None
        assert (delivery.state, delivery.attempts) == ("delivered", 2)
        assert webhook.keys == [alert.id] * 2
        assert 'agentsight_webhooks_total{outcome="delivered"} 1.0' in text.splitlines()
        store.close()


@pytest.mark.services
def test_two_servers_give_each_alert_once(tmp_path: Path, postgresql: PostgreSQL) -> None:
    """Sums are exact, and each webhook is called once for each alert."""
    url = postgresql.database()
    arguments = ("--database-url", url, "--allow-private-webhooks")
    with closing(Webhook()) as webhook, PostgreSQLStore(url) as store:
        made = [
            Budgets(store, now=lambda: AT).create(
                1,
                NewBudget(
                    name=window,
                    window=window,
                    token_limit=1000,
                    levels=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
                    webhook_urls=(webhook.url,),
                ),
            )
            for window in ("total", "rolling 24h")
        ]
        with (
            ServerProcess(tmp_path / "1", *arguments) as one,
            ServerProcess(tmp_path / "2", *arguments) as two,
            delivering(one.url) as first,
            delivering(two.url, "second") as second,
        ):
            for clients in (first, second):
                clients.wait_for_more(60)
            deadline = time.monotonic() + 40
            while len(webhook.keys) < 20 and time.monotonic() < deadline:
                time.sleep(0.02)
        keys = first.acknowledged + second.acknowledged
        assert len(keys) > 100
        tokens = len(keys) * (3 + 6)
        for budget in made:
            status = Budgets(store).status(1, budget.id, AT)
            assert status is not None
            assert [(k.used_tokens, k.calls) for k in status.keys] == [(tokens, 2 * len(keys))]
            assert status.keys[0].used_cost_usd == Decimal(len(keys) * 21).scaleb(-12)
        alerts = Budgets(store).alerts(1, limit=1000).alerts
        assert len(alerts) == 20
        assert sorted(webhook.keys) == sorted(alert.id for alert in alerts)
