"""`doctor`: what it finds, and when it says that something is broken."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
import time
from datetime import date, timedelta
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
from dirty_equals import IsInt, IsPartialDict, IsStr
from typer.testing import CliRunner, Result

from agentsight_tokens import ConversationTracker, TokenConfig, __version__
from agentsight_tokens import faults as faults_module
from agentsight_tokens.cli.app import app
from agentsight_tokens.cli.examination import examine
from agentsight_tokens.cli.stored import bytes_text
from agentsight_tokens.destinations.embedded import EmbeddedDestination
from agentsight_tokens.faults import report_fault
from agentsight_tokens.meter import Meter
from agentsight_tokens.runtime import embedded_store
from agentsight_tokens.sender import Sender

COMMAND = Path(sys.executable).parent / "agentsight-tokens"


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(app, arguments, env=environment)


def findings(*arguments: str, **environment: str) -> dict[str, dict[str, Any]]:
    """Return what doctor finds, by subject; of several findings the last one."""
    done = run("doctor", *arguments, "--format", "json", **environment)
    found = {finding["subject"]: finding for finding in json.loads(done.stdout)}
    broken = any(finding["state"] == "broken" for finding in found.values())
    assert done.exit_code == (1 if broken else 0)
    return found


class Framework:
    """A handler whose framework is the standard library's."""

    name: ClassVar[str] = "framework"
    framework: ClassVar[str] = "json"
    extra: ClassVar[str] = "agentsight-tokens[framework]"

    def install(self, meter: Meter, config: TokenConfig) -> None:
        """Do nothing."""

    def uninstall(self) -> None:
        """Do nothing."""


class Absent(Framework):
    """A handler whose framework nobody has."""

    framework: ClassVar[str] = "no_such_framework"
    extra: ClassVar[str] = "agentsight-tokens[absent]"


class Faulty(Framework):
    """A handler that does not install."""

    def install(self, meter: Meter, config: TokenConfig) -> None:
        """Fail."""
        raise RuntimeError("wants another version")


@pytest.fixture
def handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the three handlers above and no other."""

    def entry_points(group: str) -> list[importlib.metadata.EntryPoint]:
        return [
            importlib.metadata.EntryPoint(name, f"{__name__}:{name.title()}", group)
            for name in ("absent", "faulty", "framework")
        ]

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)


def test_a_fresh_machine_is_in_order() -> None:
    """Nothing is broken before the first call, and nothing is made by looking."""
    found = findings()

    assert found["version"]["facts"] == {
        "version": __version__,
        "python": ".".join(map(str, sys.version_info[:3])),
    }
    directory = TokenConfig().directory
    assert found["data"]["facts"] == {
        "path": str(directory),
        "exists": False,
        "free_bytes": IsInt(gt=0),
    }
    assert found["destination embedded"]["facts"] == {"answers": None}
    assert found["prices"]["facts"] == IsPartialDict(version=IsStr(), age_days=IsInt(ge=0))
    assert found["faults"]["state"] == "ok"
    assert "outbox" not in found
    assert not directory.exists()


def test_what_a_reader_sees() -> None:
    """The table has a line for each subject and ends with the verdict."""
    done = run("doctor", AGENTSIGHT_TOKEN_HANDLER="langchain")

    lines = done.stdout.splitlines()
    assert lines[0].startswith(
        f"ok    version               agentsight-tokens {__version__}, Python"
    )
    assert (
        "note  settings              AGENTSIGHT_TOKEN_HANDLER is set, but nothing reads it" in lines
    )
    assert lines[3].strip() == "-> did you mean AGENTSIGHT_TOKEN_HANDLER_TYPE?"
    assert lines[-1] == "Everything works, with 1 note."
    assert run("doctor").stdout.splitlines()[-1] == "Everything works."


def test_csv_has_the_findings() -> None:
    """CSV has a row for each finding."""
    lines = run("doctor", "--format", "csv").stdout.splitlines()

    assert lines[0] == "subject,state,text,advice,facts"
    assert lines[1].startswith("version,ok,")


def test_settings_are_shown_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is set is shown, keys are not."""
    found = findings(
        AGENTSIGHT_API_KEY="sk-1",
        AGENTSIGHT_DATABASE_URL="postgresql://u:p@h/d",
        AGENTSIGHT_ENVIRONMENT="staging",
        AGENTSIGHT_COST_RATES__MINE="0.1",
    )

    facts = found["settings"]["facts"]
    assert facts == IsPartialDict(
        AGENTSIGHT_API_KEY="(secret)",
        AGENTSIGHT_DATABASE_URL="(secret)",
        AGENTSIGHT_ENVIRONMENT="staging",
    )
    assert "1 own cost rate" in found["settings"]["text"]
    monkeypatch.delenv("AGENTSIGHT_DATA_DIR")
    assert findings()["settings"]["text"] == "none, everything by default"


