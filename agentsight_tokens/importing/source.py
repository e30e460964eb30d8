"""Sources: files of rows, as JSON lines, one JSON document, or CSV; compressed or not."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import re
import sys
from collections.abc import Callable, Generator, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import msgspec

from agentsight_tokens.errors import ConfigurationError

from .langfuse_exports import is_langfuse_export
from .litellm_logs import is_litellm_log
from .response_logs import is_response_log
from .row import RowError

__all__ = ["FORMATS", "Format", "Row", "Source"]

Format = Literal["responses", "litellm", "langfuse"]
FORMATS: Final[tuple[Format, ...]] = ("responses", "litellm", "langfuse")
STDIN: Final = "-"

_GZIP: Final = b"\x1f\x8b"
_LONGEST_LINE: Final = 64_000_000
_LARGEST_DOCUMENT: Final = 1_000_000_000
_ROWS_TO_SEE: Final = 50
_MARKS: Final[tuple[tuple[Format, Callable[[dict[str, Any]], bool]], ...]] = (
    ("litellm", is_litellm_log),
    ("langfuse", is_langfuse_export),
    ("responses", is_response_log),
)
_LISTS: Final = ("data", "observations", "items", "logs", "results")
"""Where a document that is no list has its rows."""
_LIST_FIRST: Final = re.compile(rb'\s*\{\s*"(?:%s)"\s*:\s*\[' % "|".join(_LISTS).encode())
_SEEN_BYTES: Final = 1 << 16
"""How much is looked at to tell what a file is."""


class Row(NamedTuple):
    """A row of a source."""

    number: int
    """From 1: of the line, or of the element or record."""
    content: str
    fields: dict[str, Any] | None
    """None for what cannot be read; `fault` tells why."""
    fault: str = ""
    end: int = 0
    """The offset in bytes behind it, decompressed, where rows are lines; else 0."""


class Source:
    """A file, or stdin, whose rows are read one after another."""

    def __init__(self, path: str) -> None:
        """
        Look into a source.

        Args:
            path: A file; `-` for stdin.

        Raises:
            ConfigurationError: If there is no such file.
        """
        self.path = path
        self.is_stdin = path == STDIN
        if not self.is_stdin and not Path(path).is_file():
            raise ConfigurationError(f"{path!r} is no file")
        self.name = "stdin" if self.is_stdin else Path(path).name

    @property
    def size(self) -> int | None:
        """The bytes on disk; None for stdin."""
        return None if self.is_stdin else Path(self.path).stat().st_size

    def head(self) -> bytes:
        """Return the first bytes of a file, by which it is known again though it has grown."""
        if self.is_stdin:
            return b""
        with Path(self.path).open("rb") as file:
            return file.read(4096)

    def format(self) -> Format:
        """
        Return the format, as the first rows tell.

        Raises:
            ConfigurationError: If none of them looks like a row of a known one.
        """
        if self.is_stdin:
            raise ConfigurationError(f"say what comes: --from {', '.join(FORMATS)}")
        with contextlib.closing(self.rows()) as rows:
            for row in islice(rows, _ROWS_TO_SEE):
                for form, is_of in _MARKS:
                    if row.fields is not None and is_of(row.fields):
                        return form
        raise ConfigurationError(
            f"{self.path!r} has no row that is known in its first {_ROWS_TO_SEE}: "
            f"say what it is with --from {', '.join(FORMATS)}"
        )

    def rows(self, *, after: int = 0, offset: int = 0) -> Generator[Row, None, None]:
        """
        Yield the rows.

        Args:
            after: How many rows were read before.
            offset: Where the next begins, as the last one's `end` told.

        Raises:
            ConfigurationError: If it is a document that cannot be read at all.
        """
        with self._opened() as file:
            first = _first_byte(file)
            if self.name.removesuffix(".gz").endswith(".csv") or first not in (b"{", b"[", b""):
                yield from _records(file, after)
            elif first == b"[" or _is_document(file):
                yield from _elements(file, after, self.path)
            else:
                yield from _lines(file, after, offset)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[io.BufferedReader]:
        """Open the source, decompressed; stdin stays open."""
        with contextlib.ExitStack() as stack:
            raw: Any = sys.stdin.buffer
            if not self.is_stdin:
                raw = stack.enter_context(Path(self.path).open("rb", buffering=0))
            file = io.BufferedReader(raw, _SEEN_BYTES)
            if file.peek(2)[:2] == _GZIP:
                unzipped: Any = stack.enter_context(gzip.GzipFile(fileobj=file))
                file = io.BufferedReader(unzipped, _SEEN_BYTES)
            try:
                yield file
            finally:
                if self.is_stdin:
                    file.detach()


def _first_byte(file: io.BufferedReader) -> bytes:
    head = file.peek(64)[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    return head[:1]


def _is_document(file: io.BufferedReader) -> bool:
    """Return whether this is one object over many lines, and not a line for each."""
    line, separator, _ = file.peek(_SEEN_BYTES).partition(b"\n")
    if not separator:
        return _LIST_FIRST.match(line) is not None
    try:
        msgspec.json.decode(line)
    except msgspec.DecodeError:
        return line.strip() in (b"{", b"")
    return False


def _lines(file: io.BufferedReader, after: int, offset: int) -> Iterator[Row]:
    if offset:
        file.seek(offset)
    number, end = after, offset
    while line := file.readline(_LONGEST_LINE):
        number += 1
        end += len(line)
        if line.strip():
            fields, fault = _fields(line.removeprefix(b"\xef\xbb\xbf"))
            yield Row(number, line.decode("utf-8", "replace").rstrip("\r\n"), fields, fault, end)


def _elements(file: io.BufferedReader, after: int, path: str) -> Iterator[Row]:
    content = file.read(_LARGEST_DOCUMENT + 1)
    if len(content) > _LARGEST_DOCUMENT:
        raise ConfigurationError(
            f"{path!r} is one document of more than {_LARGEST_DOCUMENT:,} bytes: write a line for "
            "each row instead, as `jq -c '.[]'` does"
        )
    try:
        elements = _list_in(content.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, RecursionError) as error:
        raise ConfigurationError(f"{path!r} is no JSON: {error}") from None
    for number, raw in enumerate(elements, start=1):
        if number > after:
            fields, fault = _fields(bytes(raw))
            yield Row(number, bytes(raw).decode("utf-8", "replace"), fields, fault)


def _list_in(content: bytes) -> list[msgspec.Raw]:
    if content.lstrip()[:1] == b"[":
        return msgspec.json.decode(content, type=list[msgspec.Raw])
    fields = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    # A list of embeddings is one response.
    for name in _LISTS if "usage" not in fields else ():
        if bytes(fields.get(name, b"")).lstrip()[:1] == b"[":
            return msgspec.json.decode(fields[name], type=list[msgspec.Raw])
    return [msgspec.Raw(content)]


def _records(file: io.BufferedReader, after: int) -> Iterator[Row]:
    csv.field_size_limit(_LONGEST_LINE)
    text = io.TextIOWrapper(file, encoding="utf-8-sig", errors="replace", newline="")
    try:
        for number, record in enumerate(csv.DictReader(text), start=1):
            if number > after:
                fields = {k: v for k, v in record.items() if k is not None and v is not None}
                yield Row(number, msgspec.json.encode(fields).decode(), fields)
    except csv.Error as error:
        raise RowError(f"the CSV cannot be read on: {error}") from None
    finally:
        text.detach()


def _fields(content: bytes) -> tuple[dict[str, Any] | None, str]:
    try:
        found = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return None, f"it is no JSON: {error}"
    if not isinstance(found, dict):
        return None, f"it is no object, but {type(found).__name__}"
    return found, ""
