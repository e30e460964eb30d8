"""`outbox`: what waits, what was refused, and what can be done about it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dirty_equals import IsInt, IsPartialDict, IsStr
from inline_snapshot import snapshot
from typer.testing import CliRunner, Result

from agentsight_tokens import ConversationTracker, TokenConfig
from agentsight_tokens.backend.ingest import ingest
from agentsight_tokens.backend.store import SQLiteStore
from agentsight_tokens.cli.app import app
from agentsight_tokens.configured import configured_destinations
from agentsight_tokens.process_folder import ProcessFolder
from tests.faults.backend import Backend, running_backend
from tests.records import call, encoded


def run(*arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(
        app, ["outbox", *arguments], env={"COLUMNS": "80", "TERM": "dumb", **environment}
    )


def rows(*arguments: str) -> list[dict[str, Any]]:
    """Return what a command prints as JSON."""
    done = run(*arguments, "--format", "json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture
def backend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    with running_backend(tmp_path / "backend") as backend:
        monkeypatch.setenv("AGENTSIGHT_API_ENDPOINT", backend.url)
        yield backend


@pytest.fixture
def waiting(backend: Backend) -> str:
    """Let two calls be refused, one wait, and one be open still; return the destination."""
    backend.poison = "poisonous"
    backend.stop()
    (destination,) = configured_destinations(TokenConfig())
    folder = ProcessFolder(TokenConfig().directory / "processes", [destination.identity], "test")
    for sequence, (number, facts) in enumerate(
        [
            (5, {"model": "poisonous", "conversation": "trip-to-lisbon"}),
            (7, {"model": "poisonous", "conversation": "trip-to-lisbon"}),
            (11, {}),
        ],
        start=1,
    ):
        folder.journal.append(1, sequence, encoded(call(number, **facts)))
        folder.ledger.seal(sequence, sealed_by="send")
    folder.ledger.mark([1, 2], "dead", reason="400 a poisonous model")
    folder.journal.append(1, 4, encoded(call(13)))
    folder.ledger.close()
    folder.forget_after_fork()  # as a process that dies lets go of its lock
    return destination.identity


@pytest.mark.usefixtures("backend")
def test_an_empty_outbox() -> None:
    """Nothing waits, in every format and for every command."""
    directory = TokenConfig().directory

    assert run("status").stdout == f"Nothing waits in {directory}.\n"
    assert rows("status") == rows("dead", "list") == []
    assert run("status", "--format", "csv").stdout == snapshot(
        "destination,state,cycles,calls,bytes,oldest_at\n"
    )
    assert run("dead", "list").stdout == f"Nothing was refused in {directory}.\n"
    assert run("export").stdout == '{"cycles":[\n]}\n'
    assert run("flush").stdout == IsStr(regex="http:[0-9a-f]{12}: 0 cycles delivered\n")
    assert run("dead", "retry", "--all").stdout.startswith("0 deliveries wait again")


def test_folders_that_cannot_be_read_are_passed(caplog: pytest.LogCaptureFixture) -> None:
    """One without a ledger, one that vanishes and one with a damaged file are no errors."""
    processes = TokenConfig().directory / "processes"
    (processes / "made-just-now").mkdir(parents=True)
    (processes / "vanishing" / "ledger.db").mkdir(parents=True)
    (processes / "damaged").mkdir()
    (processes / "damaged" / "ledger.db").write_bytes(b"no database" * 1000)

    assert rows("status") == []
    assert "damaged: its ledger cannot be read" in caplog.text


def test_what_was_lost_is_named() -> None:
    """Lost calls and damaged entries stand beside what waits, and doctor tells of them too."""
    folder = ProcessFolder(TokenConfig().directory / "processes", ["embedded"])
    folder.journal.append(1, 1, encoded(call(1)))
    with (folder.path / folder.journal.segment).open("ab") as file:
        file.write(b"rubbish\n")
    folder.ledger.seal(1, sealed_by="send")
    folder.ledger.note_lost(5000)
    told = run("status", "--format", "json")
    examined = CliRunner().invoke(app, ["doctor", "--format", "json"])
    folder.close()

    assert len(json.loads(told.stdout)) == 1
    assert told.stderr.strip() == (
        f"note: {folder.path}: 5,000 calls lost, which neither disk nor memory could hold; "
        "1 damaged entry of the journal passed, the file is kept"
    )
    assert IsPartialDict(
        facts=IsPartialDict(folder=str(folder.path), lost_calls=5000, damaged_entries=1)
    ) in json.loads(examined.stdout)


def test_what_waits_and_what_was_refused(waiting: str) -> None:
    """The status tells both, by destination, in every format and within 80 columns."""
    pending, refused = rows("status")
    assert pending == snapshot(
        {
            "destination": IsStr(regex="http:.*"),
            "state": "pending",
            "cycles": 1,
            "calls": 1,
            "bytes": IsInt(gt=100),
            "oldest_at": IsStr(regex="20.*Z"),
        }
    )
    assert refused == IsPartialDict(destination=waiting, state="refused", cycles=2, calls=2)
    assert [
        row["state"] for row in csv.DictReader(io.StringIO(run("status", "--format", "csv").stdout))
    ]
    lines = run("status", FORCE_COLOR="1").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["destination", "state", "cycles", "calls", "size", "oldest"]


def test_flushing_delivers_what_dead_processes_left(backend: Backend, waiting: str) -> None:
    """Also what they had not sealed; what was refused stays refused."""
    away = run("flush", "--timeout", "0.5")
    backend.start()
    done = run("flush", "--format", "json")

    assert away.exit_code == 1
    assert "0 cycles delivered, 2 still waiting: NewConnectionError" in away.stdout
    assert done.exit_code == 0
    assert json.loads(done.stdout) == [
        {"destination": waiting, "delivered": 2, "refused": 2, "waiting": 0, "error": None}
    ]
    assert f"note: {waiting} refuses 2 cycles" in done.stderr
    assert backend.tokens() == 24
    assert [each["state"] for each in rows("status")] == ["refused"]


def test_refused_deliveries_are_listed(waiting: str) -> None:
    """With an id to name them by, and why."""
    first, second = rows("dead", "list")
    assert first == IsPartialDict(
        id=IsStr(regex="[0-9a-f]{10}"),
        destination=waiting,
        conversation_id="trip-to-lisbon",
        calls=1,
        total_tokens=15,
        reason="400 a poisonous model",
    )
    assert second["id"] != first["id"]
    assert rows("dead", "list", "--destination", "another") == []

    lines = run("dead", "list", FORCE_COLOR="1").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["id", "destination", "conversation", "calls", "tokens", "reason"]
    assert any(line.startswith(first["id"]) for line in lines)


def test_what_was_refused_is_sent_again(backend: Backend, waiting: str) -> None:
    """One of it by the beginning of its id, or all; what is refused again is listed again."""
    first, second = rows("dead", "list")
    backend.start()
    one = run("dead", "retry", second["id"][:6])
    assert one.stdout == "1 delivery waits again; agentsight-tokens outbox flush delivers now\n"
    assert [each["id"] for each in rows("dead", "list")] == [first["id"]]
    run("flush")
    assert {each["id"] for each in rows("dead", "list")} == {first["id"], second["id"]}

    backend.poison = ""
    assert run("dead", "retry", "--all", "--destination", waiting).stdout.startswith("2 deliveries")
    assert run("flush").exit_code == 0
    assert rows("status") == []
    assert backend.tokens() == 5 + 7 + 11 + 13


def test_dropping_needs_a_yes(waiting: str) -> None:
    """Nothing is given up by mistake."""
    first, second = rows("dead", "list")
    asked = run("dead", "drop", first["id"])
    assert (asked.exit_code, asked.stdout) == (2, "")
    assert "1 delivery with 1 call would be given up for ever: add --yes" in asked.stderr
    assert len(rows("dead", "list")) == 2

    assert run("dead", "drop", first["id"], "--yes").stdout == "1 delivery dropped\n"
    assert [each["id"] for each in rows("dead", "list")] == [second["id"]]
    assert [each["cycles"] for each in rows("status")] == [1, 1]


@pytest.mark.parametrize("command", ["retry", "drop"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name what you mean by the ids"),
        (["abc", "--all"], "name what you mean by the ids"),
        (["zzz"], "'zzz' is none of those"),
        ([""], "could be"),
    ],
)
@pytest.mark.usefixtures("waiting")
def test_ids_that_name_nothing_change_nothing(
    command: str, arguments: list[str], message: str
) -> None:
    """The error says what to do."""
    done = run("dead", command, *arguments, *(["--yes"] if command == "drop" else []))

    assert done.exit_code == 2
    assert message in done.stderr
    assert len(rows("dead", "list")) == 2


def test_a_new_key_takes_along_what_waits(
    backend: Backend, waiting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With another key it is another destination, which is given the former one's cycles."""
    monkeypatch.setenv("AGENTSIGHT_API_KEY", "rotated")
    backend.key = "rotated"
    backend.start()
    nothing = run("flush")
    assert nothing.exit_code == 0
    assert f"2 cycles on the way to {waiting}, which is not configured now" in nothing.stderr
    wrong = run("flush", "--from", "http:0123")
    assert (wrong.exit_code, wrong.stdout) == (2, "")
    assert f"something waits for {waiting}" in wrong.stderr

    assert ": 2 cycles delivered" in run("flush", "--from", waiting).stdout
    assert backend.tokens() == 24


