"""Files of prices: the user's own, a LiteLLM cost map, or what an update wrote."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from agentsight_tokens.errors import ConfigurationError

from .litellm_overlay import LiteLLMOverlay
from .model_price import dated_prices_of
from .rows import Entry, Row, Source

__all__ = ["PriceFile", "UpdateFile", "latest_update", "read_price_file"]


class UpdateFile(msgspec.Struct, forbid_unknown_fields=True):
    """What `prices update` writes: a cost map, and where it came from."""

    fetched_at: datetime
    origin: str
    """The address, path or package version that it was taken from."""
    sha256: str
    """Of the map as it was taken."""
    litellm_cost_map: msgspec.Raw


class _OwnPrices(msgspec.Struct, forbid_unknown_fields=True):
    prices: dict[str, Any] = {}
    deployments: dict[str, str] = {}


class PriceFile:
    """
    Prices of a file, as an overlay of the catalog.

    Args:
        source: Whose prices they are, and their day.
        prices: The user's own by model, as `CostEstimator` takes them.
        deployments: Names of the user's own and the models behind them.
        cost_map: A LiteLLM cost map.
    """

    def __init__(
        self,
        source: Source,
        *,
        prices: dict[str, Any] | None = None,
        deployments: dict[str, str] | None = None,
        cost_map: LiteLLMOverlay | None = None,
    ) -> None:
        self.source = source
        self.deployments = deployments or {}
        self._prices = {
            name.lower(): (name, dated_prices_of(rates)) for name, rates in (prices or {}).items()
        }
        self._cost_map = cost_map

    def find(self, name: str, source: int) -> Entry | None:
        """Return the entry of a lower-case name, with rows of this source."""
        if self._cost_map is not None:
            return self._cost_map.find(name, source)
        found = self._prices.get(name)
        if found is None:
            return None
        rows = tuple(
            Row(first=source, last=source, usd=price.rates(), since=price.since or "")
            for price in found[1]
        )
        return Entry(key=found[0], rows=rows, provider="user")

    def starting_with(self, prefix: str) -> list[str]:
        """Return the lower-case names that begin so."""
        return [name for name in self if name.startswith(prefix)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._prices if self._cost_map is None else self._cost_map)


def latest_update(directory: str | os.PathLike[str]) -> Path | None:
    """Return the newest file that `prices update` wrote into a directory; None without one."""
    return max(Path(directory).glob("prices-*.json"), default=None)


def read_price_file(path: str | os.PathLike[str]) -> PriceFile:
    """
    Return the prices of a file, or of the newest update in a directory.

    A file of your own is `{"prices": {"my-model": {"input": 2, "output": 6}}}` with
    `ModelPrice`'s fields, a bare rate or a list of dated ones, and may name `deployments`.

    Raises:
        ConfigurationError: If it cannot be read.
    """
    file = Path(path)
    if file.is_dir():
        found = latest_update(file)
        if found is None:
            raise ConfigurationError(f"{str(path)!r} holds no prices-<day>.json")
        file = found
    try:
        return _read(file)
    except (OSError, msgspec.MsgspecError, ConfigurationError) as error:
        raise ConfigurationError(f"the prices file {str(file)!r} cannot be read: {error}") from None


def _read(file: Path) -> PriceFile:
    data = file.read_bytes()
    keys = msgspec.json.decode(data, type=dict[str, msgspec.Raw]).keys()
    if "litellm_cost_map" in keys:
        update = msgspec.json.decode(data, type=UpdateFile)
        source = Source(update.origin, update.fetched_at.date().isoformat())
        return PriceFile(source, cost_map=LiteLLMOverlay(bytes(update.litellm_cost_map), source))
    written = datetime.fromtimestamp(file.stat().st_mtime, timezone.utc).date().isoformat()
    source = Source(file.name, written)
    if keys and keys <= {"prices", "deployments"}:
        own = msgspec.json.decode(data, type=_OwnPrices)
        return PriceFile(source, prices=_exact(own.prices), deployments=own.deployments)
    return PriceFile(source, cost_map=LiteLLMOverlay(data, source))


def _exact(value: Any) -> Any:
    """Return JSON's floats as the decimals that the file shows."""
    if isinstance(value, dict):
        return {name: _exact(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_exact(part) for part in value]
    return Decimal(repr(value)) if isinstance(value, float) else value
