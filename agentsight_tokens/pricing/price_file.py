"""Files of prices: the user's own, a LiteLLM cost map, or what an update wrote."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec

from agentsight_tokens.errors import ConfigurationError

from .litellm_overlay import LiteLLMOverlay
from .model_price import dated_prices_of
from .rows import Entry, Row, Source

__all__ = ["PriceFile", "latest_update", "read_price_file"]


_UPDATE: Final = re.compile(r"prices-(\d{4}-\d{2}-\d{2})\.json")


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
    files = (file for file in Path(directory).glob("prices-*.json") if _UPDATE.fullmatch(file.name))
    return max(files, default=None)


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
    _check_sum(file, data)
    models = msgspec.json.decode(data, type=dict[str, msgspec.Raw])
    named = _UPDATE.fullmatch(file.name)
    if named:
        day = named[1]
    else:
        day = datetime.fromtimestamp(file.stat().st_mtime, timezone.utc).date().isoformat()
    if models.keys() & {"prices", "deployments"}:
        own = msgspec.json.decode(data, type=_OwnPrices)
        # Without a day, since a few prices of one's own make no table newer.
        source = Source(file.name, "")
        return PriceFile(source, prices=_exact(own.prices), deployments=own.deployments)
    source = Source(file.name, day)
    cost_map = LiteLLMOverlay(models, source)
    if not any(cost_map.find(name, 0) for name in cost_map):
        raise ConfigurationError("it prices no model")
    return PriceFile(source, cost_map=cost_map)


def _check_sum(file: Path, data: bytes) -> None:
    """Compare a file with the sum that was written beside it, if there is one."""
    beside = file.with_name(f"{file.name}.sha256")
    if beside.exists():
        expected = beside.read_text().split()[0]
        found = hashlib.sha256(data).hexdigest()
        if found != expected:
            raise ConfigurationError(
                f"its sha256 is {found}, not {expected} as {beside.name!r} says"
            )


def _exact(value: Any) -> Any:
    """Return JSON's floats as the decimals that the file shows."""
    if isinstance(value, dict):
        return {name: _exact(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_exact(part) for part in value]
    return Decimal(repr(value)) if isinstance(value, float) else value
