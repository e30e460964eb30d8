"""The estimator: statuses, the user's own prices, warnings, and what each cost says of itself."""

from __future__ import annotations

import logging
import warnings
from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest

from agentsight_tokens.errors import (
    ConfigurationError,
    InconsistentUsageWarning,
    InvalidCountError,
    UnknownModelError,
    UnpricedModelWarning,
)
from agentsight_tokens.pricing import CostEstimator, ModelPrice
from agentsight_tokens.usage import TokenUsage


@pytest.fixture
def estimator() -> CostEstimator:
    return CostEstimator()


def test_a_cost_says_where_it_comes_from(estimator: CostEstimator) -> None:
    """Every cost names its key, its version and how the name matched."""
    cost = estimator.estimate(1000, 500, "gpt-4o")

    assert (cost.prompt_cost, cost.completion_cost) == (Decimal("0.0025"), Decimal("0.005"))
    assert (cost.embedding_cost, cost.total_cost) == (Decimal(0), Decimal("0.0075"))
    assert (cost.model, cost.status, cost.matched) == ("gpt-4o", "priced", "exact")
    assert (cost.matched_key, cost.price_key) == ("gpt-4o", "gpt-4o")
    assert cost.price_version == "2026-08-02 litellm-1.95.0"


def test_positional_and_named_and_usage_arguments_agree(estimator: CostEstimator) -> None:
    """The first three arguments, their names and a usage mean the same, at every call."""
    usage = TokenUsage(input_tokens=1000, output_tokens=500)

    costs = [
        cost
        for _ in range(2)
        for cost in (
            estimator.estimate(1000, 500, "gpt-4o"),
            estimator.estimate(input_tokens=1000, output_tokens=500, model="gpt-4o"),
            estimator.estimate(model="gpt-4o", usage=usage),
            estimator.price(usage, "gpt-4o"),
            estimator.price(usage, "gpt-4o", provider="openai"),
            estimator.estimate(1000, 500, "gpt-4o", at=datetime.now(timezone.utc)),
        )
    ]

    assert {cost.total_cost for cost in costs} == {Decimal("0.0075")}
    assert {cost.status for cost in costs} == {"priced"}


def test_an_embedding_costs_apart(estimator: CostEstimator) -> None:
    """Embedded tokens cost the input rate, and count neither as prompt nor as completion."""
    usage = TokenUsage(embedding_tokens=1_000_000)

    cost = estimator.price(usage, "text-embedding-3-large")

    assert (cost.embedding_cost, cost.total_cost) == (Decimal("0.13"), Decimal("0.13"))
    assert (cost.prompt_cost, cost.completion_cost) == (0, 0)
    assert [bucket.name for bucket in cost.buckets] == ["embedding"]


def test_a_search_is_a_fee(estimator: CostEstimator) -> None:
    """What no token caused stands apart from prompt and completion."""
    usage = TokenUsage(input_tokens=1000, web_search_requests=2)

    cost = estimator.price(usage, "claude-sonnet-4-5")

    assert (cost.prompt_cost, cost.fee) == (Decimal("0.003"), Decimal("0.02"))
    assert cost.fee_pico_usd == 20_000_000_000


def test_a_search_without_a_price_is_an_estimate(estimator: CostEstimator) -> None:
    """A fee that the catalog does not know makes the cost an estimate, not a lie."""
    usage = TokenUsage(input_tokens=1000, web_search_requests=2)

    assert estimator.price(usage, "gpt-4-turbo").status == "estimated"


def test_an_unknown_model_has_no_cost_and_one_warning(
    estimator: CostEstimator, caplog: pytest.LogCaptureFixture
) -> None:
    """No price is None and never 0; it is said once for each name."""
    with pytest.warns(UnpricedModelWarning, match="no price is known for 'claude-foo-9'"):
        cost = estimator.estimate(1000, 500, "claude-foo-9")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = estimator.estimate(1, 1, "claude-foo-9")

    for each in (cost, again):
        assert each.status == "unpriced"
        assert (each.total_cost, each.prompt_cost, each.completion_cost) == (None, None, None)
        assert (each.embedding_cost, each.fee, each.fee_pico_usd) == (None, None, None)
        assert (each.matched_key, each.price_version, each.matched) == (None, None, None)
        assert each.buckets == ()


