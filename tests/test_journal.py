"""The journal."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from agentsight_tokens import journal as module
from agentsight_tokens.errors import StorageWarning
from agentsight_tokens.journal import Journal, read_journal, segments
from tests.records import call, encoded


def written(directory: Path, count: int) -> Path:
    journal = Journal(directory)
    for number in range(1, count + 1):
        journal.append(1, 5, encoded(call(number)))
    journal.close()
    return segments(directory)[0]


def numbers(path: Path, start: int = 0) -> list[int | None]:
    return [e.record and e.record.input_tokens for e in read_journal(path, start)]


def test_entries_are_read_in_their_order(tmp_path: Path) -> None:
    """What was appended is read back, with its tracker and its sequence."""
    path = written(tmp_path, 3)

    entries = list(read_journal(path))

    assert numbers(path) == [1, 2, 3]
    assert {(entry.tracker, entry.sequence) for entry in entries} == {(1, 5)}
    assert numbers(path, entries[0].end) == [2, 3]


def test_a_torn_tail_is_left(tmp_path: Path) -> None:
    """A line without an end is not read, at whatever byte it was torn."""
    path = written(tmp_path, 2)
    whole = path.read_bytes()
    first = len(whole.split(b"\n")[0]) + 1
    for end in range(first, len(whole)):
        path.write_bytes(whole[:end])
        assert numbers(path) == [1]


def test_a_flipped_byte_costs_one_entry(tmp_path: Path) -> None:
    """Whatever byte of a line is damaged, the lines around it are kept."""
    path = written(tmp_path, 3)
    whole = path.read_bytes()
    lines = whole.split(b"\n")
    start = len(lines[0]) + 1
    for position in range(start, start + len(lines[1])):
        damaged = bytearray(whole)
        damaged[position] ^= 0x01
        path.write_bytes(bytes(damaged))
        assert [n for n in numbers(path) if n is not None] == [1, 3]


def test_a_new_segment_follows_the_old(tmp_path: Path) -> None:
    """After a rotation, and in a new journal of the folder, entries go to a new file."""
    journal = Journal(tmp_path)
    journal.append(1, 1, encoded(call(1)))
    journal.rotate()
    journal.append(1, 1, encoded(call(2)))
    journal.close()
    journal = Journal(tmp_path)
    journal.append(1, 1, encoded(call(3)))
    journal.close()

    assert [numbers(path) for path in segments(tmp_path)] == [[1], [2], [3]]


def test_a_full_disk_holds_entries_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk takes nothing, entries wait, and are written in their order."""
    journal = Journal(tmp_path)
    journal.append(1, 1, encoded(call(1)))

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.warns(StorageWarning, match="No space left"):
            journal.append(1, 1, encoded(call(2)))
        journal.append(1, 1, encoded(call(3)))
        assert not journal.write_held()
    assert journal.held == 2
    journal.append(1, 1, encoded(call(4)))
    journal.close()

    assert journal.held == 0
    assert numbers(segments(tmp_path)[0]) == [1, 2, 3, 4]


def test_a_half_written_entry_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a full disk took half of is parted from the whole entry that follows."""
    journal = Journal(tmp_path)
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:20]))
        with pytest.warns(StorageWarning, match="20 of"):
            journal.append(1, 1, encoded(call(1)))
    journal.append(1, 1, encoded(call(2)))
    journal.close()

    assert [n for n in numbers(segments(tmp_path)[0]) if n is not None] == [1, 2]


def test_memory_is_bounded_and_losses_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Beyond the limit entries are lost, and it is known how many."""
    monkeypatch.setattr(module, "HELD_LIMIT", 2)
    journal = Journal(tmp_path / "missing")
    with pytest.warns(StorageWarning):
        journal.append(1, 1, encoded(call(0)))
    for number in range(1, 5):
        journal.append(1, 1, encoded(call(number)))

    assert (journal.held, journal.lost) == (2, 3)
