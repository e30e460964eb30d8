"""
Speed, weight and answers of four price calculators, side by side.

    python benchmarks/pricing/compare.py

Peers that are not installed are left out: litellm, genai-prices, tokencost.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

SETUPS = {
    "agentsight-tokens": """
from agentsight_tokens.pricing import CostEstimator
estimator = CostEstimator()
def price(model, i, o, cached=0, written=0, **kind):
    from agentsight_tokens.usage import TokenUsage
    usage = TokenUsage(input_tokens=i, output_tokens=o, cache_read_tokens=cached,
                       cache_creation_tokens=written)
    return estimator.price(usage, model, **kind).total_cost
def fast(): return estimator.estimate(1000, 500, "gpt-4o")
""",
    "litellm": """
import litellm
litellm.suppress_debug_info = True
from litellm.types.utils import PromptTokensDetailsWrapper, Usage
def price(model, i, o, cached=0, written=0, service_tier=None, batch=False, at=None, region=None):
    usage = Usage(prompt_tokens=i, completion_tokens=o, total_tokens=i + o,
                  cache_read_input_tokens=cached, cache_creation_input_tokens=written,
                  prompt_tokens_details=PromptTokensDetailsWrapper(
                      cached_tokens=cached, cache_creation_tokens=written))
    if batch:
        provider = litellm.get_llm_provider(model)[1]
        return sum(litellm.cost_calculator.batch_cost_calculator(
            usage=usage, model=model, custom_llm_provider=provider))
    return sum(litellm.cost_per_token(model=model, usage_object=usage, service_tier=service_tier))
def fast(): return litellm.cost_per_token(model="gpt-4o", prompt_tokens=1000, completion_tokens=500)
""",
    "genai-prices": """
from genai_prices import Usage, calc_price
def price(model, i, o, cached=0, written=0, service_tier=None, batch=False, at=None, region=None):
    context = {"processing": "batch"} if batch else {"service_tier": service_tier} if service_tier else None
    return calc_price(
        Usage(input_tokens=i, output_tokens=o, cache_read_tokens=cached, cache_write_tokens=written),
        model.rpartition("/")[2], provider_id="x-ai" if "grok" in model else None,
        genai_request_timestamp=at, price_context=context).total_price
def fast(): return calc_price(Usage(input_tokens=1000, output_tokens=500), "gpt-4o", provider_id="openai")
""",
    "tokencost": """
from tokencost import calculate_cost_by_tokens as by
def price(model, i, o, cached=0, written=0, service_tier=None, batch=False, at=None, region=None):
    return by(i, model, "input") + by(o, model, "output")
def fast(): return by(1000, "gpt-4o", "input") + by(500, "gpt-4o", "output")
""",
}

CASES: list[tuple[str, str, tuple[Any, ...], str]] = [
    ("gpt-4o 1000/500", "0.0075", ("gpt-4o", 1000, 500), "{}"),
    ("gpt-4o 2000/500, 1024 cached", "0.00872", ("gpt-4o", 2000, 500, 1024), "{}"),
    ("gpt-4o batch", "0.005", ("gpt-4o", 2000, 500), "dict(batch=True)"),
    ("gpt-5 flex, 16384 cached", "0.018284", ("gpt-5", 20000, 3000, 16384), "dict(service_tier='flex')"),
    ("gpt-5.4 272001", "1.382505", ("gpt-5.4", 272001, 1000), "{}"),
    ("sonnet-4-5 cached and written", "0.02415", ("claude-sonnet-4-5", 12000, 500, 8000, 3000), "{}"),
    ("gemini-2.5-pro 200001", "0.5150025", ("gemini-2.5-pro", 200001, 1000), "{}"),
    ("grok-4.20 200000", "0.505", ("xai/grok-4.20", 200000, 1000), "{}"),
    ("o3 on 2025-06-01", "0.09", ("o3", 1000, 2000), "dict(at=datetime(2025, 6, 1, tzinfo=timezone.utc))"),
    ("gpt-5.5 in the EU", "0.143", ("gpt-5.5", 20000, 1000), "dict(region='eu')"),
    ("claude-3-opus", "0.0525", ("claude-3-opus", 1000, 500), "{}"),
    ("an unknown model", "None", ("claude-foo-9", 1000, 500), "{}"),
]  # fmt: skip

PROBE = """
import json, resource, statistics, sys, time, timeit, warnings, logging
from datetime import datetime, timezone
warnings.simplefilter("ignore"); logging.disable(logging.CRITICAL)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
start = time.perf_counter()
{setup}
fast()
ready = time.perf_counter() - start
weight = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
for _ in range(3): fast()
once = min(timeit.repeat(fast, number=20, repeat=5)) / 20
number = max(20, int(0.004 / once))
seconds = statistics.median(timeit.repeat(fast, number=number, repeat=40)) / number
answers = []
for arguments, kind in {cases}:
    try: answers.append(str(price(*arguments, **eval(kind))))
    except Exception as error: answers.append(type(error).__name__)