def test_a_call_without_a_model_is_unpriced_in_silence(estimator: CostEstimator) -> None:
    """Who names no model knows it; nothing is warned of."""
    assert estimator.estimate(50, 20).status == "unpriced"
    assert estimator.estimate(50, 20, "").total_cost is None


@pytest.mark.parametrize("model", ["claude-foo-9", None])
def test_a_strict_estimator_raises(model: str | None) -> None:
    """In strict mode no call goes without a price."""
    with pytest.raises(UnknownModelError, match="set strict=False"):
        CostEstimator(strict=True).estimate(1, 1, model)


def test_a_warning_that_is_an_error_stops_nothing(
    estimator: CostEstimator, caplog: pytest.LogCaptureFixture
) -> None:
    """Under a filter that turns warnings into errors, the message is logged instead."""
    with warnings.catch_warnings(), caplog.at_level(logging.WARNING):
        warnings.simplefilter("error")
        cost = estimator.estimate(1, 1, "claude-foo-9")

    assert cost.status == "unpriced"
    assert "no price is known" in caplog.text


@pytest.mark.parametrize(
    "counts",
    [
        {"input_tokens": 100, "cache_read_tokens": 150},
        {"input_tokens": 100, "cache_creation_tokens": 101},
        {"input_tokens": 100, "cache_creation_tokens": 10, "cache_creation_1h_tokens": 11},
        {"input_tokens": 100, "audio_input_tokens": 101},
        {"input_tokens": 100, "audio_input_tokens": 1, "cache_read_audio_tokens": 2},
    ],
)
def test_details_that_exceed_the_input_are_no_discount(
    estimator: CostEstimator, counts: dict[str, int]
) -> None:
    """A usage that contradicts itself costs its totals, says so and is warned of once."""
    usage = TokenUsage(output_tokens=10, **counts)

    with pytest.warns(InconsistentUsageWarning, match="its details exceed its 100 input"):
        cost = estimator.price(usage, "gpt-4o")
    again = estimator.price(usage, "gpt-4o")

    assert cost.status == again.status == "inconsistent"
    assert cost.total_cost == estimator.estimate(100, 10, "gpt-4o").total_cost
    assert sum(bucket.cost for bucket in cost.buckets) == cost.total_cost


def test_cached_tokens_beyond_the_input_are_no_discount(estimator: CostEstimator) -> None:
    """The same holds for the argument of `estimate`."""
    with pytest.warns(InconsistentUsageWarning):
        cost = estimator.estimate(100, 0, "gpt-4o", cached_tokens=150)

    assert cost.total_cost == Decimal("0.00025")


def test_reasoning_beyond_the_output_is_inconsistent(estimator: CostEstimator) -> None:
    """Details of the output are held against it too."""
    usage = TokenUsage(output_tokens=10, reasoning_tokens=11)

    with pytest.warns(InconsistentUsageWarning):
        cost = estimator.price(usage, "gpt-5")

    assert (cost.status, cost.total_cost) == ("inconsistent", Decimal("0.0001"))


@pytest.mark.parametrize("count", [-1, 1.5, "7", True])
@pytest.mark.parametrize("name", ["input_tokens", "output_tokens", "cached_tokens"])
def test_a_count_must_be_a_count(estimator: CostEstimator, name: str, count: object) -> None:
    """A negative or broken count raises, also for a model that is at hand."""
    estimator.estimate(1, 1, "gpt-4o")

    with pytest.raises(InvalidCountError, match=name):
        estimator.estimate(model="gpt-4o", **{name: count})


