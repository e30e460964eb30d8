"""
Compile the price snapshot of the wheel.

    python scripts/compile_prices.py MAPS_DIRECTORY --genai-day YYYY-MM-DD

The directory holds one `<version>@<YYYY-MM-DD>.json` for each LiteLLM release: the cost map
of its wheel and the day of its upload. Rows that a later map dropped or changed stay in the
snapshot, each with the sources that first and last said so. genai-prices, which must be
installed, adds the models that LiteLLM lacks, the days on which prices changed, and prices by
the hour. `price_corrections.json` has the last word; each of its rows names its page.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import msgspec
from genai_rows import genai_entries, names_of

from agentsight_tokens.pricing.line_table import encoded_lines
from agentsight_tokens.pricing.litellm_map import RESERVED_KEYS, entry_of_litellm
from agentsight_tokens.pricing.rows import Entry, Header, Row, Source

ROOT = Path(__file__).parents[1]
TARGET = ROOT / "agentsight_tokens" / "pricing" / "data" / "prices.txt"
CORRECTIONS = Path(__file__).with_name("price_corrections.json")


class History(msgspec.Struct, forbid_unknown_fields=True):
    """What a model cost before, and from when on its last row holds."""

    rows: tuple[Row, ...]
    last_since: str


class Corrections(msgspec.Struct, forbid_unknown_fields=True):
    """What no source says, or says wrongly."""

    written: str
    """The day on which the pages were read."""
    pages: dict[str, str]
    """Where it is said, by the beginning of the names."""
    placeholders: tuple[str, ...]
    """Names, or beginnings of names ending in `*`, whose price of zero is none."""
    aliases: dict[str, str]
    """Names and the keys that they stand for."""
    entries: tuple[Entry, ...]
    """Whole entries; their rows' sources are set here."""
    history: dict[str, History]
    """By key: the rows that came before the last one."""
    drop: dict[str, tuple[str, ...]]
    """By key: rows that were never right, by the day of the source that said so first."""
    rates: dict[str, dict[str, Decimal]]
    """By key: rates that hold in all its rows."""


