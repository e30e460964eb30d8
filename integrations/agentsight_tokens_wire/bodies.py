"""Bodies: taking apart what comes over the wire, in whatever pieces it comes."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Sequence
from typing import Any, Final, Protocol

__all__ = ["Splitter", "splitter_for", "splitter_of"]

_AWS_PAYLOAD: Final = re.compile(rb'"bytes"\s*:\s*"([A-Za-z0-9+/=]*)"')
_LONGEST_FRAME: Final = 1 << 24


class Splitter(Protocol):
    """Takes a body piece by piece."""

    is_stream: bool
    """Whether the body is a stream of events, and not one answer."""

    def feed(self, data: bytes) -> Sequence[bytes]:
        """Take a piece and return the events that it completes."""

    def finish(self) -> Sequence[bytes]:
        """Return what is left at the end; of a body that is no stream that is all of it."""


class _Lines:
    """Server-sent events, of which only the data matters, or lines of JSON."""

    is_stream = True

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self._partial = b""

    def feed(self, data: bytes) -> Sequence[bytes]:
        *lines, self._partial = (self._partial + data).split(b"\n")
        return self._events(lines)

    def finish(self) -> Sequence[bytes]:
        return self._events([self._partial])

    def _events(self, lines: list[bytes]) -> Sequence[bytes]:
        prefix = self._prefix
        skip = len(prefix)
        return [line[skip:].strip() for line in lines if line and line.startswith(prefix)]


class _Frames:
    """
    AWS's binary event stream, each frame of which holds an event as base64 within JSON.

    The payloads are found without taking the frames apart, so no AWS library is needed.
    """

    is_stream = True

    def __init__(self) -> None:
        self._partial = b""

    def feed(self, data: bytes) -> Sequence[bytes]:
        data = self._partial + data
        found = [*_AWS_PAYLOAD.finditer(data)]
        self._partial = data[found[-1].end() if found else 0 :][-_LONGEST_FRAME:]
        return [b64decode(each[1]) for each in found]

    def finish(self) -> Sequence[bytes]:
        return ()


class _Whole:
    """A body that is one answer."""

    is_stream = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> Sequence[bytes]:
        self._pieces.append(data)
        return ()

    def finish(self) -> Sequence[bytes]:
        return [b"".join(self._pieces)]


class _Compressed:
    """A compressed body, which the HTTP library itself takes apart at the end."""

    def __init__(self, inner: Splitter, kind: type[Any], encoding: str) -> None:
        self.is_stream = inner.is_stream
        self._inner = inner
        self._kind = kind
        self._encoding = encoding
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> Sequence[bytes]:
        self._pieces.append(data)
        return ()

    def finish(self) -> Sequence[bytes]:
        headers = {"content-encoding": self._encoding}
        response = self._kind(200, headers=headers, content=b"".join(self._pieces))
        return [*self._inner.feed(response.content), *self._inner.finish()]


def splitter_for(response: Any, content_type: str | None) -> Splitter:
    """Return what takes the body of an HTTP response apart as it comes over the wire."""
    inner = splitter_of(content_type or response.headers.get("content-type", ""))
    encoding = response.headers.get("content-encoding", "identity")
    return inner if encoding == "identity" else _Compressed(inner, type(response), encoding)


def splitter_of(content_type: str) -> Splitter:
    """Return what takes a body that is not compressed apart."""
    if "event-stream" in content_type:
        return _Lines(b"data:")
    if "amazon.eventstream" in content_type:
        return _Frames()
    return _Lines(b"") if "jsonl" in content_type else _Whole()
