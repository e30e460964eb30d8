"""To whom the LangChain handler attributes a call."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import dispatch_custom_event
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from langchain_core.vectorstores import InMemoryVectorStore
from langgraph.graph import START, StateGraph

from agentsight_tokens.scope import tool_scope
from agentsight_tokens_langchain.agents import agent_name
from tests.langchain_kit import D, Kit, State, handler_kit, run

ASK_TOOL = {"messages": [HumanMessage("[[in=11 out=7 tool=lookup]]")]}


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with handler_kit(tmp_path) as kit:
        yield kit


def test_metadata_names_the_scope(kit: Kit) -> None:
    """Metadata wins over the scope in force, field by field."""
    metadata = {
        "agentsight_conversation_id": "told",
        "agentsight_user_id": "u",
        "agentsight_tags": ["b", "a"],
    }

    with kit.tracker.conversation("in force", feature="f"):
        kit.openai().invoke(D, {"metadata": metadata})

    scope = kit.record().scope
    assert (scope.conversation_id, scope.user_id, scope.feature) == ("told", "u", "f")
    assert scope.tags == ("a", "b")


@pytest.mark.parametrize("wrong", [{"user_id": "u" * 2000}, {"user_id": ""}, {"tags": 5}])
def test_unusable_metadata_loses_no_call(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, object]
) -> None:
    """A name that cannot be one is reported as a fault, and the call is counted without it."""
    monkeypatch.setattr("agentsight_tokens.faults._raises", False)
    metadata = {f"agentsight_{name}": value for name, value in wrong.items()}

    kit.openai().invoke(D, {"metadata": {**metadata, "agentsight_org_id": "acme"}})

    assert kit.record().total_tokens == 18
    scope = kit.record().scope
    assert (scope.user_id, scope.tags, scope.org_id) == (None, (), "acme")


def test_thread_id_names_the_conversation(kit: Kit) -> None:
    """LangGraph's thread is the conversation, unless something else names one."""
    config: Any = {"configurable": {"thread_id": "t"}}

    kit.agent().invoke(ASK_TOOL, config)
    with kit.tracker.conversation("in force"):
        run(kit.agent().ainvoke(ASK_TOOL, config))

    assert kit.usage(conversation_id="t").request_count == 2
    assert kit.usage(conversation_id="in force").request_count == 2


def test_without_any_scope(kit: Kit) -> None:
    """A call that nobody claims goes to the tracker's own conversation."""
    thread = threading.Thread(target=kit.openai().invoke, args=(D,))
    thread.start()
    thread.join()

    assert kit.usage(conversation_id="default").request_count == 1


def test_graph_names_the_agent(kit: Kit) -> None:
    """The node of a graph is the agent, and inside a node's own graph still that node."""
    inner = kit.agent()
    graph = StateGraph(State)
    graph.add_node("researcher", inner)
    graph.add_node("writer", lambda state: {"messages": [kit.openai().invoke(D)]})
    graph.add_edge(START, "researcher")
    graph.add_edge("researcher", "writer")

    graph.compile().invoke(ASK_TOOL)

    assert [record.scope.agent for record in kit.records()] == ["researcher"] * 2 + ["writer"]


@pytest.mark.parametrize(
    ("metadata", "agent"),
    [
        ({}, None),
        ({"langgraph_node": "model"}, "model"),
        ({"langgraph_node": "model", "lc_agent_name": "planner"}, "planner"),
        ({"langgraph_node": "model", "langgraph_checkpoint_ns": "model:1"}, "model"),
        ({"langgraph_node": "model", "langgraph_checkpoint_ns": "a:1|b:2|model:3"}, "b"),
        ({"langgraph_node": "summary", "langgraph_checkpoint_ns": "a:1|summary:3"}, "summary"),
    ],
)
def test_agent_name(metadata: dict[str, str], agent: str | None) -> None:
    """The framework's name of the agent comes first, then the innermost node that is one."""
    assert agent_name(metadata) == agent


