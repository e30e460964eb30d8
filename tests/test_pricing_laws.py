"""Laws of money: exact in any order, never negative, never more than its parts."""

from __future__ import annotations

import random
from datetime import datetime, timezone
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentsight_tokens.errors import InconsistentUsageWarning
from agentsight_tokens.pricing import CostEstimator
from agentsight_tokens.pricing.cost import cost_of, rounded, text_cost_of
from agentsight_tokens.summary import UsageSummary
from agentsight_tokens.usage import TokenUsage, UsageRecord, usd

ESTIMATOR = CostEstimator()
MODELS = (
    "gpt-4o",
    "gpt-5.5",
    "claude-opus-4-8",
    "gemini/gemini-2.5-flash",
    "xai/grok-4.20",
    "dashscope/qwen-plus-latest",
    "deepseek/deepseek-v4-pro",
    "bigmodel/glm-5.3",
    "morph/morph-dsv4flash",
    "text-embedding-3-small",
    "perplexity/sonar-pro",
    "gpt-realtime",
)
TIERS = (None, "flex", "priority", "fast", "scale")

counts = st.integers(min_value=0, max_value=2_000_000)


@st.composite
def usages(draw: st.DrawFn) -> TokenUsage:
    """Any usage whose details fit into its totals."""
    read, written = draw(counts), draw(counts)
    audio, image, text = draw(counts), draw(counts), draw(counts)
    read_audio = draw(st.integers(0, min(audio, read)))
    reasoning, audio_out, image_out, answer = (draw(counts) for _ in range(4))
    return TokenUsage(
        input_tokens=text + read + written + (audio - read_audio) + image,
        output_tokens=answer + reasoning + audio_out + image_out,
        embedding_tokens=draw(counts),
        cache_read_tokens=read,
        cache_creation_tokens=written,
        cache_creation_1h_tokens=draw(st.integers(0, written)),
        reasoning_tokens=reasoning,
        audio_input_tokens=audio,
        audio_output_tokens=audio_out,
        cache_read_audio_tokens=read_audio,
        image_input_tokens=image,
        image_output_tokens=image_out,
        web_search_requests=draw(st.integers(0, 20)),
    )


calls = st.tuples(
    st.sampled_from(MODELS),
    usages(),
    st.fixed_dictionaries(
        {
            "service_tier": st.sampled_from(TIERS),
            "batch": st.booleans(),
            "region": st.sampled_from((None, "us", "eu", "global")),
        }
    ),
)


@given(calls)
def test_a_cost_is_the_sum_of_its_parts(call: tuple[str, TokenUsage, dict[str, object]]) -> None:
    """No part is negative, and they add up to the total, which is whole pico-dollars."""
    model, usage, kind = call

    cost = ESTIMATOR.price(usage, model, **kind)  # type: ignore[arg-type]

    parts = (
        cost.prompt_cost_pico_usd,
        cost.completion_cost_pico_usd,
        cost.embedding_cost_pico_usd,
        cost.fee_pico_usd,
    )
    assert cost.cost_pico_usd is not None
    assert all(type(part) is int and part >= 0 for part in parts)
    assert sum(part for part in parts if part is not None) == cost.cost_pico_usd


@given(
    st.sampled_from(MODELS),
    st.sampled_from(TIERS),
    *(st.integers(min_value=least, max_value=2_000_000) for least in (1, 1, 0, 0)),
)
def test_the_short_way_to_a_cost_ends_where_the_long_one_does(
    model: str, tier: str | None, text: int, answer: int, read: int, reasoning: int
) -> None:
    """What is priced in fewer steps costs the same to the last pico-dollar, and says the same."""
    usage = TokenUsage(
        input_tokens=text + read,
        output_tokens=answer + reasoning,
        cache_read_tokens=read,
        reasoning_tokens=reasoning,
    )
    card = ESTIMATOR.price(usage, model, service_tier=tier).card
    assert card is not None

    short = text_cost_of(usage, card)

    if short is not None:
        whole = cost_of(usage, card, model)
        assert whole is not None
        assert short == (
            whole.cost_pico_usd,
            whole.prompt_cost_pico_usd,
            whole.completion_cost_pico_usd,
            whole.status,
        )


@pytest.mark.parametrize(
    "usage",
    [
        TokenUsage(input_tokens=5, cache_creation_tokens=1),
        TokenUsage(input_tokens=5, cache_creation_1h_tokens=1),
        TokenUsage(input_tokens=5, embedding_tokens=1),
        TokenUsage(input_tokens=5, audio_input_tokens=1),
        TokenUsage(input_tokens=5, output_tokens=1, web_search_requests=1),
        TokenUsage(input_tokens=5, cache_read_tokens=6),
        TokenUsage(output_tokens=5, reasoning_tokens=6),
    ],
)
def test_only_the_common_is_priced_the_short_way(usage: TokenUsage) -> None:
    """Other details, and usages that contradict themselves, go the long way."""
    card = ESTIMATOR.price(TokenUsage(input_tokens=1), "gpt-4o").card
    assert card is not None

    assert text_cost_of(usage, card) is None
    assert text_cost_of(TokenUsage(input_tokens=5, cache_read_tokens=5), card)