def main(arguments: list[str] | None = None) -> int:
    """Write the snapshot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("maps", type=Path)
    parser.add_argument("--genai-day", required=True)
    parser.add_argument("--target", type=Path, default=TARGET)
    options = parser.parse_args(arguments)

    corrections = msgspec.json.decode(CORRECTIONS.read_bytes(), type=Corrections)
    files = sorted(options.maps.glob("*@*.json"), key=lambda path: path.stem.split("@")[1])
    sources = [
        Source(f"litellm-{file.stem.split('@')[0]}", file.stem.split("@")[1]) for file in files
    ]
    sources.append(Source(f"genai-prices-{version('genai-prices')}", options.genai_day))
    sources.append(Source("corrections-unverified", corrections.written))
    book = Book(sources)
    for index, file in enumerate(files):
        book.add_map(file, index)
    book.remove_placeholders(corrections.placeholders)
    for provider, entry, ids in genai_entries(len(files)):
        book.add_genai(provider, entry, ids)
    book.correct(corrections, len(files) + 1)
    header = Header(max(source.day for source in sources), tuple(sources))
    options.target.write_bytes(encoded_lines(header, book.entries.values()))
    print(book.summary(), f"{options.target.stat().st_size:,} bytes", sep=", ")  # noqa: T201
    return 0


class Book:
    """The entries so far, by lower-case name."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.entries: dict[str, Entry] = {}
        self._days = [source.day for source in sources]

    def add_map(self, file: Path, source: int) -> None:
        """Add the rows of a LiteLLM map, newer than those before it."""
        for key, fields in json.loads(file.read_bytes(), parse_float=Decimal).items():
            entry = None if key in RESERVED_KEYS else entry_of_litellm(key, fields, source)
            if entry is None:
                continue
            known = self.entries.get(key.lower())
            rows = _with_row(known.rows if known else (), entry.rows[0])
            self.entries[key.lower()] = msgspec.structs.replace(entry, rows=rows)

    def remove_placeholders(self, names: Iterable[str]) -> None:
        """Remove rows of zeros that stand for a price that nobody knows."""
        for pattern in names:
            beginning, star, ending = pattern.partition("*")
            for name in list(self.entries):
                matches = name.startswith(beginning) and name.endswith(ending)
                if matches if star else name == pattern:
                    self._drop_zeros(name)

    def _drop_zeros(self, name: str) -> None:
        rows = tuple(row for row in self.entries[name].rows if any(row.usd.values()))
        if rows:
            self.entries[name] = msgspec.structs.replace(self.entries[name], rows=rows)
        else:
            del self.entries[name]

    def add_genai(self, provider: str, entry: Entry, ids: tuple[str, ...]) -> None:
        """Add what genai-prices knows better: days, hours, and models that LiteLLM lacks."""
        models = tuple(dict.fromkeys((entry.key, *ids)))
        known = [
            name
            for model in models
            for name in names_of(provider, model)
            if name.lower() in self.entries and self.entries[name.lower()].alias is None
        ]
        for name in known:
            self._add_days(name.lower(), entry, is_newer=provider == "openrouter")
        main = next(iter(known), None)
        for name in (names_of(provider, model)[0] for model in (*models[1:], models[0])):
            if name.lower() in self.entries:
                continue
            if main is None or (main in known and not self._costs_as(main, entry)):
                main = name
                self.entries[name.lower()] = msgspec.structs.replace(entry, key=name)
            else:
                self.entries[name.lower()] = Entry(key=name, alias=main)

    def _add_days(self, name: str, entry: Entry, *, is_newer: bool) -> None:
        known = self.entries[name]
        rows = _dated(known.rows, _thresholds_as(known, entry.rows), self._days)
        self._set_rows(name, rows)
        if is_newer:  # LiteLLM no longer lists this provider
            self._follow(name, entry.rows[-1])

    def _costs_as(self, name: str, entry: Entry) -> bool:
        rows = self.entries[name.lower()].rows
        return bool(rows) and _base_price(rows[-1]) == _base_price(entry.rows[-1])

    def _follow(self, name: str, newer: Row) -> None:
        """Let a row of genai-prices follow the rows that LiteLLM last had."""
        rows = self.entries[name].rows
        if rows and _base_price(rows[-1]) != _base_price(newer):
            day = newer.since or self._days[newer.first]
            if day > self._days[rows[-1].last]:
                self._set_rows(name, (*rows, msgspec.structs.replace(newer, since=day)))

    def correct(self, corrections: Corrections, source: int) -> None:
        """Apply the corrections."""
        for entry in corrections.entries:
            rows = _of_source(entry.rows, source)
            self.entries[entry.key.lower()] = msgspec.structs.replace(entry, rows=rows)
        for name, key in corrections.aliases.items():
            if key.lower() not in self.entries:
                raise SystemExit(f"{name!r} is an alias of {key!r}, which the catalog lacks")
            self.entries[name.lower()] = Entry(key=name, alias=key)
        for name, days in corrections.drop.items():
            rows = [row for row in self.entries[name].rows if self._days[row.first] not in days]
            self._set_rows(name, rows)
        for name, history in corrections.history.items():
            last = msgspec.structs.replace(self.entries[name].rows[-1], since=history.last_since)
            self._set_rows(name, (*_of_source(history.rows, source), last))
        for name, rates in corrections.rates.items():
            rows = [
                msgspec.structs.replace(row, usd={**row.usd, **rates})
                for row in self.entries[name].rows
            ]
            self._set_rows(name, rows)

    def _set_rows(self, name: str, rows: Iterable[Row]) -> None:
        self.entries[name] = msgspec.structs.replace(self.entries[name], rows=tuple(rows))

    def summary(self) -> str:
        """Say how much there is."""
        aliases = sum(entry.alias is not None for entry in self.entries.values())
        rows = sum(len(entry.rows) for entry in self.entries.values())
        return f"{len(self.entries) - aliases} models, {aliases} aliases, {rows} rows"


def _of_source(rows: Iterable[Row], source: int) -> tuple[Row, ...]:
    return tuple(msgspec.structs.replace(row, first=source, last=source) for row in rows)


def _with_row(rows: tuple[Row, ...], row: Row) -> tuple[Row, ...]:
    """Append a row, or extend the last one where the new one only knows more."""
    if rows and _knows_no_less(row, rows[-1]):
        return (*rows[:-1], msgspec.structs.replace(row, first=rows[-1].first))
    return (*rows, row)


