"""What the tests of the OpenAI handler share: clients, requests and the records they leave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import openai

from agentsight_tokens import ConversationTracker, TokenUsage, UsageRecord
from agentsight_tokens.testing import LoopbackProvider

MODEL = "gpt-4o-mini"
D = TokenUsage(
    input_tokens=11, output_tokens=7, total_tokens=18, cache_read_tokens=4, reasoning_tokens=2
)
"""What a prompt without a directive uses."""
USAGE: Any = {"stream_options": {"include_usage": True}}


def asking(content: str = "hi", **more: Any) -> Any:
    """Return the arguments of a chat completion."""
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], **more}


def only(tracker: ConversationTracker) -> UsageRecord:
    """Return the only record."""
    (record,) = tracker.get_usage_history()
    return record


def run(provider: LoopbackProvider, work: Callable[[openai.AsyncOpenAI], Any]) -> Any:
    """Run asynchronous work with a client of its own."""

    async def main() -> Any:
        url = provider.openai_url
        async with openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as client:
            return await work(client)

    return asyncio.run(main())


@contextmanager
def answering(
    *answers: httpx.Response, base_url: str = "http://server/v1", **options: Any
) -> Iterator[openai.OpenAI]:
    """Yield a client that gets given answers, one each."""
    left = list(answers)
    with (
        httpx.Client(transport=httpx.MockTransport(lambda _: left.pop(0)), **options) as http,
        openai.OpenAI(base_url=base_url, api_key="k", http_client=http, max_retries=0) as client,
    ):
        yield client
