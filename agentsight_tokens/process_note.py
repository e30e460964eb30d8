"""A note in the folder of a process: where its cycles go, for whoever seals them."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

import msgspec

from .set_aside import set_aside

__all__ = ["NOTE_FILE", "ProcessNote"]

NOTE_FILE: Final = "process.json"


class ProcessNote(msgspec.Struct, frozen=True, omit_defaults=True):
    """What others must know of a process to finish its work."""

    destinations: tuple[str, ...] = ()
    """The identities of the destinations that it delivers to."""
    environment: str | None = None
    """production, staging, ... as its configuration says."""

    def write(self, folder: Path) -> None:
        """
        Leave the note in a folder.

        Raises:
            OSError: If it cannot be written.
        """
        unnamed = folder / f".{NOTE_FILE}"
        unnamed.write_bytes(msgspec.json.encode(self))
        unnamed.rename(folder / NOTE_FILE)

    @classmethod
    def read(cls, folder: Path) -> ProcessNote:
        """Return the note of a folder; an empty one if there is none that can be read."""
        path = folder / NOTE_FILE
        with contextlib.suppress(OSError):
            try:
                return msgspec.json.decode(path.read_bytes(), type=cls)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                set_aside(path, error)
        return cls()
