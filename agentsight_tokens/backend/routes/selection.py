"""What selects calls in a query of the API, the same for every answer of the analytics."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime, timezone, tzinfo
from typing import Annotated, Any, Final, TypeVar
from zoneinfo import ZoneInfo

import msgspec
from starlette.concurrency import run_in_threadpool

from agentsight_tokens.backend.problem import Problem
from agentsight_tokens.errors import InvalidQueryError, InvalidScopeError
from agentsight_tokens.usage import CallStatus, Operation, Source

__all__ = ["Cursor", "Limit", "Selection", "asked_for", "names_of"]

Limit = Annotated[int, msgspec.Meta(ge=1, le=1_000)]
Cursor = Annotated[
    str | None, msgspec.Meta(description="`next_cursor` of the page before; none for the first.")
]
_Time = Annotated[
    str | None,
    msgspec.Meta(
        description="A day of the zone (2026-01-31) or a time with its offset "
        "(2026-01-31T09:00:00Z), from 2000 to 2199."
    ),
]
_Name = Annotated[str, msgspec.Meta(max_length=2_000)] | None

_MOST_KEYS: Final = 4
_FIRST_YEAR: Final = 2000
_LAST_YEAR: Final = 2199
_Answer = TypeVar("_Answer")


class Selection(msgspec.Struct, kw_only=True):
    """Which calls a question is about; a parameter that is empty or not given selects all."""

    since: _Time = None
    until: _Time = None
    timezone: Annotated[
        str, msgspec.Meta(description="Where days begin, by the tz database: Europe/Zurich.")
    ] = "UTC"
    conversation_id: _Name = None
    session_id: _Name = None
    user_id: _Name = None
    org_id: _Name = None
    agent: _Name = None
    feature: _Name = None
    tag: Annotated[list[str], msgspec.Meta(description="All of them must be there.")] = (
        msgspec.field(default_factory=list)
    )
    model: _Name = None
    provider: _Name = None
    operation: Operation | None = None
    status: CallStatus | None = None
    source: Source | None = None
    handler: _Name = None
    tool_name: _Name = None
    service_tier: _Name = None
    environment: _Name = None

    @property
    def zone(self) -> tzinfo:
        """
        The time zone.

        Raises:
            Problem: If there is none of this name.
        """
        if self.timezone in ("", "UTC"):
            return timezone.utc
        try:
            return ZoneInfo(self.timezone)
        except (ValueError, OSError, KeyError):
            raise Problem(
                400, f"timezone: {self.timezone[:80]!r} is no time zone; one is 'Europe/Zurich'"
            ) from None

    @property
    def where(self) -> dict[str, Any]:
        """
        The filter, as the analytics take it.

        Raises:
            Problem: For a time that is none.
        """
        zone = self.zone
        since, until = (_time(name, getattr(self, name), zone) for name in ("since", "until"))
        if since is not None and until is not None and since >= until:
            raise Problem(400, f"until {self.until!r} is not after since {self.since!r}")
        names = {name: getattr(self, name) for name in _NAMES}
        given = {"since": since, "until": until, "tags": tuple(self.tag), **names}
        return {name: value for name, value in given.items() if value}


_NAMES: Final = tuple(
    field
    for field in Selection.__struct_fields__
    if field not in {"since", "until", "timezone", "tag"}
)


async def asked_for(question: Callable[[], _Answer]) -> _Answer:
    """
    Return the answer to a question that is asked of the store in a thread of its own.

    Raises:
        Problem: 400 if it cannot be answered.
    """
    try:
        return await run_in_threadpool(question)
    except (InvalidQueryError, InvalidScopeError) as error:
        raise Problem(400, str(error)) from None


def names_of(given: Sequence[str]) -> list[str]:
    """
    Return names that were given one by one, or several with commas between them.

    Raises:
        Problem: For more than can be answered at once.
    """
    names = [name.strip() for text in given for name in text.split(",") if name.strip()]
    if len(names) > _MOST_KEYS:
        raise Problem(400, f"by: at most {_MOST_KEYS} keys at once, not {len(names)}")
    return names


def _time(name: str, text: str | None, zone: tzinfo) -> datetime | None:
    if not text:
        return None
    try:
        at = _read(text, zone)
    except ValueError:
        raise Problem(
            400,
            f"{name}: {text[:80]!r} is no time; write a day (2026-01-31), or a time with its "
            "offset (2026-01-31T09:00:00Z, %2B for a + in an address)",
        ) from None
    if not _FIRST_YEAR <= at.year <= _LAST_YEAR:
        raise Problem(400, f"{name} must lie in the years {_FIRST_YEAR} to {_LAST_YEAR}")
    return at


def _read(text: str, zone: tzinfo) -> datetime:
    if len(text) == len("2026-01-31"):
        day = date.fromisoformat(text)
        return datetime(day.year, day.month, day.day, tzinfo=zone)
    try:
        at = msgspec.convert(text, datetime)
    except msgspec.ValidationError:  # it wants seconds; Python 3.10 wants other digits of them
        at = datetime.fromisoformat(f"{text[:-1]}+00:00" if text[-1] in "zZ" else text)
    if at.tzinfo is None:
        raise ValueError
    return at
