"""`insights` and `export`, and reading the server's store from the command line."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from dirty_equals import IsPartialDict
from typer.testing import CliRunner, Result

from agentsight_tokens import Scope, TokenConfig, TokenUsage, UsageRecord
from agentsight_tokens.backend.accounts import Accounts
from agentsight_tokens.backend.store import SQLiteStore
from agentsight_tokens.backend.store.sqlite import STORE_FILE
from agentsight_tokens.cli.app import app
from agentsight_tokens.rows import CALL_FIELDS
from tests.analytics_kit import keep, one_cycle
from tests.postgres_kit import PostgreSQL
from tests.records import call
from tests.store_kit import postgresql

__all__ = ["postgresql"]

TERMINAL = {"FORCE_COLOR": "1", "TERM": "dumb"}
UTC = timezone.utc


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "80", **environment})


def shown(*arguments: str, **environment: str) -> str:
    done = run(*arguments, **environment)
    assert done.exit_code == 0, done.output
    return done.stdout


def store() -> SQLiteStore:
    return SQLiteStore(TokenConfig().directory / STORE_FILE)


def spent(days_ago: float, usd: float, **facts: object) -> UsageRecord:
    at = datetime.now(UTC) - timedelta(days=days_ago)
    long = TokenUsage(input_tokens=1, output_tokens=900)
    return call(1, **{"at": at, "usage": long, "cost_pico_usd": round(usd * 10**12), **facts})


@pytest.fixture
def history() -> None:
    """Nine weeks in which each day cost a dollar, but one."""
    with store() as kept:
        calls = [spent(n + 0.01, 1) for n in range(1, 64)]
        calls.append(spent(3.01, 9, scope=Scope(conversation_id="dear", feature="search")))
        calls += [
            call(
                n,
                at=datetime.now(UTC) - timedelta(days=2),
                usage=TokenUsage(input_tokens=500, output_tokens=50),
                cost_pico_usd=10**9,
                provider="openai",
                scope=Scope(conversation_id="t", feature="title"),
            )
            for n in range(30)
        ]
        kept.ingest([one_cycle(calls)])
        keep(
            kept,
            call(5, at=datetime.now(UTC), model="mine", cost_pico_usd=None, cost_status="unpriced"),
        )


@pytest.mark.usefixtures("history")
def test_insights_at_a_glance() -> None:
    """Each section says what it found, and nothing is wider than the terminal."""
    text = shown("insights", **TERMINAL)

    assert max(map(len, text.splitlines())) <= 80
    words = " ".join(text.split())
    assert "Spend: $38.03 in 61 calls since" in words
    assert "% more than in the 30 days before" in words
    assert "each bar is one day; the highest" in words
    assert "is $10.00" in words
    assert "unpriced: 15 tokens of 1 call" in words
    assert "Forecast for" in words
    assert "the mean of each weekday over the last 8 full weeks" in words
    assert "Unusual days: 1 of 30 days since" in words
    assert "$10.00 where $1.00 is usual ($0.80 to $1.20)" in words
    assert "Prompt caches: 0% of the input was read from them saved $0" in words
    assert "save $0.027 try gpt-4o-mini for the short calls of gpt-4o in title" in words
    assert "give a price of 'mine'" in words


@pytest.mark.usefixtures("history")
def test_insights_for_programs() -> None:
    """JSON is what the server answers, CSV has a line for each insight."""
    body = json.loads(shown("insights", "--format", "json"))
    rows = list(csv.DictReader(io.StringIO(shown("insights", "--format", "csv"))))

    assert list(body) == ["trend", "forecast", "anomalies", "cache", "recommendations"]
    assert body["trend"]["total"] == IsPartialDict(calls=61, cost_usd="38.03")
    assert body["anomalies"]["found"][0]["observed_usd"] == "10"
    assert body["recommendations"]["found"][0]["kind"] == "could_downgrade"
    assert [row["insight"] for row in rows] == [
        "spend",
        "forecast",
        "anomaly",
        "cache_saved",
        "could_downgrade",
        "price_models",
    ]
    assert rows[2]["usd"] == "10"


@pytest.mark.parametrize(
    ("since", "period"), [("12h", "hour"), ("50d", "day"), ("300d", "week"), ("900d", "month")]
)
@pytest.mark.usefixtures("history")
def test_the_bars_are_as_long_as_the_time(since: str, period: str) -> None:
    """A longer time is shown in longer periods; filters select."""
    text = shown("insights", "--since", since)

    assert f"each bar is one {period}" in text or since == "12h"
    assert "none yet" in shown("insights", "--feature", "search")
    assert "No call matches feature nothing" in shown("insights", "--feature", "nothing")


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        (0, 1, "there is nothing in the 30 days before to compare with"),
        (1, 1, "about as much as in the 30 days before"),
        (4, 1, "75% less than in the 30 days before"),
        (1, 0.5, "50% less"),
    ],
)
def test_the_time_before_in_words(before: float, now: float, words: str) -> None:
    """What it cost before is told as people say it."""
    with store() as kept:
        keep(kept, spent(5, now), *([spent(40, before)] if before else []))

    assert words in shown("insights")


def test_what_is_not_known_is_said() -> None:
    """Too little history, no price for a cache, days that cannot be judged."""
    with store() as kept:
        cached = TokenUsage(input_tokens=10, cache_read_tokens=5)
        keep(kept, spent(1, 1, usage=cached, model="mine", status="partial"))

    text = shown("insights")

    assert "none yet\n  too little history: a forecast needs 28 full days, and there are 0" in text
    assert "Unusual days: no day has the 28 days before it that judging takes" in text
    assert "50% of the input was read from them\n  what that saved is not known" in text
    assert "cost $1.00  look into the calls of mine that ended with partial" in text


def test_caches_that_cost_more_than_they_save() -> None:
    """Writing can cost more than reading saves, and part of it may be unknown."""
    with store() as kept:
        written = TokenUsage(input_tokens=100_000, cache_creation_tokens=90_000)
        version = "2026-08-02 litellm-1.95.0"
        at = datetime.now(UTC)
        model = "claude-sonnet-4-5"
        from agentsight_tokens import CostEstimator

        bare = call(
            1, at=at, usage=written, model=model, cost_pico_usd=None, cost_status="unpriced"
        )
        keep(kept, CostEstimator().priced(bare))
        keep(kept, call(1, at=at, usage=written, price_version=f"not {version}"))

    text = shown("insights")

    assert "writing cost $0.068 more than reading saved" in text
    assert "90,000 tokens without a known price left out" in text


def test_many_recommendations_are_cut() -> None:
    """Five are listed, and the others are pointed to."""
    with store() as kept:
        keep(
            kept,
            *(
                spent(1, 1, model=f"m{n}", cost_status="unpriced", status="partial")
                for n in range(8)
            ),
        )

    text = shown("insights")

    assert "Recommendations: 8, from 8 calls" in text
    assert "  3 more: --format json has all of them" in text


def test_insights_of_many_calls_and_of_little_history() -> None:
    """A sample says of how many calls it is; a forecast that could not be tried says nothing."""
    with store() as kept:
        calls = [spent(1, 0) for _ in range(20_000)]
        kept.ingest([one_cycle([*calls, *(spent(n + 0.01, 1) for n in range(1, 30))])])

    text = " ".join(shown("insights").split())

    assert "from the newest 20,000 calls of 20,029" in text
    assert "the last 4 full weeks" in text
    assert "made for the time before" not in text


def test_parquet_is_nothing_for_a_terminal() -> None:
    """Bytes that would garble it are refused, with the way out."""
    mine, theirs = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", "agentsight_tokens", "export", "--format", "parquet"],
            stdout=theirs,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    finally:
        os.close(mine)
        os.close(theirs)

    assert done.returncode == 2
    assert "--output" in done.stderr


@pytest.mark.usefixtures("history")
def test_exports(tmp_path: Path) -> None:
    """A file is there when it is complete; without one the calls go to stdout."""
    file = tmp_path / "calls.csv"
    done = run("export", "--output", str(file))

    assert done.exit_code == 0
    assert done.stderr == f"95 calls in {file}\n"
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert len(rows) == 95
    assert tuple(rows[0]) == CALL_FIELDS
    assert list(tmp_path.glob("*.part")) == []
    lines = shown("export", "--format", "jsonl", "--feature", "search").splitlines()
    assert [json.loads(line)["cost_usd"] for line in lines] == ["9"]
    parquet = tmp_path / "calls.parquet"
    pytest.importorskip("pyarrow")
    assert run("export", "--format", "parquet", "-o", str(parquet)).exit_code == 0
    assert parquet.read_bytes()[:4] == b"PAR1"


def test_an_export_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """What cannot be written is told, and the old file stays."""
    file = tmp_path / "calls.csv"
    file.write_text("old")

    assert run("export", "-o", str(tmp_path / "nowhere" / "calls.csv")).exit_code == 1
    assert run("export", "-o", str(file), "--since", "nonsense").exit_code == 2
    assert file.read_text() == "old"


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize(
    ("order", "first"), [("cost", "a"), ("tokens", "b"), ("calls", "gpt-4o"), ("name", "a")]
)
def test_reports_come_in_an_order(order: str, first: str) -> None:
    """The most comes first, or the first of the names."""
    with store() as kept:
        many = TokenUsage(input_tokens=10**6)
        now = datetime.now(UTC)
        keep(kept, call(1, at=now, model="a", cost_pico_usd=10**15))
        keep(kept, call(1, at=now, model="b", usage=many, cost_pico_usd=0))

    rows = json.loads(shown("report", "--by", "model", "--order", order, "--format", "json"))

    assert rows[0]["model"] == first
    days = json.loads(shown("report", "--by", "day", "--order", "cost", "--format", "json"))
    assert days[0]["cost_usd"] == "1000"


@pytest.fixture
def of_server(tmp_path: Path) -> str:
    """The address of a server's store in which two projects have calls."""
    file = tmp_path / "server.db"
    with SQLiteStore(file) as kept:
        keep(kept, call(1, model="of-default"))
        other = Accounts(kept).project("web", organisation="acme").id
        keep(kept, call(2, model="of-web"), call(3, model="of-web"), project_id=other)
    return f"sqlite:///{file}"


