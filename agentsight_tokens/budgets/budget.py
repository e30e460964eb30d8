"""Budget: how much may be used, in which periods, and what happens at the limit."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import tzinfo
from typing import Final, Literal, NamedTuple

import msgspec
from msgspec.structs import force_setattr

from agentsight_tokens.usage import checked_count

from .amounts import Amount, decimal_usd, pico_usd
from .periods import Period, duration_seconds, zone_named

__all__ = ["SCOPES", "Budget", "BudgetScope", "Limit", "OnLimit", "TokenBudgetConfig"]

BudgetScope = Literal["global", "org", "user", "agent", "feature", "session", "model"]
SCOPES: Final[tuple[BudgetScope, ...]] = (
    "global",
    "org",
    "user",
    "agent",
    "feature",
    "session",
    "model",
)
"""Whose budgets a call meets, in the order in which they are asked."""

OnLimit = Literal["error", "warning"]

_LIMITS: Final[tuple[tuple[Period, str, str], ...]] = (
    ("call", "per_call_token_limit", "per_call_cost_limit"),
    ("session", "session_token_limit", "session_cost_limit"),
    ("hour", "hourly_token_limit", "hourly_cost_limit"),
    ("day", "daily_token_limit", "cost_limit_usd"),
    ("month", "monthly_token_limit", "monthly_cost_limit"),
    ("rolling", "rolling_token_limit", "rolling_cost_limit"),
    ("total", "total_token_limit", "total_cost_limit"),
)


class Limit(NamedTuple):
    """What may be used in one period; None does not limit."""

    period: Period
    tokens: int | None
    pico_usd: int | None


class Budget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Limits on tokens and USD. None is no limit, and 0 allows nothing.

    Raises:
        ValueError: For a limit, a level, a duration or a zone that cannot be one.
    """

    hourly_token_limit: int | None = None
    daily_token_limit: int | None = None
    monthly_token_limit: int | None = None
    session_token_limit: int | None = None
    per_call_token_limit: int | None = None
    total_token_limit: int | None = None
    """Tokens that may ever be used."""
    rolling_token_limit: int | None = None
    """Tokens within the last `rolling_window`."""
    hourly_cost_limit: Amount | None = None
    cost_limit_usd: Amount | None = None
    """USD per day."""
    monthly_cost_limit: Amount | None = None
    session_cost_limit: Amount | None = None
    per_call_cost_limit: Amount | None = None
    total_cost_limit: Amount | None = None
    """USD that may ever be used."""
    rolling_cost_limit: Amount | None = None
    """USD within the last `rolling_window`."""
    rolling_window: str | float | None = None
    """A duration such as `72h`, `90m` or 3600 seconds; it ends now and slides."""
    on_limit: OnLimit | None = None
    """`error`, the default, refuses what does not fit; `warning` counts and alerts only."""
    enforce_limits: bool | None = None
    """The same choice as a flag: False is `warning`."""
    alert_at: float | tuple[float, ...] = 0.8
    """Parts of a limit at which alerts are given, besides 1.0, which always has one."""
    clamp: bool = False
    """Grant less than was asked for, down to the prompt, where the limit leaves no more."""
    timezone: str = "UTC"
    """The IANA zone in whose calendar hours, days and months begin."""

    def __post_init__(self) -> None:
        for _, tokens, cost in _LIMITS:
            _set_checked(self, tokens, checked_count)
            _set_checked(self, cost, decimal_usd)
        _set_on_limit(self)
        force_setattr(self, "alert_at", _levels(self.alert_at))
        limits_rolling = self.rolling_token_limit, self.rolling_cost_limit
        if (self.rolling_window is None) != (limits_rolling == (None, None)):
            raise ValueError(
                "rolling_window and one of rolling_token_limit, rolling_cost_limit belong together"
            )
        if self.rolling_window is not None:
            duration_seconds(self.rolling_window)
        zone_named(self.timezone)

    def replace(self, **changes: object) -> Budget:
        """Return this budget with some fields changed."""
        # The two say the same; a change of one must not contradict the other.
        said = {"on_limit", "enforce_limits"}
        kept = {n: getattr(self, n) for n in self.__struct_fields__ if n not in said}
        if not said & changes.keys():
            kept["on_limit"] = self.on_limit
        return Budget(**{**kept, **changes})

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits that are set."""
        found = []
        for period, tokens_field, cost_field in _LIMITS:
            tokens, cost = getattr(self, tokens_field), getattr(self, cost_field)
            if tokens is not None or cost is not None:
                pico = None if cost is None else pico_usd(cost_field, cost)
                found.append(Limit(period, tokens, pico))
        return tuple(found)

    @property
    def levels(self) -> tuple[float, ...]:
        """The parts of a limit at which alerts are given, in rising order; 1.0 is the last."""
        levels: tuple[float, ...] = self.alert_at  # type: ignore[assignment]  # made so above
        return levels

    @property
    def is_hard(self) -> bool:
        """Whether calls that do not fit are refused."""
        return self.on_limit == "error"

    @property
    def zone(self) -> tzinfo:
        """The zone of the calendar."""
        return zone_named(self.timezone)


TokenBudgetConfig = Budget
"""Budget, by the name of its fields' first document; they are the same."""


def _set_checked(budget: Budget, name: str, check: object) -> None:
    value = getattr(budget, name)
    if value is not None:
        force_setattr(budget, name, check(name, value))  # type: ignore[operator]  # one of two functions


def _set_on_limit(budget: Budget) -> None:
    asked = budget.on_limit
    if asked not in (None, "error", "warning"):
        raise ValueError(f"on_limit is 'error' or 'warning', not {asked!r}")
    if budget.enforce_limits is not None:
        flagged: OnLimit = "error" if budget.enforce_limits else "warning"
        if asked not in (None, flagged):
            raise ValueError(
                f"on_limit={asked!r} and enforce_limits={budget.enforce_limits} contradict "
                "each other; give one of them"
            )
        asked = flagged
    force_setattr(budget, "on_limit", asked or "error")
    force_setattr(budget, "enforce_limits", budget.on_limit == "error")


def _levels(given: float | Iterable[float]) -> tuple[float, ...]:
    levels = (given,) if isinstance(given, (int, float)) else tuple(given)
    for level in levels:
        if isinstance(level, bool) or not 0 < level <= 1:
            raise ValueError(f"alert_at must lie above 0 and at most at 1, not {level!r}")
    return tuple(sorted({*map(float, levels), 1.0}))
