"""A handler that somebody else ships: installed, found, active and right."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from agentsight_tokens.testing import LoopbackProvider

pytestmark = pytest.mark.programs
PACKAGE = Path(__file__).parent.parent / "examples" / "third_party_handler"
PROGRAM = """
import sys
from huggingface_hub import InferenceClient
from agentsight_tokens import Budget, BudgetExceededError, ConversationTracker

url = sys.argv[1]
tracker = ConversationTracker(token_handler="huggingface")
assert tracker.handler_status == {"huggingface": "active"}, tracker.handler_status
client = InferenceClient(base_url=url, api_key="k")

def ask(text, **options):
    return client.chat_completion([{"role": "user", "content": text}], model="gpt-4o", **options)

with tracker.conversation("one"):
    ask("[[in=30 out=12 cached=8 label=one]]")
    chunks = list(ask("[[in=40 out=5 chunks=3 label=one]]", stream=True))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "ok"
with tracker.conversation("left"):
    stream = ask("[[in=40 out=5 chunks=3 label=left]]", stream=True)
    next(stream)
    stream.close()
with tracker.conversation("failed"):
    try:
        ask("[[status=500]]")
    except Exception as error:
        assert type(error).__name__ == "HfHubHTTPError", error
with ConversationTracker(token_handler="huggingface", budgets=Budget(daily_token_limit=10)):
    try:
        ask("[[in=1 out=1]] this is never sent", max_tokens=50)
    except BudgetExceededError as error:
        print(error)
tracker.close()
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment, beside the packages of this one, with the handler installed."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = subprocess.run([python, "-c", where], capture_output=True, text=True, check=True)
    # What .pth files of these packages do, such as finding an editable install, is done too.
    line = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    (Path(packages.stdout.strip()) / "others.pth").write_text(line)
    source = folder / "source"
    shutil.copytree(PACKAGE, source)
    install = ("-m", "pip", "install", "-q", "--no-deps", "--no-index", "--no-build-isolation")
    subprocess.run(
        [python, *install, source], check=True, env={**os.environ, "PIP_CONFIG_FILE": ""}
    )
    return folder


def run(environment: Path, *arguments: str) -> str:
    done = subprocess.run(
        [environment / "bin" / "python", *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_doctor_finds_it(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its entry point, beside the others, and says that it is active."""
    monkeypatch.setenv("AGENTSIGHT_TOKEN_HANDLER_TYPE", "huggingface")
    told = json.loads(run(environment, "-m", "agentsight_tokens", "doctor", "--format", "json"))

    [finding] = [each for each in told if each["subject"] == "handler huggingface"]
    assert (finding["state"], finding["text"].split()[0]) == ("ok", "active")


def test_its_calls_are_counted(environment: Path) -> None:
    """Answers and streams as they were billed; what nobody told is unreported."""
    with LoopbackProvider() as provider:
        refused = run(environment, "-c", PROGRAM, provider.openai_url)
        billed = provider.billed("one")
        sent = provider.requests
    rows: list[dict[str, Any]] = json.loads(
        run(environment, "-m", "agentsight_tokens", "report", "--format", "json")
    )
    found = {row["conversation_id"]: row for row in rows}

    assert found["one"]["calls"] == 2
    assert found["one"]["input_tokens"] == billed.input_tokens == 70
    assert found["one"]["output_tokens"] == billed.output_tokens == 17
    assert found["one"]["cache_read_tokens"] == billed.cache_read_tokens == 8
    assert found["left"]["unreported_calls"] == 1
    assert found["failed"]["unreported_calls"] == 1
    assert "of 10 tokens per day" in refused
    assert sent == 4


def test_without_its_framework_it_says_so(environment: Path) -> None:
    """The program goes on."""
    code = (
        "import sys, warnings\n"
        "sys.modules['huggingface_hub'] = None\n"
        "warnings.simplefilter('ignore')\n"
        "from agentsight_tokens import ConversationTracker, handlers\n"
        "handlers.is_installed = lambda module: False\n"
        "print(ConversationTracker(token_handler='huggingface').handler_status['huggingface'])\n"
    )

    assert "pip install 'agentsight-tokens-huggingface'" in run(environment, "-c", code)
