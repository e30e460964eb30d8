"""The bell: a named pipe that wakes the sender of another process."""

from __future__ import annotations

import contextlib
import os
import select
from pathlib import Path
from threading import Event

__all__ = ["Bell"]


class Bell:
    """Wakes the sender of any process through a named pipe."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader: int | None = None
        self._rung = Event()

    def open(self) -> None:
        """Listen for other processes."""
        if self._reader is None:
            with contextlib.suppress(FileExistsError):
                os.mkfifo(self._path, 0o600)
            # Read and write: a pipe without a writer would always be readable.
            self._reader = os.open(self._path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def ring(self) -> None:
        """Wake the listener."""
        self._rung.set()
        if self._reader is not None:
            with contextlib.suppress(OSError):
                os.write(self._reader, b".")
            return
        try:
            writer = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return  # nobody listens, or nobody can
        try:
            with contextlib.suppress(OSError):  # full: the listener is awake anyway
                os.write(writer, b".")
        finally:
            os.close(writer)

    def wait(self, seconds: float) -> None:
        """Sleep until somebody rings."""
        if self._reader is None:
            self._rung.wait(seconds)
        else:
            poll = select.poll()  # unlike select(), it takes any descriptor
            poll.register(self._reader, select.POLLIN)
            if poll.poll(seconds * 1000):
                os.read(self._reader, 65536)
        self._rung.clear()

    def close(self) -> None:
        """Stop listening."""
        if self._reader is not None:
            os.close(self._reader)
            self._reader = None
