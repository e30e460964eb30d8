"""
Compile the price snapshot of the wheel from LiteLLM cost maps of several releases.

    python scripts/compile_prices.py MAPS_DIRECTORY

The directory holds one `<version>@<YYYY-MM-DD>.json` for each release: the cost map of its
wheel and the day of its upload. Rows that a later map dropped or changed stay in the
snapshot, each with the sources that first and last said so.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from agentsight_tokens.pricing.litellm_map import RESERVED_KEYS, entry_of_litellm
from agentsight_tokens.pricing.rows import Entry, Row, Source

TARGET = Path(__file__).parents[1] / "agentsight_tokens" / "pricing" / "data" / "prices.json"


def main(arguments: list[str] | None = None) -> int:
    """Write the snapshot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("maps", type=Path)
    parser.add_argument("--target", type=Path, default=TARGET)
    options = parser.parse_args(arguments)

    files = sorted(options.maps.glob("*@*.json"), key=lambda path: path.stem.split("@")[1])
    sources = [Source(f"litellm-{version}", day) for version, day in map(_label, files)]
    entries: dict[str, Entry] = {}
    for index, file in enumerate(files):
        fields_of = json.loads(file.read_bytes(), parse_float=Decimal)
        _add_map(entries, fields_of, index)
    options.target.write_bytes(_encoded(sources, entries))
    rows = sum(len(entry.rows) for entry in entries.values())
    print(f"{len(entries)} models, {rows} rows, {options.target.stat().st_size:,} bytes")  # noqa: T201
    return 0


def _label(file: Path) -> tuple[str, str]:
    version, _, day = file.stem.partition("@")
    return version, day


def _add_map(entries: dict[str, Entry], fields_of: dict[str, Any], source: int) -> None:
    for key, fields in fields_of.items():
        if key in RESERVED_KEYS:
            continue
        entry = entry_of_litellm(key, fields, source)
        if entry is None:
            continue
        known = entries.get(key)
        rows = known.rows if known else ()
        entries[key] = msgspec.structs.replace(entry, rows=_with_row(rows, entry.rows[0]))


def _with_row(rows: tuple[Row, ...], row: Row) -> tuple[Row, ...]:
    """Append a row, or extend the last one where the new one only knows more."""
    if rows and _says_no_less(row, rows[-1]):
        return (*rows[:-1], msgspec.structs.replace(row, first=rows[-1].first))
    return (*rows, row)


def _says_no_less(row: Row, older: Row) -> bool:
    return (
        older.usd.items() <= row.usd.items()
        and older.factor.items() <= row.factor.items()
        and older.search_usd in (None, row.search_usd)
        and older.call_usd == row.call_usd
        and older.off_peak in (None, row.off_peak)
    )


def _encoded(sources: Iterable[Source], entries: dict[str, Entry]) -> bytes:
    """Return the snapshot as JSON, one model a line, so that a change reads well."""
    encode = msgspec.json.Encoder(decimal_format="number").encode
    source_list = list(sources)
    head = (
        b'{"version":'
        + encode(source_list[-1].day)
        + b',\n"sources":'
        + encode(source_list)
        + b',\n"models":{\n'
    )
    lines = [encode(key) + b":" + encode(entries[key]) for key in sorted(entries)]
    return head + b",\n".join(lines) + b"\n}}\n"


if __name__ == "__main__":
    sys.exit(main())
