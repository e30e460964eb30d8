"""What the scenarios do that takes more than a line."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from agentsight_tokens.conformance.clients import drain, expect_failure, run
from agentsight_tokens.conformance.workers import work_at_once
from agentsight_tokens.testing import Reply

from .clients import D, LiteLLMClients, litellm, said

SLOWLY = "[[in=101 out=7 chunks=4 text=abcd]]"
NAMED: dict[str, Any] = {"metadata": {"agentsight_conversation_id": "named"}}
ANSWERED = Reply(input_tokens=101, output_tokens=7, cache_read_tokens=40, reasoning_tokens=2)
FAILED = Reply(status=500, retry_after=0)


def stream(kit: LiteLLMClients) -> None:
    list(kit.complete(stream=True))


def astream(kit: LiteLLMClients) -> None:
    async def act() -> None:
        async for _ in await kit.acomplete(stream=True):
            pass

    run(act())


def text(kit: LiteLLMClients) -> None:
    litellm.text_completion(**_prompting(kit))


def atext(kit: LiteLLMClients) -> None:
    run(litellm.atext_completion(**_prompting(kit)))


def _prompting(kit: LiteLLMClients) -> dict[str, Any]:
    options = kit.options(model="text-completion-openai/gpt-3.5-turbo-instruct", prompt=D)
    return {name: value for name, value in options.items() if name != "messages"}


def in_bare_thread(kit: LiteLLMClients) -> None:
    thread = threading.Thread(target=lambda: kit.complete(**NAMED))
    thread.start()
    thread.join()


def own_callbacks(kit: LiteLLMClients) -> None:
    before = litellm.callbacks
    litellm.callbacks = [lambda *told: None]
    try:
        kit.complete()
    finally:
        litellm.callbacks = before


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


def aretried(kit: LiteLLMClients) -> None:
    kit.provider.enqueue(FAILED)
    kit.provider.default_reply = ANSWERED
    run(kit.acomplete("hi", num_retries=1))


def _failing_router(kit: LiteLLMClients) -> Any:
    kit.provider.default_reply = ANSWERED
    kit.provider.enqueue(FAILED, FAILED)
    return kit.router("gpt-4o", "gpt-4.1", "gpt-4o-mini")


def router(kit: LiteLLMClients) -> None:
    _failing_router(kit).completion("gpt-4o", said("hi"))


def router_stream(kit: LiteLLMClients) -> None:
    list(_failing_router(kit).completion("gpt-4o", said("hi"), stream=True))


def arouter(kit: LiteLLMClients) -> None:
    async def act() -> None:
        await _failing_router(kit).acompletion("gpt-4o", said("hi"))

    run(act())


def arouter_stream(kit: LiteLLMClients) -> None:
    async def act() -> None:
        await drain(_failing_router(kit).acompletion("gpt-4o", said("hi"), stream=True))

    run(act())


def fallbacks(kit: LiteLLMClients) -> None:
    kit.provider.default_reply = ANSWERED
    kit.provider.enqueue(FAILED)
    kit.complete("hi", fallbacks=["openai/gpt-4.1-mini"])


def afallbacks(kit: LiteLLMClients) -> None:
    kit.provider.default_reply = ANSWERED
    kit.provider.enqueue(FAILED)
    run(kit.acomplete("hi", fallbacks=["openai/gpt-4.1-mini"]))


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


def anthropic_astream(kit: LiteLLMClients) -> None:
    text = "hi [[in=105 out=9 cached=30 written=25 mode=output_only]]"
    options = {"model": "anthropic/claude-sonnet-4-5", "api_base": kit.provider.anthropic_url}
    run(drain(kit.acomplete(text, stream=True, **options)))


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


def let_go(kit: LiteLLMClients) -> None:
    next(iter(kit.complete(SLOWLY, stream=True)))


def cancelled(kit: LiteLLMClients) -> None:
    async def act() -> None:
        task = asyncio.ensure_future(kit.acomplete("[[delay=1]]"))
        await asyncio.to_thread(kit.provider.settle, 0.3, requests=1)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    run(act())


def broken(kit: LiteLLMClients) -> None:
    with expect_failure(""):
        list(kit.complete("[[in=101 out=7 chunks=4 text=abcd break=2]]", stream=True))


def many_workers(kit: LiteLLMClients) -> None:
    ways: list[Callable[[str], object]] = [
        kit.complete,
        lambda text: list(kit.complete(text, stream=True)),
        lambda text: run(kit.acomplete(text)),
        lambda text: run(drain(kit.acomplete(text, stream=True))),
    ]
    work_at_once(kit, lambda number, text: ways[number % len(ways)](text))


def langchain(kit: LiteLLMClients) -> None:
    kit.langchain().invoke(D)


def langchain_stream(kit: LiteLLMClients) -> None:
    list(kit.langchain().stream(D))


def langchain_async(kit: LiteLLMClients) -> None:
    run(kit.langchain().ainvoke(D))


def langchain_astream(kit: LiteLLMClients) -> None:
    run(drain(kit.langchain().astream(D)))


def llamaindex(kit: LiteLLMClients) -> None:
    kit.llamaindex().complete(D)


def llamaindex_stream(kit: LiteLLMClients) -> None:
    list(kit.llamaindex().stream_complete(D))


def llamaindex_async(kit: LiteLLMClients) -> None:
    run(kit.llamaindex().acomplete(D))


def llamaindex_astream(kit: LiteLLMClients) -> None:
    run(drain(kit.llamaindex().astream_complete(D)))