def test_a_derived_rate_is_flagged_only_where_it_is_used(estimator: CostEstimator) -> None:
    """Half a price by rule is derived; a stated one beside it is not."""
    plain = TokenUsage(input_tokens=1000, output_tokens=10)
    cached = TokenUsage(input_tokens=1000, output_tokens=10, cache_read_tokens=400)

    assert estimator.price(plain, "gpt-4o", batch=True).status == "priced"
    assert estimator.price(cached, "gpt-4o", batch=True).status == "derived"
    assert estimator.price(plain, "mistral/mistral-large-latest", batch=True).status == "derived"
    assert estimator.price(plain, "gpt-4-turbo", service_tier="priority").status == "derived"


def test_a_family_price_is_an_estimate(estimator: CostEstimator) -> None:
    """A date that nobody knows is priced as its family, and flagged."""
    cost = estimator.estimate(1000, 500, "gpt-4o-mini-2099-01-01")

    assert cost.total_cost == estimator.estimate(1000, 500, "gpt-4o-mini").total_cost
    assert (cost.status, cost.matched, cost.matched_key) == ("estimated", "base", "gpt-4o-mini")


def test_the_hour_decides_even_when_none_is_given(estimator: CostEstimator) -> None:
    """A model with off-peak hours is priced by the clock."""
    now = datetime.now(timezone.utc)

    given = estimator.estimate(1000, 0, "deepseek/deepseek-v4-pro", at=now)
    by_clock = estimator.estimate(1000, 0, "deepseek/deepseek-v4-pro")

    assert by_clock.total_cost == given.total_cost


@pytest.mark.parametrize("zone", [timezone.utc, timezone(timedelta(hours=9)), None])
def test_a_time_counts_in_utc(estimator: CostEstimator, zone: timezone | None) -> None:
    """A time of another zone is converted; a naive one is UTC."""
    change = datetime(2025, 6, 10, tzinfo=timezone.utc)
    moments = [change - timedelta(seconds=1), change]
    if zone is None:
        moments = [moment.replace(tzinfo=None) for moment in moments]
    else:
        moments = [moment.astimezone(zone) for moment in moments]

    before, after = (estimator.estimate(1000, 0, "o3", at=moment) for moment in moments)

    assert (before.total_cost, after.total_cost) == (Decimal("0.01"), Decimal("0.002"))
    assert before.price_version == "litellm-1.67.0"
    assert after.price_version == "2025-06-10 litellm-1.74.0"


def test_a_local_model_costs_nothing_by_a_row(estimator: CostEstimator) -> None:
    """A server of one's own is a known 0, with a key and a version."""
    cost = estimator.estimate(1000, 500, "my-tune:8b", provider="ollama")

    assert (cost.total_cost, cost.status, cost.matched_key) == (0, "priced", "local/*")


def test_a_row_without_a_rate_prices_nothing_that_needs_it(estimator: CostEstimator) -> None:
    """An output without a known price makes the whole call unpriced."""
    usage = TokenUsage(input_tokens=10, output_tokens=10)

    with pytest.warns(UnpricedModelWarning):
        cost = estimator.price(usage, "gpt-image-1")

    assert cost.status == "unpriced"


def test_an_input_without_a_rate_prices_no_embedding(estimator: CostEstimator) -> None:
    """The same holds for embedded tokens."""
    with pytest.warns(UnpricedModelWarning):
        cost = estimator.price(TokenUsage(embedding_tokens=5), "twelvelabs.pegasus-1-2-v1:0")

    assert cost.status == "unpriced"


# -- the user's own prices ---------------------------------------------------------------------


def test_a_flat_rate_is_per_thousand_both_ways() -> None:
    """A bare number is USD per 1,000 tokens, in and out."""
    estimator = CostEstimator(cost_rates={"my-custom-model": 0.001})

    cost = estimator.estimate(1000, 500, "my-custom-model")

    assert (cost.total_cost, cost.matched, cost.price_version) == (
        Decimal("0.0015"),
        "user",
        "user",
    )
    assert cost.prompt_cost == Decimal("0.001")


