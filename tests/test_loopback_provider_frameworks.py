"""LangChain and LlamaIndex read the loopback provider's answers as a real provider's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace
from pydantic import BaseModel

from agentsight_tokens.testing import LoopbackProvider, Reply, ToolCall
from agentsight_tokens.usage import TokenUsage

D = TokenUsage(input_tokens=11, output_tokens=7, cache_read_tokens=4, reasoning_tokens=2)


class Sum(BaseModel):
    total: int


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    # The frameworks leave their asynchronous clients open.
    with LoopbackProvider(keep_alive=False) as running:
        yield running


def seen(message: Any) -> TokenUsage:
    """Read the usage of a LangChain message."""
    usage = message.usage_metadata
    read = usage["input_token_details"]
    written = sum(read.get(f"ephemeral_{age}_input_tokens") or 0 for age in ("5m", "1h"))
    return TokenUsage(
        input_tokens=usage["input_tokens"],
        output_tokens=usage["output_tokens"],
        total_tokens=usage["total_tokens"],
        cache_read_tokens=read.get("cache_read", 0),
        cache_creation_tokens=max(read.get("cache_creation") or 0, written),
        cache_creation_1h_tokens=read.get("ephemeral_1h_input_tokens") or 0,
        reasoning_tokens=(usage.get("output_token_details") or {}).get("reasoning", 0),
    )


def merged(chunks: list[Any]) -> Any:
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole = whole + chunk
    return whole


def four_ways(model: Any) -> list[Any]:
    """Call a LangChain model whole and streamed, in both colours."""

    async def both() -> list[Any]:
        return [await model.ainvoke("hi"), merged([chunk async for chunk in model.astream("hi")])]

    return [model.invoke("hi"), merged(list(model.stream("hi"))), *asyncio.run(both())]


@pytest.mark.parametrize("use_responses_api", [False, True])
def test_langchain_openai(provider: LoopbackProvider, use_responses_api: bool) -> None:
    """ChatOpenAI sees the ledger's usage from both of OpenAI's chat endpoints."""
    openai = pytest.importorskip("langchain_openai")
    model = openai.ChatOpenAI(
        model="gpt-4o",
        base_url=provider.openai_url,
        api_key="k",
        stream_usage=True,
        use_responses_api=use_responses_api,
    )

    answers = four_ways(model)

    assert [seen(answer) for answer in answers] == [D] * 4
    assert [str(answer.text) for answer in answers] == ["ok"] * 4
    assert [call.usage for call in provider.ledger] == [D] * 4
    assert {call.reported for call in provider.ledger} == {True}


def test_langchain_openai_tiers(provider: LoopbackProvider) -> None:
    """The tier that was asked for is echoed, and LangChain names its details by it."""
    openai = pytest.importorskip("langchain_openai")
    model = openai.ChatOpenAI(
        model="gpt-4o", base_url=provider.openai_url, api_key="k", service_tier="flex"
    )

    details = model.invoke("hi").usage_metadata["input_token_details"]

    assert details["flex_cache_read"] == 4
    assert [call.service_tier for call in provider.ledger] == ["flex"]


def test_langchain_openai_structure_and_tools(provider: LoopbackProvider) -> None:
    """A structured output comes as JSON or as a tool call, and tools are called by directive."""
    openai = pytest.importorskip("langchain_openai")
    model = openai.ChatOpenAI(model="gpt-4o", base_url=provider.openai_url, api_key="k")
    provider.enqueue(Reply(text='{"total":3}'), Reply(tool_calls=(ToolCall("Sum", {"total": 4}),)))

    by_schema = model.with_structured_output(Sum, method="json_schema").invoke("hi")
    by_tool = model.with_structured_output(Sum, method="function_calling").invoke("hi")
    asked = model.invoke('[[in=11 out=7 tool=Sum args={"total":5}]]')

    assert (by_schema, by_tool) == (Sum(total=3), Sum(total=4))
    assert [(call["name"], call["args"]) for call in asked.tool_calls] == [("Sum", {"total": 5})]


def test_langchain_openai_legacy_and_batches(provider: LoopbackProvider) -> None:
    """A legacy batch is one request whose prompts each bill their own usage."""
    openai = pytest.importorskip("langchain_openai")
    model = openai.OpenAI(model="gpt-3.5-turbo-instruct", base_url=provider.openai_url, api_key="k")

    answers = model.batch(["[[in=1 out=2]]", "[[in=3 out=4]]", "[[in=5 out=6]]"])

    assert answers == ["ok"] * 3
    assert provider.requests == 1
    assert (provider.billed().input_tokens, provider.billed().output_tokens) == (9, 12)


def test_langchain_openai_embeddings(provider: LoopbackProvider) -> None:
    """OpenAIEmbeddings reads the vectors of texts and of token arrays."""
    openai = pytest.importorskip("langchain_openai")
    embeddings = openai.OpenAIEmbeddings(
        base_url=provider.openai_url, api_key="k", check_embedding_ctx_length=False
    )

    one = embeddings.embed_query("[[in=9]]")
    two = asyncio.run(embeddings.aembed_documents(["[[in=3]]", "[[in=4]]"]))

    assert len(one) == 8
    assert one not in two
    assert provider.billed().embedding_tokens == 16


def test_langchain_anthropic(provider: LoopbackProvider) -> None:
    """ChatAnthropic sees the ledger's inclusive usage, cache writes of both ages included."""
    anthropic = pytest.importorskip("langchain_anthropic")
    provider.default_reply = Reply(
        input_tokens=20,
        output_tokens=7,
        reasoning_tokens=2,
        cache_read_tokens=4,
        cache_creation_tokens=5,
        cache_creation_1h_tokens=2,
    )
    model = anthropic.ChatAnthropic(model="claude", base_url=provider.anthropic_url, api_key="k")

    answers = four_ways(model)

    billed = provider.ledger[0].usage
    # The event at a stream's end has no field for the ages of what was written.
    streamed = replace(billed, cache_creation_1h_tokens=0)
    assert [seen(answer) for answer in answers] == [billed, streamed, billed, streamed]
    assert (billed.total_tokens, billed.cache_creation_1h_tokens) == (27, 2)
    assert [call.usage for call in provider.ledger] == [billed] * 4
    assert [answer.text for answer in answers] == ["ok"] * 4


