"""`import`: as users run it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agentsight_tokens.backend.store import SQLiteStore
from agentsight_tokens.cli.app import app
from tests.postgres_kit import PostgreSQL
from tests.server_process import ServerProcess
from tests.store_kit import postgresql
from tests.test_import import CHAT, OBSERVATION, SPEND, lines

__all__ = ["postgresql"]


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "120", **environment})


@pytest.fixture
def log(tmp_path: Path) -> str:
    path = tmp_path / "responses.jsonl"
    unpriced = CHAT | {"id": "2", "model": "nobody-knows-it"}
    failed = {"custom_id": "1", "response": {"status_code": 500, "body": {"error": {}}}}
    path.write_bytes(lines(CHAT, unpriced, failed) + b"no JSON\n" * 7)
    return str(path)


def test_an_import_is_told_and_found_in_the_report(log: str, tmp_path: Path) -> None:
    """What came in, what was left out and why, and what to do next."""
    data = str(tmp_path / "data")
    done = run("import", log, "--data-dir", data, "--feature", "support", "--tag", "a")

    assert done.exit_code == 0
    assert "skipped 1 row: a request that failed" in done.stdout
    assert "row 4: it is no JSON" in done.stdout
    assert "and 2 more" in done.stdout
    assert "no price is known of nobody-knows-it (1 call)" in done.stdout
    assert "next: agentsight-tokens report --by model" in done.stdout
    [row] = json.loads(run("report", "--by", "feature", "--format", "json", "--data-dir", data).stdout)  # fmt: skip
    assert (row["feature"], row["calls"], row["input_tokens"]) == ("support", 2, 200)
    again = run("import", log, "--data-dir", data)
    assert "went on after row 10" in again.stdout
    assert "there was nothing new to import" in again.stdout


def test_several_files_of_several_kinds(tmp_path: Path) -> None:
    """Each is known by its rows; a pattern that the shell left alone is expanded."""
    (tmp_path / "a.jsonl").write_bytes(lines(SPEND))
    (tmp_path / "b.jsonl").write_bytes(lines(OBSERVATION))
    done = run("import", str(tmp_path / "*.jsonl"), "--dry-run", "--at", "2026-01-02")

    assert done.exit_code == 0, done.output
    assert "litellm" in done.stdout
    assert "langfuse" in done.stdout
    assert "nothing was stored: run it again without --dry-run" in done.stdout


def test_into_a_server(log: str, tmp_path: Path) -> None:
    """With its key; one that is refused is told before anything is read."""
    with ServerProcess(tmp_path / "server", key="secret") as server:
        arguments = ("import", log, "--endpoint", server.url)
        refused = run(*arguments, AGENTSIGHT_API_KEY="wrong")
        done = run(*arguments, AGENTSIGHT_API_KEY="secret")
        by_variable = run(
            "import", log, AGENTSIGHT_API_KEY="secret", AGENTSIGHT_API_ENDPOINT=server.url
        )
    assert refused.exit_code == 1
    assert "401" in refused.stderr
    assert done.exit_code == 0, done.output
    assert f"next: look at {server.url}" in done.stdout
    assert "there was nothing new" in by_variable.stdout
    with SQLiteStore(tmp_path / "server" / "store.db") as store:
        assert store.rows("SELECT COUNT(*), SUM(input_tokens) FROM calls") == [(2, 200)]


def test_a_server_that_is_away(log: str, tmp_path: Path) -> None:
    """The message says that it can be run again."""
    done = run("import", log, "--endpoint", "http://127.0.0.1:9")

    assert done.exit_code == 1
    assert "error:" in done.stderr


@pytest.mark.services
def test_into_a_database(log: str, postgresql: PostgreSQL) -> None:
    """Without the server; it must have the tables."""
    url = postgresql.database()
    done = run("import", log, "--database-url", url)
    assert done.exit_code == 0, done.output

    from agentsight_tokens.backend.store.postgres import PostgreSQLStore

    with PostgreSQLStore(url) as store:
        assert store.rows("SELECT COUNT(*), SUM(input_tokens) FROM calls") == [(2, 200)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing.jsonl",), "is no file"),
        (("-",), "--from responses"),
        (("x", "--endpoint", "http://a", "--database-url", "postgresql://b"), "not both"),
        (("x", "--at", "soon"), "--at"),
        (("x", "--from", "excel"), "--from"),
    ],
)
def test_wrong_use_is_named(arguments: tuple[str, ...], message: str) -> None:
    """Exit code 2, and the way out."""
    done = run("import", *arguments)

    assert done.exit_code == 2
    assert message in done.stderr
