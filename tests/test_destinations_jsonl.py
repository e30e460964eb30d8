"""The JSON lines destination."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from agentsight_tokens import ConversationTracker, Cycle, TokenConfig
from agentsight_tokens.destinations import jsonl
from agentsight_tokens.destinations.jsonl import JSONLinesDestination
from agentsight_tokens.errors import DestinationError, DestinationUnavailableError
from tests.records import AT, call


def cycle(key: str, *numbers: int) -> Cycle:
    return Cycle.of(
        [call(number, id=f"{key}-{number}") for number in numbers],
        key=key,
        conversation_id="c",
        sealed_by="send",
        sealed_at=AT,
        environment="test",
    )


def ids(*paths: Path) -> list[str]:
    return [json.loads(line)["id"] for path in paths for line in path.read_text().splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "logs" / "calls.jsonl"


def test_each_call_is_a_line(path: Path) -> None:
    """A line has the record and the key of its cycle."""
    destination = JSONLinesDestination(path)
    destination.check()
    assert [o.is_accepted for o in destination.deliver([cycle("a", 1, 2), cycle("b", 4)])] == [
        True,
        True,
    ]
    destination.close()

    first = json.loads(path.read_text().splitlines()[0])
    assert ids(path) == ["a-1", "a-2", "b-4"]
    assert (first["cycle_key"], first["environment"], first["model"]) == ("a", "test", "gpt-4o")
    assert first["usage"]["input_tokens"] == 1
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_call_is_written_once(path: Path) -> None:
    """What comes again, to this destination or to a later process's, is known."""
    JSONLinesDestination(path).deliver([cycle("a", 1)])
    later = JSONLinesDestination(path)
    later.deliver([cycle("a", 1), cycle("b", 2)])
    later.deliver([cycle("b", 2)])
    other = JSONLinesDestination(path)
    other.deliver([cycle("c", 3)])
    later.deliver([cycle("c", 3), cycle("d", 4)])

    assert ids(path) == ["a-1", "b-2", "c-3", "d-4"]


def test_a_torn_line_is_cut_off(path: Path) -> None:
    """A process that died while it wrote leaves half a line, which is written again."""
    JSONLinesDestination(path).deliver([cycle("a", 1), cycle("b", 2)])
    path.write_bytes(path.read_bytes()[:-20])

    JSONLinesDestination(path).deliver([cycle("b", 2)])

    assert ids(path) == ["a-1", "b-2"]


@pytest.mark.parametrize("torn", [b"{", b'{"cycle_key":"b","envi'])
def test_half_a_line_of_a_new_file_is_cut_off(path: Path, torn: bytes) -> None:
    """Also where no whole line stands before it."""
    path.parent.mkdir()
    path.write_bytes(torn)

    JSONLinesDestination(path).deliver([cycle("a", 1)])

    assert ids(path) == ["a-1"]


def test_what_others_wrote_is_left(path: Path) -> None:
    """A file that holds something else loses nothing; ours begins on a line of its own."""
    path.parent.mkdir()
    path.write_bytes(b"my notes")

    JSONLinesDestination(path).deliver([cycle("a", 1), cycle("b", 2)])

    notes, *lines = path.read_bytes().splitlines()
    assert notes == b"my notes"
    assert [json.loads(line)["id"] for line in lines] == ["a-1", "b-2"]


def test_what_is_remembered_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that runs for months keeps the newest ids, which alone come again."""
    monkeypatch.setattr(jsonl, "RECENT_CALLS", 3)
    destination = JSONLinesDestination(path)
    destination.deliver([cycle("a", *range(1, 10))])
    destination.deliver([cycle("a", 7, 8, 9, 10)])

    assert ids(path) == [f"a-{number}" for number in range(1, 11)]


def test_files_rotate_and_are_kept(path: Path) -> None:
    """A full file is renamed; a call of it that comes again is known."""
    destination = JSONLinesDestination(path, rotation_bytes=500)
    for number in range(1, 6):
        destination.deliver([cycle("a", number)])
    rotated = sorted(path.parent.glob("calls-*.jsonl"))
    JSONLinesDestination(path, rotation_bytes=500).deliver([cycle("a", 4, 5, 6)])

    assert len(rotated) >= 2
    assert ids(*sorted(path.parent.glob("calls-*.jsonl"))) == [f"a-{n}" for n in range(1, 7)]


def test_a_full_disk_leaves_no_half(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be written whole is taken back, and written later."""
    destination = JSONLinesDestination(path)
    destination.deliver([cycle("a", 1)])
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:30]))
        with pytest.raises(DestinationUnavailableError, match="full"):
            destination.deliver([cycle("b", 2)])
    assert ids(path) == ["a-1"]
    destination.deliver([cycle("b", 2)])

    assert ids(path) == ["a-1", "b-2"]


def test_a_file_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """The check says so, and a delivery waits."""
    (tmp_path / "file").write_text("")
    destination = JSONLinesDestination(tmp_path / "file" / "calls.jsonl")

    with pytest.raises(DestinationError, match="cannot be written"):
        destination.check()
    with pytest.raises(DestinationUnavailableError):
        destination.deliver([cycle("a", 1)])


def test_a_child_looks_for_itself(path: Path) -> None:
    """After a fork, what the parent wrote is looked at again."""
    destination = JSONLinesDestination(path)
    destination.deliver([cycle("a", 1)])
    destination.forget_after_fork()
    destination.deliver([cycle("a", 1), cycle("b", 2)])

    assert ids(path) == ["a-1", "b-2"]


def test_identities_differ_by_path(tmp_path: Path) -> None:
    """Two files are two destinations."""
    identities = {JSONLinesDestination(tmp_path / name).identity for name in ("a", "b", "a")}

    assert len(identities) == 2


def test_a_tracker_writes_json_lines(tmp_path: Path) -> None:
    """Named in the configuration, beside the embedded store."""
    path = tmp_path / "own.jsonl"
    config = TokenConfig(destinations=f"embedded, jsonl:{path}")
    with ConversationTracker(config=config, conversation_id="c") as tracker:
        tracker.track_token_usage(5)
        assert tracker.send_tracked_data(wait=20).status == "delivered"

    assert json.loads(path.read_text())["usage"]["input_tokens"] == 5
