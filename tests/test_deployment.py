"""What is deployed: the container, the compose file, the unit, the proxy and Grafana's dashboard."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentsight_tokens import Scope, TokenUsage
from agentsight_tokens.backend.app import create_app
from agentsight_tokens.backend.store import SQLiteStore, Store
from agentsight_tokens.cli.app import app as command_line
from agentsight_tokens.cycle import Cycle, encode_cycles
from tests.otlp_kit import chat, request
from tests.postgres_kit import PostgreSQL
from tests.records import call
from tests.server_kit import ask
from tests.server_process import ServerProcess
from tests.store_kit import postgresql

__all__ = ["postgresql"]

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
DASHBOARD = json.loads((DEPLOY / "grafana" / "agentsight-tokens.json").read_text("utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TARGETS = [(panel["title"], target) for panel in PANELS for target in panel["targets"]]
QUERIES = [(title, target["rawSql"]) for title, target in TARGETS if "rawSql" in target]
EXPRESSIONS = [(title, target["expr"]) for title, target in TARGETS if "expr" in target]
NOW = datetime.now(timezone.utc).replace(microsecond=0)


def compose() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8"))
    return found


def filled(store: Store) -> None:
    """Store calls of two users and models, one of them without a price, one unreported."""
    calls = [
        call(
            number,
            at=NOW - timedelta(hours=number),
            scope=Scope(conversation_id=f"c-{number % 2}", user_id=f"u-{number % 2}"),
            model="gpt-4o" if number % 2 else "m",
            cost_pico_usd=10**12 * number if number % 2 else None,
            cost_status="priced" if number % 2 else "unpriced",
            duration_seconds=2.0,
            **({"unreported_reason": "cancelled", "usage": TokenUsage()} if number == 4 else {}),
        )
        for number in range(1, 5)
    ]
    for record in calls:
        conversation = record.scope.conversation_id
        assert conversation is not None
        store.ingest(
            [
                Cycle.of(
                    [record],
                    key=record.id,
                    conversation_id=conversation,
                    sealed_by="send",
                    sealed_at=NOW,
                )
            ]
        )


@pytest.fixture(scope="module")
def database(postgresql: PostgreSQL) -> Iterator[Store]:
    from agentsight_tokens.backend.store.postgres import PostgreSQLStore

    with PostgreSQLStore(postgresql.database()) as store:
        filled(store)
        yield store


def with_macros(query: str) -> str:
    """Return a query as Grafana sends it: its variables and macros replaced."""
    until = int(NOW.timestamp()) + 3600
    found = query.replace("$__unixEpochFrom()", str(until - 86_400))
    found = found.replace("$__unixEpochTo()", str(until))
    found = found.replace("$project", "1").replace("$dimension", "user_id")
    assert "$" not in found
    return found


@pytest.mark.services
@pytest.mark.parametrize(("title", "query"), QUERIES, ids=[title for title, _ in QUERIES])
def test_every_query_of_grafana_runs_and_finds_something(
    database: Store, title: str, query: str
) -> None:
    """Against a PostgreSQL with calls in the range."""
    rows = database.rows(with_macros(query))

    assert rows, title
    assert any(value for row in rows for value in row)


@pytest.mark.services
def test_grafanas_figures_are_the_stores(database: Store) -> None:
    """Spend is that of the priced calls, to the cent, and the variables name what is there."""
    by_title = dict(QUERIES)
    [(spend,)] = database.rows(with_macros(by_title["Spend"]))
    assert round(float(spend), 6) == 4.0
    users = database.rows(with_macros(by_title["Who spends: $dimension"]))
    assert [(row[0], int(row[2])) for row in users] == [("u-1", 2), ("u-0", 2)]
    [unpriced] = database.rows(with_macros(by_title["Unpriced tokens"]))
    assert int(unpriced[0]) == 3 * 2
    [project] = [v for v in DASHBOARD["templating"]["list"] if v["name"] == "project"]
    assert database.rows(project["query"]) == [(1, "default/default")]


def test_every_metric_of_grafana_is_one_of_the_servers(tmp_path: Path) -> None:
    """By its name and its labels, as /metrics shows them after requests of each kind."""
    with SQLiteStore(tmp_path / "store.db") as store:
        app = create_app(store)
        record = call(1, at=NOW)
        cycle = Cycle.of([record], key="k", conversation_id="c", sealed_by="send", sealed_at=NOW)
        ask(app, "POST", "/v1/cycles", body=encode_cycles([cycle]))
        ask(app, "POST", "/v1/traces", body=request(chat(4)), content_type="application/json")
        text = ask(app, "GET", "/metrics").body.decode()

    known = set(re.findall(r"^(agentsight_\w+)", text, re.MULTILINE))
    known |= set(re.findall(r"^# TYPE (agentsight_\w+)", text, re.MULTILINE))
    assert len(EXPRESSIONS) >= 7
    for title, expression in EXPRESSIONS:
        for name in re.findall(r"agentsight_\w+", expression):
            assert name in known, (title, name)
        for label in re.findall(r"by \(([^)]*)\)", expression):
            for each in label.split(", "):
                assert f"{each}=" in text or each == "outcome", (title, each)
    assert 'agentsight_calls_total{source="cycles"} 1.0' in text
    assert 'agentsight_calls_total{source="otlp"} 1.0' in text
    assert 'agentsight_tokens_total{kind="input"} 5.0' in text
    assert 'agentsight_ingest_lag_seconds_count{source="cycles"} 1.0' in text


def test_panels_do_not_overlap() -> None:
    """Each lies within the 24 columns, on cells of its own, from a data source that is provisioned."""
    provisioned = yaml.safe_load(
        (DEPLOY / "grafana" / "provisioning" / "datasources" / "agentsight.yaml").read_text("utf-8")
    )
    uids = {source["uid"] for source in provisioned["datasources"]}
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        mine = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}  # fmt: skip
        assert max(x for x, _ in mine) < 24
        assert not mine & cells, panel["title"]
        cells |= mine
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] in uids
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_the_compose_file_holds_together() -> None:
    """What waits for what is there, is healthy first, and no secret is in the file."""
    found = compose()
    services = found["services"]
    assert set(services) == {"postgres", "redis", "upgrade", "server"}
    for name, service in services.items():
        for other, wait in service.get("depends_on", {}).items():
            condition = wait["condition"]
            if condition == "service_healthy":
                assert "healthcheck" in services[other], (name, other)
            else:
                assert condition == "service_completed_successfully"
                assert services[other]["restart"] == "no"
        for volume in service.get("volumes", ()):
            assert volume.partition(":")[0] in found["volumes"]
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), "a proxy with TLS stands in front"
    text = (ROOT / "compose.yaml").read_text("utf-8")
    assert re.findall(r"PASSWORD: (?!\$\{)", text) == []
    names = set(re.findall(r"\$\{(\w+)", text))
    example = (DEPLOY / "compose.env.example").read_text("utf-8")
    assert names <= set(re.findall(r"^(\w+)=", example, re.MULTILINE))


def test_the_commands_of_the_containers_exist() -> None:
    """Each is one of the command line's, with its options."""
    from typer.testing import CliRunner

    for service in compose()["services"].values():
        if service.get("image") == "agentsight-tokens":
            words = [word for word in service["command"] if not word.startswith("$")]
            options = [word for word in words if word.startswith("--")]
            name = words[: words.index(options[0])] if options else words
            shown = CliRunner().invoke(command_line, [*name, "--help"], env={"COLUMNS": "200"})
            assert shown.exit_code == 0
            assert all(option in shown.stdout for option in options)
    dockerfile = (ROOT / "Dockerfile").read_text("utf-8")
    extras = re.findall(r"\.\[([\w,]+)\]", dockerfile)[0].split(",")
    pyproject = (ROOT / "pyproject.toml").read_text("utf-8")
    assert all(re.search(rf"^{extra} = ", pyproject, re.MULTILINE) for extra in extras)
    for source in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE):
        assert all((ROOT / each).exists() for each in source.split())