def _knows_no_less(row: Row, older: Row) -> bool:
    return (
        older.usd.items() <= row.usd.items()
        and older.factor.items() <= row.factor.items()
        and older.search_usd in (None, row.search_usd)
        and older.call_usd == row.call_usd
        and older.off_peak in (None, row.off_peak)
    )


def _thresholds_as(entry: Entry, rows: Iterable[Row]) -> tuple[Row, ...]:
    """Return rows with the thresholds of an entry that counts the threshold itself as above."""
    if not entry.inclusive_threshold:
        return tuple(rows)
    return tuple(
        msgspec.structs.replace(
            row, usd={name.replace(">199999", ">200000"): rate for name, rate in row.usd.items()}
        )
        for row in rows
    )


def _text_price(row: Row) -> frozenset[tuple[str, Decimal]]:
    return frozenset(
        (name, rate)
        for name, rate in row.usd.items()
        if name.startswith(("input", "output")) and "~" not in name
    )


def _dated(
    rows: tuple[Row, ...], genai_rows: tuple[Row, ...], days: Sequence[str]
) -> tuple[Row, ...]:
    """Return LiteLLM's rows with the days and hours that genai-prices knows."""
    rows = tuple(_with_cache_prices(_with_hours(row, genai_rows), genai_rows) for row in rows)
    for before, after in pairwise(genai_rows):
        rows = _with_change(rows, before, after, days)
    return rows


def _with_hours(row: Row, genai_rows: Iterable[Row]) -> Row:
    for other in genai_rows:
        if other.off_peak and not row.off_peak and _text_price(other) == _text_price(row):
            return msgspec.structs.replace(row, off_peak=other.off_peak)
    return row


def _with_cache_prices(row: Row, genai_rows: Iterable[Row]) -> Row:
    """Add the prices of caches that LiteLLM does not state, where the others agree."""
    for other in genai_rows:
        if _base_price(other) != _base_price(row):
            continue
        stated = {_leaf(name) for name in row.usd}
        added = {
            name: rate
            for name, rate in other.usd.items()
            if _leaf(name) in ("cache_read", "cache_write_1h") and _leaf(name) not in stated
        }
        if added:
            return msgspec.structs.replace(row, usd={**row.usd, **added}, also=other.first)
    return row


def _leaf(name: str) -> str:
    return name.partition("~")[0].partition(">")[0].partition("<=")[0]


def _with_change(
    rows: tuple[Row, ...], before: Row, after: Row, days: Sequence[str]
) -> tuple[Row, ...]:
    """Set the day on which one price followed the other; add the price that is missing."""
    since = str(after.since)
    if _text_price(before) == _text_price(after):
        return rows
    for position, row in enumerate(rows):
        if _is_priced_as(row, after, before) and since <= days[row.first]:
            earlier = _until_change(rows[:position], before, after, days)
            if earlier is not None:
                dated = msgspec.structs.replace(row, since=since)
                return (*earlier, dated, *rows[position + 1 :])
    last = rows[-1]
    if _is_priced_as(last, before, after) and since > days[last.last]:
        return (*rows, after)
    return rows


def _until_change(
    rows: tuple[Row, ...], before: Row, after: Row, days: Sequence[str]
) -> tuple[Row, ...] | None:
    """Return the rows before a change; None where it came at another place."""
    if not rows:
        return (msgspec.structs.replace(before, since=""),)
    if not _is_priced_as(rows[-1], before, after):
        return None
    if len(rows) == 1:  # its own first day may be a late one
        return (msgspec.structs.replace(rows[0], since=""),)
    return rows if days[rows[-1].first] < str(after.since) else None


def _is_priced_as(row: Row, this: Row, other: Row) -> bool:
    """Return whether a row has the price of this row of genai-prices and not of the other."""
    if _base_price(this) != _base_price(other):  # thresholds are often known to one side only
        return _base_price(row) == _base_price(this)
    return _text_price(row) == _text_price(this)


def _base_price(row: Row) -> tuple[Decimal | None, Decimal | None]:
    return row.usd.get("input"), row.usd.get("output")


if __name__ == "__main__":
    sys.exit(main())
