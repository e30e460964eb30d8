"""What the scenarios do that takes more than a line."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from llama_index.core import Document, VectorStoreIndex
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
from llama_index.core.prompts import PromptTemplate
from llama_index.core.storage.kvstore import SimpleKVStore
from pydantic import BaseModel

from agentsight_tokens.conformance.clients import drain, expect_failure, run
from agentsight_tokens.testing import Reply, ToolCall

from .clients import D, LlamaIndexClients, chat

SUM = '{"usage":5000}'
TEXTS = [f"text {i} [[in=13]]" for i in range(25)]
CONVERSATIONS = 64
CALLS_OF_CONVERSATION = 4


class Sum(BaseModel):
    """What the model is asked to answer with; its field must not be taken for a usage."""

    usage: int


def stream(mode: str) -> str:
    return f"[[in=101 out=7 cached=40 reasoning=2 chunks=3 text=abc mode={mode}]]"


def structured(text: str = SUM) -> Reply:
    return Reply(
        input_tokens=101, output_tokens=7, cache_read_tokens=40, reasoning_tokens=2, text=text
    )


def failed() -> Reply:
    return Reply(
        input_tokens=101,
        output_tokens=7,
        cache_read_tokens=40,
        reasoning_tokens=2,
        response_status="failed",
        billed=True,
    )


def failed_response(kit: LlamaIndexClients) -> None:
    kit.provider.enqueue(failed())
    with suppress(Exception):
        kit.responses().chat(chat("hi"))


def failed_response_streamed(kit: LlamaIndexClients) -> None:
    kit.provider.enqueue(failed())
    with suppress(Exception):
        list(kit.responses().stream_chat(chat("hi")))


def responses_predict(kit: LlamaIndexClients) -> None:
    kit.provider.enqueue(structured())
    kit.responses().structured_predict(Sum, PromptTemplate("hi"))


def responses_apredict(kit: LlamaIndexClients) -> None:
    kit.provider.enqueue(structured())
    run(kit.responses().astructured_predict(Sum, PromptTemplate("hi")))


def anthropic_predict(kit: LlamaIndexClients) -> None:
    reply = Reply(
        input_tokens=105,
        output_tokens=9,
        cache_read_tokens=30,
        cache_creation_tokens=25,
        text=SUM,
    )
    kit.provider.enqueue(reply)
    kit.anthropic().structured_predict(Sum, PromptTemplate("hi"))


def structured_model(kit: LlamaIndexClients) -> None:
    call = ToolCall("Sum", {"usage": 5000})
    kit.provider.enqueue(Reply(input_tokens=101, output_tokens=7, tool_calls=(call,)))
    kit.openai(model="gpt-4").as_structured_llm(Sum).chat(chat("hi"))


def structured_json(kit: LlamaIndexClients) -> None:
    kit.provider.enqueue(structured())
    kit.openai().as_structured_llm(Sum).chat(chat("hi"))


def structured_responses(kit: LlamaIndexClients) -> None:
    kit.provider.enqueue(structured())
    kit.responses().as_structured_llm(Sum).chat(chat("hi"))


def structured_stream(kit: LlamaIndexClients) -> None:
    kit.provider.enqueue(structured())
    list(kit.openai().as_structured_llm(Sum).stream_chat(chat("hi")))


def predict_streamed(kit: LlamaIndexClients) -> None:
    kit.provider.enqueue(structured())
    list(kit.openai().stream_structured_predict(Sum, PromptTemplate("hi")))


def predict_invalid(kit: LlamaIndexClients) -> None:
    kit.provider.enqueue(structured('{"usage":"no number"}'))
    with expect_failure("usage"):
        kit.openai().structured_predict(Sum, PromptTemplate("hi"))


def embed_cached(kit: LlamaIndexClients) -> None:
    model = kit.embedding(embeddings_cache=SimpleKVStore())
    for _ in range(2):
        model.get_text_embedding("a [[in=13]]")


def embed_cached_batch(kit: LlamaIndexClients) -> None:
    model = kit.embedding(embeddings_cache=SimpleKVStore())
    for _ in range(2):
        model.get_text_embedding_batch(["a [[in=13]]"])


def embed_cached_partly(kit: LlamaIndexClients) -> None:
    model = kit.embedding(embeddings_cache=SimpleKVStore())
    texts = ["[[embedding=5]]", "[[embedding=4]]", "[[embedding=3]]"]
    model.get_text_embedding_batch(texts[:1])
    model.get_text_embedding_batch(texts)


def _index(kit: LlamaIndexClients) -> Any:
    kit.provider.default_reply = structured("it is")
    documents = [Document(text=f"fact {i}") for i in range(3)]
    return VectorStoreIndex.from_documents(documents, embed_model=kit.embedding())


def chat_engine(kit: LlamaIndexClients) -> None:
    engine = _index(kit).as_chat_engine(chat_mode="context", llm=kit.openai())
    answer = engine.stream_chat("what?")
    with kit.meter.conversation("other"):
        list(answer.response_gen)


def _engine(kit: LlamaIndexClients, **options: Any) -> Any:
    return _index(kit).as_query_engine(llm=kit.openai(), **options)


def index_and_query(kit: LlamaIndexClients) -> None:
    _engine(kit).query("what?")


def index_and_stream(kit: LlamaIndexClients) -> None:
    answer = _engine(kit, streaming=True).query("what?")
    with kit.meter.conversation("other"):
        list(answer.response_gen)


def lookup(q: str = "") -> str:
    """Look something up."""
    return "found"


def _ask(agent: Any, text: str = "[[in=101 out=7 tool=lookup]]") -> None:
    async def ask() -> None:
        await agent.run(user_msg=text)

    run(ask())


def agent(kit: LlamaIndexClients) -> None:
    _ask(FunctionAgent(name="clerk", tools=[lookup], llm=kit.openai()))


def responses_agent(kit: LlamaIndexClients) -> None:
    _ask(FunctionAgent(name="clerk", tools=[lookup], llm=kit.responses()))


def anthropic_agent(kit: LlamaIndexClients) -> None:
    _ask(FunctionAgent(name="clerk", tools=[lookup], llm=kit.anthropic()))


def plain_agent(kit: LlamaIndexClients) -> None:
    _ask(FunctionAgent(name="clerk", tools=[lookup], llm=kit.openai(), streaming=False))


def two_agents(kit: LlamaIndexClients) -> None:
    clerk = FunctionAgent(
        name="clerk", description="asks", llm=kit.openai(), can_handoff_to=["boss"]
    )
    boss = FunctionAgent(name="boss", description="knows", tools=[lookup], llm=kit.openai())
    calls = (ToolCall("handoff", {"to_agent": "boss", "reason": "x"}), ToolCall("lookup"))
    told = [Reply(input_tokens=101, output_tokens=7, tool_calls=(call,)) for call in calls]
    kit.provider.enqueue(*told, Reply(input_tokens=101, output_tokens=7))
    _ask(AgentWorkflow(agents=[clerk, boss], root_agent="clerk"), "hi")


def model_in_tool(kit: LlamaIndexClients) -> None:
    model = kit.openai()

    async def lookup(q: str = "") -> str:
        """Look something up."""
        return str(await model.acomplete("[[in=100 out=50]]"))

    _ask(FunctionAgent(name="clerk", tools=[lookup], llm=kit.openai()))


def retried(kit: LlamaIndexClients) -> None:
    failed = Reply(status=500, retry_after=0)
    kit.provider.enqueue(failed, failed, structured("ok"))
    kit.openai(max_retries=2).complete("hi")


def refused(kit: LlamaIndexClients) -> None:
    with expect_failure("400"):
        kit.openai().complete("[[status=400]]")


def drained_elsewhere(kit: LlamaIndexClients) -> None:
    chunks = kit.openai().stream_chat(chat(D))
    with kit.meter.conversation("other"):
        list(chunks)


def drained_in_task(kit: LlamaIndexClients) -> None:
    async def move() -> None:
        chunks = await kit.openai().astream_chat(chat(D))

        async def rest() -> None:
            with kit.meter.conversation("other"):
                await drain(chunks)

        await asyncio.create_task(rest())

    run(move())


TWO = {"a": (10, 4), "b": (20, 8)}
"""Prompt and completion of two conversations."""


def two_at_a_time(kit: LlamaIndexClients) -> None:
    streams = []
    for name, (given, made) in TWO.items():
        with kit.meter.conversation(name):
            text = f"[[in={given} out={made} chunks=4 text=abcd]]"
            chunks = kit.openai().stream_chat(chat(text))
            next(chunks)
            streams.append(chunks)
    for _ in zip(*streams, strict=False):
        pass
    for chunks in streams:
        list(chunks)


def shares() -> dict[str, tuple[int, int]]:
    """Return the prompt and completion tokens of each of many conversations."""
    calls = CALLS_OF_CONVERSATION
    return {f"c{i}": (calls * (1000 + i), calls * i) for i in range(CONVERSATIONS)}


def many_conversations(kit: LlamaIndexClients) -> None:
    model = kit.openai()

    def work(number: int) -> None:
        with kit.meter.conversation(f"c{number}"):
            for _ in range(CALLS_OF_CONVERSATION):
                model.complete(f"[[in={1000 + number} out={number}]]")

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(CONVERSATIONS)))


def closed(kit: LlamaIndexClients) -> None:
    chunks = kit.openai().stream_complete(stream("normal"))
    next(chunks)
    next(chunks)
    chunks.close()


def closed_told(kit: LlamaIndexClients) -> None:
    text = "[[in=20 out=10 mode=every_chunk chunks=5 text=12345]]"
    chunks = kit.openai().stream_chat(chat(text))
    for chunk in chunks:
        if chunk.delta == "3":
            break
    chunks.close()


def cancelled(kit: LlamaIndexClients) -> None:
    async def cancel() -> None:
        task = asyncio.ensure_future(kit.openai().acomplete("[[delay=1]]"))
        while not kit.provider.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    run(cancel())


def let_go(kit: LlamaIndexClients) -> None:
    chunks = kit.openai().stream_complete(stream("normal"))
    next(chunks)
    next(chunks)


def aclosed(kit: LlamaIndexClients) -> None:
    async def act() -> None:
        chunks = await kit.openai().astream_complete(stream("normal"))
        await anext(chunks)
        await anext(chunks)
        await chunks.aclose()

    run(act())


def broken(kit: LlamaIndexClients) -> None:
    model = kit.openai()
    with suppress(Exception):
        list(model.stream_complete("[[in=101 out=7 chunks=3 text=abc break=2]]"))


def never_drained(kit: LlamaIndexClients) -> None:
    kit.openai().stream_complete(D)