def test_langchain_anthropic_cumulative_deltas(provider: LoopbackProvider) -> None:
    """Two cumulative events at a stream's end bill the last of them."""
    anthropic = pytest.importorskip("langchain_anthropic")
    provider.default_reply = Reply(input_tokens=11, output_tokens=8, message_deltas=2)
    model = anthropic.ChatAnthropic(model="claude", base_url=provider.anthropic_url, api_key="k")

    chunks = list(model.stream("hi"))

    told = [chunk.usage_metadata for chunk in chunks if chunk.usage_metadata]
    assert [(usage["input_tokens"], usage["output_tokens"]) for usage in told] == [(11, 4), (11, 8)]
    assert provider.billed().total_tokens == 19


def llama_ways(model: Any) -> list[Any]:
    """Call a LlamaIndex model whole and streamed, in both colours."""

    async def both() -> list[Any]:
        streamed = [part async for part in await model.astream_complete("hi")]
        return [await model.acomplete("hi"), streamed[-1]]

    return [model.complete("hi"), list(model.stream_complete("hi"))[-1], *asyncio.run(both())]


def test_llama_index_openai(provider: LoopbackProvider) -> None:
    """LlamaIndex's OpenAI reads the answers; by default its streams ask for no usage."""
    openai = pytest.importorskip("llama_index.llms.openai")
    model = openai.OpenAI(model="gpt-4o", api_base=provider.openai_url, api_key="k")

    answers = llama_ways(model)

    assert [str(answer) for answer in answers] == ["ok"] * 4
    assert answers[0].raw.usage.prompt_tokens_details.cached_tokens == 4
    assert [call.reported for call in provider.ledger] == [True, False, False, True]
    assert [call.usage for call in provider.ledger] == [D] * 4


def test_llama_index_openai_responses(provider: LoopbackProvider) -> None:
    """LlamaIndex's OpenAIResponses streams, and parses a structured output."""
    openai = pytest.importorskip("llama_index.llms.openai")
    core = pytest.importorskip("llama_index.core.prompts")
    model = openai.OpenAIResponses(model="gpt-4o", api_base=provider.openai_url, api_key="k")
    provider.enqueue(Reply(), Reply(text='{"total":3}'))

    streamed = list(model.stream_complete("hi"))[-1]
    parsed = model.structured_predict(Sum, core.PromptTemplate("hi"))

    assert str(streamed) == "ok"
    assert parsed == Sum(total=3)
    assert [call.usage for call in provider.ledger] == [D] * 2


def test_llama_index_anthropic(provider: LoopbackProvider) -> None:
    """LlamaIndex's Anthropic reads the answers and the disjoint counts."""
    anthropic = pytest.importorskip("llama_index.llms.anthropic")
    sdk = pytest.importorskip("anthropic.types")
    if not isinstance(sdk.MessageParam, type):
        pytest.skip(
            "llama-index-llms-anthropic 0.12 constructs MessageParam, a union in anthropic 2"
        )
    provider.default_reply = Reply(
        input_tokens=105, output_tokens=9, cache_read_tokens=30, cache_creation_tokens=25
    )
    model = anthropic.Anthropic(
        model="claude-sonnet-4-6", base_url=provider.anthropic_url, api_key="k"
    )

    answers = llama_ways(model)

    assert [str(answer) for answer in answers] == ["ok"] * 4
    assert answers[0].raw["usage"].input_tokens == 50
    assert [call.usage.total_tokens for call in provider.ledger] == [114] * 4


def test_llama_index_embeddings(provider: LoopbackProvider) -> None:
    """LlamaIndex embeds in batches of ten, at 13 tokens a text."""
    openai = pytest.importorskip("llama_index.embeddings.openai")
    model = openai.OpenAIEmbedding(
        api_base=provider.openai_url, api_key="k", embed_batch_size=10, num_workers=4
    )
    texts = [f"text {i}" for i in range(25)]

    vectors = model.get_text_embedding_batch(texts)
    again = asyncio.run(model.aget_text_embedding_batch(texts))

    assert len(vectors) == 25
    assert vectors == again
    assert provider.requests == 6
    assert provider.billed().embedding_tokens == 650