def test_the_health_check_of_the_container(tmp_path: Path) -> None:
    """It succeeds when the server is ready, and fails when nobody answers."""
    [check] = re.findall(
        r'CMD \["python", "-c", "(.+)"\]', (ROOT / "Dockerfile").read_text("utf-8")
    )
    with ServerProcess(tmp_path) as server:
        port = server.url.rpartition(":")[2]
        code = check.replace("8765", port)
        # Each waits for 4 seconds at most, and the engine asks again.
        assert any(not subprocess.run([sys.executable, "-c", code]).returncode for _ in range(10))
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert done.returncode != 0


@pytest.mark.services
def test_the_unit_is_one(tmp_path: Path) -> None:
    """systemd reads it without a warning, and calls its exposure small."""
    unit = (DEPLOY / "systemd" / "agentsight-tokens.service").read_text("utf-8")
    program = tmp_path / "agentsight-tokens"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    file = tmp_path / "agentsight-tokens.service"
    file.write_text(unit.replace("/opt/agentsight/bin/agentsight-tokens", str(program)))
    analyze = shutil.which("systemd-analyze")
    assert analyze is not None
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(file)], capture_output=True, text=True, check=False
    )
    assert "agentsight-tokens.service" not in done.stderr, done.stderr
    rated = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", str(file)],
        capture_output=True,
        text=True,
        check=False,
    )
    [exposure] = re.findall(r"exposure level for \S+: ([\d.]+)", rated.stdout)
    assert float(exposure) <= 2.0


