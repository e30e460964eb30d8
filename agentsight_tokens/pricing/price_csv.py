"""Prices from a spreadsheet."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any, Final

import msgspec

from agentsight_tokens.errors import ConfigurationError

from .model_price import dated_prices_of

__all__ = ["COLUMNS", "import_csv", "prices_of_csv"]

COLUMNS: Final = (
    "model",
    "provider",
    "input",
    "output",
    "cache_read",
    "cache_write",
    "per",
    "currency",
    "usd_per_unit",
    "since",
)
"""What a sheet's header may name; `model`, `input` and `output` must be there."""
_NEEDED: Final = ("model", "input", "output")


def prices_of_csv(path: str | os.PathLike[str]) -> dict[str, list[dict[str, Any]]]:
    """
    Return the prices of a CSV file by model, as `CostEstimator` takes them.

    A model may have several lines with different first days. Empty cells are not given.

    Raises:
        ConfigurationError: If the file cannot be read; the message names the line.
    """
    file = Path(path)
    try:
        with file.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.DictReader(lines)
            header = tuple(name.strip().lower() for name in reader.fieldnames or ())
            reader.fieldnames = header
            _check_header(file, header)
            prices: dict[str, list[dict[str, Any]]] = {}
            for cells in reader:
                _add(prices, cells, f"{file.name}:{reader.line_num}")
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigurationError(f"{str(file)!r} cannot be read: {error}") from None
    return prices


def import_csv(path: str | os.PathLike[str], target: str | os.PathLike[str]) -> int:
    """
    Write the prices of a CSV file into a prices file; return the number of models.

    A prices file that is there keeps its other models and its deployments.
    """
    prices = prices_of_csv(path)
    file = Path(target)
    content: dict[str, Any] = {}
    if file.exists():
        content = msgspec.json.decode(file.read_bytes(), type=dict[str, Any])
    content["prices"] = {**content.get("prices", {}), **prices}
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n")
    partial.replace(file)
    return len(prices)


def _check_header(file: Path, header: tuple[str, ...]) -> None:
    unknown = [name for name in header if name not in COLUMNS]
    missing = [name for name in _NEEDED if name not in header]
    if unknown or missing:
        raise ConfigurationError(
            f"the header of {str(file)!r} has {unknown or 'nothing'} unknown and lacks "
            f"{missing or 'nothing'}; the columns are {', '.join(COLUMNS)}"
        )


def _add(prices: dict[str, list[dict[str, Any]]], cells: dict[str, Any], place: str) -> None:
    given = {name: str(text).strip() for name, text in cells.items() if name and text}
    price: dict[str, Any] = {name: text for name, text in given.items() if text}
    if not price:
        return
    provider, model = price.pop("provider", None), price.pop("model", None)
    try:
        if model is None:
            raise ConfigurationError("it names no model")
        if "per" in price:
            price["per"] = int(price["per"].replace(",", "").replace("_", ""))
        dated_prices_of([*prices.get(f"{provider}/{model}" if provider else model, []), price])
    except (ConfigurationError, ValueError) as error:
        raise ConfigurationError(f"{place}: {error}") from None
    prices.setdefault(f"{provider}/{model}" if provider else model, []).append(price)
