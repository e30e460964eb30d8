"""Worked examples: every figure is multiplied out here, from the providers' published rates."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal
from typing import Any, NamedTuple

import pytest

from agentsight_tokens.pricing import CostEstimator
from agentsight_tokens.usage import TokenUsage

COUNTERS = {
    "i": "input_tokens",
    "o": "output_tokens",
    "c": "cache_read_tokens",
    "w": "cache_creation_tokens",
    "h": "cache_creation_1h_tokens",
    "r": "reasoning_tokens",
    "ai": "audio_input_tokens",
    "ao": "audio_output_tokens",
    "ca": "cache_read_audio_tokens",
    "ii": "image_input_tokens",
    "io": "image_output_tokens",
    "e": "embedding_tokens",
    "s": "web_search_requests",
}


class Example(NamedTuple):
    model: str
    counts: str
    """Counts by the short names above, for example `i2000 o500 c1024`."""
    terms: str
    """The bill: `tokens*USD per million`, several with `+`; `$` is a fee in USD."""
    call: dict[str, Any] = {}  # noqa: RUF012  # read only
    factor: str = "1"


def usage_of(counts: str) -> TokenUsage:
    fields = {}
    for part in counts.split():
        name = part.rstrip("0123456789_")
        fields[COUNTERS[name]] = int(part[len(name) :])
    return TokenUsage(**fields)


def bill(terms: str, factor: str) -> Decimal:
    tokens = fees = Decimal(0)
    for term in terms.split("+"):
        term = term.strip()
        if term.startswith("$"):
            fees += Decimal(term[1:])
        else:
            count, rate = term.split("*")
            tokens += int(count) * Decimal(rate)
    return tokens * Decimal(factor) / 1_000_000 + fees


def at(text: str) -> dict[str, Any]:
    return {"at": datetime.fromisoformat(text).replace(tzinfo=timezone.utc)}


RESEARCHED = {
    "0.0075": ("gpt-4o", "i1000 o500", {}),
    "0.00872": ("gpt-4o", "i2000 o500 c1024", {}),
    "0.005": ("gpt-4o", "i2000 o500", {"batch": True}),
    "0.135": ("o1", "i1000 o2000 r1500", {}),
    "0.036568": ("gpt-5", "i20000 o3000 c16384 r2048", {}),
    "0.018284": ("gpt-5", "i20000 o3000 c16384 r2048", {"service_tier": "flex"}),
    "0.073136": ("gpt-5", "i20000 o3000 c16384 r2048", {"service_tier": "priority"}),
    "0.0816": ("gpt-4.1-mini", "i500000 o1000 c400000", {}),
    "0.695": ("gpt-5.4", "i272000 o1000", {}),
    "1.382505": ("gpt-5.4", "i272001 o1000", {}),
    "0.02415": ("claude-sonnet-4-5", "i12000 o500 c8000 w3000", {}),
    "0.0309": ("claude-sonnet-4-5", "i12000 o500 c8000 w3000 h3000", {}),
    "0.01545": ("claude-sonnet-4-5", "i12000 o500 c8000 w3000 h3000", {"batch": True}),
    "0.26": ("gemini-2.5-pro", "i200000 o1000", {}),
    "0.5150025": ("gemini-2.5-pro", "i200001 o1000", {}),
    "0.505": ("xai/grok-4.20", "i200000 o1000", {}),
    "0.25249875": ("xai/grok-4.20", "i199999 o1000", {}),
    "0.1675": ("gpt-4o-audio-preview", "i3000 o1500 ai2000 ao1000", {}),
    "0.09": ("o3", "i1000 o2000", at("2025-06-01")),
    "0.024": ("openrouter/anthropic/claude-sonnet-4.5", "i3000 o1000", {}),
}

FLEX, PRIORITY, FAST = ({"service_tier": tier} for tier in ("flex", "priority", "fast"))
BATCH: dict[str, Any] = {"batch": True}
DEEPSEEK_PEAK = "2026-11-18T02:00:00"  # a Wednesday
HOLD_OUTS = [
    # Plain text, cached reads, reasoning.
    Example("gpt-4o-mini", "i1000 o500", "1000*0.15 + 500*0.60"),
    Example("gpt-4o-mini", "i4096 o1 c4096", "4096*0.075 + 1*0.60"),
    Example("gpt-4.1", "i8001 o77 c6144", "1857*2 + 6144*0.5 + 77*8"),
    Example("gpt-4.1-nano", "i1 o0", "1*0.10"),
    Example("gpt-4.1-nano", "i3 o7 c2", "1*0.10 + 2*0.025 + 7*0.40"),
    Example("o3", "i1000 o2000 r1500", "1000*2 + 2000*8"),
    Example("o4-mini", "i5000 o900 c2048 r640", "2952*1.1 + 2048*0.275 + 900*4.4"),
    Example("gpt-5-mini", "i20000 o3000 c16384", "3616*0.25 + 16384*0.025 + 3000*2"),
    Example("claude-haiku-4-5", "i1000 o1000", "1000*1 + 1000*5"),
    Example("claude-opus-4-5", "i1000 o1000 c900", "100*5 + 900*0.5 + 1000*25"),
    Example("mistral/mistral-large-latest", "i10000 o2000 c4000", "6000*0.5 + 4000*0.05 + 2000*1.5"),
    Example("command-r-plus-08-2024", "i1000 o1000", "1000*2.5 + 1000*10"),
    Example("gpt-4-turbo", "i1000 o1000 c500", "1000*10 + 1000*30"),
    Example("zai/glm-4.6", "i3000 o100 w1000", "2000*0.6 + 1000*0 + 100*2.2"),
    # Tiers of service, served.
    Example("gpt-4o-mini", "i1000 o500 c400", "600*0.25 + 400*0.125 + 500*1", PRIORITY),
    Example("o3", "i1000 o500 c400", "600*1 + 400*0.25 + 500*4", FLEX),
    Example("o3", "i1000 o500 c400", "600*3.5 + 400*0.875 + 500*14", PRIORITY),
    Example("o3", "i1000 o500 c400", "600*3.5 + 400*0.875 + 500*14", FAST),
    Example("o4-mini", "i1000 o500 c400", "600*0.55 + 400*0.138 + 500*2.2", FLEX),
    Example("gpt-4.1", "i1000 o500", "1000*2 + 500*8", {"service_tier": "default"}),
    Example("gpt-4.1", "i1000 o500", "1000*2 + 500*8", {"service_tier": "auto"}),
    Example("gemini/gemini-2.5-flash", "i1000 o500 r300", "1000*0.15 + 500*1.25", FLEX),
    Example("gemini/gemini-2.5-flash", "i1000 o500 c600", "400*0.54 + 600*0.054 + 500*4.5", PRIORITY),
    # Batches.
    Example("o3", "i1000 o500 c400", "600*1 + 400*0.25 + 500*4", BATCH),
    Example("gpt-4o", "i1000 o500 c400", "600*1.25 + 400*0.625 + 500*5", BATCH),
    Example("claude-opus-4-5", "i12000 o500 c8000 w3000", "1000*2.5 + 8000*0.25 + 3000*3.125 + 500*12.5", BATCH),
    Example("claude-opus-4-5", "i12000 o500 w3000 h1000", "9000*2.5 + 2000*3.125 + 1000*5 + 500*12.5", BATCH),
    Example("mistral/mistral-large-latest", "i1000 o500", "1000*0.25 + 500*0.75", BATCH),
    Example("xai/grok-4.20", "i1000 o500 c400", "600*1 + 400*0.16 + 500*2", BATCH),
    Example("xai/grok-4.20", "i200000 o500", "200000*2 + 500*4", BATCH),
    Example("text-embedding-3-small", "e1000000", "1000000*0.01", BATCH),
    Example("gpt-4o-mini", "i1000 o500", "1000*0.075 + 500*0.30", {"service_tier": "batch"}),
    # Thresholds: the whole request switches, cached tokens count towards it, output too.
    Example("gpt-5.5", "i272000 o100 c272000", "272000*0.5 + 100*30"),
    Example("gpt-5.5", "i272001 o100 c272000", "1*10 + 272000*1 + 100*45"),
    Example("gpt-5.5", "i272001 o100 c272000", "1*5 + 272000*0.5 + 100*22.5", FLEX),
    Example("gpt-5.5", "i300000 o100", "300000*25 + 100*112.5", PRIORITY),  # 12.5 * 10/5, 75 * 45/30
    Example("gpt-5.4", "i300000 o100", "300000*10 + 100*45", PRIORITY),
    Example("gpt-5.6-sol", "i300000 o100 w1000", "299000*8 + 1000*10 + 100*30"),
    Example("gpt-5.6-sol", "i300000 o100 w1000", "299000*16 + 1000*20 + 100*60", PRIORITY),
    Example("gemini/gemini-3.1-pro-preview", "i200001 o10 c100000", "100001*4 + 100000*0.4 + 10*18"),
    Example("gemini/gemini-3.1-pro-preview", "i200001 o10", "200001*7.2 + 10*32.4", PRIORITY),
    Example("minimax/MiniMax-M3", "i512000 o10", "512000*0.3 + 10*1.2"),
    Example("minimax/MiniMax-M3", "i512001 o10 c12001", "500000*0.6 + 12001*0.12 + 10*2.4"),
    Example("xai/grok-4.7", "i199999 o1000", "199999*2 + 1000*6"),
    Example("xai/grok-4.7", "i200000 o1000 c100000", "100000*4 + 100000*1 + 1000*12"),
    # Ranges.
    Example("dashscope/qwen3-coder-flash", "i32000 o100", "32000*0.3 + 100*1.5"),
    Example("dashscope/qwen3-coder-flash", "i32001 o100 c32000", "1*0.5 + 32000*0.12 + 100*2.5"),
    Example("dashscope/qwen3-coder-flash", "i2000000 o100", "2000000*1.6 + 100*9.6"),
    Example("dashscope/qwen-plus-latest", "i256001 o1000 r400", "256001*1.2 + 600*3.6 + 400*12"),
    Example("volcengine/doubao-seed-2-0-pro-260215", "i128000 o10", "128000*0.7 + 10*3.5"),
    # Cache writes of both lifetimes.
    Example("claude-haiku-4-5", "i10000 o10 c1000 w5000 h2000", "4000*1 + 1000*0.1 + 3000*1.25 + 2000*2 + 10*5"),
    Example("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "i200001 o10 w100000 h40000", "100001*6.6 + 60000*8.25 + 40000*13.2 + 10*24.75"),
    Example("gpt-4o", "i1000 o10 w400", "1000*2.5 + 10*10"),
    # Modalities.
    Example("gpt-realtime", "i3000 o2000 ai2000 ca500 c700 ao1500", "800*4 + 200*0.4 + 1500*32 + 500*0.4 + 500*16 + 1500*64"),
    Example("gpt-audio", "i3000 o1500 ai2000 ao1000", "1000*2.5 + 2000*32 + 500*10 + 1000*64"),
    Example("gemini/gemini-2.5-flash", "i3000 o100 ai2000 ca1000 c1500", "500*0.3 + 500*0.03 + 1000*1 + 1000*0.1 + 100*2.5"),
    Example("gemini/gemini-2.5-flash-image", "i1000 o1390 io1290", "1000*0.3 + 100*2.5 + 1290*30"),
    Example("gpt-image-1", "i1500 o0 ii1000 io0", "500*5 + 1000*10"),
    # Searches: billed one by one, or once for a grounded prompt.
    Example("gpt-5", "i1000 o100 s3", "1000*1.25 + 100*10 + $0.03"),
    Example("claude-sonnet-4-5", "i1000 o100 s4", "1000*3 + 100*15 + $0.04"),
    Example("gemini/gemini-2.5-pro", "i1000 o100 s4", "1000*1.25 + 100*10 + $0.035"),
    Example("gemini/gemini-3.1-pro-preview", "i1000 o100 s4", "1000*2 + 100*12 + $0.056"),
    # Regions and speed.
    Example("gpt-5.5", "i20000 o1000", "20000*5 + 1000*30", {"region": "eu"}, factor="1.1"),
    Example("claude-opus-4-6", "i2000 o400", "2000*5 + 400*25", {"region": "us"}, factor="1.1"),
    Example("claude-opus-4-6", "i2000 o400", "2000*5 + 400*25", {"region": "eu"}),
    Example("claude-opus-4-8", "i2000 o400 c1000 h500 w500", "500*5 + 1000*0.5 + 500*10 + 400*25", FAST, factor="2"),
    Example("claude-opus-4-8", "i2000 o400", "2000*5 + 400*25", {"service_tier": "fast", "region": "us"}, factor="2.2"),
    Example("vertex_ai/claude-sonnet-5", "i1000 o100", "1000*2 + 100*10", {"region": "europe-west1"}, factor="1.1"),
    Example("vertex_ai/claude-sonnet-5", "i1000 o100", "1000*2 + 100*10", {"region": "global"}),
    Example("gpt-5-2025-08-07", "i1000 o100", "1000*1.375 + 100*11", {"provider": "azure", "region": "eu"}),
    Example("claude-opus-4-6", "i2000 o400 s2", "2000*5.5 + 400*27.5 + $0.02", {"region": "us"}),
    # The hour and the day.
    Example("deepseek/deepseek-v4-pro", "i1000 o1000 c400", "600*1.32 + 400*0.044 + 1000*3.96", at(DEEPSEEK_PEAK)),
    Example("deepseek/deepseek-v4-pro", "i1000 o1000 c400", "600*0.66 + 400*0.022 + 1000*1.98", at("2026-11-18T05:59:59")),
    Example("deepseek/deepseek-v4-pro", "i1000 o1000", "1000*1.32 + 1000*3.96", at("2026-11-18T06:00:00")),
    Example("deepseek/deepseek-v4-pro", "i1000 o1000", "1000*0.66 + 1000*1.98", at("2026-11-21T02:00:00")),
    Example("deepseek-chat", "i1000 o1000", "1000*0.27 + 1000*1.10", at("2025-03-03T16:29:59")),
    Example("deepseek-chat", "i1000 o1000", "1000*0.135 + 1000*0.55", at("2025-03-03T16:30:00")),
    Example("deepseek-chat", "i1000 o1000", "1000*0.135 + 1000*0.55", at("2025-03-04T00:29:00")),
    Example("deepseek-chat", "i1000 o1000", "1000*0.56 + 1000*1.68", at("2025-09-10T18:00:00")),
    Example("o3", "i1000 o1000 c400", "600*10 + 400*2.5 + 1000*40", at("2025-06-09T23:59:59")),
    Example("o3", "i1000 o1000 c400", "600*2 + 400*0.5 + 1000*8", at("2025-06-10T00:00:00")),
    Example("xai/grok-4.20", "i1000 o1000", "1000*2 + 1000*6", at("2026-04-29")),
    Example("xai/grok-4.20", "i1000 o1000", "1000*1.25 + 1000*2.5", at("2026-04-30")),
    Example("gemini/gemini-3.8-flash", "i1000 o1000", "1000*0.75 + 1000*3.75", at("2026-12-31")),
    Example("gemini/gemini-3.8-flash", "i1000 o1000", "1000*1.5 + 1000*7.5", at("2027-01-01")),
    Example("claude-sonnet-4-6", "i300000 o1000", "300000*6 + 1000*22.5", at("2026-03-12")),
    Example("claude-sonnet-4-6", "i300000 o1000", "300000*3 + 1000*15", at("2026-03-13")),
    # Embeddings, reranking, fine-tunes.
    Example("text-embedding-3-large", "e123456", "123456*0.13"),
    Example("voyage/voyage-3.5", "e1", "1*0.06"),
    Example("rerank-v3.5", "i700 o0", "$0.002"),
    Example("ft:gpt-4o-mini-2024-07-18:acme::abc", "i1000 o500 c400", "600*0.30 + 400*0.15 + 500*1.20"),
]  # fmt: skip


@pytest.fixture(scope="module")
def estimator() -> CostEstimator:
    return CostEstimator()


@pytest.mark.parametrize("total", RESEARCHED)
def test_a_researched_example_is_exact(estimator: CostEstimator, total: str) -> None:
    """The examples cost what the providers' own pages make of them, to the pico-dollar."""
    model, counts, call = RESEARCHED[total]

    cost = estimator.estimate(model=model, usage=usage_of(counts), **call)

    assert cost.total_cost == Decimal(total)