def test_an_unknown_variable_of_ours_is_noted() -> None:
    """A variable that resembles none is noted without a guess."""
    assert findings(AGENTSIGHT_QZX="1")["settings"]["advice"] is None


def test_a_setting_that_cannot_be_read() -> None:
    """The message names the variable; what does not depend on it is still shown."""
    done = run("doctor", AGENTSIGHT_OUTBOX_MAX_MB="many")

    assert done.exit_code == 1
    assert "version" in done.stdout
    assert "AGENTSIGHT_OUTBOX_MAX_MB='many' cannot be read" in done.stdout
    assert done.stdout.splitlines()[-1] == "1 thing is broken."


@pytest.mark.usefixtures("handlers")
def test_handlers_that_nobody_asked_for() -> None:
    """A framework that is there can be switched on, one that is not can be installed."""
    found = findings()

    assert found["handler framework"] == IsPartialDict(
        state="off",
        text="installed, not switched on",
        advice="AGENTSIGHT_TOKEN_HANDLER_TYPE=framework switches it on",
    )
    assert found["handler absent"] == IsPartialDict(
        state="off", text="not installed", advice="pip install 'agentsight-tokens[absent]'"
    )


@pytest.mark.usefixtures("handlers")
def test_a_framework_whose_parent_package_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    """`google.genai` without any `google` is not installed, like any other."""
    monkeypatch.setattr(Absent, "framework", "no_such_package.framework")

    assert findings()["handler absent"]["text"] == "not installed"


@pytest.mark.usefixtures("handlers")
def test_handlers_that_were_asked_for() -> None:
    """What was asked for and cannot be had is broken, with what installs it."""
    found = findings(AGENTSIGHT_TOKEN_HANDLER_TYPE="framework, absent,faulty,frame")

    assert found["handler framework"] == IsPartialDict(state="ok", text="active")
    assert found["handler absent"] == IsPartialDict(
        state="broken",
        text="skipped: no module named 'no_such_framework'",
        advice="install it with: pip install 'agentsight-tokens[absent]'",
    )
    assert found["handler faulty"] == IsPartialDict(
        state="broken", text="it does not work: RuntimeError: wants another version"
    )
    assert found["handler frame"] == IsPartialDict(
        state="broken", advice="did you mean 'framework'?"
    )


def test_a_handler_that_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is installed by halves is broken, asked for or not."""
    point = importlib.metadata.EntryPoint("half", f"{__name__}:Nothing", "g")
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point])

    for chosen in ("", "half"):
        found = findings(AGENTSIGHT_TOKEN_HANDLER_TYPE=chosen)["handler half"]
        assert found["state"] == "broken"
        assert "it does not work: AttributeError" in found["text"]


@pytest.mark.usefixtures("handlers")
def test_handlers_by_auto() -> None:
    """With auto, a framework that is absent is no fault."""
    found = findings(AGENTSIGHT_TOKEN_HANDLER_TYPE="auto,qzx")

    assert found["handler framework"]["state"] == "ok"
    assert found["handler absent"]["state"] == "off"
    assert found["handler qzx"]["advice"] == "a tracker cannot be constructed so"


def test_an_installation_without_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where entry points are lost, that is said."""
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [])

    assert findings()["handlers"]["state"] == "broken"


