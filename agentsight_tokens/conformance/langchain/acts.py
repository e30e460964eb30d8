"""What the scenarios do that takes more than a line."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from langchain_core.caches import InMemoryCache
from langchain_core.globals import get_llm_cache, set_llm_cache
from langchain_core.output_parsers import PydanticOutputParser
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langchain_core.vectorstores import InMemoryVectorStore
from pydantic import BaseModel

from agentsight_tokens.conformance.clients import drain, expect_failure, run
from agentsight_tokens.conformance.workers import work_at_once
from agentsight_tokens.testing import Reply, ToolCall

from .clients import (
    D,
    LangChainClients,
    Remembering,
    SQLiteCache,
    Wrapping,
    asked,
    prompts,
)

SLOWLY = "[[in=11 out=7 chunks=4 text=abcd]]"


class Sum(BaseModel):
    """What the model is asked to answer with."""

    total: int


def json_schema(kit: LangChainClients) -> Any:
    kit.provider.enqueue(Reply(text='{"total":3}'))
    return kit.openai().with_structured_output(Sum, method="json_schema").invoke(D)


def function_calling(kit: LangChainClients) -> Any:
    kit.provider.enqueue(Reply(tool_calls=(ToolCall("Sum", {"total": 4}),)))
    return kit.openai().with_structured_output(Sum, method="function_calling").invoke(D)


def invalid_json(kit: LangChainClients) -> None:
    kit.provider.enqueue(Reply(text='{"total":"no number"}'))
    with expect_failure("total"):
        kit.openai().with_structured_output(Sum, method="json_schema").invoke(D)


def invalid_json_async(kit: LangChainClients) -> None:
    kit.provider.enqueue(Reply(text='{"total":"no number"}'))
    with expect_failure("total"):
        run(kit.openai().with_structured_output(Sum, method="json_schema").ainvoke(D))


def cut_json(kit: LangChainClients) -> None:
    kit.provider.enqueue(Reply(text='{"tot', finish_reason="length"))
    with expect_failure("length"):
        kit.openai().with_structured_output(Sum, method="json_schema").invoke(D)


def anthropic_structured(kit: LangChainClients) -> None:
    call = ToolCall("Sum", {"total": 4})
    kit.provider.enqueue(Reply(input_tokens=11, output_tokens=7, tool_calls=(call,)))
    kit.anthropic().with_structured_output(Sum).invoke("hi")


def second_prompt_fails(kit: LangChainClients) -> None:
    with expect_failure("400"):
        kit.openai().generate(prompts(["[[in=11 out=7]]", "[[status=400]]"]))


def third_prompt_fails(kit: LangChainClients) -> None:
    texts = ["[[in=1 out=2]]", "[[in=3 out=4]]", "[[status=400]]", "[[in=9 out=9]]"]
    with expect_failure("400"):
        kit.openai().generate(prompts(texts))


def one_of_three_fails(kit: LangChainClients) -> None:
    texts = ["[[in=1 out=2]]", "[[status=400]]", "[[in=3 out=4]]"]
    with expect_failure("400"):
        run(kit.openai().agenerate(prompts(texts)))


def agenerate_choices(kit: LangChainClients) -> None:
    run(kit.openai(n=3).agenerate(prompts(["[[in=11 out=7]]", "[[in=3 out=4]]"])))


def wrapped(kit: LangChainClients) -> None:
    Wrapping(inner=kit.openai()).invoke(D)


def awrapped(kit: LangChainClients) -> None:
    run(Wrapping(inner=Wrapping(inner=kit.openai())).ainvoke(D))


def model_in_tool(kit: LangChainClients) -> None:
    @tool
    def lookup(config: RunnableConfig) -> str:
        """Look something up."""
        return str(kit.openai().invoke("[[in=100 out=50]]", config).content)

    kit.agent(lookup).invoke(asked())


def failed_response(kit: LangChainClients) -> None:
    kit.provider.enqueue(Reply(response_status="failed", billed=True))
    with expect_failure("fail"):
        kit.openai(use_responses_api=True).invoke(D)


def failed_response_streamed(kit: LangChainClients) -> None:
    kit.provider.enqueue(Reply(response_status="failed", billed=True))
    with suppress(ValueError):  # langchain-openai 1.0 does not tell
        list(kit.openai(use_responses_api=True).stream(D))


def cached(kit: LangChainClients) -> None:
    with _cache():
        for _ in range(3):
            kit.openai().invoke(D)


def cached_streaming(kit: LangChainClients) -> None:
    with _cache():
        model = kit.openai(streaming=True)
        for _ in range(3):
            model.invoke(D)


def cached_legacy(kit: LangChainClients) -> None:
    with _cache():
        for _ in range(3):
            kit.legacy().invoke("[[in=11 out=7]]")


def cached_in_sqlite(kit: LangChainClients) -> None:
    with _cache(SQLiteCache()):
        for _ in range(3):
            kit.openai().invoke(D)


PARTLY = ["[[in=3 out=4]]", "[[in=4 out=5]]", "[[in=5 out=6]]"]


def cached_batch(kit: LangChainClients) -> None:
    with _cache():
        kit.openai().invoke(PARTLY[0])
        kit.openai().generate(prompts(PARTLY))


def acached_batch(kit: LangChainClients) -> None:
    with _cache():
        kit.openai().invoke(PARTLY[0])
        run(kit.openai().agenerate(prompts(PARTLY)))


def acached(kit: LangChainClients) -> None:
    async def thrice() -> None:
        for _ in range(3):
            await kit.openai().ainvoke(D)

    with _cache():
        run(thrice())


@contextmanager
def _cache(cache: Any = None) -> Iterator[None]:
    before = get_llm_cache()
    set_llm_cache(cache or InMemoryCache())
    try:
        yield
    finally:
        set_llm_cache(before)


def retried(kit: LangChainClients) -> None:
    kit.provider.enqueue(Reply(status=500), Reply())
    kit.openai().with_retry(stop_after_attempt=2, wait_exponential_jitter=False).invoke(D)


def retried_by_sdk(kit: LangChainClients) -> None:
    kit.provider.enqueue(Reply(status=500, retry_after=0), Reply())
    kit.openai(max_retries=1).invoke(D)


def fallen_back(kit: LangChainClients) -> None:
    kit.provider.enqueue(Reply(status=500), Reply())
    kit.openai().with_fallbacks([kit.openai()]).invoke(D)


def fallen_back_stream(kit: LangChainClients) -> None:
    kit.provider.enqueue(Reply(status=500), Reply())
    list(kit.openai().with_fallbacks([kit.openai()]).stream(D))


def third_attempt(kit: LangChainClients) -> None:
    kit.provider.enqueue(Reply(status=500), Reply(status=429), Reply())
    model = kit.openai().with_retry(stop_after_attempt=3, wait_exponential_jitter=False)
    run(model.ainvoke(D))


def parsed_again(kit: LangChainClients) -> None:
    kit.provider.enqueue(Reply(text="no JSON"), Reply(text='{"total":1}'))
    chain = kit.openai() | PydanticOutputParser(pydantic_object=Sum)
    chain.with_retry(stop_after_attempt=2, wait_exponential_jitter=False).invoke(D)


def abandoned(kit: LangChainClients) -> None:
    stream = kit.openai().stream("[[in=11 out=7 mode=every_chunk chunks=7 text=1234567]]")
    for chunk in stream:
        if chunk.content == "3":
            break
    stream.close()


def broken(kit: LangChainClients) -> None:
    with suppress(Exception):
        list(kit.openai().stream("[[in=20 out=10 mode=every_chunk chunks=5 text=12345 break=2]]"))


def broken_silently(kit: LangChainClients) -> None:
    with suppress(Exception):
        kit.openai().invoke("[[in=11 out=7 break=0]]")


def let_go(kit: LangChainClients) -> None:
    next(kit.openai().stream(SLOWLY))


def closed_early(kit: LangChainClients) -> None:
    stream = kit.openai().stream(SLOWLY)
    next(stream)
    next(stream)
    stream.close()


def cancelled(kit: LangChainClients) -> None:
    async def cancel() -> None:
        task = asyncio.ensure_future(kit.openai().ainvoke("[[delay=1]]"))
        while not kit.provider.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    run(cancel())


def in_thread(kit: LangChainClients) -> None:
    _in_thread(lambda: kit.openai().invoke(D))


def _in_thread(work: Any) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def drained_elsewhere(kit: LangChainClients) -> None:
    stream = kit.openai().stream(SLOWLY)
    next(stream)
    with kit.meter.conversation("other"):
        list(stream)


def drained_in_thread(kit: LangChainClients) -> None:
    stream = kit.openai().stream(SLOWLY)
    next(stream)
    _in_thread(lambda: list(stream))


def drained_in_task(kit: LangChainClients) -> None:
    async def move() -> None:
        stream = kit.openai().astream(SLOWLY)
        await anext(stream)

        async def rest() -> None:
            with kit.meter.conversation("other"):
                await drain(stream)

        await asyncio.create_task(rest())

    run(move())


TWO = {"a": (10, 4), "b": (20, 8)}
"""Prompt and completion of two conversations."""


def two_at_a_time(kit: LangChainClients) -> None:
    streams = []
    for name, (given, made) in TWO.items():
        with kit.meter.conversation(name):
            stream = kit.openai().stream(f"[[in={given} out={made} chunks=4 text=abcd]]")
            next(stream)
            streams.append(stream)
    for _ in zip(*streams, strict=False):
        pass
    for stream in streams:
        list(stream)


def embed(kit: LangChainClients) -> None:
    kit.embeddings().embed_query("[[embedding=9]]")
    run(kit.embeddings().aembed_documents(["[[embedding=3]]", "[[embedding=4]]"]))


def embed_cached(kit: LangChainClients) -> None:
    remembering = Remembering(kit.embeddings())
    for _ in range(2):
        remembering.embed_documents(["[[embedding=3]]", "[[embedding=4]]"])


def embed_in_store(kit: LangChainClients) -> None:
    store = InMemoryVectorStore(kit.embeddings())
    store.add_texts(["[[embedding=3]]", "[[embedding=4]]"])
    store.similarity_search("[[embedding=9]]")


def refused(kit: LangChainClients) -> None:
    with expect_failure("400"):
        kit.openai().invoke("[[status=400]]")


def many_workers(kit: LangChainClients) -> None:
    model = kit.openai()
    work_at_once(kit, lambda n, text: list(model.stream(text)) if n % 2 else model.invoke(text))
