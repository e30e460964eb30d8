"""`doctor --conformance`: the scenarios, run with the versions installed here."""

from __future__ import annotations

import csv
import importlib
import io
import json
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from agentsight_tokens.cli.app import app
from agentsight_tokens.conformance import FRAMEWORKS, Scenario

EXACT = Scenario("two words", lambda kit: kit.openai().invoke("[[in=1 out=2]]"), 1, 2)
SILENT = Scenario(
    "silent", lambda kit: kit.openai().invoke("[[mode=never]]"), unreported=1, is_told=False
)
UNDER = Scenario("too much is asked", lambda kit: kit.openai().invoke("[[in=1 out=2]]"), 1, 9)
OVER = Scenario("too little is asked", lambda kit: kit.openai().invoke("[[in=1 out=2]]"), 1, 1)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["doctor", "--conformance", *arguments])


@pytest.fixture(autouse=True)
def two_scenarios(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, EXACT, SILENT)


def only(monkeypatch: pytest.MonkeyPatch, *scenarios: Scenario) -> None:
    module = importlib.import_module("agentsight_tokens.conformance.langchain")
    monkeypatch.setattr(module, "SCENARIOS", scenarios)


def test_table() -> None:
    """Each scenario has a line with its figures, and the last line adds the results up."""
    done = run("--handlers", "langchain")

    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert "langchain-core " in lines[0]
    found = [line.split() for line in lines if line.startswith("langchain ")]
    assert found == [
        ["langchain", "two", "words", "exact", "1/2", "1/2"],
        ["langchain", "silent", "unreported", "0/0", "unreported", "1", "0/0", "unreported", "1"],
    ]
    assert lines[-1] == "2 scenarios: 1 exact, 1 unreported, 0 over, 0 under, 0 skipped"


def test_json() -> None:
    """JSON has the versions, and of each scenario every figure."""
    done = run("--handlers", "langchain", "--format", "json")

    document: dict[str, Any] = json.loads(done.stdout)
    assert "langchain-core" in document["versions"]
    exact, silent = document["results"]
    assert (exact["framework"], exact["scenario"]) == ("langchain", "two words")
    assert (exact["verdict"], exact["reason"]) == ("exact", None)
    assert (exact["expected_total_tokens"], exact["counted_total_tokens"]) == (3, 3)
    assert (silent["verdict"], silent["counted_unreported_calls"]) == ("unreported", 1)


def test_csv() -> None:
    """CSV has a row for each scenario."""
    done = run("--handlers", "langchain", "--format", "csv")

    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [(row["scenario"], row["verdict"]) for row in rows] == [
        ("two words", "exact"),
        ("silent", "unreported"),
    ]


@pytest.mark.parametrize(("scenario", "verdict"), [(UNDER, "under"), (OVER, "over")])
def test_wrong_count_fails(
    monkeypatch: pytest.MonkeyPatch, scenario: Scenario, verdict: str
) -> None:
    """What is counted wrong is told with its figures, and the exit code is 1."""
    only(monkeypatch, EXACT, scenario)

    done = run("--handlers", "langchain", "--format", "json")

    assert done.exit_code == 1
    _, wrong = json.loads(done.stdout)["results"]
    assert wrong["verdict"] == verdict
    assert wrong["reason"].startswith(f"output_tokens 2 of {scenario.completion}")


def test_framework_that_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A framework that is not installed is skipped with a word, which breaks nothing."""
    absent = FRAMEWORKS["langchain"]._replace(module="no_such_framework")
    monkeypatch.setitem(FRAMEWORKS, "langchain", absent)

    done = run("--handlers", "langchain", "--format", "json")

    assert done.exit_code == 0
    (result,) = json.loads(done.stdout)["results"]
    assert (result["verdict"], result["counted_calls"]) == ("skipped", None)
    assert "no_such_framework" in result["reason"]


@pytest.mark.parametrize(
    ("handlers", "told"),
    [("langchian", "'langchian' is no handler"), ("openai", "names no handler that has scenarios")],
)
def test_handlers_that_cannot_be_checked(handlers: str, told: str) -> None:
    """A handler that is unknown, or has no scenarios, is an error that names those that have."""
    done = run("--handlers", handlers)

    assert done.exit_code == 2
    assert told in " ".join(done.stderr.replace("│", " ").split())
    assert "langchain" in done.stderr
