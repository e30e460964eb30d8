"""Requests of every kind, made from the OpenAPI document, against a running server."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agentsight_tokens.backend.store import SQLiteStore
from agentsight_tokens.backend.store.sqlite import STORE_FILE
from tests.analytics_kit import keep
from tests.records import call
from tests.server_process import ServerProcess

pytestmark = pytest.mark.services


@pytest.mark.timeout(400)
def test_no_request_makes_the_server_fail(tmp_path: Path) -> None:
    """What the document allows and what it does not: never 5xx, always as documented."""
    with SQLiteStore(tmp_path / "data" / STORE_FILE) as store:
        keep(store, *(call(n, conversation=f"c{n % 3}") for n in range(30)), environment="test")
    with ServerProcess(tmp_path / "data", key="secret") as server:
        done = subprocess.run(
            [
                Path(sys.executable).with_name("schemathesis"),
                "run",
                f"{server.url}/openapi.json",
                "--header=Authorization: Bearer secret",
                "--checks=not_a_server_error,status_code_conformance,content_type_conformance,"
                "response_schema_conformance",
                "--max-examples=25",
                "--seed=1",
                "--no-color",
            ],
            capture_output=True,
            text=True,
            timeout=380,
            check=False,
            cwd=tmp_path,
        )

    assert done.returncode == 0, done.stdout + done.stderr
