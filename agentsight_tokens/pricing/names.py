"""Finds the entry of the catalog that a model's name means, and says how it matched."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple

from .catalog import Catalog
from .providers import LOCAL, prefixes_of, provider_named
from .rows import Entry
from .spellings import dated_suffix, spellings, undated

__all__ = ["HowMatched", "Match", "resolved"]

HowMatched = Literal["exact", "alias", "dated", "base", "user"]
"""`exact`: the key itself; `alias`: another spelling; `dated`: an undated name's latest
release; `base`: priced as its family or by its maker, because its own price is not known;
`user`: a price of the user's own."""


class Match(NamedTuple):
    """An entry of the catalog and how the name led to it."""

    entry: Entry
    how: HowMatched


# These sell their own models, so that another seller's price is at least near theirs.
_MAKERS: Final = (
    "openai",
    "anthropic",
    "google",
    "mistral",
    "cohere",
    "xai",
    "deepseek",
    "moonshot",
    "zai",
    "minimax",
    "perplexity",
    "voyage",
)
_SUBSCRIPTIONS: Final = ("chatgpt", "github_copilot", "microsoft_365_copilot")
_GATEWAY: Final = re.compile(r"^(?:gateway|litellm_proxy|litellm)/")
_FINE_TUNED: Final = re.compile(r"^ft:(?P<base>[^:]+)")
_GEO: Final = re.compile(r"^(?:us-gov|us|eu|apac|global|regional|au|jp|ca|in|sa|uk)\.")
_LOCAL_KEY: Final = "local/*"


def resolved(
    catalog: Catalog, model: str, *, provider: str | None = None, region: str | None = None
) -> Match | None:
    """Return the entry that prices a model; None where nothing is known for certain."""
    name = _GATEWAY.sub("", model.strip())
    seller = provider_named(catalog, provider) if provider else None
    if seller is None:
        whole = catalog.find(name)
        if whole is not None:
            return Match(whole, "exact" if whole.key == name else "alias")
    named, rest = _named_seller(catalog, name)
    if named is not None and (seller is None or seller == named):
        seller, name = named, rest
        named, rest = _named_seller(catalog, name)
    if seller in LOCAL:
        return _local(catalog, seller, name)
    if seller is None:
        return _in(catalog, ("",), name) or _by_maker(catalog, _MAKERS, name)
    match = _in(catalog, prefixes_of(seller, region), name)
    if match is None and seller not in _SUBSCRIPTIONS:
        # Such as a gateway's `anthropic/claude-...`: near what the maker itself takes.
        makers = _MAKERS if named is None else (named,)
        match = _by_maker(catalog, makers, name if named is None else rest)
        if match is not None:
            match = Match(match.entry, "base")
    return match


def _named_seller(catalog: Catalog, name: str) -> tuple[str | None, str]:
    """Split `provider:model` and `provider/model` where the provider is known."""
    for mark in (":", "/"):
        beginning, found, rest = name.partition(mark)
        if found and rest:
            seller = provider_named(catalog, beginning)
            if seller is not None:
                return seller, rest
    return None, name


def _local(catalog: Catalog, seller: str, name: str) -> Match | None:
    entry = catalog.find(f"{seller}/{name}")
    if entry is not None:
        return Match(entry, "exact")
    if name.endswith("cloud"):  # ollama serves these on its own machines, for money
        return None
    entry = catalog.find(_LOCAL_KEY)
    return None if entry is None else Match(entry, "alias")


def _by_maker(catalog: Catalog, makers: Iterable[str], name: str) -> Match | None:
    """Return the price that the model's own maker takes."""
    for maker in makers:
        if maker in _MAKERS:
            match = _in(catalog, prefixes_of(maker), name)
            if match is not None:
                return match
    return None


def _in(catalog: Catalog, prefixes: tuple[str, ...], name: str) -> Match | None:
    """Return the match of a name among the keys that begin in these ways."""
    tuned = _FINE_TUNED.match(name)
    if tuned is not None:
        return _fine_tuned(catalog, f"ft:{tuned['base']}")
    for prefix in prefixes:
        entry = catalog.find(prefix + name)
        if entry is not None:
            return Match(entry, "exact" if entry.key == prefix + name else "alias")
    ways = tuple(spellings(name))
    return (
        _any(catalog, prefixes, ways[1:], "alias")
        or _any_latest(catalog, prefixes, ways)
        or _any(catalog, prefixes, _families(ways), "base")
        or _without_geography(catalog, prefixes, name)
    )


def _any(
    catalog: Catalog, prefixes: tuple[str, ...], names: Iterable[str], how: HowMatched
) -> Match | None:
    for name in names:
        entry = _first(catalog, prefixes, name)
        if entry is None and how == "base":
            entry = _latest(catalog, prefixes, name)
        if entry is not None:
            return Match(entry, how)
    return None


def _any_latest(catalog: Catalog, prefixes: tuple[str, ...], names: Iterable[str]) -> Match | None:
    for name in names:
        family = name.removesuffix("-latest")
        entry = None if family == name else _first(catalog, prefixes, family)
        entry = entry or _latest(catalog, prefixes, family)
        if entry is not None:
            return Match(entry, "dated")
    return None


def _families(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        yield from undated(name)


def _fine_tuned(catalog: Catalog, name: str) -> Match | None:
    """Return the price of a tuned model; never the cheaper one of the model it came from."""
    entry = catalog.find(name)
    if entry is not None:
        return Match(entry, "alias")
    entry = _latest(catalog, ("",), name)
    if entry is not None:
        return Match(entry, "dated")
    for family in undated(name):
        entry = catalog.find(family)
        if entry is not None:
            return Match(entry, "base")
    return None


def _without_geography(catalog: Catalog, prefixes: tuple[str, ...], name: str) -> Match | None:
    """Return the price at large of a model that is asked for in one part of the world."""
    plain = _GEO.sub("", name)
    if plain == name:
        return None
    ways = tuple(spellings(plain))
    found = _any(catalog, prefixes, ways, "base")
    return found or _any(catalog, prefixes, _families(ways), "base")


def _first(catalog: Catalog, prefixes: tuple[str, ...], name: str) -> Entry | None:
    for prefix in prefixes:
        entry = catalog.find(prefix + name)
        if entry is not None:
            return entry
    return None


def _latest(catalog: Catalog, prefixes: tuple[str, ...], name: str) -> Entry | None:
    """Return the latest release of an undated name."""
    for prefix in prefixes:
        whole = f"{prefix}{name}"
        entry = catalog.find(f"{whole}-latest") or catalog.find(f"{whole}-preview")
        if entry is not None:
            return entry
        dated = [
            (suffix, key)
            for key in catalog.starting_with(whole)
            if (suffix := dated_suffix(key, whole)) is not None
        ]
        if dated:
            return catalog.find(max(dated)[1])
    return None