print(json.dumps([seconds, ready, weight / 1024, answers]))
"""


def probed(setup: str) -> tuple[float, float, float, list[str]] | None:
    """Return seconds a call, seconds until the first one, MiB and answers; None if absent."""
    cases = [(arguments, kind) for _, _, arguments, kind in CASES]
    code = PROBE.replace("{setup}", setup).replace("{cases}", repr(cases))
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if "ModuleNotFoundError" in run.stderr:
        return None
    if run.returncode:
        raise SystemExit(run.stderr)
    seconds, ready, weight, answers = json.loads(run.stdout.splitlines()[-1])
    return seconds, ready, weight, answers


def is_right(answer: str, expected: str) -> bool:
    if expected == "None":  # raising is an answer too; a cost of 0 is not
        return answer == "None" or answer.endswith("Error")
    if not answer[:1].isdigit():
        return False
    return abs(Decimal(answer) - Decimal(expected)) < Decimal("1e-12")


def catalog_figures() -> dict[str, float]:
    """Return what the catalog alone takes: seconds and MiB, in a process of its own."""
    code = """
import json, statistics, time, tracemalloc
from agentsight_tokens.pricing import CostEstimator, catalog
times = []
for _ in range(11):
    catalog._bundled = None
    start = time.perf_counter(); CostEstimator().catalog; times.append(time.perf_counter() - start)
catalog._bundled = None
tracemalloc.start(); estimator = CostEstimator(); estimator.estimate(1, 1, "gpt-4o")
weight = tracemalloc.get_traced_memory()[0] / 2**20
start = time.perf_counter(); estimator.estimate(1, 1, "claude-sonnet-4-5"); first = time.perf_counter() - start
print(json.dumps({"ready_seconds": statistics.median(times), "mib": weight, "first_model_seconds": first}))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    figures: dict[str, float] = json.loads(run.stdout)
    return figures


def main(write: Callable[[str], object] = print) -> None:
    results = {name: found for name, setup in SETUPS.items() if (found := probed(setup))}
    ours = results["agentsight-tokens"][0]
    write(f"{'':32}" + "".join(f"{name:>20}" for name in results))
    rows: dict[str, Callable[[tuple[float, float, float, list[str]]], str]] = {
        "a call, median": lambda r: f"{r[0] * 1e6:.2f} us",
        "times ours": lambda r: f"{r[0] / ours:.0f}",
        "import to first price": lambda r: f"{r[1] * 1e3:.0f} ms",
        "memory until then": lambda r: f"{r[2]:.0f} MiB",
    }
    for title, figure in rows.items():
        write(f"{title:32}" + "".join(f"{figure(result):>20}" for result in results.values()))
    for position, (title, expected, _, _) in enumerate(CASES):
        cells = []
        for result in results.values():
            answer = result[3][position]
            shown = answer if answer == "None" or answer.isalpha() else f"{float(answer):.8g}"
            cells.append(f"{shown + (' ' if is_right(answer, expected) else ' x'):>20}")
        write(f"{title:32}" + "".join(cells))
    right = {
        name: statistics.mean(
            is_right(answer, case[1]) for answer, case in zip(result[3], CASES, strict=True)
        )
        for name, result in results.items()
    }
    write(f"{'right':32}" + "".join(f"{share:>19.0%} " for share in right.values()))
    catalog = catalog_figures()
    write(
        f"catalog: ready in {catalog['ready_seconds'] * 1e3:.2f} ms, {catalog['mib']:.2f} MiB, "
        f"first price of a model {catalog['first_model_seconds'] * 1e3:.2f} ms"
    )


if __name__ == "__main__":
    main()
