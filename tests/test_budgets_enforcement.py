"""Budgets stop calls: every framework, SDK and method, before the provider is reached."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from google import genai
from google.genai import types
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from langchain_openai import OpenAI as LegacyOpenAI
from llama_index.core import Document, PromptTemplate, VectorStoreIndex
from llama_index.core.llms import ChatMessage
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.anthropic import Anthropic as LlamaAnthropic
from llama_index.llms.openai import OpenAI as LlamaOpenAI
from pydantic import BaseModel

from agentsight_tokens import Budget, BudgetExceededError, ConversationTracker, TokenConfig
from agentsight_tokens.handlers import deactivate
from agentsight_tokens.testing import LoopbackProvider
from tests.llamaindex_kit import FromCompletion

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:google"),
    # LangChain and LlamaIndex never close the clients that they make.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

USED = 10_000
"""What was used before: the whole budget of a test that is refused."""

HI: Any = [{"role": "user", "content": "hi"}]
SPOKEN = [ChatMessage(role="user", content="hi")]
ASKING: Any = {"model": "gpt-4o-mini", "messages": HI, "max_completion_tokens": 50}
MESSAGE: Any = {"model": "claude-haiku-4-5", "messages": HI, "max_tokens": 50}
EMBED: Any = {"model": "text-embedding-3-small", "input": ["hi"]}
GEMINI: Any = {
    "model": "gemini-2.5-flash",
    "contents": "hi",
    "config": types.GenerateContentConfig(max_output_tokens=50),
}


def options(provider: LoopbackProvider) -> dict[str, Any]:
    return {"base_url": provider.openai_url, "api_key": "k", "max_retries": 2}


def langchain(act: Callable[[Any], Any]) -> Callable[[LoopbackProvider], Any]:
    return lambda p: act(ChatOpenAI(model="gpt-4o-mini", max_tokens=50, **options(p)))


def langchain_anthropic(act: Callable[[Any], Any]) -> Callable[[LoopbackProvider], Any]:
    return lambda p: act(
        ChatAnthropic(
            model="claude-haiku-4-5", max_tokens=50, base_url=p.anthropic_url, api_key="k"
        )
    )


def legacy(act: Callable[[Any], Any]) -> Callable[[LoopbackProvider], Any]:
    return lambda p: act(LegacyOpenAI(model="gpt-3.5-turbo-instruct", max_tokens=50, **options(p)))


def embeddings(act: Callable[[Any], Any]) -> Callable[[LoopbackProvider], Any]:
    return lambda p: act(
        OpenAIEmbeddings(
            model="text-embedding-3-small", check_embedding_ctx_length=False, **options(p)
        )
    )


def llamaindex(act: Callable[[Any], Any]) -> Callable[[LoopbackProvider], Any]:
    return lambda p: act(
        LlamaOpenAI(
            model="gpt-4o-mini", max_tokens=50, api_base=p.openai_url, api_key="k", max_retries=2
        )
    )


def llamaindex_anthropic(act: Callable[[Any], Any]) -> Callable[[LoopbackProvider], Any]:
    return lambda p: act(
        LlamaAnthropic(
            model="claude-haiku-4-5", max_tokens=50, base_url=p.anthropic_url, api_key="k"
        )
    )


def llamaindex_embedding(act: Callable[[Any], Any]) -> Callable[[LoopbackProvider], Any]:
    return lambda p: act(
        OpenAIEmbedding(model="text-embedding-3-small", api_base=p.openai_url, api_key="k")
    )


def own_model(act: Callable[[Any], Any]) -> Callable[[LoopbackProvider], Any]:
    """A model of the program's own, whose SDK another handler watches."""

    def work(p: LoopbackProvider) -> None:
        with openai.OpenAI(**options(p)) as client:
            act(FromCompletion(client=client))

    return work


def sdk(act: Callable[[openai.OpenAI], Any]) -> Callable[[LoopbackProvider], Any]:
    def work(p: LoopbackProvider) -> None:
        with openai.OpenAI(**options(p)) as client:
            act(client)

    return work


def async_sdk(act: Callable[[openai.AsyncOpenAI], Any]) -> Callable[[LoopbackProvider], Any]:
    async def work(p: LoopbackProvider) -> None:
        async with openai.AsyncOpenAI(**options(p)) as client:
            await drained(act(client))

    return lambda p: asyncio.run(work(p))


def claude(act: Callable[[anthropic.Anthropic], Any]) -> Callable[[LoopbackProvider], Any]:
    def work(p: LoopbackProvider) -> None:
        with anthropic.Anthropic(base_url=p.anthropic_url, api_key="k") as client:
            act(client)

    return work


def async_claude(
    act: Callable[[anthropic.AsyncAnthropic], Any],
) -> Callable[[LoopbackProvider], Any]:
    async def work(p: LoopbackProvider) -> None:
        async with anthropic.AsyncAnthropic(base_url=p.anthropic_url, api_key="k") as client:
            await drained(act(client))

    return lambda p: asyncio.run(work(p))


