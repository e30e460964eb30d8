"""
Two other calculators over a grid of models and usages.

Where they differ from ours, a rule on the lists below says who is right and why; a
difference that no rule claims fails.
"""

from __future__ import annotations

import json
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from agentsight_tokens.errors import UnpricedModelWarning
from agentsight_tokens.pricing import CostBreakdown, CostEstimator
from agentsight_tokens.pricing.installed_map import installed_map_file
from agentsight_tokens.usage import TokenUsage

pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.timeout(300),
]

USAGES = {
    "text": TokenUsage(input_tokens=1000, output_tokens=500),
    "long": TokenUsage(input_tokens=300_001, output_tokens=2000),
    "cached": TokenUsage(input_tokens=20_000, output_tokens=1000, cache_read_tokens=16_384),
    "long cached": TokenUsage(input_tokens=300_001, output_tokens=2000, cache_read_tokens=200_000),
    "written": TokenUsage(
        input_tokens=12_000, output_tokens=500, cache_read_tokens=8000, cache_creation_tokens=3000
    ),
    "written 1h": TokenUsage(
        input_tokens=12_000,
        output_tokens=500,
        cache_read_tokens=8000,
        cache_creation_tokens=3000,
        cache_creation_1h_tokens=1000,
    ),
    "reasoned": TokenUsage(input_tokens=1000, output_tokens=3000, reasoning_tokens=2048),
    "audio": TokenUsage(
        input_tokens=3000, output_tokens=1500, audio_input_tokens=2000, audio_output_tokens=1000
    ),
}


class Case(NamedTuple):
    """One call, priced by both sides."""

    model: str
    provider: str
    usage: str
    tier: str | None
    ours: CostBreakdown
    theirs: float | Decimal

    @property
    def agrees(self) -> bool:
        total, other = self.ours.total_cost, Decimal(str(self.theirs))
        return total is not None and abs(total - other) <= max(total, other) * Decimal("1e-9")


# -- LiteLLM -----------------------------------------------------------------------------------

LITELLM_RULES: dict[str, Callable[[Case], bool]] = {
    "an unknown price is not zero (rule 8)": lambda case: case.theirs == 0,
    "a tier above a threshold is the tier's price times the step (rule 3)": lambda case: (
        case.tier is not None and case.usage.startswith("long") and case.ours.status == "derived"
    ),
    "a rate that no row states leaves the call unpriced (rule 4)": lambda case: (
        case.ours.total_cost is None
    ),
    "Perplexity's rows state cache prices, thresholds and fees, which its own calculator skips": (
        lambda case: case.provider == "perplexity"
    ),
    "Fireworks' rows state a priority price, which its own calculator skips": lambda case: (
        case.provider == "fireworks_ai" and case.tier == "priority"
    ),
    "the row of the name itself wins over one of the same name with a prefix": lambda case: (
        case.model in ("deepseek-chat", "gemini-exp-1206")
    ),
}


