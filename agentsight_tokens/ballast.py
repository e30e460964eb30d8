"""The ballast: a file that is there to be thrown away when the disk is full."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

__all__ = ["Ballast"]

BALLAST_BYTES: Final = 1 << 20
_ROOM_FOR_OTHERS: Final = 4 * BALLAST_BYTES


class Ballast:
    """Keeps the space with which an outbox on a full disk can note what it has delivered."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "ballast"

    def take(self) -> None:
        """Reserve the space, if there is enough of it."""
        with contextlib.suppress(OSError):
            if self._path.exists():
                return
            disk = os.statvfs(self._path.parent)
            if disk.f_bavail * disk.f_frsize < BALLAST_BYTES + _ROOM_FOR_OTHERS:
                return
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, BALLAST_BYTES)
            finally:
                os.close(descriptor)

    def throw_away(self) -> bool:
        """Give the space back; tell whether there was any."""
        try:
            self._path.unlink()
        except OSError:
            return False
        return True
