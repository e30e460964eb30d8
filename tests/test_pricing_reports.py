"""Explaining and repricing what is in the ledger."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import pytest
from inline_snapshot import snapshot

from agentsight_tokens.pricing import CostEstimator
from agentsight_tokens.pricing.explanation import explained, model_sheet
from agentsight_tokens.pricing.repricing import repriced
from agentsight_tokens.usage import TokenUsage, UsageRecord

AT = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)


@pytest.fixture(scope="module")
def estimator() -> CostEstimator:
    return CostEstimator()


def record(model: str | None = "gpt-4o", **fields: Any) -> UsageRecord:
    usage = fields.pop("usage", TokenUsage(input_tokens=2000, output_tokens=500))
    return UsageRecord(id="1", at=fields.pop("at", AT), usage=usage, model=model, **fields)


def priced(estimator: CostEstimator, record: UsageRecord) -> UsageRecord:
    (repricing,) = repriced([record], estimator)
    return repricing.new_record


# -- explaining --------------------------------------------------------------------------------


def test_a_cost_is_explained_line_by_line(estimator: CostEstimator) -> None:
    """The arithmetic of a record, as `prices explain` prints it."""
    usage = TokenUsage(
        input_tokens=12_000,
        output_tokens=500,
        cache_read_tokens=8_000,
        cache_creation_tokens=3_000,
        cache_creation_1h_tokens=1_000,
        web_search_requests=2,
    )
    call = priced(estimator, record("claude-sonnet-4-5", usage=usage, provider="anthropic"))

    assert explained(call, estimator) == snapshot(
        [
            "claude-sonnet-4-5 · anthropic · 2026-11-20 12:00:00 UTC",
            "price claude-sonnet-4-5 (exact), version 2026-10-21 litellm-1.106.2",
            "  input                    1,000 x $3 per million = $0.003",
            "  cache_read               8,000 x $0.3 per million = $0.0024",
            "  cache_write              2,000 x $3.75 per million = $0.0075",
            "  cache_write_1h           1,000 x $6 per million = $0.006",
            "  output                     500 x $15 per million = $0.0075",
            "  search                       2 x $0.01 each = $0.02",
            "  total $0.0464, priced",
        ]
    )


def test_a_batch_that_rounds_is_explained(estimator: CostEstimator) -> None:
    """A derived rate is shown in full."""
    call = record("morph/morph-dsv4flash", service_tier="batch", usage=TokenUsage(input_tokens=3))

    assert explained(call, estimator) == snapshot(
        [
            "morph/morph-dsv4flash · batch · 2026-11-20 12:00:00 UTC",
            "price morph/morph-dsv4flash (exact), version 2026-11-12 litellm-1.109.1",
            "  input                        3 x $0.0709765625 per million = $0.0000002129296875",
            "  total $0.00000021293, derived",
            "  recorded: no cost",
        ]
    )


def test_an_explanation_tells_what_was_recorded(estimator: CostEstimator) -> None:
    """A cost that was recorded by other prices is shown beside today's."""
    call = record(cost_pico_usd=20_000_000_000, price_version="2024-05-13 user")

    assert explained(call, estimator)[-2:] == [
        "  total $0.01, priced",
        "  recorded: $0.02, version 2024-05-13 user",
    ]


def test_what_has_no_cost_is_explained(estimator: CostEstimator) -> None:
    """An unknown model and an unknown usage say so."""
    with pytest.warns(UserWarning, match="no price"):
        assert explained(record("claude-foo-9"), estimator) == snapshot(
            [
                "claude-foo-9 · 2026-11-20 12:00:00 UTC",
                "unpriced: no price is known for 'claude-foo-9'",
            ]
        )
    assert explained(record(unreported_reason="provider_silent"), estimator) == snapshot(
        ["gpt-4o · 2026-11-20 12:00:00 UTC", "unreported (provider_silent): the usage is not known"]
    )
    assert explained(record(None), estimator) == snapshot(
        ["no model · 2026-11-20 12:00:00 UTC", "unpriced: no price is known for None"]
    )


def test_a_model_is_shown_with_its_history(estimator: CostEstimator) -> None:
    """What `prices show` prints: how the name matched, and every row."""
    assert model_sheet("o3", estimator) == snapshot(
        [
            "o3 is o3 (exact)",
            "  provider openai, mode chat, context 200000, output 100000, retires 2026-12-11",
            "  litellm-1.67.0, until 2025-06-10 (as of 2025-06-01 by litellm-1.72.0), USD per million tokens:",
            "    input                        10",
            "    output                       40",
            "    cache_read                   2.5",
            "  2025-06-10 litellm-1.74.0, until further notice (as of 2026-11-12 by litellm-1.109.1), USD per million tokens:",
            "    cache_read                   0.5",
            "    cache_read~flex              0.25",
            "    cache_read~priority          0.875",
            "    input                        2",
            "    input~batches                1",
            "    input~flex                   1",
            "    input~priority               3.5",
            "    output                       8",
            "    output~batches               4",
            "    output~flex                  4",
            "    output~priority              14",
            "    0.01 per search",
        ]
    )
    assert model_sheet("claude-foo-9", estimator) == []


def test_fees_factors_and_hours_are_shown(estimator: CostEstimator) -> None:
    """Searches, prices per call, regions and hours have their lines."""
    lines = [
        line
        for model in (
            "gemini-2.5-pro",
            "gpt-5",
            "rerank-v3.5",
            "claude-opus-4-8",
            "deepseek-v4-pro",
        )
        for line in model_sheet(model, estimator)
        if "per call" in line or "per search" in line or "times" in line or "UTC" in line
    ]

    assert lines == snapshot(
        [
            "    0.035 per call with searches",
            "    times 1.1 when region:us",
            "    times 1.1 when region:eu",
            "    0.01 per search",
            "    0.002 per call",
            "    times 1.1 when region:us",
            "    times 2 when fast",
            "    0.01 per search",
            "    in 00:00-01:00, 04:00-06:00, 10:00-00:00, 00:00-00:00 UTC: cache_read 0.022, input 0.66, output 1.98",
        ]
    )


# -- repricing ---------------------------------------------------------------------------------


def test_repricing_keeps_the_old_beside_the_new(estimator: CostEstimator) -> None:
    """A call that had no price gets one, at its own time; the record itself is untouched."""
    old = record("o3", at=datetime(2025, 6, 1, tzinfo=timezone.utc))

    (repricing,) = repriced([old], estimator)

    assert repricing.is_change
    assert repricing.record is old
    assert repricing.record.cost is None
    assert repricing.new.total_cost == Decimal("0.04")
    assert repricing.difference_pico_usd == 40_000_000_000
    assert repricing.new_record.price_version == "litellm-1.67.0"
    assert repricing.new_record.cost == Decimal("0.04")


def test_repricing_what_is_right_changes_nothing(estimator: CostEstimator) -> None:
    """Repricing twice is repricing once."""
    call = priced(estimator, record())

    (again,) = repriced([call], estimator)

    assert not again.is_change
    assert again.difference_pico_usd == 0
    assert again.new_record == call


def test_repricing_leaves_out_what_is_unreported(estimator: CostEstimator) -> None:
    """No price helps a call whose usage is not known."""
    assert list(repriced([record(unreported_reason="provider_silent")], estimator)) == []
