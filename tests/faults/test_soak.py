"""Endurance: calls without end, some of which no framework ever closes, in constant memory."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.faults.hosts import Hosts, log_of

SHORT, FULL = 100_000, 1_000_000
MAY_FILL = 4_000_000
"""
Bytes that may become resident in the second half.

SQLite fills a page cache of 2,000 KiB for each of the two files that are open, the ledger and
the store. What is ours and bounded is full by then: 10,000 open runs after a third of the short
soak, 1,000 that have ended, 1,000 scopes. Of a million calls the bound is 8 bytes for each of
the second half, less than the smallest object of Python.
"""

# Calls are told by the frameworks' own machinery, with models that answer at once. Of each
# hundred, thirty runs of LangChain begin and never end, three streams of it are left at their
# first chunk, and three of LlamaIndex are never drained.
HOST = """
import gc, itertools, json, sys
from langchain_core.callbacks import CallbackManager
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from llama_index.core.llms import ChatMessage, ChatResponse, MockLLM
from agentsight_tokens import ConversationTracker
from benchmarks.overhead import langchain_model, llamaindex_model
from agentsight_tokens_langchain.run_events import run_events

calls = int(sys.argv[1])
model, chat = langchain_model(), llamaindex_model()
undrained, said = MockLLM(max_tokens=9), [ChatMessage(role="user", content="x")]
usage = {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}
about = {"model_name": "gpt-4o-mini"}
prompt = [[HumanMessage("x")]]


def begin():
    return CallbackManager.configure().on_chat_model_start({}, prompt)[0]


def plain():
    message = AIMessage("hi", usage_metadata=usage, response_metadata=about)
    begin().on_llm_end(LLMResult(generations=[[ChatGeneration(message=message)]]))


def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


rare = [
    lambda: model.invoke("x"), chat,
    lambda: next(model.stream("x")), lambda: undrained.stream_chat(said),
]
kinds = [plain] * 58 + [begin] * 30 + rare * 3
tracker = ConversationTracker()
sizes, most = [], 0
for number in range(calls):
    with tracker.conversation(f"c{number // 500}"):
        kinds[number % len(kinds)]()
        if number % 500 == 499:
            tracker.send_tracked_data()
    if number % (calls // 10) == calls // 10 - 1:
        sizes.append(resident())
        most = max(most, len(run_events.runs))
summary = tracker.get_usage()
print(json.dumps([sizes, most, summary.request_count, summary.unreported_calls]), flush=True)
tracker.close()
"""


@pytest.mark.timeout(7200)
def test_memory_does_not_grow(hosts: Hosts, full: bool, figure: Callable[[str], None]) -> None:
    """What is resident after the first half of the calls is what is resident after all."""
    calls = FULL if full else SHORT
    host = hosts.start(HOST, calls, AGENTSIGHT_TOKEN_HANDLER_TYPE="langchain,llamaindex")
    output, _ = host.communicate(timeout=7000)
    assert host.returncode == 0, log_of(host)
    sizes, most_open, counted, unreported = json.loads(output)
    half, end = sizes[len(sizes) // 2 - 1], sizes[-1]

    figure(
        f"soak: {calls:,} calls, {counted:,} counted, of which {unreported:,} unreported; at most "
        f"{most_open:,} runs open; {half / 1e6:.1f} MB resident at half, {end / 1e6:.1f} MB at the "
        f"end ({(end - half) / (calls / 2):+.2f} bytes a call)"
    )
    assert end - half < MAY_FILL
    assert most_open <= 10_000
