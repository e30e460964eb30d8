"""The budget of a project on the server: what it limits, whose it is, and what is told of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from functools import cached_property
from typing import Any, Final, Literal, NamedTuple, get_args
from urllib.parse import urlsplit

import msgspec

from agentsight_tokens.budgets.amounts import decimal_usd
from agentsight_tokens.budgets.windows import Unit
from agentsight_tokens.calls import microseconds
from agentsight_tokens.errors import InvalidBudgetError, InvalidCountError
from agentsight_tokens.usage import checked_count, pico_usd, usd

from .budget_window import BudgetWindow, window_named

__all__ = [
    "BUDGET_COLUMNS",
    "DEFAULT_LEVELS",
    "EACH",
    "SCOPE_COLUMNS",
    "ServerBudget",
    "ServerBudgetScope",
    "Threshold",
    "at_of",
    "budget_of_row",
    "check_secret",
    "checked_budget",
    "concealed_url",
]

ServerBudgetScope = Literal[
    "global",
    "org",
    "user",
    "agent",
    "feature",
    "session",
    "conversation",
    "model",
    "provider",
    "environment",
]

SCOPE_COLUMNS: Final[dict[ServerBudgetScope, str | None]] = {
    "global": None,
    "org": "org_id",
    "user": "user_id",
    "agent": "agent",
    "feature": "feature",
    "session": "session_id",
    "conversation": "conversation_id",
    "model": "model",
    "provider": "provider",
    "environment": "environment",
}
"""The column of the calls by which a scope's budgets tell them apart."""

EACH: Final = "*"
"""The value of a budget of which everybody has an own one; and the key of a global one."""

DEFAULT_LEVELS: Final = (0.5, 0.8, 1.0)
_MOST_LEVELS: Final = 10
_HIGHEST_LEVEL: Final = 10
_LEVEL_PARTS: Final = 1_000_000
_LONGEST_NAME: Final = 200
_LONGEST_VALUE: Final = 1000
_MOST_WEBHOOKS: Final = 5
_LONGEST_URL: Final = 2000
_LONGEST_SECRET: Final = 500
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)

BUDGET_COLUMNS: Final[tuple[str, ...]] = (
    "id",
    "name",
    "scope",
    "value",
    "period",
    "timezone",
    "token_limit",
    "cost_limit_pico_usd",
    "levels",
    "webhook_urls",
    "webhook_secret",
    "enabled",
    "counts_since",
    "created_at",
    "updated_at",
)
"""As a budget lies in its table; times are microseconds since 1970 UTC, lists JSON."""


class Threshold(NamedTuple):
    """A level of a limit."""

    unit: Unit
    level: float
    amount: int
    """The use, in tokens or pico-USD, with which it is reached."""


