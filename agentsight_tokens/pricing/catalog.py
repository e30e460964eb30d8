"""The catalog: dated rows by key, from the snapshot in the package and what overrides it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from threading import Lock
from typing import Final

import msgspec

from .rows import Entry, Snapshot, Source

__all__ = ["Catalog", "bundled_catalog"]


class Catalog:
    """Entries by key. A row is decoded when its model is first used."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._entries: dict[str, Entry] = {}
        self._by_lower: dict[str, str] | None = None

    @property
    def version(self) -> str:
        """The day of the newest source."""
        return self._snapshot.version

    def source(self, index: int) -> Source:
        """Return a source by its index in a row."""
        return self._snapshot.sources[index]

    def __contains__(self, key: object) -> bool:
        return key in self._snapshot.models

    def __iter__(self) -> Iterator[str]:
        return iter(self._snapshot.models)

    def __len__(self) -> int:
        return len(self._snapshot.models)

    def entry(self, key: str) -> Entry:
        """
        Return the entry of a key.

        Raises:
            KeyError: If the catalog has no such key.
        """
        found = self._entries.get(key)
        if found is None:
            found = msgspec.json.decode(self._snapshot.models[key], type=Entry)
            self._entries[key] = found
        return found

    def key_of(self, name: str) -> str | None:
        """Return the key that equals a name, case aside."""
        if name in self._snapshot.models:
            return name
        if self._by_lower is None:
            self._by_lower = {key.lower(): key for key in self._snapshot.models}
        return self._by_lower.get(name.lower())


_lock: Final = Lock()
_bundled: Catalog | None = None


def bundled_catalog() -> Catalog:
    """Return the catalog in the package, loaded once for each process."""
    global _bundled
    with _lock:
        if _bundled is None:
            data = (files(__package__) / "data" / "prices.json").read_bytes()
            _bundled = Catalog(msgspec.json.decode(data, type=Snapshot))
        return _bundled