@pytest.mark.services
def test_a_dump_of_postgresql_is_restored(postgresql: PostgreSQL) -> None:
    """Into an empty database: the same rows, and a server that goes on with them."""
    from agentsight_tokens.backend.store.postgres import PostgreSQLStore

    source, target = postgresql.database(), postgresql.empty_database()
    with PostgreSQLStore(source) as store:
        filled(store)
        before = store.rows("SELECT * FROM calls ORDER BY id")
        sums = store.rows("SELECT * FROM hourly_usage ORDER BY hour, model")
    programs = postgresql._programs
    dump = subprocess.run(
        [programs / "pg_dump", "--format=custom", source], capture_output=True, check=True
    ).stdout
    subprocess.run(
        [programs / "pg_restore", "--exit-on-error", "--no-owner", f"--dbname={target}"],
        input=dump,
        check=True,
    )
    with PostgreSQLStore(target) as restored:
        restored.check()
        assert restored.rows("SELECT * FROM calls ORDER BY id") == before
        assert restored.rows("SELECT * FROM hourly_usage ORDER BY hour, model") == sums
        filled(restored)
        assert restored.rows("SELECT COUNT(*) FROM calls") == [(8,)]


@pytest.mark.services
def test_a_copy_of_sqlite_is_restored(tmp_path: Path) -> None:
    """Made with its own command while a server writes; put in place, it is a whole store."""
    with ServerProcess(tmp_path / "data", key="secret"):
        with SQLiteStore(tmp_path / "data" / "store.db") as store:
            filled(store)
            before = store.rows("SELECT * FROM calls ORDER BY id")
        copy = tmp_path / "backup" / "store.db"
        copy.parent.mkdir()
        command = ["sqlite3", str(tmp_path / "data" / "store.db"), f".backup {copy}"]
        subprocess.run(command, check=True)
    restored = tmp_path / "restored"
    restored.mkdir()
    shutil.copy(copy, restored / "store.db")
    with ServerProcess(restored, key="secret"), SQLiteStore(restored / "store.db") as store:
        assert store.rows("PRAGMA integrity_check") == [("ok",)]
        assert store.rows("SELECT * FROM calls ORDER BY id") == before
