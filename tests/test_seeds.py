"""The samples of the documents that this package grew from, as their readers would run them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from agentsight_tokens import ConversationTracker, CostEstimator, UsageTracker, get_global_usage
from agentsight_tokens.testing import LoopbackProvider

AGENTSIGHT = """
from agentsight_tokens import ConversationTracker

tracker = ConversationTracker()

# First LLM call
tracker.track_token_usage(
    prompt_tokens=50,
    completion_tokens=20,
    total_tokens=70
)

print(tracker.get_token_usage())

# Second LLM call - tokens are added to existing totals
tracker.track_token_usage(
    prompt_tokens=30,
    completion_tokens=15,
    total_tokens=45
)

print(tracker.get_token_usage())

# Send tracked data - this resets all counters to 0
result = tracker.send_tracked_data()

print(tracker.get_token_usage())
"""
AGENTSIGHT_PRINTS = """\
{'prompt_llm_token_count': 50, 'completion_llm_token_count': 20, 'total_llm_token_count': 70, \
'total_embedding_token_count': 0}
{'prompt_llm_token_count': 80, 'completion_llm_token_count': 35, 'total_llm_token_count': 115, \
'total_embedding_token_count': 0}
{'prompt_llm_token_count': 0, 'completion_llm_token_count': 0, 'total_llm_token_count': 0, \
'total_embedding_token_count': 0}
"""
AUTOMATIC = """
import os
from agentsight_tokens import ConversationTracker

# Enable automatic LlamaIndex token tracking
os.environ["AGENTSIGHT_TOKEN_HANDLER_TYPE"] = "llamaindex"

tracker = ConversationTracker()

# Your LlamaIndex LLM calls will automatically track tokens
from llama_index.llms.openai import OpenAI

llm = OpenAI(model="gpt-3.5-turbo")
response = llm.complete("Hello, world!")

# Tokens are automatically tracked - no manual tracking needed
print(tracker.get_token_usage())
"""


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_agentsights_cumulative_sample_prints_the_documented_lines() -> None:
    """The sample runs to the letter, with no key and no network."""
    assert run(AGENTSIGHT) == AGENTSIGHT_PRINTS


def test_agentsights_automatic_sample_counts() -> None:
    """One variable, set after the import, and LlamaIndex is counted."""
    pytest.importorskip("llama_index.llms.openai")
    with LoopbackProvider() as provider:
        printed = run(AUTOMATIC, OPENAI_API_KEY="k", OPENAI_API_BASE=provider.openai_url)
        usage = provider.billed()

    counted = eval(printed)
    assert counted["prompt_llm_token_count"] == usage.input_tokens > 0
    assert counted["completion_llm_token_count"] == usage.output_tokens


def test_mambas_usage_and_cost(tracker: ConversationTracker) -> None:
    """`get_usage`, `get_cost`, `get_cost_breakdown`, the history and their formats."""
    tracker.track_token_usage(1000, 500, model="gpt-4o")
    usage = tracker.get_usage()
    breakdown = tracker.get_cost_breakdown()
    (record,) = tracker.get_usage_history()

    assert (
        f"{usage.total_tokens} {usage.prompt_tokens} {usage.completion_tokens}" == "1500 1000 500"
    )
    assert usage.request_count == 1
    assert f"Estimated cost: ${tracker.get_cost():.4f}" == "Estimated cost: $0.0075"
    assert f"${breakdown.prompt_cost:.4f} ${breakdown.completion_cost:.4f}" == "$0.0025 $0.0050"
    assert (f"${breakdown.total_cost:.4f}", breakdown.model) == ("$0.0075", "gpt-4o")
    assert (record.timestamp.tzinfo is not None, record.tool_name) == (True, None)


def test_mambas_session_pattern(tracker: ConversationTracker) -> None:
    """Reset, process, read: each session sees its own usage."""
    logged = {}
    for user_id, tokens in (("a", 1), ("b", 2)):
        tracker.reset_tracking()
        tracker.track_token_usage(tokens)
        logged[user_id] = tracker.get_usage().total_tokens

    assert logged == {"a": 1, "b": 2}


def test_mambas_utilities() -> None:
    """`UsageTracker` and `CostEstimator` as their samples use them."""
    with UsageTracker() as tracker:
        tracker.record_usage(input_tokens=100, output_tokens=50, model="gpt-4o")
        assert tracker.get_summary().total_tokens == 150
    estimator = CostEstimator()
    cost = estimator.estimate(input_tokens=1000, output_tokens=500, model="gpt-4o")
    assert f"Cost: ${cost.total_cost:.4f}" == "Cost: $0.0075"
    estimator.set_rate("my-model", 0.002)
    assert float(estimator.get_rate("my-model")) == 0.002
    assert "my-model" in estimator.get_all_rates()


def test_langswarms_sessions_and_global_usage(tracker: ConversationTracker) -> None:
    """A session's cost, and the usage of each model in the process."""
    with tracker.conversation("session_123"):
        tracker.track_token_usage(1000, 500, model="gpt-4o")
    tracker.track_token_usage(1000, 0, model="gpt-4o-mini")

    assert f"Session Cost: ${tracker.get_session_usage('session_123').cost:f}" == (
        "Session Cost: $0.007500000000"
    )
    lines = [f"{m}: {usage.cost:.4f}" for m, usage in get_global_usage().by_model.items()]
    assert lines == ["gpt-4o: 0.0075", "gpt-4o-mini: 0.0002"]