def test_versions_of_frameworks() -> None:
    """The versions of what a handler counts are shown, active or not."""
    pytest.importorskip("langchain_core")
    version = importlib.metadata.version("langchain-core")

    for chosen in ("", "langchain"):
        found = findings(AGENTSIGHT_TOKEN_HANDLER_TYPE=chosen)["handler langchain"]
        assert found["facts"]["versions"]["langchain-core"] == version
        assert f"langchain-core {version}" in found["text"]


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not installed has no version."""

    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)

    assert findings()["handler langchain"]["facts"] == {"versions": {}}


@pytest.mark.parametrize(("days", "state"), [(60, "ok"), (61, "note")])
def test_old_prices_are_noted(days: int, state: str) -> None:
    """Past 60 days, the prices are said to be old."""
    version = date.fromisoformat(findings()["prices"]["facts"]["version"])

    found = {each.subject: each for each in examine(None, today=version + timedelta(days=days))}

    assert found["prices"].state == state
    assert ("newer models may be unpriced" in found["prices"].text) == (state == "note")


def test_prices_that_cannot_be_read(tmp_path: Path) -> None:
    """A prices file that is not there is broken."""
    found = findings(AGENTSIGHT_PRICES_FILE=str(tmp_path / "none.json"))

    assert found["prices"] == IsPartialDict(
        state="broken", advice="correct or unset AGENTSIGHT_PRICES_FILE"
    )


def test_a_store_with_calls(tracker: ConversationTracker) -> None:
    """The size of the data, the calls and the newest of them are shown."""
    with tracker.conversation("c"):
        tracker.track_token_usage(1)
        assert tracker.send_tracked_data(wait=10).status == "delivered"

    found = findings()

    assert found["data"]["facts"] == IsPartialDict(exists=True, size_bytes=IsInt(gt=4096))
    assert found["destination embedded"]["text"].startswith("answers; 1 call, the newest of 20")
    assert found["destination embedded"]["facts"] == {"answers": True}
    assert found["outbox"]["text"] == "nothing waits"


def test_a_store_without_calls(tracker: ConversationTracker) -> None:
    """A store that was made and holds nothing answers."""
    from agentsight_tokens.backend.store import SQLiteStore

    SQLiteStore(TokenConfig().directory / "store.db").close()

    assert findings()["destination embedded"]["text"] == "answers; no calls yet"


def test_a_store_that_does_not_answer() -> None:
    """A damaged store is broken."""
    directory = TokenConfig().directory
    directory.mkdir()
    (directory / "store.db").write_bytes(b"no database" * 1000)

    assert findings()["destination embedded"] == IsPartialDict(
        state="broken",
        text=IsStr(regex="the embedded store failed: .*"),
        facts={"answers": False},
    )


def test_each_destination_is_examined(tmp_path: Path) -> None:
    """Of several, what works and what does not is told of each."""
    (tmp_path / "file").write_text("")
    found = findings(
        AGENTSIGHT_DESTINATIONS=f"embedded,jsonl:{tmp_path / 'x.jsonl'},"
        f"jsonl:{tmp_path / 'file' / 'x.jsonl'}"
    )

    states = [each["state"] for name, each in found.items() if name.startswith("destination ")]
    assert states == ["ok", "ok", "broken"]


def test_destinations_that_are_none() -> None:
    """What cannot be made is named, and the rest is looked at all the same."""
    found = findings(AGENTSIGHT_DESTINATIONS="embedded,kafka")

    assert found["destinations"] == IsPartialDict(
        state="broken", text=IsStr(regex="AGENTSIGHT_DESTINATIONS names 'kafka'; known are .*")
    )
    assert found["prices"]["state"] == "ok"


def test_a_data_directory_that_cannot_be(tmp_path: Path) -> None:
    """A file in its place, or a place where nothing can be written, is broken."""
    file = tmp_path / "file"
    file.touch()

    assert findings("--data-dir", str(file))["data"]["text"] == f"{file} is a file"
    found = findings("--data-dir", "/proc/nothing")["data"]
    assert found == IsPartialDict(state="broken", text=IsStr(regex="/proc cannot be written: .*"))


def test_a_full_disk_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Less room than the outbox may need is noted."""
    TokenConfig().directory.mkdir()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: _Usage(100, 99, 1))

    assert findings()["data"]["state"] == "note"