def gemini(act: Callable[[Any], Any]) -> Callable[[LoopbackProvider], Any]:
    def work(p: LoopbackProvider) -> None:
        with genai.Client(api_key="k", http_options={"base_url": p.gemini_url}) as client:
            act(client.models)

    return work


def async_gemini(act: Callable[[Any], Any]) -> Callable[[LoopbackProvider], Any]:
    async def work(p: LoopbackProvider) -> None:
        async with genai.Client(api_key="k", http_options={"base_url": p.gemini_url}).aio as aio:
            await drained(act(aio.models))

    return lambda p: asyncio.run(work(p))


async def drained(work: Any) -> Any:
    """Await a call, and drain the stream that it may return."""
    answer = await work if hasattr(work, "__await__") else work
    if hasattr(answer, "__aiter__"):
        return [chunk async for chunk in answer]
    return answer


def run(work: Any) -> Any:
    return asyncio.run(drained(work))


def messages_stream(client: anthropic.Anthropic) -> Any:
    with client.messages.stream(**MESSAGE) as stream:
        return stream.get_final_message()


async def gathered(model: Any) -> Any:
    return await model.abatch(["hi", "ho"])


STREAMED: Any = {"stream": True, "stream_options": {"include_usage": True}}

CALLS: dict[str, tuple[str, Callable[[LoopbackProvider], Any]]] = {
    "langchain invoke": ("langchain", langchain(lambda m: m.invoke("hi"))),
    "langchain stream": ("langchain", langchain(lambda m: list(m.stream("hi")))),
    "langchain batch": ("langchain", langchain(lambda m: m.batch(["hi", "ho"]))),
    "langchain ainvoke": ("langchain", langchain(lambda m: run(m.ainvoke("hi")))),
    "langchain astream": ("langchain", langchain(lambda m: run(m.astream("hi")))),
    "langchain abatch": ("langchain", langchain(lambda m: run(gathered(m)))),
    "langchain anthropic": ("langchain", langchain_anthropic(lambda m: m.invoke("hi"))),
    "langchain legacy": ("langchain", legacy(lambda m: m.invoke("hi"))),
    "langchain legacy ainvoke": ("langchain", legacy(lambda m: run(m.ainvoke("hi")))),
    "langchain embeddings": ("langchain", embeddings(lambda m: m.embed_query("hi"))),
    "langchain aembeddings": ("langchain", embeddings(lambda m: run(m.aembed_query("hi")))),
    "llamaindex complete": ("llamaindex", llamaindex(lambda m: m.complete("hi"))),
    "llamaindex chat": ("llamaindex", llamaindex(lambda m: m.chat(SPOKEN))),
    "llamaindex stream_chat": ("llamaindex", llamaindex(lambda m: list(m.stream_chat(SPOKEN)))),
    "llamaindex stream_complete": (
        "llamaindex",
        llamaindex(lambda m: list(m.stream_complete("hi"))),
    ),
    "llamaindex acomplete": ("llamaindex", llamaindex(lambda m: run(m.acomplete("hi")))),
    "llamaindex achat": ("llamaindex", llamaindex(lambda m: run(m.achat(SPOKEN)))),
    "llamaindex astream_chat": ("llamaindex", llamaindex(lambda m: run(m.astream_chat(SPOKEN)))),
    "llamaindex anthropic": ("llamaindex", llamaindex_anthropic(lambda m: m.chat(SPOKEN))),
    "llamaindex embedding": (
        "llamaindex",
        llamaindex_embedding(lambda m: m.get_text_embedding("hi")),
    ),
    "llamaindex aembedding": (
        "llamaindex",
        llamaindex_embedding(lambda m: run(m.aget_query_embedding("hi"))),
    ),
    "llamaindex embedding batch": (
        "llamaindex",
        llamaindex_embedding(lambda m: m.get_text_embedding_batch(["hi", "ho"])),
    ),
    "llamaindex own": ("llamaindex", own_model(lambda m: m.complete("hi"))),
    "llamaindex own stream": ("llamaindex", own_model(lambda m: list(m.stream_chat(SPOKEN)))),
    "openai chat": ("openai", sdk(lambda c: c.chat.completions.create(**ASKING))),
    "openai chat stream": (
        "openai",
        sdk(lambda c: list(c.chat.completions.create(**ASKING, **STREAMED))),
    ),
    "openai responses": (
        "openai",
        sdk(lambda c: c.responses.create(model="gpt-4o-mini", input="hi", max_output_tokens=50)),
    ),
    "openai completions": (
        "openai",
        sdk(
            lambda c: c.completions.create(
                model="gpt-3.5-turbo-instruct", prompt="hi", max_tokens=50
            )
        ),
    ),
    "openai embeddings": ("openai", sdk(lambda c: c.embeddings.create(**EMBED))),
    "openai raw": (
        "openai",
        sdk(lambda c: c.chat.completions.with_raw_response.create(**ASKING)),
    ),
    "openai async chat": ("openai", async_sdk(lambda c: c.chat.completions.create(**ASKING))),
    "openai async stream": (
        "openai",
        async_sdk(lambda c: c.chat.completions.create(**ASKING, **STREAMED)),
    ),
    "openai async embeddings": ("openai", async_sdk(lambda c: c.embeddings.create(**EMBED))),
    "anthropic messages": ("anthropic", claude(lambda c: c.messages.create(**MESSAGE))),
    "anthropic stream": (
        "anthropic",
        claude(lambda c: list(c.messages.create(**MESSAGE, stream=True))),
    ),
    "anthropic helper": ("anthropic", claude(messages_stream)),
    "anthropic async": ("anthropic", async_claude(lambda c: c.messages.create(**MESSAGE))),
    "anthropic async stream": (
        "anthropic",
        async_claude(lambda c: c.messages.create(**MESSAGE, stream=True)),
    ),
    "google generate": ("google-genai", gemini(lambda m: m.generate_content(**GEMINI))),
    "google stream": (
        "google-genai",
        gemini(lambda m: list(m.generate_content_stream(**GEMINI))),
    ),
    "google embed": (
        "google-genai",
        gemini(lambda m: m.embed_content(model="gemini-embedding-001", contents="hi")),
    ),
    "google async": ("google-genai", async_gemini(lambda m: m.generate_content(**GEMINI))),
    "google async stream": (
        "google-genai",
        async_gemini(lambda m: m.generate_content_stream(**GEMINI)),
    ),
}


