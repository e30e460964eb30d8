"""How much waits for a destination: counted by the one that delivers, known to all."""

from __future__ import annotations

import contextlib
from pathlib import Path

__all__ = ["WaitingSize"]


class WaitingSize:
    """A number in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.published: int | None = None
        """What this one has told; None if nothing yet."""

    def publish(self, size: int) -> None:
        """Tell the others, if it is news."""
        if size != self.published:
            with contextlib.suppress(OSError):
                self._path.write_text(str(size), "ascii")
                self.published = size

    def read(self) -> int:
        """Return what was told last; 0 if nothing was."""
        try:
            return int(self._path.read_text("ascii"))
        except (OSError, ValueError):
            return 0
