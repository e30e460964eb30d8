"""Made-up calls: as many as asked for, in the shape of real ones, the same for the same seed."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta, timezone

from typer.testing import CliRunner, Result

from agentsight_tokens import Cycle, TokenConfig, TokenUsage
from agentsight_tokens.backend.analytics import usage_by
from agentsight_tokens.backend.seeding import Seeding, seeded_cycles
from agentsight_tokens.backend.store import SQLiteStore
from agentsight_tokens.cli.app import app

UNTIL = datetime(2026, 3, 2, tzinfo=timezone.utc)
SEEDING = Seeding(calls=4_000, months=2, until=UNTIL, seed=3)


def made(seeding: Seeding = SEEDING) -> list[Cycle]:
    return [cycle for cycles in seeded_cycles(seeding) for cycle in cycles]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["db", "seed", *arguments], env={"COLUMNS": "120"})


def test_the_same_seed_makes_the_same_calls() -> None:
    """Another one makes others."""
    assert made() == made()
    assert made()[0] != made(SEEDING._replace(seed=4))[0]


def test_cycles_are_what_trackers_would_send() -> None:
    """Their totals are those of their calls, which have ids of their own."""
    cycles = made()

    ids = [record.id for cycle in cycles for record in cycle.records]
    assert len(set(ids)) == len(ids) == SEEDING.calls
    assert len({cycle.key for cycle in cycles}) == len(cycles)
    for cycle in cycles:
        again = Cycle.of(
            cycle.records,
            key=cycle.key,
            conversation_id=cycle.conversation_id,
            sealed_by=cycle.sealed_by,
            sealed_at=cycle.sealed_at,
            environment=cycle.environment,
        )
        assert cycle == again


def test_calls_have_the_shape_of_real_ones() -> None:
    """Weekends are quiet, use grows, few users call most, and not everything is known."""
    records = [record for cycle in made() for record in cycle.records]

    by_day = Counter(record.at.weekday() for record in records)
    assert by_day[1] > 1.5 * by_day[6]
    middle = UNTIL - timedelta(days=30)
    assert sum(r.at >= middle for r in records) > 1.2 * sum(r.at < middle for r in records)
    by_user = Counter(record.scope.user_id for record in records).most_common()
    assert by_user[0][1] > 10 * by_user[-1][1]
    assert sum(record.usage.cache_read_tokens > 0 for record in records) > 400
    assert {record.status for record in records} == {"ok", "error", "cancelled"}
    assert {record.cost_status for record in records} == {"priced", "unpriced"}
    assert any(record.is_unreported for record in records)
    assert any(record.source == "estimated" for record in records)
    assert any(record.usage.embedding_tokens for record in records)
    assert all(UNTIL - timedelta(days=60) <= r.at < UNTIL + timedelta(hours=1) for r in records)


def test_details_are_parts_of_what_they_detail() -> None:
    """No cache read is larger than the input, no reasoning than the output."""
    for cycle in made():
        for usage in (record.usage for record in cycle.records):
            assert usage.cache_read_tokens + usage.cache_creation_tokens <= usage.input_tokens
            assert usage.reasoning_tokens <= usage.output_tokens


def test_a_store_is_seeded_once() -> None:
    """One that has calls is left alone; with --add what is missing of the same seed is added."""
    arguments = ("--calls", "500", "--months", "1", "--until", "2026-03-02")
    assert run(*arguments).exit_code == 0
    refused = run(*arguments)
    assert (refused.exit_code, "--add" in refused.stderr) == (2, True)
    assert run(*arguments, "--add").exit_code == 0

    with SQLiteStore(TokenConfig().directory / "store.db") as store:
        assert usage_by(store, ()).total.request_count == 500


def test_costs_are_those_of_the_catalog() -> None:
    """What a call costs is what the estimator would say."""
    from agentsight_tokens import CostEstimator

    estimator = CostEstimator()
    for cycle in made()[:200]:
        for record in cycle.records:
            if record.usage != TokenUsage() and record.cost_status == "priced":
                cost = estimator.estimate(
                    model=record.model, provider=record.provider, usage=record.usage
                )
                assert record.cost == cost.total_cost
