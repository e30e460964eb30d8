"""What the tests of the LangChain handler share: real clients, a real tracker, a graph."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from langchain_anthropic import ChatAnthropic
from langchain_core.globals import get_llm_cache, set_llm_cache
from langchain_core.messages import AnyMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.prebuilt import ToolNode, tools_condition
from typing_extensions import TypedDict

from agentsight_tokens import ConversationTracker, TokenConfig, UsageRecord, UsageSummary
from agentsight_tokens.handlers import deactivate
from agentsight_tokens.testing import LoopbackProvider
from agentsight_tokens_langchain.callbacks import usage_callback

D = "hi"
"""A prompt without a directive: 11 tokens in, 4 of them cached, and 7 out, 2 reasoning."""


class Kit:
    """A provider, a tracker that the handler counts for, and clients of the provider."""

    def __init__(self, provider: LoopbackProvider, tracker: ConversationTracker) -> None:
        self.provider = provider
        self.tracker = tracker

    def openai(self, **options: Any) -> ChatOpenAI:
        return ChatOpenAI(**self._options("gpt-4o-mini", options))

    def legacy(self, **options: Any) -> OpenAI:
        return OpenAI(**self._options("gpt-3.5-turbo-instruct", options))

    def anthropic(self, **options: Any) -> ChatAnthropic:
        options = {"model": "claude-haiku-4-5", "api_key": "k", "max_retries": 0, **options}
        return ChatAnthropic(base_url=self.provider.anthropic_url, **options)

    def embeddings(self, **options: Any) -> OpenAIEmbeddings:
        options = self._options("text-embedding-3-small", options)
        return OpenAIEmbeddings(check_embedding_ctx_length=False, **options)

    def agent(self, *tools: Any, **options: Any) -> Any:
        """Return an agent's graph with its tools; `lookup` if none are given."""
        found: list[BaseTool] = list(tools) or [lookup]
        model = self.openai(**options).bind_tools(found)

        def call(state: State, config: RunnableConfig) -> dict[str, Any]:
            return {"messages": [model.invoke(state["messages"], config)]}

        async def acall(state: State, config: RunnableConfig) -> dict[str, Any]:
            return {"messages": [await model.ainvoke(state["messages"], config)]}

        from langchain_core.runnables import RunnableLambda

        graph = StateGraph(State)
        graph.add_node("model", RunnableLambda(call, acall))
        graph.add_node("tools", ToolNode(found))
        graph.add_edge(START, "model")
        graph.add_conditional_edges("model", tools_condition)
        graph.add_edge("tools", "model")
        return graph.compile()

    def usage(self, **where: Any) -> UsageSummary:
        self.provider.settle()
        return self.tracker.get_usage(**where)

    def records(self, **where: Any) -> list[UsageRecord]:
        return self.tracker.get_usage_history(**where)

    def record(self) -> UsageRecord:
        """Return the only record."""
        (record,) = self.records()
        return record

    def _options(self, model: str, options: dict[str, Any]) -> dict[str, Any]:
        base = {"base_url": self.provider.openai_url, "api_key": "k", "max_retries": 0}
        return {"model": model, **base, **options}


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]


@tool
def lookup(q: str = "") -> str:
    """Look something up."""
    return "found"


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in an event loop of its own."""
    return asyncio.run(work)


async def drain(stream: Any) -> list[Any]:
    return [each async for each in stream]


@contextmanager
def handler_kit(
    folder: Path, *, configure: Callable[[TokenConfig], TokenConfig] = lambda config: config
) -> Iterator[Kit]:
    """Switch the handler on for a block, and leave nothing of it behind."""
    cache = get_llm_cache()
    config = configure(TokenConfig(data_dir=str(folder), exit_flush_seconds=0))
    # The frameworks leave their asynchronous clients open.
    with LoopbackProvider(keep_alive=False) as provider:
        tracker = ConversationTracker(None, "default", token_handler="langchain", config=config)
        try:
            assert tracker.handler_status == {"langchain": "active"}
            yield Kit(provider, tracker)
        finally:
            set_llm_cache(cache)
            deactivate()
            tracker.close()
            assert not usage_callback.runs
            assert not usage_callback.tools.names
