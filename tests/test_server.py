"""What the server tells of itself, and how it begins and ends."""

from __future__ import annotations

import json
import logging
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Annotated

import msgspec
import pytest
import urllib3
from starlette.responses import Response

from agentsight_tokens import __version__
from agentsight_tokens.backend.accounts import Accounts
from agentsight_tokens.backend.api_key import Access
from agentsight_tokens.backend.app import create_app
from agentsight_tokens.backend.endpoint import Asked, Endpoint, answer
from agentsight_tokens.backend.logs import JSONFormatter
from agentsight_tokens.backend.openapi import openapi_document
from agentsight_tokens.backend.problem import Problem
from agentsight_tokens.backend.rate_limit import RateLimit
from agentsight_tokens.backend.routes import ENDPOINTS
from agentsight_tokens.backend.store import SQLiteStore, Store
from agentsight_tokens.cycle import encode_cycles
from agentsight_tokens.errors import StorageError
from tests.server_kit import ask, cycle
from tests.server_process import ServerProcess


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with SQLiteStore(tmp_path / "store.db") as store:
        yield store


def test_the_document_names_every_endpoint(store: Store) -> None:
    """With its key, its body, its answers and its parameters."""
    document = ask(create_app(store), "GET", "/openapi.json").json

    assert document == json.loads(json.dumps(openapi_document(ENDPOINTS)))
    assert (document["openapi"], document["info"]["version"]) == ("3.1.0", __version__)
    listed = {(method.upper(), path) for path, each in document["paths"].items() for method in each}
    api = [each for each in ENDPOINTS if each.kind == "api"]
    assert listed == {(each.method, re.sub(r":\w+", "", each.path)) for each in api}
    [parameter] = document["paths"]["/v1/conversations/{conversation_id}"]["get"]["parameters"]
    assert parameter["name"] == "conversation_id"
    exports = document["paths"]["/v1/export"]["get"]["responses"]["200"]["content"]
    assert set(exports) == {"text/csv", "application/jsonl", "application/vnd.apache.parquet"}
    ingest = document["paths"]["/v1/cycles"]["post"]
    assert ingest["security"] == [{"key": []}]
    assert {"200", "400", "401", "403", "413", "415", "429", "503"} <= set(ingest["responses"])
    revoke = document["paths"]["/v1/keys/{key_id}"]["delete"]
    assert [each["name"] for each in revoke["parameters"]] == ["key_id"]


def test_metrics_have_few_labels(store: Store) -> None:
    """Requests by endpoint and status, cycles by their fate; unknown paths make no series."""
    app = create_app(store)
    ask(app, "POST", "/v1/cycles", body=encode_cycles([cycle("a", 1), cycle("b", 1)]))
    ask(app, "POST", "/v1/cycles", body=b"{")
    for number in range(3):
        ask(app, "DELETE", f"/v1/keys/{number}")
        ask(app, "GET", f"/unknown/{number}")

    text = ask(app, "GET", "/metrics").body.decode()

    lines = {line for line in text.splitlines() if not line.startswith("#")}
    assert 'agentsight_cycles_total{status="accepted"} 2.0' in lines
    requests = {line for line in lines if line.startswith("agentsight_requests_total{")}
    assert requests == {
        'agentsight_requests_total{method="POST",path="/v1/cycles",status="200"} 1.0',
        'agentsight_requests_total{method="POST",path="/v1/cycles",status="400"} 1.0',
        'agentsight_requests_total{method="DELETE",path="/v1/keys/{key_id}",status="404"} 3.0',
    }


def test_metrics_are_for_those_who_run_the_server(store: Store) -> None:
    """A key of another project than the default one does not see them."""
    accounts = Accounts(store)
    _, ours = accounts.create_key(1, name="prometheus", scopes=["read"])
    _, theirs = accounts.create_key(accounts.project("other").id, name="k", scopes=["admin"])
    app = create_app(store)

    assert ask(app, "GET", "/metrics", key=ours).status == 200
    assert ask(app, "GET", "/metrics", key=theirs).status == 403


def test_a_store_of_another_version_is_not_ready(tmp_path: Path) -> None:
    """It lives, but takes nothing; the answer says what to do."""

    class Old(SQLiteStore):
        def check(self) -> None:
            raise StorageError("run `agentsight-tokens db upgrade`")

    with Old(tmp_path / "store.db") as store:
        app = create_app(store)
        assert ask(app, "GET", "/healthz").body == b"ok"
        answer = ask(app, "GET", "/readyz")
        assert answer.status == 503
        assert "db upgrade" in answer.message
    with SQLiteStore(tmp_path / "store.db") as store:
        assert ask(create_app(store), "GET", "/readyz").body == b"ok"


