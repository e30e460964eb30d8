"""The application: help, version, errors and a quick start."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from agentsight_tokens import __version__
from agentsight_tokens.cli.app import app

COMMAND = Path(sys.executable).parent / "agentsight-tokens"
FROZEN = Path(__file__).parent / "recorded" / "command_line.txt"
"""A line for each command: `outbox dead list: --format ...`."""


def commands(group: Any = None, path: str = "") -> Iterator[str]:
    """Yield the path of every command and group: "", "demo", "outbox", "outbox dead list"."""
    group = group or typer.main.get_command(app)
    yield path
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, f"{path} {name}".strip())


def is_group(path: str) -> bool:
    return any(other.startswith(path) and other != path for other in commands())


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "80", "TERM": "dumb"})


def test_the_version() -> None:
    """--version prints the package's and Python's."""
    done = run("--version")

    assert done.exit_code == 0
    assert done.stdout.startswith(f"agentsight-tokens {__version__} (Python 3.")


def options(path: str) -> set[str]:
    """Return the options of a command, as scripts write them."""
    command = typer.main.get_command(app)
    for name in path.split():
        command = command.commands[name]
    return {name for each in command.params for name in each.opts if name.startswith("-")}


def test_what_scripts_are_written_with_stays() -> None:
    """Every command and option that has ever been released is still there."""
    for line in FROZEN.read_text().splitlines():
        path, _, frozen = line.partition(":")
        assert path in {*commands()}, path
        assert options(path) >= {*frozen.split()}, path


@pytest.mark.parametrize("command", [*commands()])
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_fits_and_explains(command: str, option: str) -> None:
    """Every command explains itself within 80 columns, with examples."""
    done = run(*command.split(), option)

    assert done.exit_code == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert is_group(command) or re.search("Examples?\n|Examples? +\n", done.stdout)


def test_the_help_names_the_commands_and_exit_codes() -> None:
    """Without a command the help is printed, and the exit code says that nothing was done."""
    done = run()

    assert done.exit_code in {0, 2}  # as the version of Typer has it
    for word in ("demo", "report", "calls", "doctor", "outbox", "Exit codes"):
        assert word in done.output


def test_an_unknown_command() -> None:
    """An unknown command is wrong use."""
    assert run("reprot").exit_code == 2


def test_a_setting_that_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad variable is named on stderr, and the exit code is 2."""
    monkeypatch.setenv("AGENTSIGHT_LOG_LEVEL", "LOUD")

    done = run("report")

    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("error: AGENTSIGHT_LOG_LEVEL='LOUD' is no level")


def test_a_failure_without_a_message() -> None:
    """An error of the system that says nothing is named by its kind."""
    from agentsight_tokens.cli.app import _Commands

    failing = typer.Typer(cls=_Commands)

    @failing.command()
    def fail() -> None:
        raise OSError

    @failing.command()
    def pipe() -> None:
        raise BrokenPipeError

    assert CliRunner().invoke(failing, ["fail"]).stderr == "error: OSError\n"
    assert CliRunner().invoke(failing, ["fail"]).exit_code == 1
    assert "error" not in CliRunner().invoke(failing, ["pipe"]).stderr


@pytest.mark.parametrize(
    ("arguments", "strangers"),
    [
        (["--version"], ["rich", "langchain_core", "llama_index", "openai", "asyncio"]),
        (["report", "--format", "json"], ["rich", "langchain_core", "llama_index", "asyncio"]),
        (["doctor"], ["langchain_core", "llama_index", "openai"]),
    ],
)
def test_commands_load_only_what_they_need(arguments: list[str], strangers: list[str]) -> None:
    """What a command does not use is not imported."""
    code = (
        "import sys, contextlib\n"
        "from agentsight_tokens.cli import main\n"
        f"sys.argv = ['agentsight-tokens', *{arguments}]\n"
        "with contextlib.suppress(SystemExit):\n"
        "    main()\n"
        f"print('LOADED', [name for name in {strangers} if name in sys.modules])\n"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines()[-1] == "LOADED []"


def test_ids_that_the_encoding_lacks() -> None:
    """On an ASCII terminal a report of any id is printed, with marks in its place."""
    code = (
        "from agentsight_tokens import ConversationTracker\n"
        "with ConversationTracker(conversation_id='日本') as tracker:\n"
        "    tracker.track_token_usage(1)\n"
        "    assert tracker.send_tracked_data(wait=10).status == 'delivered'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

    done = subprocess.run(
        ["env", "PYTHONIOENCODING=ascii", COMMAND, "report"], capture_output=True, check=True
    )

    assert done.stdout.splitlines()[1].startswith(b"??")


SHELL = """source <({command} --show-completion bash)
COMP_WORDS=({words})
COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
_agentsight_tokens_completion agentsight-tokens
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("agentsight-tokens rep", ["report"]),
        ("agentsight-tokens report --for", ["--format"]),
        ("agentsight-tokens report --format c", ["csv"]),
        ("agentsight-tokens report --by model,f", ["model,feature"]),
        ("agentsight-tokens outbox dead l", ["list"]),
    ],
)
def test_bash_completes(words: str, offered: list[str]) -> None:
    """What `--show-completion` prints for bash, bash runs, and it offers commands and values."""
    done = subprocess.run(
        ["bash", "--norc", "-c", SHELL.format(command=COMMAND, words=words)],
        capture_output=True,
        text=True,
        check=False,
        env={
            "PATH": f"{COMMAND.parent}:/usr/bin:/bin",
            "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
        },
    )

    assert done.stdout.split() == offered, done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_name_the_command(shell: str) -> None:
    """There is a script for each of the three shells."""
    done = subprocess.run(
        [COMMAND, "--show-completion", shell],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
    )

    assert "_AGENTSIGHT_TOKENS_COMPLETE" in done.stdout
    assert "agentsight-tokens" in done.stdout
