"""What the tests of the LlamaIndex handler share: real clients and a real tracker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llama_index.core.base.embeddings.base import BaseEmbedding
from llama_index.core.llms import (
    ChatMessage,
    CompletionResponse,
    CompletionResponseGen,
    CustomLLM,
    LLMMetadata,
)
from llama_index.core.llms.callbacks import llm_completion_callback
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.anthropic import Anthropic
from llama_index.llms.openai import OpenAI, OpenAIResponses
from openai import OpenAI as SDK

from agentsight_tokens import ConversationTracker, TokenConfig, UsageRecord, UsageSummary
from agentsight_tokens.faults import fault_counts
from agentsight_tokens.handlers import deactivate
from agentsight_tokens.testing import LoopbackProvider

D = "hi [[in=101 out=7 cached=40 reasoning=2]]"
"""A prompt that bills what the research's provider bills for OpenAI."""

A = "hi [[in=105 out=9 cached=30 written=25]]"
"""The same for Anthropic, whose own counts are then 50, 30, 25 and 9."""


class Kit:
    """A provider, a tracker that the handler counts for, and clients of the provider."""

    def __init__(self, provider: LoopbackProvider, tracker: ConversationTracker) -> None:
        self.provider = provider
        self.tracker = tracker

    def openai(self, **options: Any) -> OpenAI:
        return OpenAI(**self._options("gpt-4o-mini", options))

    def responses(self, **options: Any) -> OpenAIResponses:
        return OpenAIResponses(**self._options("gpt-4o-mini", options))

    def anthropic(self, **options: Any) -> Anthropic:
        options = {"model": "claude-sonnet-4-5", "api_key": "k", "max_retries": 0, **options}
        return Anthropic(base_url=self.provider.anthropic_url, **options)

    def custom(self) -> FromCompletion:
        return FromCompletion(client=self.sdk())

    def sdk(self) -> SDK:
        return SDK(base_url=self.provider.openai_url, api_key="k", max_retries=0)

    def embedding(self, **options: Any) -> OpenAIEmbedding:
        return OpenAIEmbedding(**self._options("text-embedding-3-small", options))

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
        base = {"api_base": self.provider.openai_url, "api_key": "k", "max_retries": 0}
        return {"model": model, **base, **options}


class FromCompletion(CustomLLM):
    """A program's own model, whose chats LlamaIndex derives from its completions."""

    client: Any

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(model_name="own")

    @llm_completion_callback()
    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        answer = self._ask(prompt)
        return CompletionResponse(text=answer.choices[0].message.content, raw=answer)

    @llm_completion_callback()
    def stream_complete(
        self, prompt: str, formatted: bool = False, **kwargs: Any
    ) -> CompletionResponseGen:
        def generate() -> CompletionResponseGen:
            text = ""
            options = {"include_usage": True}
            for chunk in self._ask(prompt, stream=True, stream_options=options):
                delta = (chunk.choices[0].delta.content if chunk.choices else "") or ""
                text += delta
                yield CompletionResponse(text=text, delta=delta, raw=chunk)

        return generate()

    def _ask(self, prompt: str, **options: Any) -> Any:
        message = {"role": "user", "content": prompt}
        return self.client.chat.completions.create(
            model="gpt-4o-mini", messages=[message], **options
        )


class LocalEmbedding(BaseEmbedding):
    """A program's own embedding, which no tap sees."""

    def _get_query_embedding(self, query: str) -> list[float]:
        return [1.0, 0.0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return [1.0, 0.0]

    def _get_text_embedding(self, text: str) -> list[float]:
        if "fail" in text:
            raise ConnectionError(text)
        return [1.0, 0.0]


class BatchEmbedding(LocalEmbedding):
    """The same, with batches and asynchronous methods of its own."""

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return [[1.0, 0.0] for _ in texts]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return [1.0, 0.0]

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return [[1.0, 0.0] for _ in texts]


class SDKEmbedding(LocalEmbedding):
    """A program's own embedding, which calls the SDK that is tapped."""

    client: Any

    def _get_text_embedding(self, text: str) -> list[float]:
        answer = self.client.embeddings.create(model="text-embedding-3-small", input=text)
        found: list[float] = answer.data[0].embedding
        return found


def chat(text: str) -> list[ChatMessage]:
    return [ChatMessage(role="user", content=text)]


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine in an event loop of its own."""
    return asyncio.run(work)


async def drain(stream: Any) -> list[Any]:
    return [each async for each in await stream]


@contextmanager
def handler_kit(
    folder: Path,
    *,
    handlers: str = "llamaindex",
    configure: Callable[[TokenConfig], TokenConfig] = lambda config: config,
) -> Iterator[Kit]:
    """Switch the handler on for a block, and leave nothing of it behind."""
    config = configure(TokenConfig(data_dir=str(folder), exit_flush_seconds=0))
    faults = fault_counts()
    # The frameworks leave their asynchronous clients open.
    with LoopbackProvider(keep_alive=False) as provider:
        tracker = ConversationTracker(None, "default", token_handler=handlers, config=config)
        try:
            assert set(tracker.handler_status.values()) == {"active"}
            yield Kit(provider, tracker)
        finally:
            deactivate()
            tracker.close()
        # LlamaIndex swallows what its handlers raise.
        assert fault_counts() == faults
