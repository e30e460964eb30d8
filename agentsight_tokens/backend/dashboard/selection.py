"""The selection: what of a project a page looks at, as its address says."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import msgspec

from agentsight_tokens.backend.analytics import DIMENSIONS

from .period import CUSTOM, PRESETS, Period, period_of, zone_of

__all__ = ["FILTERS", "Chip", "Selection", "SelectionQuery", "address", "selection_of"]

FILTERS: Final[tuple[str, ...]] = (
    "environment",
    "model",
    "provider",
    "user",
    "org",
    "agent",
    "feature",
    "session",
    "conversation",
    "operation",
    "status",
    "source",
    "handler",
    "tool",
    "tier",
    "tag",
)
"""What pages can be filtered by."""

_TIME: Final = ("range", "since", "until", "zone")
_NOUNS: Final = {"h": "hours", "d": "days", "m": "months"}
_DEFAULT_RANGE: Final = "30d"


class SelectionQuery(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters that pages share; an empty one is not given."""

    range: str = _DEFAULT_RANGE
    since: str = ""
    until: str = ""
    zone: str = ""
    environment: str = ""
    model: str = ""
    provider: str = ""
    user: str = ""
    org: str = ""
    agent: str = ""
    feature: str = ""
    session: str = ""
    conversation: str = ""
    operation: str = ""
    status: str = ""
    source: str = ""
    handler: str = ""
    tool: str = ""
    tier: str = ""
    tag: str = ""
    add: str = ""
    """The name of a filter that a form adds, with its value in `to`."""
    to: str = ""


class Chip(NamedTuple):
    """A filter that is set, and the address without it."""

    name: str
    value: str
    without: str


class Selection(NamedTuple):
    """A span of time, a zone, and filters."""

    path: str
    period: Period
    zone_name: str
    filters: Mapping[str, str]
    given: Mapping[str, str]
    """Every parameter of the page that is not its default."""

    @property
    def where(self) -> dict[str, Any]:
        """The filter, as analytics take it."""
        return self.filter_of(self.period.since, self.period.until)

    def filter_of(self, since: datetime | None, until: datetime | None) -> dict[str, Any]:
        """Return the same filter over another span."""
        columns = {DIMENSIONS.get(n, "tags"): value for n, value in self.filters.items()}
        return {**columns, "since": since, "until": until}

    def link(self, path: str | None = None, /, **changes: str | None) -> str:
        """Return the address of this page, or with the same selection of another, changed."""
        shared = self.given if path is None else self.shared
        return address(path or self.path, {**shared, **changes})

    @property
    def shared(self) -> dict[str, str]:
        """The parameters that go along to other pages."""
        return {n: v for n, v in self.given.items() if n in _TIME or n in FILTERS}

    @property
    def hidden(self) -> dict[str, str]:
        """The parameters that the form of times and zone hands on."""
        return {n: v for n, v in self.given.items() if n not in _TIME}

    @property
    def chips(self) -> list[Chip]:
        """The filters that are set."""
        return [Chip(n, v, self.link(**{n: None})) for n, v in self.filters.items()]

    @property
    def is_custom(self) -> bool:
        """Whether the days are given one by one."""
        return self.period.name == CUSTOM

    @property
    def first_day(self) -> str:
        """The first day of the span in its zone; empty for all time."""
        since = self.period.since
        return "" if since is None else f"{since.astimezone(self.period.zone):%Y-%m-%d}"

    @property
    def last_day(self) -> str:
        """The last day of the span in its zone."""
        until = self.period.until
        if until is None:
            return f"{self.period.now.astimezone(self.period.zone):%Y-%m-%d}"
        last = until - datetime.resolution
        return f"{last.astimezone(self.period.zone):%Y-%m-%d}"

    @property
    def label(self) -> str:
        """The span in words."""
        if self.is_custom:
            return f"{self.first_day} to {self.last_day}"
        return PRESETS[self.period.name]

    @property
    def before(self) -> str:
        """The span before this one in words."""
        name = self.period.name
        if name in {"month", "last-month"}:
            return "the month before"
        return f"the {name[:-1]} {_NOUNS[name[-1]]} before" if name[:-1].isdecimal() else "before"


def selection_of(path: str, query: SelectionQuery, now: datetime) -> Selection:
    """
    Return what a page looks at.

    Raises:
        Problem: For a parameter that says nothing.
    """
    fields = msgspec.structs.asdict(query)
    if query.add in FILTERS and query.to:
        fields[query.add] = query.to
    fields["add"] = fields["to"] = ""
    if query.zone == "UTC":
        fields["zone"] = ""
    if query.range != CUSTOM:
        fields["since"] = fields["until"] = ""
    zone = zone_of(query.zone)
    period = period_of(query.range, since=query.since, until=query.until, zone=zone, now=now)
    defaults = msgspec.structs.asdict(type(query)())
    return Selection(
        path=path,
        period=period,
        zone_name=query.zone or "UTC",
        filters={name: fields[name] for name in FILTERS if fields[name]},
        given={n: str(v) for n, v in fields.items() if v not in ("", defaults[n])},
    )


def address(path: str, parameters: Mapping[str, str | None]) -> str:
    """Return a path with parameters; what is None or empty is left out."""
    query = urlencode({name: value for name, value in parameters.items() if value})
    return f"{path}?{query}" if query else path