class _Usage(NamedTuple):
    total: int
    used: int
    free: int


def test_faults_while_looking(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failed in here while doctor looked is broken; what failed before is not its business."""
    monkeypatch.setattr(faults_module, "_raises", False)
    report_fault("before", RuntimeError())

    class Lying(Framework):
        def install(self, meter: Meter, config: TokenConfig) -> None:
            report_fault("registering", RuntimeError("no such hook"))

    point = importlib.metadata.EntryPoint("lying", "x:y", "g")
    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", lambda self: Lying)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [point])

    assert findings(AGENTSIGHT_TOKEN_HANDLER_TYPE="lying")["faults"] == IsPartialDict(
        state="broken", text="registering: 1", facts={"registering": 1}
    )


@pytest.fixture
def waiting() -> None:
    """Let one cycle wait for a destination that is away, and one call be refused for ever."""
    killed = (
        "import os, signal, time\n"
        "from agentsight_tokens import ConversationTracker\n"
        "from agentsight_tokens.errors import DestinationUnavailableError\n"
        "from tests.records import Collector\n"
        "collector = Collector()\n"
        "collector.poison = {5}\n"
        "tracker = ConversationTracker(destination=collector)\n"
        "tracker.track_token_usage(5)\n"
        "assert tracker.send_tracked_data(wait=30).status == 'rejected'\n"
        "collector.failures = [DestinationUnavailableError('away')] * 1000\n"
        "tracker.track_token_usage(6)\n"
        "tracker.send_tracked_data()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", killed],
        check=False,
        cwd=Path(__file__).parent.parent,
        stderr=subprocess.PIPE,
    )
    assert done.returncode == -9, done.stderr


@pytest.mark.usefixtures("waiting")
def test_a_destination_that_is_configured_no_more() -> None:
    """What waits for it is noted, and so is what was refused."""
    done = run("doctor")

    assert done.exit_code == 0
    assert "1 cycle on the way to collector" in done.stdout
    assert "collector is not configured now, so nobody delivers to it" in done.stdout
    assert "1 delivery refused for ever, and kept aside" in done.stdout


def test_cycles_on_their_way(tracker: ConversationTracker) -> None:
    """What waits for a configured destination is no more than said."""
    config = tracker.config
    holder = Sender(config.directory, EmbeddedDestination(embedded_store(config.directory)))
    while not holder._lock.try_acquire():
        tracker._runtime._senders[0].stop()
    with tracker.conversation("c"):
        tracker.track_token_usage(1)
        tracker.send_tracked_data()

    assert findings()["outbox"] == IsPartialDict(state="ok", text="1 cycle on the way to embedded")
    holder.stop()


def test_doctor_runs_without_any_extra() -> None:
    """The real command says at once what is there, and warns of nothing."""
    began = time.monotonic()
    done = subprocess.run(
        [COMMAND, "doctor", "--format", "json"], capture_output=True, text=True, check=True
    )

    assert done.stderr == ""
    assert {finding["state"] for finding in json.loads(done.stdout)} <= {"ok", "off", "note"}
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1500, "1.5 kB"), (2e6, "2 MB"), (3e15, "3e+03 TB")],
)
def test_sizes(number: float, text: str) -> None:
    """Sizes are shown with three digits."""
    assert bytes_text(number) == text
