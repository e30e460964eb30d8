"""`count`: tokens before anything is sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from agentsight_tokens.cli.app import app
from agentsight_tokens.counting import TokenCounter

MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How are you?"}]


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["count", *arguments], env={"COLUMNS": "120"}, input=stdin)


def test_a_text_is_counted_beside_its_window_and_cost() -> None:
    """Exactly where the encoding is known."""
    done = run("How are you?", "--format", "json")

    assert json.loads(done.stdout) == [
        {
            "source": "text",
            "model": "gpt-4o",
            "tokens": 4,
            "is_estimate": False,
            "encoding": "o200k_base",
            "window": 128_000,
            "left": 127_996,
            "input_cost_usd": "0.00001",
        }
    ]
    assert run("How are you?").stdout.splitlines()[1].split() == [
        *("text", "gpt-4o", "4", "128,000", "127,996", "$0.00001"),
    ]


def test_an_estimate_says_that_it_is_one() -> None:
    """Nobody else can count a Claude's tokens."""
    done = run("--model", "claude-sonnet-4-5", stdin="How are you?")

    assert done.exit_code == 0
    assert "~" in done.stdout
    assert "~ is an estimate" in done.stdout
    assert done.stderr == ""


def test_an_unknown_model_has_no_window_and_no_cost() -> None:
    """They are not guessed."""
    [row] = json.loads(run("a", "--model", "nobody-knows-it", "--format", "json").stdout)

    assert (row["window"], row["left"], row["input_cost_usd"]) == (None, None, None)
    assert row["is_estimate"]


@pytest.mark.parametrize("wraps", [False, True])
def test_messages_are_counted_as_they_are_sent(wraps: bool) -> None:
    """A list, or a whole request with its tools."""
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    given = {"model": "x", "messages": MESSAGES, "tools": tools} if wraps else MESSAGES
    done = run("--messages", "--format", "json", stdin=json.dumps(given))

    counter = TokenCounter(model="gpt-4o")
    expected = counter.count_messages(MESSAGES, tools=tools if wraps else None)
    assert json.loads(done.stdout)[0]["tokens"] == expected


def test_files_and_several_texts(tmp_path: Path) -> None:
    """A row each."""
    file = tmp_path / "prompt.txt"
    file.write_text("How are you?", encoding="utf-8")
    rows = run("a", "-", "--file", str(file), "--format", "csv", stdin="b b").stdout.splitlines()

    assert [row.split(",")[0] for row in rows] == ["source", str(file), "text 1", "stdin"]
    assert [row.split(",")[2] for row in rows[1:]] == ["4", "1", "2"]


@pytest.mark.parametrize("stdin", ["no JSON", "3", '{"messages": 3}', '["a"]'])
def test_what_are_no_messages_is_named(stdin: str) -> None:
    """With an example of what is."""
    done = run("--messages", stdin=stdin)

    assert done.exit_code == 2
    assert "stdin is no" in done.stderr


def test_a_file_that_is_not_there() -> None:
    """Exit code 1, and its name."""
    done = run("--file", "missing.txt")

    assert done.exit_code == 1
    assert "missing.txt" in done.stderr
