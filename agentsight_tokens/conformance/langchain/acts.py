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
from agentsight_tokens.conformance.scenario import MiscountError
from agentsight_tokens.testing import Reply, ToolCall

from .clients import D, LangChainClients, Remembering, asked, prompts

SLOWLY = "[[in=11 out=7 chunks=4 text=abcd]]"
WORKERS = 32
CALLS_OF_WORKER = 4
NAMES = "abcd"


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


def second_prompt_fails(kit: LangChainClients) -> None:
    with expect_failure("400"):
        kit.openai().generate(prompts(["[[in=11 out=7]]", "[[status=400]]"]))


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


def acached(kit: LangChainClients) -> None:
    async def thrice() -> None:
        for _ in range(3):
            await kit.openai().ainvoke(D)

    with _cache():
        run(thrice())


@contextmanager
def _cache() -> Iterator[None]:
    before = get_llm_cache()
    set_llm_cache(InMemoryCache())
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


def workers_prompts(number: int) -> list[tuple[int, int]]:
    """Return the prompt and completion tokens of one worker's calls."""
    return [(number + 1, call + 1) for call in range(CALLS_OF_WORKER)]


class Sending(threading.Thread):
    """Sends what the conversations use, every 3 ms."""

    def __init__(self, kit: LangChainClients) -> None:
        super().__init__()
        self.kit = kit
        self.is_over = threading.Event()
        self.sent: dict[str, int | None] = dict.fromkeys(NAMES, 0)

    def run(self) -> None:
        is_last = False
        while not is_last:
            is_last = self.is_over.wait(0.003)
            for name, before in self.sent.items():
                more = self.kit.meter.send(name)
                self.sent[name] = None if more is None or before is None else before + more

    def finish(self) -> None:
        self.is_over.set()
        self.join()
        for name, tokens in self.sent.items():
            billed = self.kit.provider.billed(name).total_tokens
            if tokens is not None and tokens != billed:
                raise MiscountError(billed, tokens)


def many_workers(kit: LangChainClients) -> None:
    model, sending = kit.openai(), Sending(kit)

    def work(number: int) -> None:
        name = NAMES[number % len(NAMES)]
        for call, (given, made) in enumerate(workers_prompts(number)):
            prompt = f"[[in={given} out={made} label={name}]]"
            with kit.meter.conversation(name):
                list(model.stream(prompt)) if call % 2 else model.invoke(prompt)

    workers = [threading.Thread(target=work, args=(n,)) for n in range(WORKERS)]
    for thread in (sending, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    sending.finish()
