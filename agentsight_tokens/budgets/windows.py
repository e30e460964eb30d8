"""Windows: one limit of one budget, in one period, for whoever causes a call."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from fractions import Fraction
from typing import Any, Final, Literal, NamedTuple, TypedDict
from urllib.parse import quote

from agentsight_tokens.errors import InvalidScopeError

from .budget import SCOPES, Budget, BudgetScope, Limit
from .periods import Period, calendar_span, duration_seconds

__all__ = [
    "NO_LIMIT",
    "CallScope",
    "Causer",
    "Plan",
    "Unit",
    "Window",
    "WindowSet",
    "causer_of",
    "plan_of",
]

Unit = Literal["tokens", "usd"]

NO_LIMIT: Final = 1 << 63
"""Above every sum that a store can hold."""

_MOST_SLICES: Final = 60
_KEPT_AFTER_END_SECONDS: Final = 2 * 86_400
_SESSION_KEPT_SECONDS: Final = 30 * 86_400
_FOREVER_SECONDS: Final = 100 * 365 * 86_400
_LONGEST_PLAN_SECONDS: Final = 3600


class Causer(NamedTuple):
    """Who causes a call, as budgets see it; what is not known is None."""

    org: str | None = None
    user: str | None = None
    agent: str | None = None
    feature: str | None = None
    session: str | None = None
    model: str | None = None

    def entity(self, scope: BudgetScope) -> str | None:
        """Return whose budget of a scope the call meets."""
        if scope == "global":
            return "*"
        entity: str | None = getattr(self, scope)
        return entity


class CallScope(TypedDict, total=False):
    """Who causes a call, as callers say it."""

    model: str | None
    org_id: str | None
    user_id: str | None
    agent: str | None
    feature: str | None
    session_id: str | None
    conversation_id: str | None


class Window:
    """
    A limit that holds from one moment to another, for one causer.

    What is used in it is kept by a store under its `id`, which names the budget's owner and
    the period, not the limit: a new limit finds what was used under the old one.
    """

    __slots__ = (
        "alert_id",
        "budget",
        "earlier",
        "end",
        "entity_id",
        "group",
        "hard_pico",
        "hard_tokens",
        "id",
        "keep_until",
        "name",
        "next_pico",
        "next_tokens",
        "pico_limit",
        "scope",
        "shown_id",
        "slides_seconds",
        "start",
        "token_limit",
    )

    def __init__(self, budget: Budget, limit: Limit, *, scope: str, entity_id: str) -> None:
        self.budget = budget
        self.scope = scope
        self.entity_id = entity_id
        self.shown_id = entity_id
        """The entity, as it may be shown outside this process."""
        self.name: str = limit.period
        """The period, as errors and alerts call it."""
        self.token_limit = limit.tokens
        self.pico_limit = limit.pico_usd
        self.hard_tokens = _hard(limit.tokens, budget)
        """What used and held tokens may not pass; a limit of 0 refuses calls of 0 tokens too."""
        self.hard_pico = _hard(limit.pico_usd, budget)
        self.start = 0
        self.end: int | None = None
        """When the window ends, in seconds since 1970; None for one that never does."""
        self.slides_seconds = 0
        """The length of a window that slides, whose start and end are those of its last slice."""
        self.keep_until = 0.0
        """Until when a store must remember what was used."""
        self.id = ""
        self.group = ""
        """What the ids of the same owner's windows have in common, or of its session's."""
        self.alert_id = ""
        """The name under which a store remembers which alerts were given."""
        self.earlier: tuple[str, ...] = ()
        """Ids whose use counts in this window too: the earlier slices of one that slides."""
        self.next_tokens = NO_LIMIT
        """The use from which on the next alert is due."""
        self.next_pico = NO_LIMIT

    @property
    def resets_at(self) -> datetime | None:
        """When what is used now no longer counts; None for a window that never ends."""
        if self.end is None:
            return None
        return datetime.fromtimestamp(self.end + self.slides_seconds, timezone.utc)

    @property
    def starts_at(self) -> datetime | None:
        """When the window began; None for one that has no beginning."""
        if self.end is None:
            return None
        start = self.start - self.slides_seconds
        return datetime.fromtimestamp(start, timezone.utc)

    def limit_of(self, unit: Unit) -> int | None:
        """Return the limit in tokens or in pico-USD."""
        return self.token_limit if unit == "tokens" else self.pico_limit

    def threshold(self, unit: Unit, level: float) -> int:
        """Return the use at which a part of the limit is reached."""
        limit = self.limit_of(unit)
        return NO_LIMIT if limit is None else max(1, math.ceil(Fraction(str(level)) * limit))


class WindowSet(tuple[Window, ...]):
    """Windows that calls meet together."""

    handle: Any = None
    """What the store keeps with them, at its own discretion."""


class Plan(NamedTuple):
    """The windows that the calls of one causer meet, until a moment."""

    windows: WindowSet
    per_call: tuple[Window, ...]
    """Limits on each call by itself, of which no store need know."""
    ends_at: float
    """When a window ends and the plan is to be made anew."""
    hard_cost: Window | None
    """A window that needs the price of every call; None where there is none."""


def causer_of(scope: Mapping[str, str | None]) -> Causer:
    """
    Return who causes a call; a conversation stands for the session where none is named.

    Raises:
        InvalidScopeError: For a field that no call has.
    """
    unknown = scope.keys() - CallScope.__annotations__.keys()
    if unknown:
        raise InvalidScopeError(
            f"{sorted(unknown)} are no fields of a call's scope; "
            f"the fields are {', '.join(CallScope.__annotations__)}"
        )
    return Causer(
        org=scope.get("org_id"),
        user=scope.get("user_id"),
        agent=scope.get("agent"),
        feature=scope.get("feature"),
        session=scope.get("session_id") or scope.get("conversation_id"),
        model=scope.get("model"),
    )


def plan_of(
    causer: Causer,
    budgets: Mapping[BudgetScope, Mapping[str, Budget]],
    now: float,
    conceal: Callable[[str], str],
) -> Plan:
    """
    Return the windows that the calls of a causer meet.

    Args:
        causer: Who causes the calls.
        budgets: The budgets by scope and entity; `*` stands for each that has none of its own.
        now: Seconds since 1970 UTC.
        conceal: What replaces a user's id in what is stored.
    """
    windows: list[Window] = []
    per_call: list[Window] = []
    for scope in SCOPES:
        of_scope = budgets.get(scope)
        entity = causer.entity(scope)
        if not of_scope or entity is None:
            continue
        budget = of_scope.get(entity) or of_scope.get("*")
        if budget is None:
            continue
        shown = conceal(entity) if scope == "user" else entity
        owner = f"{scope}:{quote(shown, safe='*')}"
        for limit in budget.limits:
            window = Window(budget, limit, scope=scope, entity_id=entity)
            window.shown_id = shown
            if limit.period == "call":
                per_call.append(window)
                continue
            _place(window, limit.period, owner, causer.session or "", now)
            window.next_tokens = window.threshold("tokens", budget.levels[0])
            window.next_pico = window.threshold("usd", budget.levels[0])
            windows.append(window)
    both = [*per_call, *windows]
    return Plan(
        WindowSet(windows),
        tuple(per_call),
        min([now + _LONGEST_PLAN_SECONDS, *(w.end for w in windows if w.end is not None)]),
        next((w for w in both if w.hard_pico != NO_LIMIT), None),
    )


def _place(window: Window, period: Period, owner: str, session: str, now: float) -> None:
    """Give a window its place in time, and the names under which it is stored."""
    name = f"{owner}:{period}"
    window.group = owner
    if period == "rolling":
        _slide(window, name, now)
        return
    if period == "session":
        name += f":{quote(session, safe='')}"
        window.group = name
        window.keep_until = now + _SESSION_KEPT_SECONDS
    elif period in ("hour", "day", "month"):
        window.start, window.end = calendar_span(period, now, window.budget.zone)
        window.keep_until = window.end + _KEPT_AFTER_END_SECONDS
    else:
        window.keep_until = now + _FOREVER_SECONDS
    window.id = window.alert_id = f"{name}@{window.start}"


def _slide(window: Window, name: str, now: float) -> None:
    """
    Let a window end now and slide.

    It is kept in slices, and the oldest counts until it has left the window as a whole: what
    was used is never forgotten too early, and at most one slice too late.
    """
    length = duration_seconds(window.budget.rolling_window or 0)
    size = -(-length // _MOST_SLICES)
    slices = -(-length // size)
    window.slides_seconds = length
    window.name = f"rolling {window.budget.rolling_window}"
    window.start = int(now // size) * size
    window.end = window.start + size
    window.keep_until = window.end + length + _KEPT_AFTER_END_SECONDS
    window.group = f"{name}-{length}"
    window.id = f"{name}-{length}@{window.start}"
    window.alert_id = f"{name}-{length}@every-{int(now // length)}"
    window.earlier = tuple(
        f"{name}-{length}@{window.start - size * back}" for back in range(1, slices + 1)
    )


def _hard(limit: int | None, budget: Budget) -> int:
    if limit is None or not budget.is_hard:
        return NO_LIMIT
    return limit or -1
