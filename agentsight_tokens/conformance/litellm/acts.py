"""What the scenarios do that takes more than a line."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from agentsight_tokens.conformance.clients import expect_failure, run
from agentsight_tokens.testing import Reply

from .clients import D, LiteLLMClients, litellm, said

SLOWLY = "[[in=101 out=7 chunks=4 text=abcd]]"
ANSWERED = Reply(input_tokens=101, output_tokens=7, cache_read_tokens=40, reasoning_tokens=2)
FAILED = Reply(status=500, retry_after=0)


def stream(kit: LiteLLMClients) -> None:
    list(kit.complete(stream=True))


def astream(kit: LiteLLMClients) -> None:
    async def act() -> None:
        async for _ in await kit.acomplete(stream=True):
            pass

    run(act())


def _cached(act: Callable[[], object]) -> None:
    before = litellm.cache
    litellm.cache = litellm.Cache(type="local")
    try:
        act()
    finally:
        litellm.cache = before


def cached(kit: LiteLLMClients) -> None:
    def twice() -> None:
        for _ in range(2):
            kit.complete(caching=True)

    _cached(twice)


def acached(kit: LiteLLMClients) -> None:
    async def twice() -> None:
        for _ in range(2):
            await kit.acomplete(caching=True)
            await asyncio.sleep(0.1)  # LiteLLM fills its cache in a task of its own

    _cached(lambda: run(twice()))


def retried(kit: LiteLLMClients) -> None:
    kit.provider.enqueue(FAILED)
    kit.provider.default_reply = ANSWERED
    kit.complete("hi", num_retries=1)


def router(kit: LiteLLMClients) -> None:
    kit.provider.default_reply = ANSWERED
    kit.provider.enqueue(FAILED, FAILED)
    kit.router("gpt-4o", "gpt-4.1", "gpt-4o-mini").completion("gpt-4o", said("hi"))


def arouter(kit: LiteLLMClients) -> None:
    kit.provider.default_reply = ANSWERED
    kit.provider.enqueue(FAILED, FAILED)

    async def act() -> None:
        await kit.router("gpt-4o", "gpt-4.1", "gpt-4o-mini").acompletion("gpt-4o", said("hi"))

    run(act())


def fallbacks(kit: LiteLLMClients) -> None:
    kit.provider.default_reply = ANSWERED
    kit.provider.enqueue(FAILED)
    kit.complete("hi", fallbacks=["openai/gpt-4.1-mini"])


def _responses(kit: LiteLLMClients, **options: Any) -> dict[str, Any]:
    return {
        "model": "openai/gpt-4o-mini",
        "input": D,
        "api_base": kit.provider.openai_url,
        "api_key": "k",
        **options,
    }


def responses(kit: LiteLLMClients) -> None:
    litellm.responses(**_responses(kit))


def responses_stream(kit: LiteLLMClients) -> None:
    list(litellm.responses(**_responses(kit, stream=True)))


def responses_astream(kit: LiteLLMClients) -> None:
    async def act() -> None:
        async for _ in await litellm.aresponses(**_responses(kit, stream=True)):
            pass

    run(act())


def batch(kit: LiteLLMClients) -> None:
    options = kit.options(metadata={"agentsight_conversation_id": "c"})
    litellm.batch_completion(**{**options, "messages": [said(D)] * 3})


def _vectors(kit: LiteLLMClients) -> dict[str, Any]:
    return {
        "model": "openai/text-embedding-3-small",
        "input": ["a [[embedding=3]]", "b [[embedding=4]]"],
        "api_base": kit.provider.openai_url,
        "api_key": "k",
    }


def embed(kit: LiteLLMClients) -> None:
    litellm.embedding(**_vectors(kit))


def aembed(kit: LiteLLMClients) -> None:
    async def act() -> None:
        await litellm.aembedding(**_vectors(kit))

    run(act())


def anthropic(kit: LiteLLMClients) -> None:
    text = "hi [[in=105 out=9 cached=30 written=25]]"
    kit.complete(text, model="anthropic/claude-sonnet-4-5", api_base=kit.provider.anthropic_url)


def anthropic_stream(kit: LiteLLMClients) -> None:
    text = "hi [[in=105 out=9 cached=30 written=25]]"
    url = kit.provider.anthropic_url
    list(kit.complete(text, model="anthropic/claude-sonnet-4-5", api_base=url, stream=True))


def drained_elsewhere(kit: LiteLLMClients) -> None:
    chunks = kit.complete(stream=True)
    with kit.meter.conversation("other"):
        list(chunks)


def refused(kit: LiteLLMClients) -> None:
    with expect_failure("told to fail"):
        kit.complete("[[status=400]]")


def closed(kit: LiteLLMClients) -> None:
    chunks = iter(kit.complete(SLOWLY, stream=True))
    next(chunks)
    next(chunks)
    getattr(chunks, "close", lambda: None)()


def langchain(kit: LiteLLMClients) -> None:
    kit.langchain().invoke(D)


def langchain_stream(kit: LiteLLMClients) -> None:
    list(kit.langchain().stream(D))


def llamaindex(kit: LiteLLMClients) -> None:
    kit.llamaindex().complete(D)


def llamaindex_stream(kit: LiteLLMClients) -> None:
    list(kit.llamaindex().stream_complete(D))