@pytest.mark.filterwarnings("ignore")
@given(calls, st.sampled_from(["2023-01-01", "2025-09-01", "2026-11-01"]))
def test_a_record_costs_what_its_usage_costs(
    call: tuple[str, TokenUsage, dict[str, object]], day: str
) -> None:
    """A record is priced by the prices of its own time, whatever it used."""
    model, usage, kind = call
    at = datetime.fromisoformat(day).replace(tzinfo=timezone.utc)
    kind = {name: kind[name] for name in ("service_tier", "region")}
    record = UsageRecord(id="1", at=at, usage=usage, model=model, **kind)  # type: ignore[arg-type]

    found = ESTIMATOR.priced(record)

    cost = ESTIMATOR.price(usage, model, at=at, **kind)  # type: ignore[arg-type]
    assert (found.cost_pico_usd, found.prompt_cost_pico_usd, found.completion_cost_pico_usd) == (
        cost.cost_pico_usd,
        cost.prompt_cost_pico_usd,
        cost.completion_cost_pico_usd,
    )
    assert (found.cost_status, found.price_key, found.price_version) == (
        cost.status,
        cost.matched_key,
        cost.price_version,
    )


def test_a_sum_of_calls_is_priced_as_one() -> None:
    """What many calls used together can be priced as if one had used it."""
    usage = {"input_tokens": 1_000, "output_tokens": 10}

    cost = ESTIMATOR.price(UsageSummary(**usage, by_model={"m": UsageSummary()}), "gpt-4o")

    assert cost.total_cost == ESTIMATOR.price(TokenUsage(**usage), "gpt-4o").total_cost


@given(calls)
def test_the_lines_that_explain_a_cost_add_up_to_it(
    call: tuple[str, TokenUsage, dict[str, object]],
) -> None:
    """The explanation and the total differ by less than the one rounding."""
    model, usage, kind = call

    cost = ESTIMATOR.price(usage, model, **kind)  # type: ignore[arg-type]

    assert cost.total_cost is not None
    difference = abs(sum((b.cost for b in cost.buckets), Decimal(0)) - cost.total_cost)
    assert difference <= Decimal("0.500001e-12")


@given(st.lists(calls, min_size=1, max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=50)
def test_sums_are_exact_in_any_order_and_grouping(
    some: list[tuple[str, TokenUsage, dict[str, object]]], random: random.Random
) -> None:
    """Costs of calls may be added in any order and by any group."""
    costs = [
        ESTIMATOR.price(usage, model, **kind).cost_pico_usd or 0  # type: ignore[arg-type]
        for model, usage, kind in some
    ]
    shuffled = list(costs)
    random.shuffle(shuffled)
    cut = random.randint(0, len(costs))

    assert sum(shuffled) == sum(costs)
    assert usd(sum(shuffled[:cut])) + usd(sum(shuffled[cut:])) == sum(map(usd, costs))


def test_a_million_mixed_calls_add_up_exactly() -> None:
    """Every order of a million calls has the same sum, the one of exact fractions."""
    source = random.Random(4)
    kinds = [
        ESTIMATOR.estimate(source.randrange(400_000), source.randrange(9_000), model)
        for model in MODELS
        for _ in range(50)
    ]
    costs = [cost.cost_pico_usd or 0 for cost in source.choices(kinds, k=1_000_000)]
    expected = sum(costs)

    source.shuffle(costs)
    by_hundreds = sum(sum(costs[at : at + 100]) for at in range(0, len(costs), 100))

    assert sum(costs) == by_hundreds == expected
    assert usd(expected) == Decimal(expected) / 10**12


@given(counts, counts)
def test_a_text_call_costs_the_same_by_every_way(inputs: int, outputs: int) -> None:
    """The short way for plain text and the long way for any usage agree."""
    for model in MODELS:
        short = ESTIMATOR.estimate(inputs, outputs, model)
        usage = TokenUsage(input_tokens=inputs, output_tokens=outputs)
        fixed = ESTIMATOR.price(usage, model, service_tier="default")

        assert short.cost_pico_usd == fixed.cost_pico_usd
        assert short.prompt_cost_pico_usd == fixed.prompt_cost_pico_usd
        assert short.status == fixed.status


@given(st.integers(0, 10**30), st.integers(1, 10**9))
def test_rounding_is_half_to_even(scaled: int, scale: int) -> None:
    """A sum is rounded once, as Python rounds fractions."""
    assert rounded(scaled, scale) == round(Fraction(scaled, scale))


@given(usages(), st.integers(1, 1_000))
@pytest.mark.filterwarnings("ignore::agentsight_tokens.errors.InconsistentUsageWarning")
def test_a_contradiction_is_never_cheaper_than_its_totals(usage: TokenUsage, more: int) -> None:
    """Details beyond the total give no discount."""
    broken = TokenUsage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cache_read_tokens=usage.input_tokens + more,
    )

    cost = ESTIMATOR.price(broken, "gpt-4o")

    plain = ESTIMATOR.estimate(usage.input_tokens, usage.output_tokens, "gpt-4o")
    assert cost.status == "inconsistent"
    assert cost.cost_pico_usd == plain.cost_pico_usd


def test_the_warning_category_exists() -> None:
    """The filter above names a real category."""
    assert issubclass(InconsistentUsageWarning, UserWarning)
