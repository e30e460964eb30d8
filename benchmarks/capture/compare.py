"""
Count the scenarios of `agentsight-tokens doctor --conformance` with every meter, side by side.

It needs, besides this package and its `demo` extra: langchain-anthropic, langchain-community,
langgraph, llama-index-llms-anthropic, openinference-instrumentation-langchain,
openinference-instrumentation-llama-index, opentelemetry-sdk and agentsight.

    python benchmarks/capture/compare.py [--json FILE] [METER ...]

Only the totals are compared (input, output, total, embedding), because not every meter knows
the details. Each meter runs in a process of its own. `over` and `under` are scenarios with a
figure that is too high, or too low; `said` of these were marked as unreported or partial. `raised`: the call failed in
the program, which it does not do without the meter.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import subprocess
import sys
import warnings
from collections import Counter
from importlib import metadata
from typing import Any

from meters import METERS

from agentsight_tokens.conformance import Scenario, clients_of, run_scenario, scenarios_of
from agentsight_tokens.conformance.scenario import judged
from agentsight_tokens.testing import LoopbackProvider

DISTRIBUTIONS = (
    "langchain-core",
    "langchain-openai",
    "langchain-anthropic",
    "langchain-community",
    "langgraph",
    "llama-index-core",
    "llama-index-llms-openai",
    "llama-index-llms-anthropic",
    "openai",
    "anthropic",
    "openinference-instrumentation-langchain",
    "openinference-instrumentation-llama-index",
    "agentsight",
)
DETAILS = ("cached", "written", "written_1h", "reasoning", "unreported")


def totals_only(scenario: Scenario) -> Scenario:
    """Return a scenario of which only the totals are expected, in all conversations together."""
    return dataclasses.replace(scenario, shares={}, **dict.fromkeys(DETAILS, 0))


def verdict_of(meter: Any, framework: str, scenario: Scenario) -> dict[str, Any]:
    with LoopbackProvider(keep_alive=False) as provider:
        clients = clients_of(framework, provider)
        if scenario.build is not None:
            clients.built = scenario.build(clients)
        meter.reset()
        expected = totals_only(scenario)
        result = run_scenario(framework, expected, clients, meter)
    row = {"scenario": scenario.name, "reason": result.reason}
    if result.counted is None:
        return {**row, "verdict": result.verdict}
    silent = result.counted._replace(unreported_calls=0, partial_calls=0)
    is_said = bool(result.counted.unreported_calls or result.counted.partial_calls)
    verdict, reason = judged(expected.expected, silent)
    return {**row, "verdict": verdict, "reason": reason, "said": is_said}


def run_meter(name: str, framework: str) -> list[dict[str, Any]]:
    """Run the scenarios of a framework in this process."""
    make, _ = METERS[name]
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    for variable in [v for v in os.environ if v.startswith(("LANGSMITH_", "LANGCHAIN_"))]:
        del os.environ[variable]
    scenarios_of(framework)  # loads the framework
    meter = make()
    return [verdict_of(meter, framework, scenario) for scenario in scenarios_of(framework)]


def in_own_process(name: str, framework: str) -> list[dict[str, Any]]:
    command = [sys.executable, __file__, "--one", framework, name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        return []
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("meters", nargs="*")
    parser.add_argument("--json", help="write every verdict to this file")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        rows = run_meter(options.meters[0], options.one)
        print(json.dumps(rows))
        return
    found: dict[str, dict[str, Any]] = {}
    for name in options.meters or METERS:
        for framework in METERS[name][1]:
            rows = found.setdefault(framework, {})[name] = in_own_process(name, framework)
            print(f"{framework}: {name}, {len(rows)} scenarios", file=sys.stderr)
    print_tables(found)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:  # noqa: PTH123
            json.dump(found, file, indent=1)


def print_tables(found: dict[str, dict[str, Any]]) -> None:
    installed = {each.metadata["Name"]: each.version for each in metadata.distributions()}
    print(", ".join(f"{name} {installed[name]}" for name in DISTRIBUTIONS if name in installed))
    for framework, meters in found.items():
        print(f"\n| {framework} | scenarios | exact | over | under | of these said | raised |")
        print("|---|---|---|---|---|---|---|")
        for name, rows in meters.items():
            counts = Counter(row["verdict"] for row in rows)
            said = sum(row["verdict"] == "under" and row["said"] for row in rows)
            cells = [counts[each] for each in ("exact", "over", "under")]
            print(f"| {name} | {len(rows)} | " + " | ".join(map(str, [*cells, said])), end="")
            print(f" | {counts['skipped']} |")


if __name__ == "__main__":
    main()
