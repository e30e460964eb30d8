"""The scenarios of LangChain that must be exact, each against the provider's own ledger."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler, CallbackManager
from langchain_core.embeddings import Embeddings
from langchain_core.globals import set_llm_cache
from langchain_core.messages import HumanMessage
from langchain_core.output_parsers import PydanticOutputParser
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langchain_core.vectorstores import InMemoryVectorStore
from pydantic import BaseModel

from agentsight_tokens import TokenUsage
from agentsight_tokens.faults import fault_counts
from agentsight_tokens.testing import Reply, ToolCall
from agentsight_tokens_langchain.callbacks import usage_callback
from tests.langchain_kit import D, Kit, drain, handler_kit, run

TRIPLE = ["[[in=1 out=2]]", "[[in=3 out=4]]", "[[in=5 out=6]]"]
ASK_TOOL = "[[in=11 out=7 tool=lookup]]"


class Sum(BaseModel):
    total: int


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with handler_kit(tmp_path) as kit:
        yield kit


@dataclass(frozen=True)
class Scenario:
    """One way to call a model, and what it is known to use."""

    name: str
    act: Callable[[Kit], Any]
    prompt: int = 11
    completion: int = 7
    cached: int = 0
    written: int = 0
    reasoning: int = 0
    embedding: int = 0
    calls: int = 1
    unreported: int = 0
    conversation: str = "c"
    is_told: bool = True
    """Whether the client is told all that the provider bills."""


def batch_of(messages: list[str]) -> list[list[HumanMessage]]:
    return [[HumanMessage(text)] for text in messages]


def json_schema(kit: Kit) -> Any:
    kit.provider.enqueue(Reply(text='{"total":3}'))
    return kit.openai().with_structured_output(Sum, method="json_schema").invoke(D)


def function_calling(kit: Kit) -> Any:
    kit.provider.enqueue(Reply(tool_calls=(ToolCall("Sum", {"total": 4}),)))
    return kit.openai().with_structured_output(Sum, method="function_calling").invoke(D)


def invalid_json(kit: Kit) -> None:
    kit.provider.enqueue(Reply(text='{"total":"no number"}'))
    with pytest.raises(Exception, match="total"):
        kit.openai().with_structured_output(Sum, method="json_schema").invoke(D)


def asked(text: str = ASK_TOOL) -> dict[str, Any]:
    return {"messages": [HumanMessage(text)]}


def agent_with_model_in_tool(kit: Kit) -> None:
    @tool
    def lookup(config: RunnableConfig) -> str:
        """Look something up."""
        return str(kit.openai().invoke("[[in=100 out=50]]", config).content)

    kit.agent(lookup).invoke(asked())


def failed_response(kit: Kit) -> None:
    kit.provider.enqueue(Reply(response_status="failed", billed=True))
    with pytest.raises(ValueError, match="fail"):
        kit.openai(use_responses_api=True).invoke(D)


def failed_response_streamed(kit: Kit) -> None:
    kit.provider.enqueue(Reply(response_status="failed", billed=True))
    with pytest.raises(ValueError, match="fail"):
        list(kit.openai(use_responses_api=True).stream(D))


def cached(kit: Kit) -> None:
    set_llm_cache(InMemoryCache())
    for _ in range(3):
        kit.openai().invoke(D)


def acached(kit: Kit) -> None:
    set_llm_cache(InMemoryCache())

    async def thrice() -> None:
        for _ in range(3):
            await kit.openai().ainvoke(D)

    run(thrice())


def retried(kit: Kit) -> None:
    kit.provider.enqueue(Reply(status=500), Reply())
    kit.openai().with_retry(stop_after_attempt=2, wait_exponential_jitter=False).invoke(D)


def retried_by_sdk(kit: Kit) -> None:
    kit.provider.enqueue(Reply(status=500, retry_after=0), Reply())
    kit.openai(max_retries=1).invoke(D)


def fallen_back(kit: Kit) -> None:
    kit.provider.enqueue(Reply(status=500), Reply())
    kit.openai().with_fallbacks([kit.openai()]).invoke(D)


def parsed_again(kit: Kit) -> None:
    kit.provider.enqueue(Reply(text="no JSON"), Reply(text='{"total":1}'))
    chain = kit.openai() | PydanticOutputParser(pydantic_object=Sum)
    chain.with_retry(stop_after_attempt=2, wait_exponential_jitter=False).invoke(D)


def abandoned(kit: Kit) -> None:
    stream = kit.openai().stream("[[in=11 out=7 mode=every_chunk chunks=7 text=1234567]]")
    for chunk in stream:
        if chunk.content == "3":
            break
    stream.close()


def in_thread(kit: Kit) -> None:
    thread = threading.Thread(target=kit.openai().invoke, args=(D,))
    thread.start()
    thread.join()


def embed(kit: Kit) -> None:
    kit.embeddings().embed_query("[[embedding=9]]")
    run(kit.embeddings().aembed_documents(["[[embedding=3]]", "[[embedding=4]]"]))


class Remembering(Embeddings):
    """Embeds each text once, as langchain's CacheBackedEmbeddings do."""

    def __init__(self, inner: Embeddings) -> None:
        self.inner = inner
        self.known: dict[str, list[float]] = {}

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        new = [text for text in texts if text not in self.known]
        if new:
            self.known.update(zip(new, self.inner.embed_documents(new), strict=True))
        return [self.known[text] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.embed_documents([text])[0]


def embed_cached(kit: Kit) -> None:
    remembering = Remembering(kit.embeddings())
    for _ in range(2):
        remembering.embed_documents(["[[embedding=3]]", "[[embedding=4]]"])


def embed_in_store(kit: Kit) -> None:
    store = InMemoryVectorStore(kit.embeddings())
    store.add_texts(["[[embedding=3]]", "[[embedding=4]]"])
    store.similarity_search("[[embedding=9]]")


def refused(kit: Kit) -> None:
    with pytest.raises(Exception, match="400"):
        kit.openai().invoke("[[status=400]]")


FULL = {"cached": 4, "reasoning": 2}
AGENT = {"prompt": 22, "completion": 14, "calls": 2}

SCENARIOS = [
    Scenario("1 invoke", lambda k: k.openai().invoke(D), **FULL),
    Scenario("1 ainvoke", lambda k: run(k.openai().ainvoke(D)), **FULL),
    Scenario("1 stream", lambda k: list(k.openai().stream(D)), **FULL),
    Scenario("1 astream", lambda k: run(drain(k.openai().astream(D))), **FULL),
    Scenario("2 batch", lambda k: k.openai().batch(TRIPLE), 9, 12, calls=3),
    Scenario("2 abatch", lambda k: run(k.openai().abatch(TRIPLE)), 9, 12, calls=3),
    Scenario("2 generate", lambda k: k.openai().generate(batch_of(TRIPLE[:2])), 4, 6, calls=2),
    Scenario(
        "2 n=3", lambda k: k.openai(n=3).generate([[HumanMessage("[[in=11 out=7]]")]]), 11, 21
    ),
    Scenario("3 json schema", json_schema, **FULL),
    Scenario("3 function calling", function_calling, **FULL),
    Scenario("3 invalid json", invalid_json, **FULL),
    Scenario("4 agent invoke", lambda k: k.agent().invoke(asked()), **AGENT),
    Scenario("4 agent ainvoke", lambda k: run(k.agent().ainvoke(asked())), **AGENT),
    Scenario(
        "4 agent events",
        lambda k: run(drain(k.agent().astream_events(asked(), version="v2"))),
        **AGENT,
    ),
    Scenario(
        "4 agent messages",
        lambda k: list(k.agent().stream(asked(), stream_mode="messages")),
        **AGENT,
    ),
    Scenario("4 model in tool", agent_with_model_in_tool, 122, 64, calls=3),
    Scenario("5 responses invoke", lambda k: k.openai(use_responses_api=True).invoke(D), **FULL),
    Scenario(
        "5 responses stream", lambda k: list(k.openai(use_responses_api=True).stream(D)), **FULL
    ),
    Scenario("5 response failed", failed_response, **FULL),
    Scenario("5 response failed streamed", failed_response_streamed, **FULL),
    Scenario("6 legacy invoke", lambda k: k.legacy().invoke("[[in=11 out=7]]")),
    Scenario("6 legacy ainvoke", lambda k: run(k.legacy().ainvoke("[[in=11 out=7]]"))),
    Scenario("6 legacy batch", lambda k: k.legacy().batch(TRIPLE), 9, 12),
    Scenario("6 legacy abatch", lambda k: run(k.legacy().abatch(TRIPLE)), 9, 12),
    Scenario("7 cache", cached, **FULL),
    Scenario("7 cache async", acached, **FULL),
    Scenario("8 with_retry", retried, calls=2, **FULL),
    Scenario("8 SDK retry", retried_by_sdk, **FULL),
    Scenario("8 fallback", fallen_back, calls=2, **FULL),
    Scenario("8 parsed again", parsed_again, 22, 14, cached=8, reasoning=4, calls=2),
    Scenario(
        "9 every chunk", lambda k: list(k.openai().stream("[[in=11 out=7 mode=every_chunk]]"))
    ),
    Scenario("9 abandoned", abandoned, 11, 3, is_told=False),
    Scenario(
        "10 Anthropic cache",
        lambda k: k.anthropic().invoke("[[in=18 out=7 cached=4 written=3]]"),
        18,
        cached=4,
        written=3,
    ),
    Scenario(
        "10 Anthropic lifetimes",
        lambda k: k.anthropic().invoke("[[in=20 out=7 cached=4 written=5 written_1h=2]]"),
        20,
        cached=4,
        written=5,
    ),
    Scenario(
        # langchain-anthropic drops `message_start`, the only event that tells the lifetimes.
        "10 Anthropic lifetimes streamed",
        lambda k: list(k.anthropic().stream("[[in=20 out=7 cached=4 written=5 written_1h=2]]")),
        20,
        cached=4,
        written=5,
        is_told=False,
    ),
    Scenario(
        "10 Anthropic deltas",
        lambda k: list(k.anthropic().stream("[[in=11 out=8 deltas=2]]")),
        completion=8,
    ),
    Scenario("11 flex", lambda k: k.openai(service_tier="flex").invoke(D), **FULL),
    Scenario("11 priority", lambda k: k.openai(service_tier="priority").invoke(D), **FULL),
    Scenario("12 no callbacks", lambda k: k.openai().invoke(D, {"callbacks": []}), **FULL),
    Scenario(
        "12 own manager",
        lambda k: k.openai().invoke(D, {"callbacks": CallbackManager([])}),
        **FULL,
    ),
    Scenario("12 bare thread", in_thread, conversation="default", **FULL),
    Scenario(
        "12 twice",
        lambda k: k.openai().invoke(D, {"callbacks": [usage_callback, usage_callback]}),
        **FULL,
    ),
    Scenario(
        "12 twice async",
        lambda k: run(k.openai().ainvoke(D, {"callbacks": [usage_callback, usage_callback]})),
        **FULL,
    ),
    Scenario(
        "12 twice legacy",
        lambda k: k.legacy().invoke(
            "[[in=11 out=7]]", {"callbacks": [usage_callback, usage_callback]}
        ),
    ),
    Scenario("14 embeddings", embed, 0, 0, embedding=16, calls=2),
    Scenario("14 embeddings cached", embed_cached, 0, 0, embedding=7),
    Scenario("14 embeddings in a store", embed_in_store, 0, 0, embedding=16, calls=2),
    Scenario(
        "15 silent stream",
        lambda k: list(k.openai().stream("[[mode=never]]")),
        0,
        0,
        unreported=1,
        is_told=False,
    ),
    Scenario(
        "15 silent invoke",
        lambda k: k.openai().invoke("[[mode=never]]"),
        0,
        0,
        unreported=1,
        is_told=False,
    ),
    Scenario("15 status 400", refused, 0, 0),
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_scenario_is_exact(kit: Kit, scenario: Scenario) -> None:
    """What is counted is what is expected, and what the provider billed."""
    faults = fault_counts()

    with kit.tracker.conversation("c"):
        scenario.act(kit)

    usage = kit.usage(conversation_id=scenario.conversation)
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (
        scenario.prompt,
        scenario.completion,
        scenario.prompt + scenario.completion,
    )
    assert (usage.cache_read_tokens, usage.cache_creation_tokens, usage.reasoning_tokens) == (
        scenario.cached,
        scenario.written,
        scenario.reasoning,
    )
    assert usage.embedding_tokens == scenario.embedding
    assert (usage.request_count, usage.unreported_calls) == (scenario.calls, scenario.unreported)
    assert usage.request_count == kit.usage().request_count
    assert fault_counts() == faults
    if scenario.is_told:
        billed = kit.provider.billed()
        assert {name: getattr(usage, name) for name in TokenUsage.__struct_fields__} == {
            name: getattr(billed, name) for name in TokenUsage.__struct_fields__
        }


def test_stream_goes_to_where_it_began(kit: Kit) -> None:
    """A stream whose first chunk came under A is A's, wherever it is drained."""
    tracker, prompt = kit.tracker, "[[in=11 out=7 chunks=4 text=abcd]]"
    with tracker.conversation("A"):
        stream = kit.openai().stream(prompt)
        next(stream)
    with tracker.conversation("B"):
        list(stream)
    with tracker.conversation("A"):
        stream = kit.openai().stream(prompt)
        next(stream)
    thread = threading.Thread(target=lambda: list(stream))
    thread.start()
    thread.join()

    assert kit.usage(conversation_id="A").total_tokens == 36
    assert kit.usage().total_tokens == 36


def test_astream_goes_to_where_it_began(kit: Kit) -> None:
    """An asynchronous stream is A's too, when another task under B drains it."""

    async def move() -> None:
        with kit.tracker.conversation("A"):
            stream = kit.openai().astream("[[in=11 out=7 chunks=4 text=abcd]]")
            await anext(stream)

        async def rest() -> None:
            with kit.tracker.conversation("B"):
                await drain(stream)

        await asyncio.create_task(rest())

    run(move())

    assert kit.usage(conversation_id="A").total_tokens == 18
    assert kit.usage().request_count == 1


@pytest.mark.parametrize("mode", ["normal", "every_chunk"])
def test_stream_that_the_collector_closes(kit: Kit, mode: str) -> None:
    """A stream that nobody closes is counted in A when it is collected."""
    with kit.tracker.conversation("A"):
        stream = kit.openai().stream(f"[[in=11 out=7 chunks=7 text=1234567 mode={mode}]]")
        next(stream)
        next(stream)
    with kit.tracker.conversation("B"):
        del stream

    usage = kit.usage(conversation_id="A")
    assert usage.request_count == 1
    assert usage.unreported_calls == (mode == "normal")
    assert usage.input_tokens == (0 if mode == "normal" else 11)


def test_many_workers_and_sends(kit: Kit) -> None:
    """32 workers and a send every 3 ms: what was sent is what the provider billed."""
    tracker, model = kit.tracker, kit.openai()
    stop, sent = threading.Event(), dict.fromkeys("abcd", TokenUsage())

    def work(number: int) -> None:
        name = "abcd"[number % 4]
        for call in range(4):
            prompt = f"[[in={number + 1} out={call + 1} label={name}]]"
            with tracker.conversation(name):
                list(model.stream(prompt)) if call % 2 else model.invoke(prompt)

    def send() -> None:
        is_last = False
        while not is_last:
            is_last = stop.wait(0.003)
            for name in sent:
                with tracker.conversation(name):
                    totals = tracker.send_tracked_data().totals
                sent[name] += totals or TokenUsage()

    workers = [threading.Thread(target=work, args=(n,)) for n in range(32)]
    sender = threading.Thread(target=send)
    for thread in (sender, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    stop.set()
    sender.join()

    assert sent == {name: kit.provider.billed(name) for name in "abcd"}
    assert kit.usage().request_count == 128
    assert kit.usage().unreported_calls == 0


class Counting(BaseCallbackHandler):
    """A callback of the program."""

    def __init__(self) -> None:
        self.events: list[str] = []

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
        self.events.append("start")

    def on_llm_start(self, *args: Any, **kwargs: Any) -> None:
        self.events.append("start")

    def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
        self.events.append("end")


@pytest.mark.parametrize("model", ["openai", "legacy"])
def test_own_callbacks_fire_once(kit: Kit, model: str) -> None:
    """The program's own callbacks fire once a call, as they do without the handler."""
    counting, client = Counting(), getattr(kit, model)()

    client.invoke(D, {"callbacks": [counting]})
    run(client.ainvoke(D, {"callbacks": [counting]}))

    assert counting.events == ["start", "end"] * 2
    assert kit.usage().request_count == 2
