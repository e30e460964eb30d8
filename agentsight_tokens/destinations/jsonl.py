"""
JSON lines: one line for each call, in files that rotate.

A line is written once: what comes again, because a process died before it could note that it
had been written, is found at the end of the file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Sequence
from datetime import datetime, timezone
from glob import escape
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from agentsight_tokens.cycle import Cycle
from agentsight_tokens.errors import DestinationError, DestinationUnavailableError

from .base import Outcome

__all__ = ["JSONLinesDestination"]

ROTATION_BYTES: Final = 64_000_000
TAIL_BYTES: Final = 16_000_000
"""How much of the end is searched for calls that come again; a delivery is far smaller."""
RECENT_CALLS: Final = 100_000
"""How many calls are remembered for that by whoever wrote them itself."""


class _Id(msgspec.Struct):
    id: str


_BEGINNING: Final = b'{"cycle_key":'
"""How each of our lines begins."""
_encoder: Final = msgspec.json.Encoder()
_id: Final = msgspec.json.Decoder(_Id)


class JSONLinesDestination:
    """
    Appends to a file, and begins a new one when it is large; old ones are kept.

    Args:
        path: The file. A full one is renamed, with the time in its name.
        rotation_bytes: How large a file becomes.
    """

    def __init__(self, path: Path, *, rotation_bytes: int = ROTATION_BYTES) -> None:
        self._path = path.expanduser().absolute()
        self._rotation_bytes = rotation_bytes
        self.identity = f"jsonl:{sha256(str(self._path).encode()).hexdigest()[:12]}"
        self._recent: dict[str, None] = {}
        self._end = -1

    def deliver(self, cycles: Sequence[Cycle]) -> Sequence[Outcome]:
        """Append the calls, durably; see `Destination.deliver`."""
        try:
            self._append(cycles)
        except OSError as error:
            self._end = -1
            raise DestinationUnavailableError(f"{self._path} cannot be written: {error}") from error
        return [Outcome(is_accepted=True)] * len(cycles)

    def check(self) -> None:
        """See whether the file can be written; see `Destination.check`."""
        try:
            os.close(self._opened())
        except OSError as error:
            raise DestinationError(f"{self._path} cannot be written: {error}") from error

    def close(self) -> None:
        """Do nothing: the file is open only while it is written to."""

    def forget_after_fork(self) -> None:
        """Look anew at what the file holds."""
        self._end = -1

    def _opened(self) -> int:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _append(self, cycles: Sequence[Cycle]) -> None:
        descriptor = self._opened()
        try:
            # Several data directories may share the file.
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            if size != self._end:  # the first time, or another process has written meanwhile
                size = self._look_at_the_end(descriptor, size)
            lines = self._new_lines(cycles)
            if os.write(descriptor, lines) < len(lines):
                os.ftruncate(descriptor, size)
                raise OSError("the disk is full")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        for cycle in cycles:
            self._recent.update((record.id, None) for record in cycle.records)
        for old in list(islice(self._recent, max(len(self._recent) - RECENT_CALLS, 0))):
            del self._recent[old]
        self._end = size + len(lines)
        if self._end > self._rotation_bytes:
            self._rotate()

    def _rotate(self) -> None:
        stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%f")
        self._path.rename(self._path.with_name(f"{self._path.stem}-{stamp}{self._path.suffix}"))
        self._end = 0

    def _look_at_the_end(self, descriptor: int, size: int) -> int:
        """Read which calls are there, and cut off a line of ours that was not finished."""
        tail = os.pread(descriptor, TAIL_BYTES, max(0, size - TAIL_BYTES))
        torn = tail[tail.rfind(b"\n") + 1 :]
        if torn.startswith(_BEGINNING[: len(torn)]):
            size -= len(torn)
            os.ftruncate(descriptor, size)
        else:
            size += os.write(descriptor, b"\n")
        lines = tail.splitlines()
        previous = self._previous() if size < TAIL_BYTES else None
        if previous is not None:
            lines += previous.read_bytes()[-TAIL_BYTES:].splitlines()
        self._recent.clear()
        for line in lines:
            with contextlib.suppress(msgspec.DecodeError):  # the first may be half a line
                self._recent[_id.decode(line).id] = None
        return size

    def _previous(self) -> Path | None:
        rotated = self._path.parent.glob(escape(self._path.stem) + f"-*{escape(self._path.suffix)}")
        return max(rotated, default=None)

    def _new_lines(self, cycles: Sequence[Cycle]) -> bytes:
        lines = bytearray()
        for cycle in cycles:
            head = _encoder.encode({"cycle_key": cycle.key, "environment": cycle.environment})
            for record in cycle.records:
                if record.id not in self._recent:
                    lines += head[:-1] + b"," + _encoder.encode(record)[1:] + b"\n"
        return bytes(lines)
