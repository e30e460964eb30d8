"""`budgets` and `alerts`: the server's budgets from the command line."""

from __future__ import annotations

import csv
import io
import json
from datetime import datetime, timedelta, timezone

import pytest
from typer.testing import CliRunner, Result

from agentsight_tokens import Scope, TokenConfig
from agentsight_tokens.backend.accounts import Accounts
from agentsight_tokens.backend.budgets import BudgetChange, Budgets
from agentsight_tokens.backend.store import SQLiteStore
from agentsight_tokens.cli.app import app
from tests.postgres_kit import PostgreSQL
from tests.records import call
from tests.server_budget_kit import cycle_of
from tests.store_kit import postgresql

__all__ = ["postgresql"]


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "160", **environment})


def store() -> SQLiteStore:
    return SQLiteStore(TokenConfig().directory / "store.db")


def fill() -> None:
    """Store a call of today by each of two users."""
    now = datetime.now(timezone.utc)
    records = [
        call(n, id=user, at=now, scope=Scope(user_id=user)) for n, user in ((10, "ann"), (2, "bob"))
    ]
    with store() as opened:
        opened.ingest([cycle_of(*records, key="k")])


def test_a_budget_is_made_seen_and_deleted() -> None:
    """Its id alone is on stdout; what is stored counts at once."""
    fill()
    made = run(
        *("budgets", "create", "each", "--scope", "user", "--window", "rolling 24h"),
        *("--tokens", "20", "--level", "0.5", "--webhook", "https://x.example/secret"),
    )
    budget_id = made.stdout.strip()
    assert made.exit_code == 0, made.stderr
    assert "'each' has used 150% of its limit already" in made.stderr

    [listed] = json.loads(run("budgets", "list", "--format", "json").stdout)
    shown = run("budgets", "list").stdout
    status = run("budgets", "status", budget_id).stdout
    rows = [
        *csv.DictReader(io.StringIO(run("budgets", "status", budget_id, "--format", "csv").stdout))
    ]

    assert (listed["id"], listed["key"], listed["used_tokens"]) == (budget_id, "ann", 30)
    assert (listed["token_limit"], listed["levels"], listed["webhooks"]) == (20, "0.5", 1)
    assert "each user" in shown
    assert "20 tokens" in shown
    assert "150%" in shown
    assert "x.example" not in shown
    assert [(row["key"], row["used_tokens"], row["tokens_left"]) for row in rows] == [
        ("ann", "30", "0"),
        ("bob", "6", "14"),
    ]
    assert "each: 20 tokens per rolling 24h for each user, since" in status
    assert "and 1 more" in run("budgets", "status", budget_id, "--limit", "1").stdout
    assert run("budgets", "delete", budget_id).exit_code == 0
    assert "There is no budget." in run("budgets", "list").stdout
    assert json.loads(run("budgets", "list", "--format", "json").stdout) == []


def test_alerts_are_listed() -> None:
    """The newest first, with what became of their webhooks."""
    assert "No budget has given an alert." in run("alerts").stdout
    run("budgets", "create", "all", "--usd", "0.0000000001", "--webhook", "https://x.example/y")
    fill()

    alerts = json.loads(run("alerts", "--format", "json").stdout)

    assert [alert["level"] for alert in alerts] == [0.8, 0.5]
    assert alerts[0]["message"].startswith("budget of all calls at 80%: used $")
    assert (alerts[0]["used"], alerts[0]["limit"]) == ("0.000000000084", "0.0000000001")
    assert alerts[0]["webhooks"] == "waiting"
    shown = run("alerts").stdout
    assert "all calls" in shown
    assert "1 waiting" in shown
    assert json.loads(run("alerts", "--budget", "none", "--format", "json").stdout) == []


def test_a_projection_and_a_silent_budget_are_shown() -> None:
    """And a limit of both kinds, in the zone that was asked for."""
    now = datetime.now(timezone.utc)
    made = run(
        "budgets", "create", "b", "--tokens", "900000", "--usd", "5", "--timezone", "Asia/Tokyo"
    )
    budget_id = made.stdout.strip()
    with store() as opened:
        Budgets(opened).change(1, budget_id, BudgetChange(enabled=False))
        opened.ingest([cycle_of(call(1000, at=now - timedelta(seconds=1)), key="k")])

    shown = run("budgets", "list").stdout
    status = run("budgets", "status", budget_id).stdout

    assert "b (silent)" in shown
    assert "900,000 tokens or $5.00" in shown
    assert "3,000" in status
    assert "leads to: linear" in status
    assert (
        "Nothing is used."
        in run(
            "budgets",
            "status",
            run("budgets", "create", "e", "--scope", "org", "--usd", "1").stdout.strip(),
        ).stdout
    )


def test_other_projects_have_their_own() -> None:
    """They are named as keys name them."""
    with store() as opened:
        Accounts(opened).project("web", organisation="acme")
    of_web = ("--project", "web", "--organisation", "acme")

    budget_id = run("budgets", "create", "b", "--tokens", "1", *of_web).stdout.strip()

    assert json.loads(run("budgets", "list", "--format", "json").stdout) == []
    assert run("budgets", "status", budget_id).exit_code == 2
    assert run("budgets", "status", budget_id, *of_web).exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("create", "b"), "needs a token_limit, a cost_limit_usd, or both"),
        (("create", "b", "--usd", "many"), "--usd 'many' is no amount"),
        (("create", "b", "--usd", "-1"), "cost_limit_usd must be USD between 0"),
        (("create", "b", "--usd", "1", "--timezone", "Mars"), "'Mars' is no zone"),
        (("create", "b", "--usd", "1", "--window", "year"), "window 'year' is not known"),
        (("create", "b", "--usd", "1", "--level", "80"), "80.0 is none"),
        (("delete", "none"), "no budget 'none'"),
        (("status", "none"), "no budget 'none'"),
        (("list", "--project", "none"), "there is no project 'none'"),
    ],
)
def test_wrong_use_is_told(arguments: tuple[str, ...], message: str) -> None:
    """With exit code 2, and nothing is made."""
    done = run("budgets", *arguments)

    assert done.exit_code == 2
    assert message in " ".join(done.stderr.split())
    assert json.loads(run("budgets", "list", "--format", "json").stdout) == []


def test_postgresql_can_be_named(postgresql: PostgreSQL) -> None:
    """Its address as an option or a setting."""
    url = postgresql.database()

    made = run("budgets", "create", "b", "--tokens", "1", "--database-url", url)

    [listed] = json.loads(
        run("budgets", "list", "--format", "json", AGENTSIGHT_DATABASE_URL=url).stdout
    )
    assert listed["id"] == made.stdout.strip()