def test_a_former_destination_needs_one_of_its_kind(
    waiting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise nobody knows where to."""
    monkeypatch.delenv("AGENTSIGHT_API_ENDPOINT")
    none = run("flush", "--from", waiting)
    monkeypatch.setenv("AGENTSIGHT_DATA_DIR", str(TokenConfig().directory / "elsewhere"))
    empty = run("flush", "--from", waiting)

    assert none.exit_code == empty.exit_code == 2
    assert "no destinations of the kind 'http' are configured" in none.stderr
    assert "nothing waits for it; nothing waits" in empty.stderr


def test_an_export_is_what_a_backend_takes(waiting: str, tmp_path: Path) -> None:
    """What waits, what was refused, or both; nothing is changed or overwritten by it."""
    file = tmp_path / "kept.json"
    before = rows("status")
    done = run("export", "--output", str(file))
    assert (done.stdout, done.stderr) == ("", "3 cycles, 3 calls exported\n")
    with SQLiteStore(tmp_path / "other.db") as store:
        receipts = ingest(store, file.read_bytes())
        assert store.rows("SELECT SUM(input_tokens) FROM calls") == [(5 + 7 + 11,)]
    assert {receipt.status for receipt in receipts} == {"accepted"}
    assert file.stat().st_mode & 0o777 == 0o600

    refused = json.loads(run("export", "--state", "refused").stdout)["cycles"]
    pending = json.loads(run("export", "--state", "pending").stdout)["cycles"]
    assert [cycle["totals"]["input_tokens"] for cycle in refused] == [5, 7]
    assert [cycle["totals"]["input_tokens"] for cycle in pending] == [11]
    assert run("export", "--destination", "another").stdout == '{"cycles":[\n]}\n'
    again = run("export", "--output", str(file))
    assert (again.exit_code, again.stderr) == (
        2,
        f"error: --output {str(file)!r} exists; name another file\n",
    )
    assert rows("status") == before


def test_it_is_safe_beside_a_living_process(backend: Backend) -> None:
    """Its sender and the command's take turns, and what it sets aside can be sent again."""
    backend.poison = "poisonous"
    with ConversationTracker(conversation_id="c") as tracker:
        tracker.track_token_usage(5, model="poisonous")
        assert tracker.send_tracked_data(wait=20).status == "rejected"
        for number in range(1, 51):
            tracker.track_token_usage(number)
            tracker.send_tracked_data()
            if number == 25:
                backend.poison = ""
                assert run("dead", "retry", "--all").exit_code == 0
        assert run("flush").exit_code == 0
        assert tracker.flush(20)

    assert backend.tokens() == 5 + sum(range(1, 51))
    assert backend.redelivered == 0
    assert rows("status") == []