def test_the_servers_store_is_read_project_by_project(of_server: str) -> None:
    """An address by option or variable names the store; the project is `default` unless named."""

    def calls_of(*arguments: str, **environment: str) -> dict[str, int]:
        rows = json.loads(
            shown("report", "--by", "model", "--format", "json", *arguments, **environment)
        )
        return {row["model"]: row["calls"] for row in rows}

    web = ("--project", "web", "--organisation", "acme")
    assert calls_of("--database-url", of_server) == {"of-default": 1}
    assert calls_of(AGENTSIGHT_DATABASE_URL=of_server) == {"of-default": 1}
    assert calls_of("--database-url", of_server, *web) == {"of-web": 2}
    found = json.loads(shown("calls", "--format", "json", "--database-url", of_server, *web))
    assert [row["model"] for row in found] == ["of-web", "of-web"]
    exported = shown("export", "--format", "jsonl", "--database-url", of_server, *web)
    assert exported.count('"of-web"') == 2
    unknown = run("report", "--database-url", of_server, "--project", "x")
    assert unknown.exit_code == 2
    assert "there is no project 'x' of the organisation 'default'" in unknown.stderr
    nothing = shown("report", "--database-url", of_server, *web, "--user", "nobody")
    assert "there are 2 calls in the project acme/web of the server." in nothing


def test_the_servers_postgresql_is_read(postgresql: PostgreSQL) -> None:
    """The same over PostgreSQL."""
    from agentsight_tokens.backend.store.postgres import PostgreSQLStore

    url = postgresql.database()
    with PostgreSQLStore(url) as kept:
        keep(kept, call(1, at=datetime.now(UTC)))

    assert json.loads(shown("report", "--format", "json", "--database-url", url))[0]["calls"] == 1
    assert "Spend: $<0.01" not in shown("insights", "--database-url", url)
    assert shown("export", "--database-url", url).count("\n") == 2