class ServerBudget(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """What may be used within a window, and what is told when it is; it stops no call."""

    id: str
    name: str
    scope: ServerBudgetScope
    value: str
    """Whose use is limited, `*` for each value by itself; `*` for the scope global."""
    window: str
    """hour, day, week, month, total, or `rolling` and a duration, such as `rolling 7d`."""
    timezone: str
    """The IANA zone in whose calendar hours, days, weeks and months begin."""
    token_limit: int | None
    """Tokens, embedded ones included; None does not limit, and 0 allows nothing."""
    cost_limit_usd: Decimal | None
    levels: tuple[float, ...]
    """The parts of the limit with which alerts are given, rising."""
    webhook_urls: tuple[str, ...]
    is_signed: bool
    """Whether webhooks are signed with a secret."""
    enabled: bool
    """Whether alerts are given; what is used is counted also where it is not."""
    counts_since: datetime | None
    """Calls before it are not counted: their windows were over when the budget was made."""
    created_at: datetime
    updated_at: datetime

    @cached_property
    def span(self) -> BudgetWindow:
        """The kind of its windows."""
        return window_named(self.window, self.timezone)

    @cached_property
    def thresholds(self) -> tuple[Threshold, ...]:
        """The use with which alerts are given."""
        units: tuple[Unit, ...] = ("tokens", "usd")
        return tuple(
            Threshold(unit, level, max(1, math.ceil(Fraction(str(level)) * limit)))
            for unit in units
            if (limit := self.limit_of(unit)) is not None
            for level in self.levels
        )

    @cached_property
    def lowest(self) -> tuple[int | None, int | None]:
        """The tokens and the pico-USD with which the first alert is given."""
        tokens, cost = (
            min((each.amount for each in self.thresholds if each.unit == unit), default=None)
            for unit in ("tokens", "usd")
        )
        return tokens, cost

    @cached_property
    def earliest(self) -> int | None:
        """The second from which on calls count; None for all of the past."""
        return None if self.counts_since is None else int(self.counts_since.timestamp())

    @property
    def cost_limit_pico_usd(self) -> int | None:
        """The limit of cost in 10^-12 USD."""
        return None if self.cost_limit_usd is None else pico_usd(self.cost_limit_usd)

    @property
    def column(self) -> str | None:
        """The column of the calls that has its keys; None if all calls are of one key."""
        return SCOPE_COLUMNS[self.scope]

    @property
    def concealed(self) -> ServerBudget:
        """The budget without the paths of its webhooks, which let their readers post there."""
        return msgspec.structs.replace(
            self, webhook_urls=tuple(concealed_url(url) for url in self.webhook_urls)
        )

    def limit_of(self, unit: Unit) -> int | None:
        """Return the limit in tokens or in pico-USD."""
        return self.token_limit if unit == "tokens" else self.cost_limit_pico_usd

    def values(self, secret: str | None) -> tuple[Any, ...]:
        """Return its values in the order of `BUDGET_COLUMNS`."""
        return (
            self.id,
            self.name,
            self.scope,
            self.value,
            self.window,
            self.timezone,
            self.token_limit,
            self.cost_limit_pico_usd,
            msgspec.json.encode(self.levels).decode(),
            msgspec.json.encode(self.webhook_urls).decode(),
            secret,
            int(self.enabled),
            None if self.counts_since is None else microseconds(self.counts_since),
            microseconds(self.created_at),
            microseconds(self.updated_at),
        )


def concealed_url(url: str) -> str:
    """Return an address of which only the host is shown."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/…"


def budget_of_row(row: Sequence[Any]) -> ServerBudget:
    """Return the budget of a row of `BUDGET_COLUMNS`."""
    fields = dict(zip(BUDGET_COLUMNS, row, strict=True))
    limit = fields["cost_limit_pico_usd"]
    since = fields["counts_since"]
    return ServerBudget(
        id=fields["id"],
        name=fields["name"],
        scope=fields["scope"],
        value=fields["value"],
        window=fields["period"],
        timezone=fields["timezone"],
        token_limit=fields["token_limit"],
        cost_limit_usd=None if limit is None else usd(limit),
        levels=msgspec.json.decode(fields["levels"], type=tuple[float, ...]),
        webhook_urls=msgspec.json.decode(fields["webhook_urls"], type=tuple[str, ...]),
        is_signed=fields["webhook_secret"] is not None,
        enabled=bool(fields["enabled"]),
        counts_since=None if since is None else at_of(since),
        created_at=at_of(fields["created_at"]),
        updated_at=at_of(fields["updated_at"]),
    )


def checked_budget(budget: ServerBudget) -> ServerBudget:
    """
    Return a budget whose fields are in their own form.

    Raises:
        InvalidBudgetError: For a field that none can have; it names the value and the way out.
    """
    _check_text("name", budget.name, _LONGEST_NAME)
    if budget.scope not in get_args(ServerBudgetScope):
        raise InvalidBudgetError(
            f"scope {budget.scope!r} is not known; known are {', '.join(SCOPE_COLUMNS)}"
        )
    _check_text("value", budget.value, _LONGEST_VALUE)
    if budget.scope == "global" and budget.value != EACH:
        raise InvalidBudgetError(
            f"a budget of all calls has the value '*', not {budget.value!r}; "
            f"for one {budget.value!r} name the scope: user, agent, model, ..."
        )
    window_named(budget.window, budget.timezone)
    if budget.token_limit is None and budget.cost_limit_usd is None:
        raise InvalidBudgetError("a budget needs a token_limit, a cost_limit_usd, or both")
    _check_webhooks(budget.webhook_urls)
    try:
        if budget.token_limit is not None:
            checked_count("token_limit", budget.token_limit)
        cost = budget.cost_limit_usd
        if cost is not None:
            cost = usd(pico_usd(decimal_usd("cost_limit_usd", cost)))
    except (InvalidCountError, ValueError) as error:
        raise InvalidBudgetError(str(error)) from None
    return msgspec.structs.replace(
        budget, cost_limit_usd=cost, levels=_checked_levels(budget.levels or DEFAULT_LEVELS)
    )


def check_secret(secret: str | None) -> None:
    """
    See whether a text can sign webhooks.

    Raises:
        InvalidBudgetError: If it cannot.
    """
    if secret is not None:
        _check_text("webhook_secret", secret, _LONGEST_SECRET, is_secret=True)


def at_of(microseconds_since_1970: int) -> datetime:
    """Return a time of a table."""
    return _EPOCH + timedelta(microseconds=microseconds_since_1970)


def _checked_levels(levels: Iterable[float]) -> tuple[float, ...]:
    for level in (found := sorted({*levels})):
        if not 0 < level <= _HIGHEST_LEVEL or round(level * _LEVEL_PARTS) / _LEVEL_PARTS != level:
            raise InvalidBudgetError(
                f"a level is a part of the limit above 0 and at most {_HIGHEST_LEVEL}, with six "
                f"decimals at most, such as 0.8 for 80 %: {level!r} is none"
            )
    if len(found) > _MOST_LEVELS:
        raise InvalidBudgetError(f"a budget has at most {_MOST_LEVELS} levels, not {len(found)}")
    return tuple(map(float, found))


def _check_text(what: str, text: str, longest: int, *, is_secret: bool = False) -> None:
    if not text.strip() or len(text) > longest or not text.isprintable():
        shown = "" if is_secret else f": {text[:40]!r}"
        raise InvalidBudgetError(f"{what} must have 1 to {longest} printable characters{shown}")


def _check_webhooks(urls: Sequence[str]) -> None:
    if len(urls) > _MOST_WEBHOOKS:
        raise InvalidBudgetError(f"a budget has at most {_MOST_WEBHOOKS} webhooks, not {len(urls)}")
    for url in urls:
        try:
            parts = urlsplit(url)
            is_one = parts.scheme in {"http", "https"} and bool(parts.hostname)
            is_one = is_one and parts.port != 0 and parts.username is None
        except ValueError:
            is_one = False
        is_plain = url.isascii() and url.isprintable() and " " not in url
        if not is_one or not is_plain or len(url) > _LONGEST_URL:
            raise InvalidBudgetError(
                "a webhook's address begins with https:// or http:// and a host, has no user in "
                f"it, and at most {_LONGEST_URL} plain characters: {url[:60]!r} is none"
            )
