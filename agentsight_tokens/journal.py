"""
The journal: every completed call on disk before its handler returns.

One append-only file for each process. An entry is one line, so that a torn or damaged one
costs no other: `<crc32> <tracker> <sequence> <record as JSON>`.
"""

from __future__ import annotations

import logging
import os
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from .errors import StorageWarning
from .faults import warn
from .usage import UsageRecord

__all__ = ["HELD_LIMIT", "Journal", "JournalEntry", "read_journal", "read_lines", "segments"]

HELD_LIMIT: Final = 20_000
"""How many entries are held in memory while the disk takes none."""

_PIECE_BYTES: Final = 1_000_000
_SUFFIX: Final = ".journal"
_TORN: Final = b" torn\n"
"""Ends a line of which the disk took a part only; the whole entry follows."""
_decoder: Final = msgspec.json.Decoder(UsageRecord)
_logger: Final = logging.getLogger("agentsight_tokens")


class JournalEntry(NamedTuple):
    """One entry."""

    tracker: int
    sequence: int
    record: UsageRecord | None
    """The record; None if the line is damaged, and then the numbers are -1."""
    end: int
    """The position behind it."""
    size: int = 0
    """The bytes of the line."""


class Journal:
    """
    Appends to the journal of this process.

    It is not locked: the caller orders the entries, because their order is the order in
    which calls were counted.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._descriptor: int | None = None
        self._is_torn = False
        self._held: deque[bytes] = deque()
        self._number = 1 + max(map(_number, segments(directory)), default=0)
        self.size = 0
        """Bytes in the segment that is written to."""
        self.lost = 0
        """Entries that neither the disk nor the memory could hold."""
        self.is_in_memory = False
        """Whether there is no folder to write to, and entries are only held."""

    @property
    def held(self) -> int:
        """Entries that wait in memory for the disk."""
        return len(self._held)

    @property
    def is_missing(self) -> bool:
        """Whether the file that is open was deleted."""
        return self._descriptor is not None and not (self._directory / self.segment).exists()

    @property
    def segment(self) -> str:
        """The name of the file that the next entry goes to."""
        return f"calls-{self._number:06}{_SUFFIX}"

    def append(self, tracker: int, sequence: int, record: bytes) -> None:
        """Write an entry; when the disk does not take it, hold it in memory and warn once."""
        body = b"%d %d %b" % (tracker, sequence, record)
        line = b"%08x %b\n" % (zlib.crc32(body), body)
        if self._held or self.is_in_memory:
            self._hold(line)
            self.write_held()
            return
        try:
            self._write(line)
        except OSError as error:
            self._hold(line)
            warn(
                f"{str(self._directory)!r} cannot be written ({error}); up to {HELD_LIMIT:,} "
                "calls are held in memory and written when it can be again",
                StorageWarning,
            )

    def write_held(self) -> bool:
        """Write what waits in memory; tell whether nothing waits any more."""
        if self.is_in_memory:
            return not self._held
        try:
            while self._held:
                self._write(self._held[0])
                self._held.popleft()
        except OSError:
            return False
        return True

    def held_lines(self) -> Sequence[bytes]:
        """Return the entries that wait in memory."""
        return self._held.copy()  # at once, whatever other threads append

    def take_held(self, limit: int) -> list[bytes]:
        """Take the oldest entries out of the memory."""
        taken = min(limit, len(self._held))
        return [self._held.popleft() for _ in range(taken)]

    def rotate(self) -> None:
        """Begin a new segment with the next entry."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
            self._number += 1
            self.size = 0

    def write_again(self) -> None:
        """
        Write the segment again whose file was deleted while it was open.

        Raises:
            OSError: If the disk does not take it.
        """
        if self._descriptor is None:
            return
        descriptor = self._open()
        position = 0
        while piece := os.pread(self._descriptor, _PIECE_BYTES, position):
            position += os.write(descriptor, piece)
        os.close(self._descriptor)
        self._descriptor = descriptor

    def close(self) -> None:
        """Close the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        path = self._directory / self.segment
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _write(self, line: bytes) -> None:
        if self._descriptor is None:
            self._descriptor = self._open()
        given = _TORN + line if self._is_torn else line
        written = os.write(self._descriptor, given)
        self.size += written
        self._is_torn = written < len(given)
        if self._is_torn:
            raise OSError(f"only {written} of {len(given)} bytes were written")

    def _hold(self, line: bytes) -> None:
        if len(self._held) < HELD_LIMIT:
            self._held.append(line)
            return
        if not self.lost:
            _logger.error(
                "%s calls wait in memory for %s, which cannot be written: from now on calls are "
                "lost, and counted",
                f"{HELD_LIMIT:,}",
                self._directory,
            )
        self.lost += 1


def segments(directory: Path) -> list[Path]:
    """Return the files of a journal in their order."""
    return sorted(directory.glob(f"calls-*{_SUFFIX}"))


def read_journal(path: Path, start: int = 0) -> Iterator[JournalEntry]:
    """
    Yield the entries of a segment from a position on; a line without an end is left.

    A damaged line is yielded without its record, so that it can be reported and passed.
    """
    with path.open("rb") as file:
        file.seek(start)
        yield from read_lines(file, start)


def read_lines(lines: Iterable[bytes], start: int = 0) -> Iterator[JournalEntry]:
    """Yield the entries of lines; the first one stands at a position."""
    end = start
    for line in lines:
        if not line.endswith(b"\n"):
            return
        end += len(line)
        if not line.endswith(_TORN):
            yield _entry(line, end)


def _entry(line: bytes, end: int) -> JournalEntry:
    try:
        crc, body = line[:-1].split(b" ", 1)
        if int(crc, 16) != zlib.crc32(body):
            raise ValueError("wrong checksum")
        tracker, sequence, record = body.split(b" ", 2)
        return JournalEntry(int(tracker), int(sequence), _decoder.decode(record), end, len(line))
    except (ValueError, msgspec.DecodeError):
        return JournalEntry(-1, -1, None, end)


def _number(path: Path) -> int:
    number = path.stem.rpartition("-")[2]
    return int(number) if number.isdecimal() else 0
