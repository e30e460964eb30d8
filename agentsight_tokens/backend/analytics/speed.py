"""Speed and efficiency: how long calls take, how many fail, and what output costs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import timezone, tzinfo
from typing import Any, Final, NamedTuple

from agentsight_tokens.backend.store import Reader
from agentsight_tokens.summary import UsageSummary

from .dimensions import PERIODS, key_of
from .filters import condition_of
from .sample import Sample, newest_sample, percentile
from .usage import usage_by
from .zones import expression, offsets

__all__ = ["FAILED", "SpeedGroup", "SpeedReport", "Timing", "speed"]

FAILED: Final = frozenset({"error", "partial"})
"""The statuses of calls that failed; a call that the program left did not."""


class Timing(NamedTuple):
    """How long something took."""

    calls: int
    """How many calls tell it."""
    mean_seconds: float | None
    p50_seconds: float | None
    p95_seconds: float | None
    """Half, or 95 %, of them took no longer."""


class SpeedGroup(NamedTuple):
    """The calls that have the same key."""

    key: tuple[str | None, ...]
    usage: UsageSummary
    duration: Timing
    """Of calls that ended well."""
    first_token: Timing
    """From the request to the first token, of the same calls."""
    tokens_per_second: float | None
    """Output by duration, of calls that ended well and tell both."""
    failed_calls: int
    failed_ratio: float | None
    output_per_input: float | None
    """Output tokens for each input token, of calls that tell their usage."""
    cost_per_1000_output_tokens_pico_usd: int | None
    """Of calls that have a price, the whole cost by the output."""
    conversations: int
    """How many conversations have calls with a price."""
    cost_per_conversation_pico_usd: int | None


class SpeedReport(NamedTuple):
    """Speed and efficiency by group, and over all groups."""

    by: tuple[str, ...]
    groups: tuple[SpeedGroup, ...]
    """In the order of `usage_by`."""
    total: SpeedGroup
    """With an empty key."""
    sample: Sample
    """The calls of which everything here is told."""


class _Call(NamedTuple):
    conversation_id: str | None
    duration: float | None
    first_token: float | None
    output_tokens: int
    cost: int | None
    status: str


def speed(
    reader: Reader,
    by: Sequence[str] = (),
    *,
    where: Mapping[str, Any] | None = None,
    zone: tzinfo = timezone.utc,
) -> SpeedReport:
    """
    Return how quick, how reliable and how costly the newest 20,000 selected calls were.

    Args:
        reader: Where the calls are.
        by: Names or keys of `DIMENSIONS`.
        where: The filter, as `usage_by` takes it.
        zone: The time zone in which hours and days begin.

    Raises:
        InvalidScopeError: For an unknown dimension or filter.
    """
    sample, bounded = newest_sample(reader, where or {})
    report = usage_by(reader, by, where=bounded, zone=zone)
    calls: dict[tuple[str | None, ...], list[_Call]] = defaultdict(list)
    for key, call in _calls(reader, report.by, bounded, zone):
        calls[key].append(call)
    groups = [_group(key, usage, calls[key]) for key, usage in report.groups]
    everything = [call for of_key in calls.values() for call in of_key]
    return SpeedReport(report.by, tuple(groups), _group((), report.total, everything), sample)


def _calls(
    reader: Reader, keys: Sequence[str], where: Mapping[str, Any], zone: tzinfo
) -> list[tuple[tuple[str | None, ...], _Call]]:
    condition, values = condition_of(reader, where)
    has_period = bool({*map(key_of, keys)} & {*PERIODS})
    segments = offsets(
        reader, where.get("since"), where.get("until"), zone if has_period else timezone.utc
    )
    columns = [expression(key, segments, reader.dialect) for key in keys]
    columns += ["conversation_id", "duration_seconds", "time_to_first_token_seconds"]
    columns += ["output_tokens", "cost_pico_usd", "status"]
    rows = reader.rows(f"SELECT {', '.join(columns)} FROM calls WHERE {condition}", values)  # noqa: S608  # our own names
    width = len(keys)
    return [(tuple(row[:width]), _Call(*row[width:])) for row in rows]


def _group(key: tuple[str | None, ...], usage: UsageSummary, calls: Sequence[_Call]) -> SpeedGroup:
    well = [call for call in calls if call.status == "ok"]
    timed = [call for call in well if call.duration and call.output_tokens]
    seconds = sum(call.duration or 0 for call in timed)
    failed = sum(call.status in FAILED for call in calls)
    priced = [call for call in calls if call.cost is not None]
    cost = sum(call.cost or 0 for call in priced)
    output = sum(call.output_tokens for call in priced)
    conversations = len({c.conversation_id for c in priced if c.conversation_id is not None})
    return SpeedGroup(
        key=key,
        usage=usage,
        duration=_timing([c.duration for c in well if c.duration is not None]),
        first_token=_timing([c.first_token for c in well if c.first_token is not None]),
        tokens_per_second=sum(c.output_tokens for c in timed) / seconds if seconds else None,
        failed_calls=failed,
        failed_ratio=failed / len(calls) if calls else None,
        output_per_input=usage.output_tokens / usage.input_tokens if usage.input_tokens else None,
        cost_per_1000_output_tokens_pico_usd=round(1_000 * cost / output) if output else None,
        conversations=conversations,
        cost_per_conversation_pico_usd=round(cost / conversations) if conversations else None,
    )


def _timing(seconds: list[float]) -> Timing:
    ordered = sorted(seconds)
    mean = sum(ordered) / len(ordered) if ordered else None
    return Timing(len(ordered), mean, percentile(ordered, 0.5), percentile(ordered, 0.95))
