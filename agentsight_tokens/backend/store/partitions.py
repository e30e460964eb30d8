"""The partitions of the calls in PostgreSQL: a month each, made when its first call comes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Final, NamedTuple

from agentsight_tokens.calls import microseconds

from .base import Transaction

__all__ = ["Partition", "ensure", "expire", "partition_of"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)
_FIRST_YEAR: Final = 2020
_END_YEAR: Final = 2100
_EARLIEST: Final = microseconds(datetime(_FIRST_YEAR, 1, 1, tzinfo=timezone.utc))
_LATEST: Final = microseconds(datetime(_END_YEAR, 1, 1, tzinfo=timezone.utc))
_LOCK: Final = 0x6167656E74_02
_PREFIX: Final = "calls_"


class Partition(NamedTuple):
    """A span of time; clocks that are wrong by decades share one at either end."""

    name: str
    since: int | None
    """Included, in microseconds since 1970; None for all of the past."""
    until: int | None
    """Excluded; None for all of the future."""


def partition_of(at: int) -> Partition:
    """Return the partition in which a time lies."""
    if at < _EARLIEST:
        return Partition(f"{_PREFIX}before", None, _EARLIEST)
    if at >= _LATEST:
        return Partition(f"{_PREFIX}after", _LATEST, None)
    day = _EPOCH + timedelta(microseconds=at)
    since = datetime(day.year, day.month, 1, tzinfo=timezone.utc)
    until = datetime(day.year + day.month // 12, day.month % 12 + 1, 1, tzinfo=timezone.utc)
    return Partition(f"{_PREFIX}{since:%Y_%m}", microseconds(since), microseconds(until))


def ensure(transaction: Transaction, partitions: Iterable[Partition]) -> None:
    """Make the partitions that are not there."""
    transaction.rows("SELECT pg_advisory_xact_lock(?)", (_LOCK,))
    for name, since, until in sorted(partitions):
        low = "MINVALUE" if since is None else since
        high = "MAXVALUE" if until is None else until
        transaction.run(
            f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF calls "
            f"FOR VALUES FROM ({low}) TO ({high})"
        )


def expire(transaction: Transaction, before: datetime) -> int:
    """
    Drop the partitions that end before a time, which gives their disk back.

    The conversations that ended before go after the calls, in the order in which these came.
    """
    limit = microseconds(before.astimezone(timezone.utc))
    found = transaction.rows(
        "SELECT child.relname FROM pg_inherits JOIN pg_class AS child ON child.oid = inhrelid "
        "WHERE inhparent = 'calls'::regclass"
    )
    # Others must not wait long behind a query that runs for hours.
    transaction.run("SET LOCAL lock_timeout = '10s'")
    calls = 0
    for (name,) in found:
        until = _named(name).until
        if until is not None and until <= limit:
            [(count,)] = transaction.rows(f"SELECT COUNT(*) FROM {name}")  # noqa: S608  # a partition of ours
            transaction.run(f"DROP TABLE {name}")
            calls += count
    since = partition_of(limit).since
    if since is not None:
        transaction.run("DELETE FROM conversations WHERE last_at < ?", (since,))
        transaction.run("DELETE FROM packed_calls WHERE start < ?", (since,))
    return calls


def _named(name: str) -> Partition:
    """Return the partition of a name."""
    text = name.removeprefix(_PREFIX)
    if text == "before":
        return partition_of(_EARLIEST - 1)
    if text == "after":
        return partition_of(_LATEST)
    year, _, month = text.partition("_")
    return partition_of(microseconds(datetime(int(year), int(month), 1, tzinfo=timezone.utc)))