def test_a_key_may_make_so_many_requests() -> None:
    """Twice the rate at once, then the rate; another key has its own."""
    now = [100.0]
    limit = RateLimit(2, clock=lambda: now[0])
    one, other = Access(1, frozenset(), "one"), Access(1, frozenset(), "other")
    for _ in range(4):
        limit.check(one)
    with pytest.raises(Problem, match="2 requests a second") as refused:
        limit.check(one)
    limit.check(other)

    assert refused.value.status_code == 429
    assert refused.value.headers == {"Retry-After": "1"}
    now[0] += 0.5
    limit.check(one)
    with pytest.raises(Problem):
        limit.check(one)


def test_answers_are_of_no_use_to_a_page(store: Store) -> None:
    """No answer is kept, guessed at or framed."""
    headers = ask(create_app(store), "GET", "/v1/project").headers

    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]


def test_requests_are_logged_as_json(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A line for each request, which names the key and never shows it."""
    key, secret = Accounts(store).create_key(1, name="k", scopes=["read"])
    with caplog.at_level("INFO", "agentsight_tokens.server"):
        ask(create_app(store), "GET", "/v1/project", key=secret)

    line = JSONFormatter().format(caplog.records[-1])
    facts = json.loads(line)
    assert facts["method"] == "GET"
    assert (facts["path"], facts["status"], facts["key"]) == ("/v1/project", 200, key.id)
    assert secret.split("_", 2)[2] not in line


def test_failures_are_logged_with_their_traceback() -> None:
    """In the same line."""
    try:
        raise LookupError("x")
    except LookupError:
        record = logging.LogRecord("n", logging.ERROR, "", 0, "it %s", ("failed",), sys.exc_info())
    facts = json.loads(JSONFormatter().format(record))

    assert (facts["level"], facts["message"]) == ("error", "it failed")
    assert "LookupError: x" in facts["traceback"]


def test_the_server_begins_and_ends(tmp_path: Path) -> None:
    """From the command line: it answers, and closes its store when it is asked to end."""
    with ServerProcess(tmp_path) as server:
        assert urllib3.request("GET", f"{server.url}/readyz", timeout=10).data == b"ok"
        body = encode_cycles([cycle("a", 1)])
        assert urllib3.request("POST", f"{server.url}/v1/cycles", body=body).status == 200
        assert server.end(signal.SIGTERM) in (0, -signal.SIGTERM)
    assert not (tmp_path / "store.db-wal").exists()
    with SQLiteStore(tmp_path / "store.db") as store:
        assert store.rows("SELECT COUNT(*) FROM calls") == [(1,)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--host", "0.0.0.0"), "keys create"),
        (("--workers", "2"), "PostgreSQL"),
        (("--database-url", "mysql://u:secret@h/d"), "postgresql://"),
    ],
)
def test_what_cannot_go_on_does_not_begin(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    """A server for other machines without a key, processes that would wait for one another."""
    done = subprocess.run(
        [sys.executable, "-m", "agentsight_tokens", "serve", "--port", "0", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"AGENTSIGHT_DATA_DIR": str(tmp_path), "PATH": ""},
    )

    assert done.returncode == 2
    assert message in done.stderr
    assert "secret" not in done.stderr


class Parameters(msgspec.Struct):
    """What a query may say."""

    since: datetime
    by: list[str] = []
    limit: Annotated[int, msgspec.Meta(ge=1)] = 10


async def echo(asked: Asked) -> Response:
    return answer(asked.query(Parameters))


ECHO = Endpoint("GET", "/echo", echo, None, "Echo.", query=Parameters, result=Parameters)


def test_a_query_is_read_as_a_record(store: Store) -> None:
    """With its types and defaults; a parameter may come more than once where it is a list."""
    app = create_app(store, endpoints=[ECHO])
    read = ask(app, "GET", "/echo", query="since=2026-01-02T03:04:05Z&by=user&by=model&limit=3")

    assert read.json == {"since": "2026-01-02T03:04:05Z", "by": ["user", "model"], "limit": 3}


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("", "since"),
        ("since=yesterday", "since"),
        ("since=2026-01-02T03:04:05Z&limit=0", "limit"),
        ("since=2026-01-02T03:04:05Z&limit=ten", "limit"),
        ("since=2026-01-02T03:04:05Z&sort=up", "'sort' is no parameter"),
    ],
)
def test_a_query_is_checked(store: Store, query: str, message: str) -> None:
    """What is unknown or malformed is named."""
    refused = ask(create_app(store, endpoints=[ECHO]), "GET", "/echo", query=query)

    assert refused.status == 400
    assert message in refused.message


def test_parameters_are_documented() -> None:
    """With their schemas, and whether they are required."""
    [*parameters] = openapi_document([ECHO])["paths"]["/echo"]["get"]["parameters"]

    assert [(each["name"], each["in"], each["required"]) for each in parameters] == [
        ("since", "query", True),
        ("by", "query", False),
        ("limit", "query", False),
    ]
