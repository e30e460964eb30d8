"""A row of a log, and what it becomes: a call, nothing, or a fault."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from hashlib import blake2b
from typing import Any, Final, NamedTuple

import msgspec

from agentsight_tokens.usage import Scope, UsageRecord

__all__ = [
    "Call",
    "Defaults",
    "RowError",
    "SkippedRow",
    "number_in",
    "object_in",
    "record_id",
    "tags_in",
    "text_in",
    "time_in",
]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MILLISECOND: Final = timedelta(milliseconds=1)
_FIRST_IN_MILLISECONDS: Final = 100_000_000_000
"""Numbers from here on are milliseconds since 1970: as seconds they would be after the year 5000."""
_LONGEST: Final = 1024


class RowError(Exception):
    """Why a row cannot be read; it is set aside."""


class SkippedRow(Exception):
    """Why a row is no call that was billed, such as a request that failed."""


class Call(NamedTuple):
    """A record without its price, and the environment in which it was made."""

    record: UsageRecord
    environment: str | None = None


class Defaults(msgspec.Struct, frozen=True, kw_only=True):
    """What is taken where a row says nothing."""

    conversation_id: str | None = None
    user_id: str | None = None
    org_id: str | None = None
    agent: str | None = None
    feature: str | None = None
    tags: tuple[str, ...] = ()
    provider: str | None = None
    environment: str | None = None
    at: datetime | None = None

    def scope(self, **found: Any) -> Scope:
        """Return a scope of what a row says; the rest is from here."""
        names = ("conversation_id", "session_id", "user_id", "org_id", "agent", "feature", "tags")
        mine = {name: found.get(name) or getattr(self, name, None) for name in names}
        conversation_id = mine["conversation_id"] or mine["session_id"]
        return Scope(
            conversation_id=conversation_id,
            session_id=mine["session_id"] or conversation_id,
            user_id=mine["user_id"],
            org_id=mine["org_id"],
            agent=mine["agent"],
            feature=mine["feature"],
            tags=tuple(sorted(set(mine["tags"] or ()))),
        )


def record_id(at: datetime, *parts: object) -> str:
    """Return an id that sorts by time and is the same whenever the same parts come."""
    digest = blake2b("\n".join(map(str, parts)).encode("utf-8", "replace"), digest_size=10)
    return f"{max((at - _EPOCH) // _MILLISECOND, 0):012x}{digest.hexdigest()}"


def text_in(row: Mapping[str, Any], *names: str) -> str | None:
    """Return the first of the fields that is there and not empty, as a text."""
    for name in names:
        value = row.get(name)
        if value not in (None, "", [], {}) and not isinstance(value, (dict, list)):
            return str(value)[:_LONGEST]
    return None


def time_in(row: Mapping[str, Any], *names: str) -> datetime | None:
    """
    Return the first of the times that is there; one without an offset is UTC.

    Raises:
        RowError: If it is none.
    """
    for name in names:
        value = row.get(name)
        if value not in (None, ""):
            return _time(name, value)
    return None


def _time(name: str, value: object) -> datetime:
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return _EPOCH + timedelta(
                seconds=value / 1000 if value >= _FIRST_IN_MILLISECONDS else value
            )
        text = str(value).strip()
        if text.replace(".", "", 1).isdecimal():
            return _time(name, float(text))
        if len(text) == len("2026-01-31"):
            text += "T00:00:00"
        at = msgspec.convert(text.replace(" ", "T", 1).replace(" ", ""), datetime)
    except (msgspec.ValidationError, OverflowError, ValueError):
        raise RowError(f"{name} is no time: {str(value)[:60]!r}") from None
    return (at.replace(tzinfo=timezone.utc) if at.tzinfo is None else at).astimezone(timezone.utc)


def number_in(row: Mapping[str, Any], *names: str) -> float | None:
    """Return the first of the numbers that is there; None for what is none."""
    for name in names:
        value = row.get(name)
        if isinstance(value, bool) or value in (None, ""):
            continue
        try:
            return float(value)
        except (TypeError, ValueError):
            return None
    return None


def object_in(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Return the first of the objects that is there, also where it is JSON in a text."""
    for name in names:
        value = row.get(name)
        if isinstance(value, str) and value.lstrip().startswith("{"):
            try:
                value = msgspec.json.decode(value)
            except msgspec.DecodeError:
                continue
        if isinstance(value, dict) and value:
            return value
    return {}


def tags_in(row: Mapping[str, Any], *names: str) -> tuple[str, ...]:
    """Return the first of the lists that is there, also where it is JSON in a text."""
    for name in names:
        value = row.get(name)
        if isinstance(value, str) and value.startswith("["):
            try:
                value = msgspec.json.decode(value)
            except msgspec.DecodeError:
                continue
        if isinstance(value, list) and value:
            return tuple(map(str, value))
    return ()
