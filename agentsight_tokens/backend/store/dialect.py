"""Where the SQL of the databases differs."""

from __future__ import annotations

from typing import Final, NamedTuple

from agentsight_tokens.calls import HAS_TAG

__all__ = ["POSTGRESQL", "SQLITE", "Dialect"]


class Dialect(NamedTuple):
    """The parts of a query that a database writes in its own way."""

    name: str
    """sqlite or postgresql."""
    schema: str
    """What names a table itself where a common table expression has its name."""
    has_tag: str
    """The condition that the column `tags` holds a value."""
    periods: dict[str, str]
    """The name of a period by hour, day, week, month and year; {seconds} since 1970 stand in."""

    by_code_point: str
    """What follows a text that is to be ordered by its code points."""
    cut: str
    """A number that is not negative without its fraction; {number} stands in."""
    turn_of_packing: str
    """
    The statement by which a transaction waits for those that drop packs.

    Nothing where transactions that write come one after another anyway.
    """

    def whole(self, number: str) -> str:
        """Return the expression of a number without its fraction."""
        return self.cut.format(number=number)

    def period(self, name: str, seconds: str) -> str:
        """
        Return the expression of the period in which a time lies.

        Args:
            name: hour, day, week (named by its Monday), month or year.
            seconds: The SQL of the seconds since 1970, a zone's offset added.
        """
        return self.periods[name].format(seconds=seconds)


def _sqlite(text: str, modifiers: str = "") -> str:
    return f"strftime('{text}', {{seconds}}, 'unixepoch'{modifiers})"


def _postgresql(text: str, unit: str) -> str:
    at = "timezone('UTC', to_timestamp({seconds}))"
    return f"to_char(date_trunc('{unit}', {at}), '{text}')"


SQLITE: Final = Dialect(
    name="sqlite",
    schema="main.",
    has_tag=HAS_TAG,
    periods={
        "hour": _sqlite("%Y-%m-%dT%H:00"),
        "day": _sqlite("%Y-%m-%d"),
        "week": _sqlite("%Y-%m-%d", ", '-6 days', 'weekday 1'"),
        "month": _sqlite("%Y-%m"),
        "year": _sqlite("%Y"),
    },
    by_code_point="",
    cut="CAST({number} AS INTEGER)",
    turn_of_packing="",
)

POSTGRESQL: Final = Dialect(
    name="postgresql",
    schema="",
    has_tag="jsonb_exists(tags::jsonb, ?)",
    periods={
        "hour": _postgresql('YYYY-MM-DD"T"HH24:00', "hour"),
        "day": _postgresql("YYYY-MM-DD", "day"),
        "week": _postgresql("YYYY-MM-DD", "week"),
        "month": _postgresql("YYYY-MM", "month"),
        "year": _postgresql("YYYY", "year"),
    },
    by_code_point=' COLLATE "C"',
    cut="CAST(trunc({number}) AS BIGINT)",
    turn_of_packing="LOCK TABLE packed_calls IN SHARE ROW EXCLUSIVE MODE",
)