@pytest.mark.parametrize(
    "model",
    ["MY_MODEL", "my-model", "my.model", "My_Model", "openai/my-model", "hosted_vllm/my-model"],
)
@pytest.mark.parametrize("prefix", ["MAMBA_COST_RATES__", "AGENTSIGHT_COST_RATES__"])
def test_a_rate_of_the_environment_matches_however_it_is_spelt(
    monkeypatch: pytest.MonkeyPatch, prefix: str, model: str
) -> None:
    """`_`, `-`, `.` and case compare equal, and the provider's prefix does not matter."""
    monkeypatch.setenv(f"{prefix}MY_MODEL", "0.001")

    assert CostEstimator().estimate(1000, 0, model).total_cost == Decimal("0.001")


def test_the_layers_win_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """An argument wins over this package's variable, that over the older one, that over the map."""
    monkeypatch.setenv("MAMBA_COST_RATES__GPT_4O", "0.001")
    older = CostEstimator().estimate(1000, 0, "gpt-4o").total_cost
    monkeypatch.setenv("AGENTSIGHT_COST_RATES__GPT_4O", "0.002")
    newer = CostEstimator().estimate(1000, 0, "gpt-4o").total_cost
    argument = CostEstimator({"gpt-4o": 0.003}).estimate(1000, 0, "gpt-4o").total_cost

    assert (older, newer, argument) == (Decimal("0.001"), Decimal("0.002"), Decimal("0.003"))