@pytest.fixture(scope="module")
def litellm() -> Iterator[Any]:
    """The package without its network, and with its own map: a router adds to that in force."""
    module_variables = {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"}
    before = dict(os.environ)
    os.environ.update(module_variables)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = pytest.importorskip("litellm", reason="the extra `litellm` is not installed")
    module.suppress_debug_info = True
    logging.getLogger("LiteLLM").setLevel(logging.CRITICAL)
    module.model_cost = json.loads(installed_map_file().read_text())
    module.utils._invalidate_model_cost_lowercase_map()
    yield module
    os.environ.clear()
    os.environ.update(before)


def litellm_cost(litellm: Any, case: tuple[str, str, TokenUsage, str | None]) -> float:
    model, provider, usage, tier = case
    types = litellm.types.utils
    written_1h = usage.cache_creation_1h_tokens
    lifetimes = {
        "ephemeral_5m_input_tokens": usage.cache_creation_tokens - written_1h,
        "ephemeral_1h_input_tokens": written_1h,
    }
    theirs = types.Usage(
        prompt_tokens=usage.input_tokens,
        completion_tokens=usage.output_tokens,
        total_tokens=usage.total_tokens,
        cache_creation_input_tokens=usage.cache_creation_tokens,
        cache_read_input_tokens=usage.cache_read_tokens,
        prompt_tokens_details=types.PromptTokensDetailsWrapper(
            cached_tokens=usage.cache_read_tokens,
            audio_tokens=usage.audio_input_tokens,
            cache_creation_tokens=usage.cache_creation_tokens,
            cache_creation_token_details=lifetimes if written_1h else None,
        ),
        completion_tokens_details=types.CompletionTokensDetailsWrapper(
            reasoning_tokens=usage.reasoning_tokens, audio_tokens=usage.audio_output_tokens
        ),
    )
    prompt, completion = litellm.cost_per_token(
        model=model, custom_llm_provider=provider, usage_object=theirs, service_tier=tier
    )
    return float(prompt + completion)


@pytest.fixture(scope="module")
def litellm_grid(litellm: Any) -> list[Case]:
    """Every case of the grid, priced once."""
    return list(litellm_cases(litellm))


def litellm_cases(litellm: Any) -> Iterator[Case]:
    """Price the grid by LiteLLM's own map, so that only the arithmetic can differ."""
    file = installed_map_file()
    estimator = CostEstimator(prices_file=file)
    for model, fields in json.loads(file.read_bytes()).items():
        if fields.get("mode") not in ("chat", "completion", "responses"):
            continue
        has_audio = (
            "input_cost_per_audio_token" in fields and "output_cost_per_audio_token" in fields
        )
        for name, usage in USAGES.items():
            if name == "audio" and not has_audio:
                continue
            for tier in (None, "flex", "priority"):
                if tier and not any(field.endswith(f"_{tier}") for field in fields):
                    continue
                provider = fields["litellm_provider"]
                ours = estimator.price(usage, model, service_tier=tier)
                theirs = litellm_cost(litellm, (model, provider, usage, tier))
                yield Case(model, provider, name, tier, ours, theirs)


def test_litellm_differs_only_where_a_rule_says_so(litellm_grid: list[Case]) -> None:
    """On the same map, both sides agree but for the rules above."""
    differing = [case for case in litellm_grid if not case.agrees]

    unclaimed = [
        case[:4] for case in differing if not any(rule(case) for rule in LITELLM_RULES.values())
    ]

    assert unclaimed == []
    assert len(litellm_grid) > 10_000
    assert len(differing) < len(litellm_grid) / 10


def test_every_rule_about_litellm_is_needed(litellm_grid: list[Case]) -> None:
    """A rule that claims nothing any more is taken off the list."""
    differing = [case for case in litellm_grid if not case.agrees]

    idle = [name for name, rule in LITELLM_RULES.items() if not any(map(rule, differing))]

    assert idle == []


def test_batches_differ_only_where_multipliers_stack(litellm: Any) -> None:
    """A batch pays half of every price, a write for an hour included."""
    usage = USAGES["written 1h"]
    theirs = litellm.cost_calculator.batch_cost_calculator(
        usage=litellm.types.utils.Usage(
            prompt_tokens=2000, completion_tokens=500, total_tokens=2500
        ),
        model="gpt-4o",
        custom_llm_provider="openai",
    )

    ours = CostEstimator().estimate(2000, 500, "gpt-4o", batch=True)

    assert float(ours.total_cost or 0) == pytest.approx(sum(theirs), rel=1e-12)
    stacked = CostEstimator().price(usage, "claude-sonnet-4-5", batch=True)
    full = CostEstimator().price(usage, "claude-sonnet-4-5")
    assert full.cost_pico_usd == 2 * (stacked.cost_pico_usd or 0)


# -- genai-prices ------------------------------------------------------------------------------

WEDNESDAY_PEAK = datetime(2026, 11, 18, 2, tzinfo=timezone.utc)
PROVIDERS = {
    "openai": "openai",
    "anthropic": "anthropic",
    "google": "gemini",
    "x-ai": "xai",
    "mistral": "mistral",
    "deepseek": "deepseek",
    "cohere": "cohere",
    "groq": "groq",
    "zai": "zai",
    "moonshotai": "moonshot",
    "minimax": "minimax",
    "voyageai": "voyage",
}
GENAI_RULES: dict[str, set[str]] = {
    "xAI redirected its retired models to newer ones, at their price": {
        "x-ai/grok-3",
        "x-ai/grok-3-mini",
        "x-ai/grok-3-mini-fast",
        "x-ai/grok-4-0709",
        "x-ai/grok-4-1-fast-non-reasoning",
        "x-ai/grok-4-1-fast-reasoning",
        "x-ai/grok-4-fast-non-reasoning",
        "x-ai/grok-4-fast-reasoning",
        "x-ai/grok-code-fast-1",
    },
    "LiteLLM's map is two days newer, and states another price": {
        "google/gemini-pro",
        "groq/gemma-7b-it",
        "mistral/mistral-large-4",
        "openai/gpt-4o-mini-tts",
    },
    "DeepSeek's price of early 2025 ended on 2025-09-05": {
        "deepseek/deepseek-chat",
        "deepseek/deepseek-reasoner",
        "deepseek/deepseek-v3.2",
    },
    "the step at 200,000 tokens was given up, says the newer map": {
        "anthropic/claude-sonnet-4-5",
        "google/claude-sonnet-4-5",
    },
    "a threshold is stated by one side only, and then it holds (rule 2)": {"openai/gpt-5.6-cyber"},
    "a write that a row prices at 0 is free (rule 4)": {
        "deepseek/deepseek-flash",
        "deepseek/deepseek-v4-flash",
        "deepseek/deepseek-v4-pro",
        "zai/GLM-4.6",
        "zai/GLM-4.7",
        "zai/GLM-5",
        "zai/GLM-5.1",
        "zai/GLM-5.2",
        "zai/GLM-5.3",
        "zai/GLM-5.3-Flash",
    },
    "a cache price is stated by one side only; without it the input's holds (rule 4)": {
        "google/claude-3-5-sonnet",
        "google/claude-3-haiku",
        "google/claude-3-opus",
        "google/claude-4-opus",
        "google/claude-4-sonnet",
        "google/gemini-1.5-pro",
        "google/gemini-2.0-flash-lite",
        "google/gemini-2.5-flash-image",
        "google/gemini-3.8-flash-lite-tts",
        "google/gemini-3.8-flash-tts",
        "groq/openai/gpt-oss-safeguard-20b",
        "mistral/codestral",
        "mistral/mistral-tiny",
        "mistral/pixtral-large",
        "openai/gpt-4o-search-preview",
    },
}
NOT_TEXT = "a model that sells no text by the token has no price for it (rule 4)"


@pytest.fixture(scope="module")
def genai_grid() -> list[Case]:
    """Every case of the grid, priced once."""
    return list(genai_cases())


def genai_cases() -> Iterator[Case]:
    genai = pytest.importorskip(
        "genai_prices", reason="genai-prices is not installed; it needs Python 3.11"
    )
    data = pytest.importorskip("genai_prices.data")
    estimator = CostEstimator()
    for provider in data.providers:
        if provider.id not in PROVIDERS:
            continue
        for model in provider.models:
            for name in ("text", "long", "cached", "written", "written 1h"):
                usage = USAGES[name]
                try:
                    theirs = model.calc_price(
                        genai.Usage(
                            input_tokens=usage.input_tokens,
                            output_tokens=usage.output_tokens,
                            cache_read_tokens=usage.cache_read_tokens,
                            cache_write_tokens=usage.cache_creation_tokens,
                            cache_write_1h_tokens=usage.cache_creation_1h_tokens,
                        ),
                        provider,
                        genai_request_timestamp=WEDNESDAY_PEAK,
                    ).total_price
                except (ValueError, LookupError):  # a model that is not sold by the token
                    continue
                ours = estimator.price(
                    usage, model.id, provider=PROVIDERS[provider.id], at=WEDNESDAY_PEAK
                )
                yield Case(model.id, provider.id, name, None, ours, theirs)


def test_genai_prices_differs_only_where_a_rule_says_so(genai_grid: list[Case]) -> None:
    """On the catalog's own facts, both sides agree but for the models above."""
    claimed = {model for models in GENAI_RULES.values() for model in models}

    unclaimed = [
        (case.provider, case.model, case.usage, str(case.ours.total_cost), str(case.theirs))
        for case in genai_grid
        if not case.agrees
        and case.ours.status != "unpriced"  # NOT_TEXT
        and f"{case.provider}/{case.model}" not in claimed
    ]

    assert unclaimed == []
    assert len(genai_grid) > 1000


def test_what_genai_prices_alone_can_price_is_no_text(genai_grid: list[Case]) -> None:
    """A model that we leave unpriced embeds, draws, speaks, listens or reads pages."""
    unpriced = {case.model for case in genai_grid if case.ours.status == "unpriced"}

    text = [
        model
        for model in unpriced
        if not re.search(
            r"image|ocr|embed|voxtral|whisper|transcri|tts|orpheus|moderation|voice|voyage|translate"
            r"|live|gemma-3n?$",
            model,
        )
    ]
    assert text == [], NOT_TEXT


def test_every_rule_about_genai_prices_is_needed(genai_grid: list[Case]) -> None:
    """A model that no longer differs is taken off the list."""
    differing = {f"{case.provider}/{case.model}" for case in genai_grid if not case.agrees}

    assert [m for models in GENAI_RULES.values() for m in models if m not in differing] == []


def test_an_unpriced_model_is_warned_of() -> None:
    """The grid runs without warnings; outside it they are given."""
    with warnings.catch_warnings(), pytest.warns(UnpricedModelWarning):
        CostEstimator().estimate(1, 1, "claude-foo-9")
