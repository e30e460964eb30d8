"""Cursors: how far a file is imported, so that an import that was interrupted goes on."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Final

import msgspec

__all__ = ["Cursor", "CursorFile"]

_FOLDER: Final = "imports"


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """How far a file is imported into one destination."""

    path: str
    head: str
    """A digest of the file's first bytes: another file of that name begins anew."""
    head_bytes: int
    rows: int = 0
    """How many rows are done."""
    offset: int = 0
    """Where the next begins, in a file of lines; 0 in others."""


class CursorFile:
    """Where the cursor of a file is kept."""

    def __init__(self, directory: Path, path: str, *, destination: str, form: str) -> None:
        whole = str(Path(path).resolve())
        digest = sha256(f"{whole}\n{destination}\n{form}".encode()).hexdigest()[:16]
        self._path = whole
        self._file = directory / _FOLDER / f"{digest}.json"
        self.set_aside = directory / _FOLDER / f"{Path(path).name}-{digest}.set-aside.jsonl"
        """Where rows that cannot be read are put."""

    def load(self, head: bytes) -> Cursor:
        """Return where to go on, in a file that begins with these bytes."""
        try:
            found = msgspec.json.decode(self._file.read_bytes(), type=Cursor)
        except (OSError, msgspec.DecodeError):
            return self._begun(head)
        # A file that was short has grown since.
        is_same = _digest(head[: found.head_bytes]) == found.head
        return found if is_same else self._begun(head)

    def save(self, cursor: Cursor) -> None:
        """Keep a cursor; another process sees the old one or this one."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        new = self._file.with_suffix(".new")
        new.write_bytes(msgspec.json.encode(cursor))
        new.replace(self._file)

    def forget(self) -> None:
        """Begin anew the next time."""
        self._file.unlink(missing_ok=True)

    def _begun(self, head: bytes) -> Cursor:
        return Cursor(path=self._path, head=_digest(head), head_bytes=len(head))


def _digest(head: bytes) -> str:
    return sha256(head).hexdigest()