def test_a_rate_of_the_environment_that_cannot_be_read_names_its_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A typing error fails at start."""
    monkeypatch.setenv("AGENTSIGHT_COST_RATES__GPT_4O", "cheap")

    with pytest.raises(ConfigurationError, match="GPT_4O"):
        CostEstimator()


def test_a_price_may_differ_in_and_out_and_be_dated() -> None:
    """Prices per million, per token, in another currency and with first days."""
    estimator = CostEstimator(
        {
            "a": {"input": 2, "output": 6, "cache_read": "0.5"},
            "b": ModelPrice(Decimal("0.000002"), Decimal("0.000006"), per=1),
            "c": {"input": 2, "output": 6, "currency": "EUR", "usd_per_unit": "1.25"},
            "d": [
                {"input": 4, "output": 4, "since": "2026-03-01"},
                {"input": 2, "output": 2},
            ],
        }
    )
    before = datetime(2026, 2, 28, tzinfo=timezone.utc)
    after = datetime(2026, 3, 1, tzinfo=timezone.utc)

    def total(model: str, **call: object) -> Decimal | None:
        return estimator.estimate(1_000_000, 1_000_000, model, **call).total_cost  # type: ignore[arg-type]

    assert total("a") == total("b") == 8
    assert total("a", cached_tokens=1_000_000) == Decimal("6.5")
    assert total("c") == 10
    assert (total("d", at=before), total("d", at=after)) == (4, 8)
    assert estimator.estimate(1, 1, "d", at=after).price_version == "2026-03-01 user"
    assert estimator.get_rate("d") == ModelPrice(Decimal(4), Decimal(4), since="2026-03-01")


def test_a_price_of_one_provider_does_not_touch_another() -> None:
    """A key with a provider holds for it alone."""
    estimator = CostEstimator({"azure/gpt-4o": 0.009})

    assert estimator.estimate(1000, 0, "gpt-4o", provider="azure").total_cost == Decimal("0.009")
    assert estimator.estimate(1000, 0, "azure/gpt-4o").total_cost == Decimal("0.009")
    assert estimator.estimate(1000, 0, "gpt-4o").total_cost == Decimal("0.0025")


def test_set_rate_holds_from_then_on(estimator: CostEstimator) -> None:
    """A rate that is set wins at once, also for a model that is at hand."""
    estimator.estimate(1000, 0, "gpt-4o")
    estimator.estimate(1000, 0, "gpt-4o")

    estimator.set_rate("gpt-4o", 0.1)
    estimator.set_rate("my-model", 0.002)

    assert estimator.estimate(1000, 0, "gpt-4o").total_cost == Decimal("0.1")
    assert estimator.estimate(500, 500, "my-model").total_cost == Decimal("0.002")
    rate = estimator.get_rate("my-model")
    assert rate is not None
    assert float(rate) == 0.002


def test_set_rate_before_the_first_call() -> None:
    """A rate may be set before the catalog was read."""
    estimator = CostEstimator()
    estimator.set_rate("my-model", ModelPrice(Decimal(1), Decimal(2)))

    assert estimator.estimate(1_000_000, 1_000_000, "my-model").total_cost == 3


@pytest.mark.parametrize(
    "rate",
    [-1, "x", None, float("nan"), float("inf"), True, {"input": 1}, {"input": 1, "output": 1, "per": 7}, {"input": 1, "output": 1, "currency": "EUR"}, [{"input": 1, "output": 1}] * 2, [], {"input": 1, "output": 1, "since": "May"}],
)  # fmt: skip
def test_a_rate_must_be_a_price(estimator: CostEstimator, rate: object) -> None:
    """What is no price raises where it is given."""
    with pytest.raises(ConfigurationError, match="my-model"):
        estimator.set_rate("my-model", rate)
        estimator.estimate(1, 1, "my-model")


def test_get_rate_shows_source_and_day(estimator: CostEstimator) -> None:
    """A price of the catalog says who says so and when it was checked."""
    price = estimator.get_rate("gpt-4o")

    assert price is not None
    assert (price.input, price.output, price.cache_read) == (Decimal("2.5"), 10, Decimal("1.25"))
    assert (price.per, price.currency) == (1_000_000, "USD")
    assert (price.source, price.as_of) == ("litellm-1.109.1", "2026-11-12")
    with pytest.raises(ValueError, match="has no one rate"):
        float(price)


def test_get_rate_of_ranges_is_the_first(estimator: CostEstimator) -> None:
    """A model with prices by length shows that of the shortest requests."""
    price = estimator.get_rate("dashscope/qwen3-coder-flash")

    assert price is not None
    assert (price.input, price.output) == (Decimal("0.3"), Decimal("1.5"))


def test_get_rate_of_nothing_is_none(estimator: CostEstimator) -> None:
    """An unknown model, or one that is not sold by the token, has no rate."""
    assert estimator.get_rate("claude-foo-9") is None
    assert estimator.get_rate("twelvelabs.pegasus-1-2-v1:0") is None


def test_get_all_rates_shows_every_model(estimator: CostEstimator) -> None:
    """All prices of the catalog, with the user's own among them."""
    estimator.set_rate("my-model", 0.002)

    rates = estimator.get_all_rates()

    assert len(rates) > 5_000
    assert rates["gpt-4o"] == estimator.get_rate("gpt-4o")
    assert rates["my-model"] == ModelPrice(Decimal("0.002"), Decimal("0.002"), per=1000)


def test_a_deployment_stands_for_its_model() -> None:
    """A name of one's own is priced as the model behind it, at its provider."""
    estimator = CostEstimator(deployments={"my-deployment": "gpt-4o"})

    by_prefix = estimator.estimate(1000, 0, "azure/my-deployment")
    by_provider = estimator.estimate(1000, 0, "my-deployment", provider="azure")

    assert by_prefix.matched_key == by_provider.matched_key == "azure/gpt-4o"
    assert by_prefix.total_cost == by_provider.total_cost == Decimal("0.0025")


def test_a_host_that_makes_names_up_does_not_fill_the_memory(
    estimator: CostEstimator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names at hand are bounded."""
    monkeypatch.setattr("agentsight_tokens.pricing.price_book._MOST_LINES", 3)

    for number in range(5):
        estimator.line(f"invented-{number}")

    assert len(estimator._book.lines) <= 3


def test_names_that_are_made_up_fill_no_memory() -> None:
    """After a thousand models without a price, no more are warned of."""
    estimator = CostEstimator()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for number in range(1100):
            estimator.estimate(1, 1, f"nobody-knows-{number}")

    assert len(caught) == 1000
    assert len(estimator._warned) == 1000
