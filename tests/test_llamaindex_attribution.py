"""Whose call it is: the conversation, the tool and the agent that asked for it."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import llama_index_instrumentation as instrumentation
import pytest
from llama_index.core import Document, SummaryIndex
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent

from agentsight_tokens.faults import fault_counts
from agentsight_tokens.testing import Reply, ToolCall
from tests.llamaindex_kit import (
    D,
    Kit,
    chat,
    drain,
    handler_kit,
    run,
)

pytestmark = [
    # llama-index-workflows looks at every attribute of an agent.
    pytest.mark.filterwarnings("ignore:The `__fields:pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings(
        "ignore:Accessing the 'model_:pydantic.warnings.PydanticDeprecatedSince211"
    ),
]


LONG = "[[in=101 out=7 cached=40 reasoning=2 chunks=4 text=abcd]]"


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with handler_kit(tmp_path) as kit:
        yield kit


def test_stream_goes_to_where_it_began(kit: Kit) -> None:
    """A stream that was asked for under A is A's, wherever it is drained."""
    tracker = kit.tracker
    with tracker.conversation("A"):
        streams = [kit.openai().stream_chat(chat(LONG)) for _ in range(3)]
        next(streams[1])
    with tracker.conversation("B"):
        list(streams[0])
        list(streams[1])
    thread = threading.Thread(target=lambda: list(streams[2]))
    thread.start()
    thread.join()

    assert kit.usage(conversation_id="A").total_tokens == 324
    assert kit.usage().request_count == 3


def test_astream_goes_to_where_it_began(kit: Kit) -> None:
    """An asynchronous stream is A's too, when another task under B drains it."""

    async def move() -> None:
        with kit.tracker.conversation("A"):
            stream = await kit.openai().astream_chat(chat(LONG))
            await anext(stream)

        async def rest() -> None:
            with kit.tracker.conversation("B"):
                assert [each async for each in stream]

        await asyncio.create_task(rest())

    run(move())

    assert kit.usage(conversation_id="A").total_tokens == 108
    assert kit.usage().request_count == 1


def test_nested_stream_goes_to_where_it_began(kit: Kit) -> None:
    """A model that asks another one while it is drained asks in the name of A."""

    async def move() -> Any:
        with kit.tracker.conversation("A"):
            return await kit.custom().astream_chat(chat(LONG))

    async def rest(stream: Any) -> None:
        with kit.tracker.conversation("B"):
            assert [each async for each in stream]

    async def both() -> None:
        await rest(await move())

    run(both())

    assert kit.usage(conversation_id="A").total_tokens == 108
    assert kit.usage().request_count == 1


def test_stream_that_the_collector_closes(kit: Kit) -> None:
    """A stream that nobody closes is counted in A when it is collected."""
    with kit.tracker.conversation("A"):
        stream = kit.openai().stream_chat(chat(LONG))
        next(stream)
        next(stream)
        cycle: list[Any] = [stream]
        cycle.append(cycle)
    with kit.tracker.conversation("B"):
        del stream, cycle
        gc.collect()

    record = kit.record()
    assert record.conversation_id == "A"
    assert (record.status, record.unreported_reason) == ("cancelled", "cancelled")


def test_lazy_query_engine_goes_to_where_it_was_asked(kit: Kit) -> None:
    """A query under A is A's, although its model is called only when B reads the answer."""
    kit.provider.default_reply = Reply(input_tokens=101, output_tokens=7, text="it is")
    documents = [Document(text=f"fact {i}") for i in range(3)]
    index = SummaryIndex.from_documents(documents)
    engine = index.as_query_engine(llm=kit.openai(), streaming=True, response_mode="tree_summarize")
    refined = index.as_query_engine(llm=kit.openai(), streaming=True, response_mode="refine")
    with kit.tracker.conversation("A"):
        answers = [engine.query("what?"), refined.query("what?")]
    with kit.tracker.conversation("B"):
        assert [str(text) for answer in answers for text in answer.response_gen]

    usage = kit.usage(conversation_id="A")
    assert usage.total_tokens == kit.provider.billed().total_tokens > 0
    assert kit.usage(conversation_id="B").request_count == 0


def test_64_conversations_on_16_threads(kit: Kit) -> None:
    """Each of 64 conversations gets its own calls, whatever the others do."""
    tracker, model = kit.tracker, kit.openai()

    def work(i: int) -> None:
        prompt = f"[[in={1000 + i} out={i} label=c{i}]]"
        with tracker.conversation(f"c{i}"):
            model.complete(prompt)
            list(model.stream_chat(chat(prompt)))
            run(model.achat(chat(prompt)))
            run(drain(model.astream_complete(prompt)))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(64)))

    for i in range(64):
        usage = kit.usage(conversation_id=f"c{i}")
        assert (usage.input_tokens, usage.output_tokens) == (4 * (1000 + i), 4 * i)
    assert kit.usage().total_tokens == kit.provider.billed().total_tokens


def test_tool_and_agent_are_named(kit: Kit) -> None:
    """A call inside a tool carries the tool's name, and every call the agent's."""

    def lookup(q: str = "") -> str:
        """Look something up."""
        return str(kit.openai().complete("[[in=100 out=50]]"))

    agent = FunctionAgent(name="clerk", tools=[lookup], llm=kit.openai())

    async def ask() -> None:
        await agent.run(user_msg="[[in=101 out=7 tool=lookup]]")

    with kit.tracker.conversation("c"):
        run(ask())

    found = {(r.input_tokens, r.tool_name, r.scope.agent) for r in kit.records()}
    assert found == {(101, None, "clerk"), (100, "lookup", "clerk")}
    assert kit.usage(conversation_id="c").request_count == 3


def test_instrument_tags_name_a_scope(kit: Kit) -> None:
    """LlamaIndex's own tags may name the conversation."""
    with instrumentation.dispatcher.instrument_tags({"agentsight_conversation_id": "tagged"}):
        kit.openai().complete(D)

    assert kit.record().conversation_id == "tagged"


def test_wrong_tags_cost_no_count(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call whose tags name what no scope can have is counted without them."""
    wrong = {"agentsight_user_id": "u" * 5000, "agentsight_org_id": "acme"}
    with monkeypatch.context() as patch, instrumentation.dispatcher.instrument_tags(wrong):
        patch.setattr("agentsight_tokens.faults._raises", False)
        patch.setattr("agentsight_tokens.faults._counts", Counter())
        kit.openai().chat(chat(LONG))
        assert fault_counts() == {"attribution of a llamaindex call": 1}

    assert kit.usage().total_tokens == 108
    assert (kit.record().scope.user_id, kit.record().scope.org_id) == (None, "acme")


def test_agents_of_a_workflow_are_named(kit: Kit) -> None:
    """Each call of a workflow carries the agent that made it."""
    kit.provider.default_reply = Reply(input_tokens=101, output_tokens=7, text="done")
    kit.provider.enqueue(
        Reply(tool_calls=(ToolCall("handoff", {"to_agent": "two", "reason": "r"}),))
    )
    agents = [
        FunctionAgent(name=name, description=name, tools=[], llm=kit.openai())
        for name in ("one", "two")
    ]
    workflow = AgentWorkflow(agents=agents, root_agent="one")

    async def ask() -> None:
        await workflow.run(user_msg="hi")

    run(ask())

    assert [record.scope.agent for record in kit.records()] == ["one", "two"]
