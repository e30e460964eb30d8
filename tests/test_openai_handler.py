"""The handler of the OpenAI SDK, with real clients on a real wire."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import openai
import pytest
from dirty_equals import IsFloat, IsStr

from agentsight_tokens import ConversationTracker, TokenConfig, TokenUsage, UsageRecord
from agentsight_tokens.meter import meter
from agentsight_tokens.testing import LoopbackProvider
from agentsight_tokens_openai import OpenAIHandler

MODEL = "gpt-4o-mini"
D = TokenUsage(
    input_tokens=11, output_tokens=7, total_tokens=18, cache_read_tokens=4, reasoning_tokens=2
)
ASK: Any = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
USAGE: Any = {"stream_options": {"include_usage": True}}


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    with LoopbackProvider(keep_alive=False) as provider:
        yield provider


@pytest.fixture
def client(provider: LoopbackProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=provider.openai_url, api_key="k", max_retries=0) as client:
        yield client


@pytest.fixture(autouse=True)
def handler(tracker: ConversationTracker) -> Iterator[OpenAIHandler]:
    handler = OpenAIHandler()
    handler.install(meter, TokenConfig())
    yield handler
    handler.uninstall()


def asking(content: str) -> Any:
    return {"model": MODEL, "messages": [{"role": "user", "content": content}]}


def only(tracker: ConversationTracker) -> UsageRecord:
    (record,) = tracker.get_usage_history()
    return record


def run(provider: LoopbackProvider, work: Callable[[openai.AsyncOpenAI], Any]) -> Any:
    """Run asynchronous work with a client of its own."""

    async def main() -> Any:
        url = provider.openai_url
        async with openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as client:
            return await work(client)

    return asyncio.run(main())


def test_chat(tracker: ConversationTracker, client: openai.OpenAI) -> None:
    """A chat completion is one record with everything that the answer told."""
    completion = client.chat.completions.create(**ASK)

    record = only(tracker)
    assert completion.choices[0].message.content == "ok"
    assert record.usage == D
    assert (record.operation, record.model, record.provider) == ("chat", MODEL, "openai")
    assert (record.handler, record.status, record.source) == ("openai", "ok", "provider")
    assert (record.response_id, record.service_tier) == (completion.id, "default")
    assert record.duration_seconds == IsFloat(gt=0)


def test_chat_async(tracker: ConversationTracker, provider: LoopbackProvider) -> None:
    """The asynchronous client's calls are counted alike."""
    run(provider, lambda client: client.chat.completions.create(**ASK))

    assert only(tracker).usage == D


def test_stream(tracker: ConversationTracker, client: openai.OpenAI) -> None:
    """A stream is counted when it ends, with the time of its first token."""
    chunks = [*client.chat.completions.create(**ASK, **USAGE, stream=True)]

    record = only(tracker)
    assert chunks[-1].usage is not None
    assert record.usage == D
    assert record.response_id == IsStr(regex="chatcmpl-.*")
    assert record.time_to_first_token_seconds == IsFloat(gt=0)


def test_stream_async(tracker: ConversationTracker, provider: LoopbackProvider) -> None:
    """An asynchronous stream is counted alike."""

    async def work(client: openai.AsyncOpenAI) -> None:
        async for _ in await client.chat.completions.create(**ASK, **USAGE, stream=True):
            pass

    run(provider, work)

    assert only(tracker).usage == D
