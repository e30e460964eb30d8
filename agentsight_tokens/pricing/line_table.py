"""
The snapshot's file: a JSON header, then a line for each model, sorted by its lower-case name.

A line is the name, a tab and the entry as JSON. The file is searched as it lies in memory,
so that a process that prices three models decodes three lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from .rows import Entry, Header

__all__ = ["LineTable", "encoded_lines"]

_decode: Final = msgspec.json.Decoder(Entry).decode


class LineTable:
    """Entries by name, case aside."""

    def __init__(self, data: bytes) -> None:
        end = data.index(b"\n")
        self._data = data
        self._start = end + 1
        self.header: Final = msgspec.json.decode(data[:end], type=Header)

    def find(self, name: str) -> Entry | None:
        """Return the entry of a name; None where there is none."""
        wanted = name.lower().encode()
        position = self._position(wanted)
        line = self._line(position)
        if line is None or line[0] != wanted:
            return None
        return _named(_decode(line[1]), line[0])

    def starting_with(self, prefix: str) -> list[str]:
        """Return the lower-case names that begin so."""
        wanted = prefix.lower().encode()
        position = self._position(wanted)
        found = []
        while (line := self._line(position)) and line[0].startswith(wanted):
            found.append(line[0].decode())
            position += len(line[0]) + len(line[1]) + 2
        return found

    def __iter__(self) -> Iterator[str]:
        position = self._start
        while line := self._line(position):
            yield line[0].decode()
            position += len(line[0]) + len(line[1]) + 2

    def __len__(self) -> int:
        return self._data.count(b"\n", self._start)

    def _position(self, wanted: bytes) -> int:
        """Return where the first line begins whose name is not below the wanted one."""
        data, low, high = self._data, self._start, len(self._data)
        while low < high:
            begin = data.rfind(b"\n", low, (low + high) // 2) + 1 or low
            tab = data.index(b"\t", begin)
            if data[begin:tab] < wanted:
                low = data.index(b"\n", tab) + 1
            else:
                high = begin
        return low

    def _line(self, position: int) -> tuple[bytes, bytes] | None:
        if position >= len(self._data):
            return None
        tab = self._data.index(b"\t", position)
        return self._data[position:tab], self._data[tab + 1 : self._data.index(b"\n", tab)]


def _named(entry: Entry, lower: bytes) -> Entry:
    return entry if entry.key else msgspec.structs.replace(entry, key=lower.decode())


def encoded_lines(header: Header, entries: Iterable[Entry]) -> bytes:
    """Return the file of these entries."""
    encode = msgspec.json.Encoder(decimal_format="number").encode
    lines = {}
    for entry in entries:
        name = entry.key.lower()
        stored = msgspec.structs.replace(entry, key="") if entry.key == name else entry
        lines[name.encode()] = encode(stored)
    body = b"".join(name + b"\t" + lines[name] + b"\n" for name in sorted(lines))
    return encode(header) + b"\n" + body
