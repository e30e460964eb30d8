"""Sums come from whatever tables know them, and are always those of the calls."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentsight_tokens import Cycle, Scope, TokenUsage, UsageRecord, UsageSummary
from agentsight_tokens.backend.analytics import (
    DIMENSIONS,
    PERIODS,
    UsageReport,
    usage_by,
    usage_over_time,
)
from agentsight_tokens.backend.analytics.sums import sums_by
from agentsight_tokens.backend.store import SQLiteStore, Store
from agentsight_tokens.backend.store.form import MAKINGS
from agentsight_tokens.backend.store.packing import pack_all
from agentsight_tokens.backend.store.rollup import ROLLED_DIMENSIONS, SUM_COLUMNS
from agentsight_tokens.errors import InvalidScopeError
from tests.postgres_kit import PostgreSQL
from tests.records import AT, call
from tests.store_kit import postgresql

__all__ = ["postgresql"]

UTC = timezone.utc
FIRST = datetime(2026, 1, 30, 20, tzinfo=UTC)
LAST = datetime(2026, 4, 2, 5, tzinfo=UTC)
"""Over the ends of two months, and the day on which the clocks of Europe go forward."""

PACKED_AT = datetime(2026, 3, 29, 17, 30, tzinfo=UTC)
"""On that day: the days before are packed, and hours of it, but none in which few calls are."""

EVER = (FIRST - timedelta(days=9), LAST + timedelta(days=9))
NAMES: dict[str, list[str | None]] = {
    "model": ["gpt-4o", "claude", "", None],
    "provider": ["openai", "anthropic", None],
    "operation": ["chat", "embedding"],
    "status": ["ok", "error"],
    "source": ["provider", "estimated"],
    "handler": ["langchain", None],
    "tool_name": [None, None, "search"],
    "service_tier": [None, "flex"],
    "unreported_reason": [None, None, "cancelled"],
}
SCOPES: dict[str, list[str | None]] = {
    "conversation_id": ["c1", "c2", "c3"],
    "session_id": ["c1", "s"],
    "user_id": [None, "u1", "u2", "u3"],
    "org_id": ["o1", "o2"],
    "agent": ["a", None],
    "feature": ["f", "g"],
}
TAGS: list[tuple[str, ...]] = [(), (), ("beta",), ("beta", 'night "shift"'), ("shift",)]
ENVIRONMENTS = ["production", "staging", None]
ZONES: list[timezone | ZoneInfo] = [
    UTC,
    ZoneInfo("Europe/Berlin"),
    ZoneInfo("Asia/Kolkata"),
    ZoneInfo("Asia/Kathmandu"),
    ZoneInfo("Australia/Lord_Howe"),
    timezone(timedelta(hours=-8)),
    timezone(timedelta(minutes=7)),
]
"""Whole hours, halves and quarters, clocks that are set by half an hour, and no quarter at all."""


def time_of(chance: random.Random) -> datetime:
    """Return a time, often one at which an hour, a day or a month begins."""
    at = FIRST + (LAST - FIRST) * chance.random()
    if chance.random() < 0.5:
        at = at.replace(minute=0, second=0, microsecond=0)
    return at.replace(hour=0) if chance.random() < 0.3 else at


def population() -> list[tuple[UsageRecord, str | None]]:
    """Return calls with their environments, the same ones every time."""
    chance = random.Random(7)
    found = []
    for number in range(400):
        facts: dict[str, object] = {name: chance.choice(values) for name, values in NAMES.items()}
        scope = {name: chance.choice(values) for name, values in SCOPES.items()}
        record = call(
            id=str(number),
            at=time_of(chance),
            usage=TokenUsage(input_tokens=chance.randrange(9), output_tokens=chance.randrange(9)),
            scope=Scope(**scope, tags=chance.choice(TAGS)),
            cost_pico_usd=chance.choice([None, chance.randrange(4) * 600_000]),
            duration_seconds=chance.choice([None, chance.random()]),
            time_to_first_token_seconds=chance.choice([None, chance.random() / 7]),
            **facts,
        )
        found.append((record, chance.choice(ENVIRONMENTS)))
    return found


CALLS = population()


@pytest.fixture(
    scope="module", params=["sqlite", "sqlite packed", "postgresql", "postgresql packed"]
)
def store(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Store]:
    """A store of each kind with the same calls in it, and another one with packs of most."""
    with ExitStack() as stack:
        found: Store
        if request.param.startswith("sqlite"):
            path = tmp_path_factory.mktemp("store") / "store.db"
            found = stack.enter_context(SQLiteStore(path))
        else:
            from agentsight_tokens.backend.store.postgres import PostgreSQLStore

            running: PostgreSQL = request.getfixturevalue("postgresql")
            found = stack.enter_context(PostgreSQLStore(running.database()))
        keep(found)
        if request.param.endswith("packed"):
            # As if there were many calls: several parts of a pack, and every form.
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            makings = {
                unit: making._replace(forms=tuple(form._replace(gain=1) for form in making.forms))
                for unit, making in MAKINGS.items()
            }
            patch.setattr("agentsight_tokens.backend.store.packing.MAKINGS", makings)
            patch.setattr("agentsight_tokens.backend.store.packer.ROWS_A_PART", 2)
            patch.setattr("agentsight_tokens.backend.store.packer._MOST_LOOSE", 20)
            for most in ("_MANY_ROWS", "_SELECTIVE"):
                patch.setattr(f"agentsight_tokens.backend.analytics.gathering.{most}", 1)
            assert pack_all(found, PACKED_AT, fewest=2) > 40
        yield found


def keep(store: Store) -> None:
    store.ingest(
        [
            Cycle.of(
                [record],
                key=record.id,
                conversation_id="c",
                sealed_by="send",
                sealed_at=AT,
                environment=environment,
            )
            for record, environment in CALLS
        ]
    )


def period(name: str, at: datetime) -> str:
    """Return the name of the period in which a local time lies."""
    if name == "hour":
        return f"{at:%Y-%m-%dT%H:00}{at.isoformat()[-6:]}"
    if name == "week":
        return f"{at.date() - timedelta(days=at.weekday())}"
    return at.strftime({"day": "%Y-%m-%d", "month": "%Y-%m", "year": "%Y"}[name])


def value_of(name: str, record: UsageRecord, environment: str | None, zone: Any) -> str | None:
    if name == "environment":
        return environment
    if name in SCOPES:
        return str(getattr(record.scope, name)) if getattr(record.scope, name) else None
    if name in NAMES:
        return getattr(record, name) or None
    return period(name, record.at.astimezone(zone))


def is_selected(record: UsageRecord, environment: str | None, where: dict[str, Any]) -> bool:
    if not where.get("since", EVER[0]) <= record.at < where.get("until", EVER[1]):
        return False
    return set(where.get("tags", ())) <= set(record.scope.tags) and all(
        value_of(name, record, environment, UTC) == value
        for name, value in where.items()
        if name not in {"since", "until", "tags"}
    )


def expected(by: Sequence[str], where: dict[str, Any], zone: Any) -> dict[Any, UsageSummary]:
    """Return the groups as Python adds them up."""
    groups: dict[Any, list[UsageRecord]] = {(): []} if not by else {}
    for record, environment in CALLS:
        if is_selected(record, environment, where):
            key = tuple(value_of(name, record, environment, zone) for name in by)
            groups.setdefault(key, []).append(record)
    found = {key: UsageSummary.of_calls(records) for key, records in groups.items()}
    return {key: plain(summary) for key, summary in found.items()}


def plain(summary: UsageSummary) -> UsageSummary:
    """Return a summary without its models."""
    return msgspec.structs.replace(summary, by_model={})


TIMES = st.integers(0, 66 * 24 * 60).map(
    lambda minutes: FIRST - timedelta(days=2) + timedelta(minutes=minutes)
) | st.sampled_from([datetime(2026, m, d, tzinfo=UTC) for m in (2, 3, 4) for d in (1, 2)])
FILTERS: dict[str, Any] = {
    name: st.sampled_from([value for value in values if value])
    for name, values in {**NAMES, **SCOPES, "environment": ENVIRONMENTS}.items()
    if name != "unreported_reason"
} | {"tags": st.sampled_from([tags for tags in TAGS if tags])}


@st.composite
def queries(draw: Callable[..., Any]) -> tuple[list[str], dict[str, Any], Any]:
    """Groupings and filters, mostly of one dimension."""
    names = sorted(set(DIMENSIONS.values()))
    dimension = draw(st.sampled_from(names))
    by = draw(st.lists(st.sampled_from([dimension, dimension, *names]), max_size=3, unique=True))
    where = {}
    for name in draw(st.sets(st.sampled_from([dimension, *FILTERS]), max_size=2)):
        if name in FILTERS:
            where[name] = draw(FILTERS[name])
    for name in draw(st.sets(st.sampled_from(["since", "until"]))):
        where[name] = draw(TIMES)
    return by, where, draw(st.sampled_from(ZONES))


MONTHS = st.sampled_from([datetime(2026, month, 1, tzinfo=UTC) for month in (2, 3, 4)])


@st.composite
def queries_of_months(draw: Callable[..., Any]) -> tuple[list[str], dict[str, Any], Any]:
    """Users and another dimension, mostly over months that are whole."""
    names = ["user_id", draw(st.sampled_from(sorted({*DIMENSIONS.values(), *SCOPES} - {*PERIODS})))]
    filtered = draw(st.sampled_from([*names, *names, ""]))
    where = {name: draw(FILTERS[name]) for name in names if name == filtered}
    periods = draw(st.sampled_from([[], [], [], ["month"], ["year"], ["day"]]))
    for name in draw(st.sets(st.sampled_from(["since", "until"]))):
        where[name] = draw(MONTHS | MONTHS | TIMES)
    by = draw(st.permutations([*(name for name in names if name not in where), *periods]))
    return list(dict.fromkeys(by)), where, draw(st.sampled_from([UTC, *ZONES]))


@given(query=queries() | queries_of_months())
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_sums_are_those_of_the_calls(store: Store, query: Any) -> None:
    """Whatever is asked, for whatever time and in whatever zone."""
    by, where, zone = query

    report = usage_by(store.of_project(1), by, where=where, zone=zone)

    groups = expected(by, where, zone)
    if where.get("since", EVER[0]) >= where.get("until", EVER[1]):
        groups = {}
    assert dict(report.groups) == groups
    assert report.total == plain(UsageSummary.merged(groups.values()))


@given(query=queries(), limit=st.integers(1, 4))
@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_limit_leaves_the_first_groups(store: Store, query: Any, limit: int) -> None:
    """In the order that they have without one; the total is of all groups all the same."""
    by, where, zone = query
    whole = usage_by(store, by, where=where, zone=zone)

    few = usage_by(store, by, where=where, zone=zone, limit=limit)

    assert few == UsageReport(whole.by, whole.groups[:limit], whole.total)


def drawn(report: UsageReport) -> list[Any]:
    """Return what a chart shows."""
    return [
        (key, usage.cost_pico_usd, usage.total_tokens + usage.embedding_tokens, usage.request_count)
        for key, usage in (*report.groups, ((), report.total))
    ]


@given(query=queries() | queries_of_months(), step=st.sampled_from(PERIODS), most=st.integers(0, 4))
@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_sums_over_time_are_two_answers_at_once(
    store: Store, query: Any, step: str, most: int
) -> None:
    """By the dimension, and by the time with or without it, as if each were asked alone."""
    names, where, zone = query
    by = names[0] if names else "session_id"
    reader = store.of_project(1)

    found, steps = usage_over_time(reader, (step, by), where=where, zone=zone, limit=3, most=most)

    assert found == usage_by(reader, [by], where=where, zone=zone, limit=3)
    is_split = by not in PERIODS and len(found.groups) <= min(most, 2)
    keys = [step, by] if is_split else [step]
    assert drawn(steps) == drawn(usage_by(reader, keys, where=where, zone=zone))


@pytest.mark.parametrize("name", ROLLED_DIMENSIONS)
def test_times_are_summed(store: Store, name: str) -> None:
    """How long calls took comes from the tables of sums as it comes from the calls."""
    ranges = [{}, {"since": FIRST + timedelta(days=3.1), "until": LAST - timedelta(days=8.7)}]
    for where in ranges:
        found = sums_by(store, [name], where=where)

        for key, sums in found.groups:
            records = [
                r
                for r, e in CALLS
                if is_selected(r, e, where) and value_of(name, r, e, UTC) == key[0]
            ]
            timed = [r for r in records if r.duration_seconds is not None]
            streamed = [r for r in records if r.time_to_first_token_seconds is not None]
            expected = {
                "timed_calls": len(timed),
                "timed_output_tokens": sum(r.output_tokens for r in timed),
                "duration_microseconds": sum(
                    int((r.duration_seconds or 0) * 1_000_000) for r in timed
                ),
                "first_token_calls": len(streamed),
                "first_token_microseconds": sum(
                    int((r.time_to_first_token_seconds or 0) * 1_000_000) for r in streamed
                ),
            }
            assert dict(zip(SUM_COLUMNS[-5:], sums[-5:], strict=True)) == expected


class Watched:
    """A reader that remembers what it was asked."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.dialect = store.dialect
        self.statements: list[str] = []

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        self.statements.append(statement)
        return self._store.rows(statement, values)


