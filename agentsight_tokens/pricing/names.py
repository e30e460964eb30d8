"""Finds the key of the catalog that a model's name means, and says how it matched."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from .catalog import Catalog

__all__ = ["HowMatched", "Match", "resolved"]

HowMatched = Literal["exact", "alias", "dated", "base"]
"""`exact`: the key itself; `alias`: another spelling; `dated`: an undated name's latest
release; `base`: a dated name whose date is unknown, priced as its family."""


class Match(NamedTuple):
    """A key of the catalog and how the name led to it."""

    key: str
    how: HowMatched


_DATE: Final = re.compile(r"[-@](?:\d{8}|\d{4}-\d{2}-\d{2})$")
_FINE_TUNED: Final = re.compile(r"ft:(?P<base>[^:]+)(?::.*)?")
_BASE_NAMES: Final = re.compile(r"-latest$")


def resolved(
    catalog: Catalog, model: str, *, provider: str | None = None, region: str | None = None
) -> Match | None:
    """Return the key that prices a model; None where nothing certain is known."""
    for name, how in _candidates(catalog, model, provider, region):
        key = catalog.key_of(name)
        if key is not None:
            return Match(key, "exact" if key == model else how)
    return None


def _candidates(
    catalog: Catalog, model: str, provider: str | None, region: str | None
) -> Iterator[tuple[str, HowMatched]]:
    if provider and region:
        yield f"{provider}/{region}/{model}", "alias"
    if provider:
        yield f"{provider}/{model}", "alias"
    yield model, "exact"
    bare = model.partition("/")[2]
    for name in (model, *([bare] if bare else [])):
        yield name, "alias"
        yield f"{name}-latest", "dated"
        newest = _newest_dated(catalog, name)
        if newest:
            yield newest, "dated"
        undated = _BASE_NAMES.sub("", name)
        if undated != name:
            yield undated, "alias"
            newest = _newest_dated(catalog, undated)
            if newest:
                yield newest, "dated"
        base = _DATE.sub("", name)
        if base != name:
            yield base, "base"


def _newest_dated(catalog: Catalog, name: str) -> str | None:
    """Return the newest key that is the name and a date."""
    prefix = name.lower()
    dated = [
        key
        for key in catalog
        if key.lower().startswith(prefix) and _DATE.fullmatch(key[len(prefix) :])
    ]
    return max(dated, default=None)
