"""Siblings: the smaller models of the same family that a catalog has prices of."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from agentsight_tokens.pricing import CostEstimator
from agentsight_tokens.pricing.names import Match
from agentsight_tokens.pricing.rate_card import RateCard
from agentsight_tokens.pricing.rows import LEAVES

__all__ = ["cheaper_sibling", "current_card"]

_DATED: Final = re.compile(r"[-@](?:\d{4}-\d\d-\d\d|\d{8}|latest|preview)$")
_MINOR: Final = re.compile(r"(?<=\d)[-.]\d$")
_SMALLER: Final = (
    ("opus", ("sonnet", "haiku")),
    ("sonnet", ("haiku",)),
    ("pro", ("flash", "lite")),
    ("flash", ("flash-lite",)),
    ("large", ("medium", "small")),
    ("medium", ("small",)),
    ("mini", ("nano",)),
    ("premier", ("pro", "lite")),
)
"""A word of a model's name, and what takes its place in the name of a smaller one."""
_SIZES: Final = ("mini", "nano", "lite", "flash", "small", "haiku", "sonnet", "opus", "pro")
_CERTAIN: Final = frozenset({"exact", "alias", "dated", "user"})
_INPUT: Final = LEAVES.index("input")
_OUTPUT: Final = LEAVES.index("output")


def cheaper_sibling(
    model: str, provider: str | None, estimator: CostEstimator, at: datetime
) -> tuple[str, RateCard] | None:
    """
    Return the dearest model of the same family that is cheaper, and its rates now.

    It is found by its name (`-mini`, `sonnet` for `opus`, ...) and taken only if the catalog has
    its own price, of the same seller, with both the input and the output cheaper.
    """
    own = current_card(model, provider, estimator, at)
    if own is None:
        return None
    family = _DATED.sub("", model)
    for name in (*_names(family), *_names(_MINOR.sub("", family))):
        match = estimator.match(name, provider=provider)
        if match is None or not _is_meant(match, name, at):
            continue
        card = current_card(name, provider, estimator, at)
        if card is not None and _is_cheaper(card, own):
            return name, card
    return None


def current_card(
    model: str, provider: str | None, estimator: CostEstimator, at: datetime
) -> RateCard | None:
    """Return the standard rates of a model at a time; None where it has none."""
    line = estimator.line(model, provider=provider)
    return None if line is None else line.card_at(at)


def _is_meant(match: Match, name: str, at: datetime) -> bool:
    entry = match.entry
    is_offered = entry.retires is None or entry.retires > f"{at:%Y-%m-%d}"
    return match.how in _CERTAIN and name.lower() in entry.key.lower() and is_offered


def _names(family: str) -> Iterator[str]:
    for word, smaller in _SMALLER:
        if re.search(rf"(?<![a-z]){word}(?![a-z])", family):
            for other in smaller:
                yield re.sub(rf"(?<![a-z]){word}(?![a-z])", other, family)
    if not any(re.search(rf"(?<![a-z]){size}(?![a-z])", family) for size in _SIZES):
        yield f"{family}-mini"
        yield f"{family}-lite"


def _is_cheaper(card: RateCard, own: RateCard) -> bool:
    for leaf in (_INPUT, _OUTPUT):
        rate, than = card.bands[0].rates[leaf], own.bands[0].rates[leaf]
        if rate is None or than is None or rate * own.scale >= than * card.scale:
            return False
    return True