def test_scope_names_the_agent_first(kit: Kit) -> None:
    """An agent that the program names stays."""
    with kit.tracker.attribution(agent="mine"):
        kit.agent().invoke(ASK_TOOL)

    assert {record.scope.agent for record in kit.records()} == {"mine"}


@pytest.mark.parametrize("is_async", [False, True])
def test_calls_inside_a_tool(kit: Kit, is_async: bool) -> None:
    """A call that a tool makes, however deep, carries its name, and an embedding too."""

    @tool
    def lookup(config: RunnableConfig) -> str:
        """Look something up."""
        kit.embeddings().embed_query("[[embedding=9]]")
        chain = RunnableLambda(lambda text: text) | kit.openai()
        return str(chain.invoke("[[in=100 out=50]]", config).content)

    config: Any = {"configurable": {"thread_id": "t"}}
    agent = kit.agent(lookup)
    if is_async:
        run(agent.ainvoke(ASK_TOOL, config))
    else:
        agent.invoke(ASK_TOOL, config)

    assert [(r.operation, r.tool_name, r.conversation_id) for r in kit.records()] == [
        ("chat", None, "t"),
        ("embedding", "lookup", "t"),
        ("chat", "lookup", "t"),
        ("chat", None, "t"),
    ]


def test_tool_that_fails(kit: Kit) -> None:
    """A tool that raised is not at work any more."""

    @tool
    def lookup() -> str:
        """Look something up."""
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        lookup.invoke({})
    kit.openai().invoke(D)

    assert kit.record().tool_name is None


def test_chain_that_fails_in_a_tool(kit: Kit) -> None:
    """A chain that raised inside a tool is over, and the tool's other calls are the tool's."""

    def fail(text: str) -> str:
        raise ValueError("no")

    @tool
    def lookup() -> str:
        """Look something up."""
        with pytest.raises(ValueError, match="no"):
            (RunnableLambda(fail) | str).invoke("x")
        return str(kit.openai().invoke(D).content)

    lookup.invoke({})

    assert kit.record().tool_name == "lookup"


def test_other_events_do_not_matter(kit: Kit) -> None:
    """Retrievers, retries and the program's own events pass by, and all calls are counted."""
    retriever = InMemoryVectorStore(kit.embeddings()).as_retriever()

    @RunnableLambda
    def chain(text: str) -> str:
        dispatch_custom_event("mine", {})
        retriever.invoke("[[embedding=9]]")
        return str(kit.openai().invoke(text).content)

    chain.with_retry(stop_after_attempt=2).invoke(D)

    assert [record.operation for record in kit.records()] == ["embedding", "chat"]


def test_tool_scope_of_the_program(kit: Kit) -> None:
    """A tool that the program names itself is known too."""
    with tool_scope("mine"):
        kit.openai().invoke(D)

    assert kit.record().tool_name == "mine"


def test_record_of_a_call(kit: Kit) -> None:
    """A record says who answered, by which tier, under which id and how fast."""
    kit.openai(service_tier="flex").invoke(D)
    list(kit.anthropic().stream("[[in=11 out=7 chunks=3 text=abc]]"))

    whole, streamed = kit.records()
    assert (whole.model, whole.provider, whole.handler) == ("gpt-4o-mini", "openai", "langchain")
    assert (whole.operation, whole.status, whole.service_tier) == ("chat", "ok", "flex")
    assert whole.response_id == kit.provider.ledger[0].response_id
    assert whole.time_to_first_token_seconds is None
    assert (streamed.model, streamed.provider) == ("claude-haiku-4-5", "anthropic")
    assert streamed.duration_seconds is not None
    assert streamed.time_to_first_token_seconds is not None
    assert 0 < streamed.time_to_first_token_seconds <= streamed.duration_seconds


def test_model_that_answered(kit: Kit) -> None:
    """The model that answered is recorded, not the one that was asked for."""
    kit.openai().invoke("[[model=gpt-4o-mini-2024-07-18]]")

    assert kit.record().model == "gpt-4o-mini-2024-07-18"
