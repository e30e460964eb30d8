"""Forms: the calls of a pack by a few dimensions, and which of them the packs of a time have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from .pack import COST, PACKED_DIMENSIONS, QUARTER, RANKING
from .rollup import DAY, HOURLY_KEY, SUM_COLUMNS
from .unit import Unit

__all__ = ["MAKINGS", "Form", "Making"]


class Form(NamedTuple):
    """The calls of a pack by some dimensions only."""

    name: str
    dimensions: tuple[str, ...]
    has_quarters: bool = False
    sums: tuple[str, ...] = SUM_COLUMNS
    """That it has."""
    gain: int = 4
    """How many times fewer rows than the pack's own are worth it."""


class Making(NamedTuple):
    """What the packs of a unit of time are made of."""

    forms: tuple[Form, ...]
    dimensions: tuple[str, ...] = PACKED_DIMENSIONS
    """By which its calls are told apart."""
    step: int = QUARTER
    """In microseconds: the calls of so long a time are one row if they are alike."""
    has_parts: bool = True
    """Whether rows are stored beside the forms."""


_OF_MANY: Final = {"conversation_id", "session_id", "user_id", "org_id", "tags"}
_OF_FEW: Final = tuple(name for name in PACKED_DIMENSIONS if name not in _OF_MANY)
_OF_SESSIONS: Final = ("session_id", "org_id", "environment")

_OF_DAYS: Final = Making(
    (
        Form("lean", _OF_FEW),
        Form("orgs", ("org_id", "model", "provider", "environment")),
        Form("ranked users", ("user_id", "org_id", "environment"), sums=RANKING, gain=2),
        Form("users", ("user_id", "environment"), gain=2),
        Form("timed", HOURLY_KEY[2:], has_quarters=True),
        Form("costs", _OF_SESSIONS, sums=COST, gain=1),
        Form("ranked", _OF_SESSIONS, sums=RANKING, gain=1),
    )
)
"""
Those of few values, what an organisation's overview shows, what is drawn of users, the users of an
environment, those of the tables of sums by the hour, and what ranks all sessions, or those of an
organisation or an environment.

Mostly their costs do; where too many cost the same, the rest does.
"""

_OF_MONTHS: Final = Making(
    tuple(Form(f"users by {name}", ("user_id", name), gain=2) for name in ("org_id", *_OF_FEW)),
    dimensions=("user_id", "org_id", *_OF_FEW),
    step=DAY,
    has_parts=False,
)
"""
Users by one other dimension: of a day these are nearly as many rows as all dimensions make.

By all of them together a month would have as many rows as its days.
"""

MAKINGS: Final[Mapping[Unit, Making]] = {"month": _OF_MONTHS, "day": _OF_DAYS, "hour": _OF_DAYS}
