"""`keys` and `db`: the server's commands that do not serve."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone

import pytest
from typer.testing import CliRunner, Result

from agentsight_tokens import Cycle, TokenConfig
from agentsight_tokens.backend.accounts import Accounts
from agentsight_tokens.backend.app import create_app
from agentsight_tokens.backend.store import SQLiteStore
from agentsight_tokens.cli.app import app
from tests.postgres_kit import PostgreSQL
from tests.records import AT, call
from tests.server_kit import ask, cycle
from tests.store_kit import postgresql

__all__ = ["postgresql"]


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "120", **environment})


def store() -> SQLiteStore:
    return SQLiteStore(TokenConfig().directory / "store.db")


def test_a_key_is_made_shown_once_and_revoked() -> None:
    """The secret alone is on stdout; the list names the key and never shows it."""
    made = run("keys", "create", "ci", "--project", "web", "--organisation", "acme")
    secret = made.stdout.strip()
    assert made.exit_code == 0
    assert "acme/web may ingest" in made.stderr
    with store() as opened:
        assert ask(create_app(opened), "GET", "/v1/project", key=secret).status == 200

    [listed] = json.loads(run("keys", "list", "--format", "json").stdout)
    assert (listed["project"], listed["name"], listed["state"]) == ("web", "ci", "valid")
    assert secret not in run("keys", "list").stdout
    assert run("keys", "revoke", listed["id"]).exit_code == 0
    assert "revoked" in run("keys", "list", "--format", "csv").stdout
    with store() as opened:
        assert ask(create_app(opened), "GET", "/v1/project", key=secret).status == 401


def test_keys_have_scopes_and_an_end() -> None:
    """As the options say."""
    run("keys", "create", "k", "--scope", "read", "--scope", "admin", "--expires-days", "30")
    with store() as opened:
        [key] = Accounts(opened).list_keys()

    assert key.scopes == ("read", "admin")
    assert key.expires_at is not None
    assert timedelta(days=29) < key.expires_at - datetime.now(timezone.utc) < timedelta(days=31)


def test_expired_keys_are_listed_so() -> None:
    """With their end."""
    earlier = datetime.now(timezone.utc) - timedelta(days=3)
    with store() as opened:
        Accounts(opened, now=lambda: earlier).create_key(
            1, name="k", expires_at=earlier + timedelta(days=1)
        )

    assert "expired" in run("keys", "list").stdout


def test_without_keys_the_list_says_what_to_do() -> None:
    """And who is let in."""
    assert "keys create" in run("keys", "list").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("keys", "revoke", "nothing"), "no key 'nothing'"),
        (("keys", "create", ""), "1 to 200"),
        (("db", "distribute"), "PostgreSQL"),
        (("keys", "list", "--database-url", "mysql://h/d"), "postgresql://"),
    ],
)
def test_wrong_use_is_told(arguments: tuple[str, ...], message: str) -> None:
    """In a line, with the exit code of wrong use."""
    done = run(*arguments)

    assert done.exit_code == 2
    assert message in done.stderr


def test_calls_expire_from_the_command_line() -> None:
    """Those of the months that are not kept."""
    old = call(1, at=AT.replace(year=2020))
    with store() as opened:
        opened.ingest(
            [Cycle.of([old], key="o", conversation_id="c", sealed_by="send", sealed_at=AT)]
        )

    done = run("db", "expire", "--keep-months", "12")
    assert (done.exit_code, done.stdout) == (0, "calls forgotten: 1\n")
    assert run("db", "upgrade").exit_code == 0


def test_a_database_is_upgraded_from_the_command_line(postgresql: PostgreSQL) -> None:
    """Before, commands say how; afterwards they work on it."""
    url = postgresql.empty_database()
    early = run("keys", "list", "--database-url", url)
    assert (early.exit_code, "db upgrade" in early.stderr) == (1, True)
    assert run("db", "upgrade", "--database-url", url).exit_code == 0
    assert run("keys", "create", "k", AGENTSIGHT_DATABASE_URL=url).exit_code == 0
    assert "default" in run("keys", "list", "--database-url", url).stdout
    refused = run("db", "distribute", "--database-url", url)
    assert (refused.exit_code, "citus" in refused.stderr) == (1, True)


def test_a_store_that_does_not_answer_is_told(postgresql: PostgreSQL) -> None:
    """Without a traceback."""
    done = run(
        "keys", "list", "--database-url", f"{postgresql.empty_database()}x?connect_timeout=1"
    )

    assert done.exit_code == 1
    assert "does not answer" in done.stderr


def test_a_file_of_sqlite_can_be_named(tmp_path: object) -> None:
    """By its address."""
    url = f"sqlite:///{tmp_path}/named.db"
    run("keys", "create", "k", "--database-url", url)
    with SQLiteStore(TokenConfig().directory / "store.db") as other:
        other.ingest([cycle("a", 1)])
        assert not Accounts(other).has_keys()

    assert " k " in run("keys", "list", "--database-url", url).stdout