def look(q: str) -> str:
    """Look something up."""
    return q


class City(BaseModel):
    name: str


CITY = City.model_json_schema()
ASK_CITY = PromptTemplate("hi")


def indexed(model: OpenAIEmbedding) -> Any:
    return VectorStoreIndex.from_documents([Document(text="hi")], embed_model=model)


ABOVE: dict[str, tuple[str, Callable[[LoopbackProvider], Any]]] = {
    "langchain agent": (
        "langchain",
        langchain(lambda m: create_agent(m, [look]).invoke({"messages": HI})),
    ),
    "langchain retries": (
        "langchain",
        langchain(lambda m: m.with_retry(wait_exponential_jitter=False).invoke("hi")),
    ),
    "langchain structured": (
        "langchain",
        langchain(lambda m: m.with_structured_output(CITY).invoke("hi")),
    ),
    "llamaindex structured": (
        "llamaindex",
        llamaindex(lambda m: m.structured_predict(City, ASK_CITY)),
    ),
    "llamaindex index": ("llamaindex", llamaindex_embedding(indexed)),
}
"""What frameworks build on their calls, and might catch or repeat what these raise."""


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    with LoopbackProvider(keep_alive=False) as provider:
        yield provider


def tracked(handler: str, budget: Budget, folder: Path) -> ConversationTracker:
    config = TokenConfig(data_dir=str(folder), exit_flush_seconds=0)
    tracker = ConversationTracker(token_handler=handler, config=config, budgets=budget)
    tracker.track_token_usage(USED, 0)
    return tracker


@pytest.fixture(autouse=True, scope="module")
def no_clients_left() -> Iterator[None]:
    """Let go of the clients that nobody closed, lest another test be blamed."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture(autouse=True)
def no_handlers_left() -> Iterator[None]:
    yield
    deactivate()


@pytest.mark.parametrize("name", [*CALLS, *ABOVE])
def test_with_the_budget_spent_nothing_is_sent(
    name: str, provider: LoopbackProvider, tmp_path: Path
) -> None:
    """The program gets the error itself; nothing is held, sent or counted."""
    handler, call = {**CALLS, **ABOVE}[name]
    tracker = tracked(handler, Budget(total_token_limit=USED), tmp_path)

    with pytest.raises(BudgetExceededError) as caught:
        call(provider)

    (window,) = tracker.guard.manager.status()
    assert provider.requests == 0
    assert (caught.value.used, caught.value.limit) == (USED, USED)
    assert (window.used_tokens, window.held_tokens) == (USED, 0)
    assert tracker.get_usage().request_count == 1
    tracker.close()


@pytest.mark.parametrize("name", sorted(CALLS.keys() - {"google embed"}))  # the provider has none
def test_within_the_budget_what_was_used_takes_the_holds_place(
    name: str, provider: LoopbackProvider, tmp_path: Path
) -> None:
    """The call goes through, and the budget has what the tracker counted."""
    handler, call = CALLS[name]
    tracker = tracked(handler, Budget(total_token_limit=USED + 10_000), tmp_path)

    call(provider)

    provider.settle()
    usage = tracker.get_usage()
    (window,) = tracker.guard.manager.status()
    assert provider.requests == usage.request_count - 1 > 0
    assert window.used_tokens == usage.total_tokens + usage.embedding_tokens > USED
    assert window.held_tokens == 0
    tracker.close()