@pytest.mark.parametrize("example", HOLD_OUTS, ids=lambda e: f"{e.model} {e.counts} {e.call}")
def test_a_hold_out_is_exact(estimator: CostEstimator, example: Example) -> None:
    """A case costs exactly what its terms add up to."""
    cost = estimator.estimate(model=example.model, usage=usage_of(example.counts), **example.call)

    assert cost.total_cost == bill(example.terms, example.factor)


def test_there_are_enough_hold_outs() -> None:
    """The cases are many and no two are the same."""
    cases = {(e.model, e.counts, str(e.call)) for e in HOLD_OUTS}

    assert len(cases) == len(HOLD_OUTS) >= 58


@pytest.mark.parametrize("example", HOLD_OUTS, ids=lambda e: f"{e.model} {e.counts} {e.call}")
def test_the_parts_and_the_lines_add_up_to_the_total(
    estimator: CostEstimator, example: Example
) -> None:
    """Prompt, completion, embedding and fee are the total; so are the lines that explain it."""
    cost = estimator.estimate(model=example.model, usage=usage_of(example.counts), **example.call)

    parts = (cost.prompt_cost, cost.completion_cost, cost.embedding_cost, cost.fee)
    assert sum(part for part in parts if part is not None) == cost.total_cost
    assert sum(bucket.cost for bucket in cost.buckets) == cost.total_cost