@pytest.mark.parametrize(
    ("by", "where", "zone"),
    [
        ([], {}, UTC),
        (["day"], {}, ZONES[1]),
        (["hour"], {"model": "gpt-4o"}, UTC),
        (["user", "month"], {}, UTC),
        (["user"], {"since": datetime(2026, 2, 3, tzinfo=UTC), "until": LAST}, UTC),
        (["feature", "day"], {"feature": "f"}, UTC),
        (["model", "day"], {"environment": "production"}, ZONES[5]),
    ],
)
def test_no_call_is_read_for_whole_days(
    store: Store, by: list[str], where: dict[str, Any], zone: Any
) -> None:
    """An end beyond the last call is no end."""
    reader = Watched(store)
    usage_by(reader, by, where=where, zone=zone)

    assert not [s for s in reader.statements if " FROM calls" in s]


def test_a_naive_time_is_refused(store: Store) -> None:
    """In any zone, before anything is asked."""
    with pytest.raises(InvalidScopeError, match="aware"):
        usage_by(store, ["day"], where={"since": FIRST.replace(tzinfo=None)}, zone=ZONES[1])


def test_the_end_of_time_is_a_time(store: Store) -> None:
    """No month that is looked for begins after it."""
    last = datetime(9999, 12, 31, 23, 59, tzinfo=UTC)

    assert usage_by(store, [], where={"since": last}).total.request_count == 0
    assert usage_by(store, [], where={"until": last}).total.request_count == len(CALLS)
