"""The scenarios of LlamaIndex that must be exact, each against the provider's own ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import Document, VectorStoreIndex
from llama_index.core.agent.workflow import FunctionAgent
from llama_index.core.callbacks import CallbackManager
from llama_index.core.prompts import PromptTemplate
from llama_index.core.storage.kvstore import SimpleKVStore
from pydantic import BaseModel

from agentsight_tokens import TokenUsage
from agentsight_tokens.testing import Reply, ToolCall
from tests.llamaindex_kit import A, D, Kit, chat, drain, handler_kit, run

pytestmark = [
    # llama-index-llms-anthropic 0.12 passes what anthropic 2 calls by another name.
    pytest.mark.filterwarnings("ignore:The 'output_format' parameter:DeprecationWarning"),
    # llama-index-workflows looks at every attribute of an agent.
    pytest.mark.filterwarnings("ignore:The `__fields:pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings(
        "ignore:Accessing the 'model_:pydantic.warnings.PydanticDeprecatedSince211"
    ),
]

OUTPUT_ONLY = "[[in=105 out=9 cached=30 written=25 mode=output_only]]"
SUM = '{"usage":5000}'


class Sum(BaseModel):
    usage: int


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with handler_kit(tmp_path) as kit:
        yield kit


@dataclass(frozen=True)
class Scenario:
    """One way to call a model, and what it is known to use."""

    name: str
    act: Callable[[Kit], Any]
    prompt: int = 101
    completion: int = 7
    cached: int = 0
    written: int = 0
    reasoning: int = 0
    embedding: int = 0
    calls: int = 1
    unreported: int = 0
    is_told: bool = True
    """Whether the client is told all that the provider bills."""


def stream(mode: str) -> str:
    return f"[[in=101 out=7 cached=40 reasoning=2 chunks=3 text=abc mode={mode}]]"


def own_manager(kit: Kit) -> None:
    kit.openai(callback_manager=CallbackManager([])).complete(D)


def structured(text: str = SUM) -> Reply:
    return Reply(
        input_tokens=101, output_tokens=7, cache_read_tokens=40, reasoning_tokens=2, text=text
    )


def predict(model: Any) -> Any:
    return model.structured_predict(Sum, PromptTemplate("hi"))


def responses_predict(kit: Kit) -> None:
    kit.provider.enqueue(structured())
    assert predict(kit.responses()).usage == 5000


def responses_apredict(kit: Kit) -> None:
    kit.provider.enqueue(structured())
    run(kit.responses().astructured_predict(Sum, PromptTemplate("hi")))


def anthropic_predict(kit: Kit) -> None:
    kit.provider.enqueue(
        Reply(
            input_tokens=105,
            output_tokens=9,
            cache_read_tokens=30,
            cache_creation_tokens=25,
            text=SUM,
        )
    )
    predict(kit.anthropic())


def structured_model(kit: Kit) -> None:
    call = ToolCall("Sum", {"usage": 5000})
    reply = Reply(input_tokens=101, output_tokens=7, tool_calls=(call,))
    kit.provider.enqueue(reply)
    answer = kit.openai(model="gpt-4").as_structured_llm(Sum).chat(chat("hi"))
    assert answer.raw.usage == 5000


def structured_json(kit: Kit) -> None:
    kit.provider.enqueue(structured())
    kit.openai().as_structured_llm(Sum).chat(chat("hi"))


def structured_responses(kit: Kit) -> None:
    kit.provider.enqueue(structured())
    kit.responses().as_structured_llm(Sum).chat(chat("hi"))


TEXTS = [f"text {i} [[in=13]]" for i in range(25)]


def embed_cached(kit: Kit) -> None:
    model = kit.embedding(embeddings_cache=SimpleKVStore())
    for _ in range(2):
        model.get_text_embedding("a [[in=13]]")


def embed_cached_batch(kit: Kit) -> None:
    model = kit.embedding(embeddings_cache=SimpleKVStore())
    for _ in range(2):
        model.get_text_embedding_batch(["a [[in=13]]"])


def index_and_query(kit: Kit) -> None:
    kit.provider.default_reply = structured("it is")
    documents = [Document(text=f"fact {i}") for i in range(3)]
    index = VectorStoreIndex.from_documents(documents, embed_model=kit.embedding())
    index.as_query_engine(llm=kit.openai()).query("what?")


def agent(kit: Kit) -> None:
    def lookup(q: str = "") -> str:
        """Look something up."""
        return "found"

    found = FunctionAgent(name="clerk", tools=[lookup], llm=kit.openai())

    async def ask() -> None:
        await found.run(user_msg="[[in=101 out=7 tool=lookup]]")

    run(ask())


def retried(kit: Kit) -> None:
    kit.provider.enqueue(
        Reply(status=500, retry_after=0), Reply(status=500, retry_after=0), structured("ok")
    )
    kit.openai(max_retries=2).complete("hi")


def refused(kit: Kit) -> None:
    with pytest.raises(Exception, match="400"):
        kit.openai().complete("[[status=400]]")


def closed(kit: Kit) -> None:
    chunks = kit.openai().stream_complete(stream("normal"))
    next(chunks)
    next(chunks)
    chunks.close()


def let_go(kit: Kit) -> None:
    chunks = kit.openai().stream_complete(stream("normal"))
    next(chunks)
    next(chunks)


def aclosed(kit: Kit) -> None:
    async def act() -> None:
        chunks = await kit.openai().astream_complete(stream("normal"))
        await anext(chunks)
        await anext(chunks)
        await chunks.aclose()

    run(act())


def broken(kit: Kit) -> None:
    with suppress(Exception):
        list(kit.openai().stream_complete("[[in=101 out=7 chunks=3 text=abc break=2]]"))


def never_drained(kit: Kit) -> None:
    kit.openai().stream_complete(D)


FULL = {"cached": 40, "reasoning": 2}
CLAUDE = {"prompt": 105, "completion": 9, "cached": 30, "written": 25}
NOTHING = {"prompt": 0, "completion": 0}
UNREPORTED = {**NOTHING, "unreported": 1, "is_told": False}
VECTORS = {**NOTHING, "is_told": True}

SCENARIOS = [
    Scenario("1 complete", lambda k: k.openai().complete(D), **FULL),
    Scenario("1 chat", lambda k: k.openai().chat(chat(D)), **FULL),
    Scenario("1 acomplete", lambda k: run(k.openai().acomplete(D)), **FULL),
    Scenario("1 achat", lambda k: run(k.openai().achat(chat(D))), **FULL),
    Scenario("1 own manager", own_manager, **FULL),
    Scenario("2 stream_chat", lambda k: list(k.openai().stream_chat(chat(D))), **FULL),
    Scenario("2 stream_complete", lambda k: list(k.openai().stream_complete(D)), **FULL),
    Scenario("2 astream_chat", lambda k: run(drain(k.openai().astream_chat(chat(D)))), **FULL),
    Scenario("2 astream_complete", lambda k: run(drain(k.openai().astream_complete(D))), **FULL),
    *(
        Scenario(f"2 {mode}", lambda k, m=mode: list(k.openai().stream_complete(stream(m))), **FULL)
        for mode in ("last_content_chunk", "second_last_chunk", "every_chunk")
    ),
    Scenario(
        "2 legacy stream",
        lambda k: list(
            k.openai(model="gpt-3.5-turbo-instruct", max_tokens=16).stream_complete(
                "[[in=101 out=7]]"
            )
        ),
    ),
    Scenario("3 responses chat", lambda k: k.responses().chat(chat(D)), **FULL),
    Scenario("3 responses achat", lambda k: run(k.responses().achat(chat(D))), **FULL),
    Scenario("3 responses stream", lambda k: list(k.responses().stream_chat(chat(D))), **FULL),
    Scenario(
        "3 responses astream", lambda k: run(drain(k.responses().astream_chat(chat(D)))), **FULL
    ),
    Scenario("3 responses predict", responses_predict, **FULL),
    Scenario("3 responses apredict", responses_apredict, **FULL),
    Scenario("4 Anthropic complete", lambda k: k.anthropic().complete(A), **CLAUDE),
    Scenario("4 Anthropic acomplete", lambda k: run(k.anthropic().acomplete(A)), **CLAUDE),
    Scenario("4 Anthropic stream", lambda k: list(k.anthropic().stream_chat(chat(A))), **CLAUDE),
    *(
        Scenario(f"4 Anthropic {name}, output only", act, **CLAUDE)
        for name, act in {
            "stream": lambda k: list(k.anthropic().stream_chat(chat(OUTPUT_ONLY))),
            "stream_complete": lambda k: list(k.anthropic().stream_complete(OUTPUT_ONLY)),
            "astream": lambda k: run(drain(k.anthropic().astream_chat(chat(OUTPUT_ONLY)))),
        }.items()
    ),
    Scenario("4 Anthropic predict", anthropic_predict, **CLAUDE),
    Scenario("5 custom chat", lambda k: k.custom().chat(chat(D)), **FULL),
    Scenario("5 custom achat", lambda k: run(k.custom().achat(chat(D))), **FULL),
    Scenario("5 custom stream", lambda k: list(k.custom().stream_chat(chat(D))), **FULL),
    Scenario("5 custom astream", lambda k: run(drain(k.custom().astream_chat(chat(D)))), **FULL),
    Scenario("5 structured", structured_model),
    Scenario("5 structured json", structured_json, **FULL),
    Scenario("5 structured responses", structured_responses, **FULL),
    Scenario(
        "6 batches",
        lambda k: k.embedding(embed_batch_size=10).get_text_embedding_batch(TEXTS),
        embedding=325,
        calls=3,
        **VECTORS,
    ),
    Scenario(
        "6 batches async",
        lambda k: run(
            k.embedding(embed_batch_size=10, num_workers=4).aget_text_embedding_batch(TEXTS)
        ),
        embedding=325,
        calls=3,
        **VECTORS,
    ),
    Scenario("6 cached", embed_cached, embedding=13, **VECTORS),
    Scenario("6 cached batch", embed_cached_batch, embedding=13, **VECTORS),
    Scenario("6 index and query", index_and_query, embedding=52, calls=3, **FULL),
    Scenario("7 agent", agent, 202, 14, calls=2),
    Scenario("8 retried", retried, **FULL),
    Scenario("8 refused", refused, **NOTHING),
    Scenario("13 silent", lambda k: k.openai().complete("[[in=1 out=1 mode=never]]"), **UNREPORTED),
    Scenario(
        "13 silent stream",
        lambda k: list(k.openai().stream_complete("[[in=1 out=1 mode=never]]")),
        **UNREPORTED,
    ),
    Scenario("13 closed", closed, **UNREPORTED),
    Scenario("13 let go", let_go, **UNREPORTED),
    Scenario("13 aclosed", aclosed, **UNREPORTED),
    Scenario("13 broken", broken, **UNREPORTED),
    Scenario("13 never drained", never_drained, calls=0, **NOTHING),
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_scenario_is_exact(kit: Kit, scenario: Scenario) -> None:
    """What is counted is what is expected, and what the provider billed."""
    with kit.tracker.conversation("c"):
        scenario.act(kit)

    usage = kit.usage(conversation_id="c")
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
    if scenario.is_told:
        billed = kit.provider.billed()
        assert {name: getattr(usage, name) for name in TokenUsage.__struct_fields__} == {
            name: getattr(billed, name) for name in TokenUsage.__struct_fields__
        }
