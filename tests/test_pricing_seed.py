"""The tables and functions of the seed documents, reproduced by the catalog."""

from __future__ import annotations

from decimal import Decimal

import pytest

import agentsight_tokens.pricing
from agentsight_tokens.errors import InvalidCountError, UnpricedModelWarning
from agentsight_tokens.pricing import MODEL_PRICING, CostEstimator, calculate_cost, seed

LATE_2024 = {
    "claude-3-opus": {"input": 15.00, "output": 75.00},
    "claude-3-5-sonnet": {"input": 3.00, "output": 15.00},
    "claude-3-5-haiku": {"input": 0.80, "output": 4.00},
    "claude-3-haiku": {"input": 0.25, "output": 1.25},
    "gpt-4-turbo": {"input": 10.00, "output": 30.00},
    "gpt-4o": {"input": 2.50, "output": 10.00},
    "gpt-4o-mini": {"input": 0.15, "output": 0.60},
    "gpt-3.5-turbo": {"input": 0.50, "output": 1.50},
    "text-embedding-3-large": {"input": 0.13, "output": 0},
    "text-embedding-3-small": {"input": 0.02, "output": 0},
    "text-embedding-ada-002": {"input": 0.10, "output": 0},
}


@pytest.fixture(autouse=True)
def own_estimator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let each test begin with a shared estimator of its own."""
    monkeypatch.setattr(seed, "_estimator", None)


@pytest.mark.parametrize("model", LATE_2024)
def test_the_table_is_a_view_of_the_catalog(model: str) -> None:
    """Every line of the document's table is what the catalog says."""
    assert MODEL_PRICING[model] == LATE_2024[model]
    assert MODEL_PRICING.get(model) == LATE_2024[model]
    assert model in MODEL_PRICING


def test_the_view_is_read_only_and_whole() -> None:
    """It has every model, no unknown one, and cannot be written."""
    assert len(MODEL_PRICING) == len(list(MODEL_PRICING)) > 5_000
    assert set(LATE_2024) <= set(MODEL_PRICING)
    assert dict(MODEL_PRICING)["gpt-4o"] == LATE_2024["gpt-4o"]
    assert MODEL_PRICING.get("claude-foo-9") is None
    assert "claude-foo-9" not in MODEL_PRICING
    assert not hasattr(MODEL_PRICING, "__setitem__")
    assert (
        repr(MODEL_PRICING)
        == f"<MODEL_PRICING: {len(MODEL_PRICING)} models, USD per million tokens>"
    )


@pytest.mark.parametrize(
    ("model", "input_per_1m", "output_per_1m"),
    [
        ("gpt-4o", "2.50", "10.00"),
        ("gpt-4o-mini", "0.15", "0.60"),
        ("gpt-4-turbo", "10.00", "30.00"),
        ("gpt-3.5-turbo", "0.50", "1.50"),
        ("claude-3-5-sonnet", "3.00", "15.00"),
        ("claude-3-opus", "15.00", "75.00"),
        ("ollama/any-local-model", "0", "0"),
    ],
)
def test_the_default_rates_are_the_document_s(
    model: str, input_per_1m: str, output_per_1m: str
) -> None:
    """The second document's table is reproduced too."""
    cost = CostEstimator().estimate(1_000_000, 1_000_000, model)

    assert (cost.prompt_cost, cost.completion_cost) == (
        Decimal(input_per_1m),
        Decimal(output_per_1m),
    )


@pytest.mark.parametrize(
    "model",
    ["gemini-1.5-pro", "gemini-1.5-flash", "command-r-plus", "mistral-large", "mistral-small",
     "gpt-4o", "gpt-4-turbo", "gpt-3.5-turbo", "claude-3-opus", "claude-3-haiku"],
)  # fmt: skip
def test_every_model_that_the_documents_name_has_a_price(model: str) -> None:
    """None of them is unpriced, whatever the newest cost map dropped."""
    cost = CostEstimator().estimate(1000, 1000, model)

    assert cost.status == "priced"
    assert cost.total_cost


@pytest.mark.parametrize(
    ("arguments", "cost"),
    [
        (("gpt-4o", 1000, 500), 0.0075),
        (("gpt-4o", 2000, 500, 1024), 0.00872),  # by the model's own cache price
        (("gpt-4o", 2000, 500, 1024, 0.9), 0.007696),  # 976*2.5 + 1024*0.25 + 500*10
        (("gpt-4o", 2000, 500, 1024, 0), 0.01),
        (("gpt-4-turbo", 1000, 0, 500), 0.0055),  # no cache price: a discount of 0.9
        (("gpt-4o", 1000, 0, 5000), 0.00125),  # no more is cached than was sent
        (("gpt-4o", 1000, 0, -5), 0.0025),
        (("gpt-4o", 0, 0, 5, 0.5), 0.0),
        (("gpt-4o-mini", 3, 3), 0.000002),  # 2.25 micro-dollars
        (("gpt-5.4", 300_000, 1000, 100_000), 1.0725),  # the whole request above the threshold
    ],
)
def test_calculate_cost_rounds_to_six_digits(arguments: tuple[str, int, int], cost: float) -> None:
    """The function of the document, with cached tokens as part of the input."""
    assert calculate_cost(*arguments) == cost


def test_calculate_cost_of_an_unknown_model_is_zero_and_warned_of_once() -> None:
    """The one place where an unknown price is 0, because its document says so."""
    with pytest.warns(UnpricedModelWarning):
        assert calculate_cost("claude-foo-9", 1000, 500) == 0.0
    assert calculate_cost("claude-foo-9", 1000, 500, 100) == 0.0


def test_calculate_cost_refuses_what_is_no_count() -> None:
    """A negative count is no discount."""
    with pytest.raises(InvalidCountError):
        calculate_cost("gpt-4o", -1000, 0)


def test_the_package_imports_its_names_when_they_are_used() -> None:
    """Every public name is there; another one is not."""
    for name in agentsight_tokens.pricing.__all__:
        assert getattr(agentsight_tokens.pricing, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = agentsight_tokens.pricing.no_such_name
