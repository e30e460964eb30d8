"""Many workers, all handlers on, sends all the time: the provider's ledger, to the token."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anthropic
import openai
import pytest
from llama_index.core.llms import ChatMessage
from llama_index.llms.openai import OpenAI as LlamaIndexOpenAI

from agentsight_tokens import ConversationTracker, TokenConfig, TokenUsage
from agentsight_tokens.conformance.langchain.clients import LangChainClients
from agentsight_tokens.testing import LoopbackProvider
from agentsight_tokens.usage import USAGE_FIELDS

WORKERS = 32
NAMES = "abcd"
KINDS = 7

Call = Callable[[str], object]
"""Makes a call with a prompt, and waits for all of its answer."""


def clients_of(provider: LoopbackProvider) -> list[Call]:
    """Return `KINDS` ways of calling, each with a client that all workers share."""
    langchain = LangChainClients(provider)
    over_langchain, over_anthropic = langchain.openai(), langchain.anthropic()
    over_llamaindex = LlamaIndexOpenAI(
        "gpt-4o-mini", api_base=provider.openai_url, api_key="k", max_retries=0
    )
    sdk = openai.OpenAI(base_url=provider.openai_url, api_key="k", max_retries=0)
    claude = anthropic.Anthropic(base_url=provider.anthropic_url, api_key="k", max_retries=0)

    def said(prompt: str) -> list[ChatMessage]:
        return [ChatMessage(role="user", content=prompt)]

    def by_sdk(prompt: str) -> list[object]:
        message = {"role": "user", "content": prompt}
        return list(sdk.chat.completions.create(model="gpt-4o", messages=[message], stream=True))

    def by_claude(prompt: str) -> object:
        message = {"role": "user", "content": prompt}
        return claude.messages.create(model="claude-haiku-4-5", max_tokens=9, messages=[message])

    return [
        over_langchain.invoke,
        lambda prompt: list(over_anthropic.stream(prompt)),
        lambda prompt: over_llamaindex.chat(said(prompt)),
        lambda prompt: list(over_llamaindex.stream_chat(said(prompt))),
        by_sdk,
        by_claude,
        langchain.embeddings().embed_query,
    ]


class Sending(threading.Thread):
    """Sends what the conversations use, every 3 ms, and adds up what the sends say."""

    def __init__(self, tracker: ConversationTracker) -> None:
        super().__init__()
        self._tracker = tracker
        self._is_over = threading.Event()
        self.sent = {name: TokenUsage() for name in NAMES}

    def run(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._is_over.wait(0.003)
            for name in NAMES:
                with self._tracker.conversation(name):
                    self.sent[name] += self._tracker.send_tracked_data().totals

    def finish(self) -> None:
        self._is_over.set()
        self.join()


@pytest.fixture
def tracker(tmp_path: Path) -> Iterator[ConversationTracker]:
    """A tracker with every handler whose framework is installed."""
    config = TokenConfig(data_dir=str(tmp_path / "d"), token_handler="auto", exit_flush_seconds=0)
    with ConversationTracker(config=config) as tracker:
        yield tracker


def test_many_workers_equal_the_ledger(tracker: ConversationTracker) -> None:
    """32 workers in 4 conversations, over LangChain, LlamaIndex and the SDKs themselves."""
    assert {"langchain", "llamaindex", "openai", "anthropic"} <= set(tracker.handler_status)
    assert set(tracker.handler_status.values()) == {"active"}
    with LoopbackProvider(keep_alive=False) as provider:
        calls, sending = clients_of(provider), Sending(tracker)

        def work(number: int) -> None:
            name = NAMES[number % len(NAMES)]
            for turn in range(KINDS):
                prompt = f"[[in={number + 11} out={turn + 2} cached={number % 5} label={name}]]"
                with tracker.conversation(name):
                    calls[(number + turn) % KINDS](prompt)

        sending.start()
        with ThreadPoolExecutor(WORKERS) as pool:
            list(pool.map(work, range(WORKERS)))
        provider.settle()
        sending.finish()

        usage = tracker.get_usage()
        assert usage.request_count == provider.requests == WORKERS * KINDS
        assert (usage.unreported_calls, usage.unpriced_tokens) == (0, 0)
        for name in NAMES:
            counted = tracker.get_usage(conversation_id=name)
            known = TokenUsage(**{field: getattr(counted, field) for field in USAGE_FIELDS})
            billed = provider.billed(name)
            assert billed.input_tokens > 0
            assert sending.sent[name] == known == billed
