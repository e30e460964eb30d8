"""Exports: calls as CSV, JSON lines or Parquet, piece by piece in bounded memory."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final, Literal, get_args

import msgspec

from agentsight_tokens.errors import ConfigurationError
from agentsight_tokens.frames import arrow_table
from agentsight_tokens.rows import CALL_FIELDS, call_row, csv_cell, written
from agentsight_tokens.usage import UsageRecord

__all__ = ["EXPORT_FORMATS", "MEDIA_TYPES", "ExportFormat", "exported"]

ExportFormat = Literal["csv", "jsonl", "parquet"]

EXPORT_FORMATS: Final[tuple[ExportFormat, ...]] = get_args(ExportFormat)

MEDIA_TYPES: Final[dict[ExportFormat, str]] = {
    "csv": "text/csv",
    "jsonl": "application/jsonl",
    "parquet": "application/vnd.apache.parquet",
}

_CALLS_A_PIECE: Final = 1_000
_CALLS_A_ROW_GROUP: Final = 5_000


def exported(calls: Iterable[UsageRecord], export_format: ExportFormat) -> Iterator[bytes]:
    """
    Return a file of calls, piece by piece; of no call, a file without rows.

    Args:
        calls: The calls.
        export_format: csv with a header, jsonl with an object a line, or parquet.

    Raises:
        ConfigurationError: If Parquet is asked for and its library is not installed.
    """
    return _WRITERS[export_format](calls)


def _csv(calls: Iterable[UsageRecord]) -> Iterator[bytes]:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CALL_FIELDS)
    for piece in _pieces(calls, _CALLS_A_PIECE):
        for call in piece:
            writer.writerow([csv_cell(value) for value in written(call_row(call)).values()])
        yield text.getvalue().encode(errors="replace")
        text.seek(0)
        text.truncate()
    yield text.getvalue().encode()


def _jsonl(calls: Iterable[UsageRecord]) -> Iterator[bytes]:
    encoder = msgspec.json.Encoder()
    for piece in _pieces(calls, _CALLS_A_PIECE):
        yield encoder.encode_lines([written(call_row(call)) for call in piece])


def _parquet(calls: Iterable[UsageRecord]) -> Iterator[bytes]:
    try:
        import pyarrow  # an extra
        from pyarrow import parquet
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"Parquet needs {error.name}: pip install 'agentsight-tokens[arrow]'"
        ) from None
    return _parquet_pieces(calls, pyarrow, parquet)


def _parquet_pieces(calls: Iterable[UsageRecord], pyarrow: Any, parquet: Any) -> Iterator[bytes]:
    sink = _Sink()
    schema = arrow_table(CALL_FIELDS, []).schema
    with parquet.ParquetWriter(pyarrow.PythonFile(sink, mode="w"), schema) as writer:
        for piece in _pieces(calls, _CALLS_A_ROW_GROUP):
            writer.write_table(arrow_table(CALL_FIELDS, [call_row(call) for call in piece]))
            yield sink.taken()
    yield sink.taken()


class _Sink(io.RawIOBase):
    """A file that is handed on as it is written."""

    def __init__(self) -> None:
        super().__init__()
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, piece: Any) -> int:
        self._pieces.append(bytes(piece))
        return len(self._pieces[-1])

    def taken(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


def _pieces(calls: Iterable[UsageRecord], length: int) -> Iterator[list[UsageRecord]]:
    rest = iter(calls)
    while piece := list(islice(rest, length)):
        yield piece


_WRITERS: Final[dict[ExportFormat, Callable[[Iterable[UsageRecord]], Iterator[bytes]]]] = {
    "csv": _csv,
    "jsonl": _jsonl,
    "parquet": _parquet,
}
