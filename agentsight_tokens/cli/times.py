"""Times as users write them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone, tzinfo
from typing import Final

import typer

__all__ = ["read_time", "read_zone"]

_AGO: Final = re.compile(r"(\d+)\s*([mhdw])")
_UNITS: Final = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d")
_FORMS: Final = (
    "write a day (2026-01-31), a time with its offset (2026-01-31T09:00+01:00), "
    "a time ago (30m, 24h, 7d, 4w), today or yesterday"
)


def read_zone(name: str) -> tzinfo:
    """
    Return the time zone of a name such as `Europe/Berlin`.

    Raises:
        typer.BadParameter: If there is none.
    """
    if name.upper() == "UTC":  # needs no time zone data
        return timezone.utc
    from zoneinfo import ZoneInfo

    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        raise typer.BadParameter(
            f"{name!r} is no time zone of this machine; write a name such as UTC or "
            "Europe/Berlin, or add the zones: pip install tzdata",
            param_hint="--timezone",
        ) from None


def read_time(option: str, text: str | None, zone: tzinfo, *, now: datetime) -> datetime | None:
    """
    Return the time that a text means, in a zone where it names a day.

    Args:
        option: The option that the text was given to.
        text: The text; None gives None.
        zone: Where days begin.
        now: The present, aware.

    Raises:
        typer.BadParameter: If it cannot be read, or names a time without an offset.
    """
    if text is None:
        return None
    given = text.strip().lower()
    try:
        return _relative(given, now.astimezone(zone)) or _absolute(given, zone)
    except _NaiveError:
        raise typer.BadParameter(
            f"{text!r} has no offset, so it could be any of 24 hours; "
            f"write {text.strip()}Z for UTC, or {_FORMS}",
            param_hint=option,
        ) from None
    except (ValueError, OverflowError):
        raise typer.BadParameter(f"{text!r} is no time; {_FORMS}", param_hint=option) from None


class _NaiveError(Exception):
    """A time has no offset."""


def _relative(text: str, now: datetime) -> datetime | None:
    if text == "now":
        return now
    if text in {"today", "yesterday"}:
        day = now.date() - timedelta(days=text == "yesterday")
        return datetime(day.year, day.month, day.day, tzinfo=now.tzinfo)
    ago = _AGO.fullmatch(text)
    return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])}) if ago else None


def _absolute(text: str, zone: tzinfo) -> datetime:
    at = datetime.fromisoformat(re.sub("z$", "+00:00", text))
    if _DAY.fullmatch(text):
        return at.replace(tzinfo=zone)
    if at.tzinfo is None:
        raise _NaiveError
    return at
