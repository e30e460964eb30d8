"""The samples of AgentSight's document on token usage, as its readers would run them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from agentsight_tokens import ConversationTracker, HandlerSkippedWarning
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


@pytest.mark.programs
def test_agentsights_automatic_sample_counts() -> None:
    """One variable, set after the import, and LlamaIndex is counted."""
    pytest.importorskip("llama_index.llms.openai")
    with LoopbackProvider() as provider:
        printed = run(AUTOMATIC, OPENAI_API_KEY="k", OPENAI_API_BASE=provider.openai_url)
        usage = provider.billed()

    counted = eval(printed)
    assert counted["prompt_llm_token_count"] == usage.input_tokens > 0
    assert counted["completion_llm_token_count"] == usage.output_tokens


@pytest.mark.programs
def test_langchains_twin_counts() -> None:
    """`AGENTSIGHT_TOKEN_HANDLER_TYPE=langchain`: the same with LangChain."""
    pytest.importorskip("langchain_openai")
    code = AUTOMATIC.replace('"llamaindex"', '"langchain"')
    code = code.replace(
        "llama_index.llms.openai import OpenAI", "langchain_openai import ChatOpenAI"
    )
    code = code.replace("OpenAI(model", "ChatOpenAI(model").replace("complete(", "invoke(")
    code = code.replace("ChatChat", "Chat")
    with LoopbackProvider() as provider:
        printed = run(code, OPENAI_API_KEY="k", OPENAI_API_BASE=provider.openai_url)
        usage = provider.billed()

    counted = eval(printed)
    assert counted["prompt_llm_token_count"] == usage.input_tokens > 0
    assert counted["total_llm_token_count"] == usage.total_tokens


def test_the_signature_takes_none_and_nothing(tracker: ConversationTracker) -> None:
    """
    The documented signature and its complete sample.

        def track_token_usage(
            self,
            prompt_tokens: Optional[int] = 0,
            completion_tokens: Optional[int] = 0,
            total_tokens: Optional[int] = 0,
            embedding_tokens: Optional[int] = 0
        ) -> None:

        tracker.track_token_usage(
            prompt_tokens=100,
            completion_tokens=25,
            total_tokens=125
        )
        token_data = tracker.get_token_usage()
        print(token_data)
    """
    tracker.track_token_usage()
    tracker.track_token_usage(None, None, None, None)
    tracker.track_token_usage(prompt_tokens=100, completion_tokens=25, total_tokens=125)
    tracker.track_token_usage(embedding_tokens=40)

    assert list(tracker.get_token_usage().items()) == [
        ("prompt_llm_token_count", 100),
        ("completion_llm_token_count", 25),
        ("total_llm_token_count", 125),
        ("total_embedding_token_count", 40),
    ]


def test_without_the_framework_the_handler_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """The warning about dependencies: the tracker works, and says what to install."""
    monkeypatch.setitem(sys.modules, "llama_index_instrumentation", None)
    with pytest.warns(HandlerSkippedWarning, match="agentsight-tokens\\[llamaindex\\]"):
        tracker = ConversationTracker(token_handler="llamaindex")
    with tracker:
        tracker.track_token_usage(1)

    assert tracker.handler_status["llamaindex"].startswith("skipped: ")
