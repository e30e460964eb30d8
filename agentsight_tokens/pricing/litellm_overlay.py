"""A LiteLLM cost map that comes before the snapshot, decoded model by model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from .litellm_map import RESERVED_KEYS, entry_of_litellm
from .rows import Entry, Source

__all__ = ["LiteLLMOverlay"]


class LiteLLMOverlay:
    """
    The models of a cost map.

    Args:
        models: The undecoded entries of the map by key.
        source: Whose map it is, and the day from which its prices hold.
    """

    def __init__(self, models: Mapping[str, msgspec.Raw], source: Source) -> None:
        self.source = source
        self._models = {
            key.lower(): (key, raw) for key, raw in models.items() if key not in RESERVED_KEYS
        }

    def find(self, name: str, source: int) -> Entry | None:
        """Return the entry of a lower-case name, with rows of this source."""
        found = self._models.get(name)
        if found is None:
            return None
        key, raw = found
        fields = msgspec.json.decode(raw)
        entry = entry_of_litellm(key, fields, source) if isinstance(fields, dict) else None
        if entry is None:
            return None
        rows = tuple(msgspec.structs.replace(row, since=self.source.day) for row in entry.rows)
        return msgspec.structs.replace(entry, rows=rows)

    def starting_with(self, prefix: str) -> list[str]:
        """Return the lower-case names that begin so."""
        return [name for name in self._models if name.startswith(prefix)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)
