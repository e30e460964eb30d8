"""Newer prices: taking a cost map over, and what changes by it."""

from __future__ import annotations

import hashlib
import os
import urllib.request
from collections.abc import Mapping
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from agentsight_tokens.errors import ConfigurationError

from .catalog import Catalog, Overlay, bundled_table
from .installed_map import installed_map_file
from .litellm_overlay import LiteLLMOverlay
from .price_file import latest_update, read_price_file
from .rows import Source

__all__ = ["LITELLM_URL", "PriceChange", "Update", "price_changes", "update_prices"]

LITELLM_URL: Final = (
    "https://raw.githubusercontent.com/BerriAI/litellm/main/model_prices_and_context_window.json"
)
"""Where LiteLLM publishes its map."""

_SMALLEST_SHARE: Final = 0.9
_TIMEOUT_SECONDS: Final = 30.0


class PriceChange(msgspec.Struct, frozen=True):
    """One rate of one model that differs between two catalogs."""

    model: str
    kind: Literal["added", "removed", "changed"]
    rate: str | None = None
    """The rate's name; None where the whole model came or went."""
    before: Decimal | None = None
    """In USD per million tokens; None where there was none."""
    after: Decimal | None = None


class Update(msgspec.Struct, frozen=True):
    """A cost map that was taken over."""

    path: Path
    """The dated file; beside it lies its sum, for `sha256sum -c`."""
    sha256: str
    models: int
    """How many models of the map have a price for tokens."""
    changes: tuple[PriceChange, ...]
    """What differs from the prices until now."""


def update_prices(
    origin: str,
    directory: str | os.PathLike[str],
    *,
    now: datetime | None = None,
    allow_fewer: bool = False,
) -> Update:
    """
    Take a LiteLLM cost map over into `prices-<day>.json` in a directory.

    Args:
        origin: An https address, a file, or `litellm` for the installed package's map.
        directory: Where the file is written; made if it is missing.
        now: The time that names the file.
        allow_fewer: Take over a map that lost a tenth or more of its models.

    Raises:
        ConfigurationError: If the origin cannot be read, is no cost map, or has shrunk.
    """
    data = _taken(origin)
    day = (now or datetime.now(timezone.utc)).date().isoformat()
    try:
        models = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"{origin!r} is no cost map: {error}") from None
    folder = Path(directory)
    table = bundled_table()
    earlier = latest_update(folder) if folder.is_dir() else None
    known: list[Overlay] = [] if earlier is None else [read_price_file(earlier)]
    overlay = LiteLLMOverlay(models, Source("update", day))
    count = _priced(overlay)
    until_now = _priced(known[0]) if known else _of_last_map(table.header.sources)
    if count < _SMALLEST_SHARE * until_now and not allow_fewer:
        raise ConfigurationError(
            f"{origin!r} prices {count} models, the prices until now {until_now}: "
            "a map that shrinks is refused unless you allow it"
        )
    changes = price_changes(Catalog(table, known), Catalog(table, [overlay, *known]))
    path = _written(folder, day, data)
    return Update(path, hashlib.sha256(data).hexdigest(), count, tuple(changes))


def price_changes(before: Catalog, after: Catalog) -> list[PriceChange]:
    """Return the standard rates of now that differ between two catalogs, by model."""
    changes = []
    for name in sorted({*before, *after}):
        old, new = _rates_now(before, name), _rates_now(after, name)
        if old is None or new is None:
            changes.append(PriceChange(name, "added" if old is None else "removed"))
            continue
        changes += [
            PriceChange(name, "changed", rate, old.get(rate), new.get(rate))
            for rate in sorted({*old, *new})
            if old.get(rate) != new.get(rate)
        ]
    return changes


def _rates_now(catalog: Catalog, name: str) -> Mapping[str, Decimal] | None:
    try:
        entry = catalog.decoded(name)
    except KeyError:
        return None
    if entry.alias is not None:
        return {}
    return catalog.row_at(entry, datetime.now(timezone.utc)).usd


def _taken(origin: str) -> bytes:
    try:
        if origin == "litellm":
            return installed_map_file().read_bytes()
        if urlsplit(origin).scheme == "https":
            with urllib.request.urlopen(origin, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310  # https, by the line above
                data: bytes = answer.read()
                return data
        return Path(origin).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{origin!r} cannot be read: {error}") from None


def _priced(overlay: Overlay) -> int:
    return sum(overlay.find(name, 0) is not None for name in overlay)


def _of_last_map(sources: tuple[Source, ...]) -> int:
    """Return how many models of the snapshot its newest cost map priced."""
    last = max(at for at, source in enumerate(sources) if source.name.startswith("litellm-"))
    catalog = Catalog(bundled_table())
    entries = (catalog.decoded(name) for name in catalog)
    return sum(any(row.last == last for row in entry.rows) for entry in entries)


def _written(folder: Path, day: str, data: bytes) -> Path:
    """Write the map and its sum, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"prices-{day}.json"
    beside = path.with_name(f"{path.name}.sha256")
    # The old sum goes first: a file without one is read, one with a wrong sum is not.
    beside.unlink(missing_ok=True)
    for target, content in (
        (path, data),
        (beside, f"{hashlib.sha256(data).hexdigest()}  {path.name}\n".encode()),
    ):
        partial = target.with_name(f".{target.name}.{os.getpid()}")
        partial.write_bytes(content)
        partial.replace(target)
    return path
