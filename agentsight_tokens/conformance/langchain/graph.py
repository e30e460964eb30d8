"""An agent's graph of LangGraph, as a program builds it."""

from __future__ import annotations

from typing import Annotated, Any

from langchain_core.messages import AnyMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode, tools_condition
from typing_extensions import TypedDict

__all__ = ["State", "agent"]


class State(TypedDict):
    """What the agent's nodes hand on."""

    messages: Annotated[list[AnyMessage], add_messages]


def agent(model: Any, tools: list[Any]) -> Any:
    """Return a graph that asks a model until it needs no tool any more."""
    bound = model.bind_tools(tools)

    def call(state: State, config: RunnableConfig) -> dict[str, Any]:
        return {"messages": [bound.invoke(state["messages"], config)]}

    async def acall(state: State, config: RunnableConfig) -> dict[str, Any]:
        return {"messages": [await bound.ainvoke(state["messages"], config)]}

    graph = StateGraph(State)
    graph.add_node("model", RunnableLambda(call, acall))
    graph.add_node("tools", ToolNode(tools))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    return graph.compile()
