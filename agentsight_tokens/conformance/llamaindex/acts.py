"""What the scenarios do that takes more than a line."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from llama_index.core import Document, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.prompts import PromptTemplate
from llama_index.core.storage.kvstore import SimpleKVStore
from pydantic import BaseModel

from agentsight_tokens.conformance.clients import expect_failure, run
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


def embed_cached(kit: LlamaIndexClients) -> None:
    model = kit.embedding(embeddings_cache=SimpleKVStore())
    for _ in range(2):
        model.get_text_embedding("a [[in=13]]")


def embed_cached_batch(kit: LlamaIndexClients) -> None:
    model = kit.embedding(embeddings_cache=SimpleKVStore())
    for _ in range(2):
        model.get_text_embedding_batch(["a [[in=13]]"])


def _engine(kit: LlamaIndexClients, **options: Any) -> Any:
    kit.provider.default_reply = structured("it is")
    documents = [Document(text=f"fact {i}") for i in range(3)]
    index = VectorStoreIndex.from_documents(documents, embed_model=kit.embedding())
    return index.as_query_engine(llm=kit.openai(), **options)


def index_and_query(kit: LlamaIndexClients) -> None:
    _engine(kit).query("what?")


def index_and_stream(kit: LlamaIndexClients) -> None:
    answer = _engine(kit, streaming=True).query("what?")
    with kit.meter.conversation("other"):
        list(answer.response_gen)


def agent(kit: LlamaIndexClients) -> None:
    def lookup(q: str = "") -> str:
        """Look something up."""
        return "found"

    clerk: Any = FunctionAgent(name="clerk", tools=[lookup], llm=kit.openai())

    async def ask() -> None:
        await clerk.run(user_msg="[[in=101 out=7 tool=lookup]]")

    run(ask())


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
