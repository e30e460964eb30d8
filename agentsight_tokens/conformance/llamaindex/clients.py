"""LlamaIndex's clients of the loopback provider."""

from __future__ import annotations

import importlib
from typing import Any

from llama_index.core.callbacks import CallbackManager
from llama_index.core.llms import (
    ChatMessage,
    CompletionResponse,
    CompletionResponseGen,
    CustomLLM,
    LLMMetadata,
)
from llama_index.core.llms.callbacks import llm_completion_callback

from agentsight_tokens.conformance.clients import Clients

__all__ = ["A", "D", "FromCompletion", "LlamaIndexClients", "chat"]

D = "hi [[in=101 out=7 cached=40 reasoning=2]]"
"""A prompt that bills 101 tokens, 40 of them cached, and 7 out, 2 of them reasoning."""

A = "hi [[in=105 out=9 cached=30 written=25]]"
"""The same for Anthropic, whose own counts are then 50, 30, 25 and 9."""


class LlamaIndexClients(Clients):
    """
    Makes clients as a program does.

    What is not installed raises `ModuleNotFoundError`, which skips the scenario.
    """

    def openai(self, **options: Any) -> Any:
        """Return a model of OpenAI."""
        made = _loaded("llama_index.llms.openai", "OpenAI")
        return made(**self._options("gpt-4o-mini", options))

    def responses(self, **options: Any) -> Any:
        """Return a model of OpenAI's Responses API."""
        made = _loaded("llama_index.llms.openai", "OpenAIResponses")
        return made(**self._options("gpt-4o-mini", options))

    def anthropic(self, **options: Any) -> Any:
        """Return a model of Anthropic."""
        options = {"model": "claude-sonnet-4-5", "api_key": "k", "max_retries": 0, **options}
        options["base_url"] = self.provider.anthropic_url
        return _loaded("llama_index.llms.anthropic", "Anthropic")(**options)

    def custom(self) -> FromCompletion:
        """Return a program's own model."""
        return FromCompletion(client=self.sdk())

    def sdk(self) -> Any:
        """Return the client of OpenAI's SDK."""
        made = _loaded("openai", "OpenAI")
        return made(base_url=self.provider.openai_url, api_key="k", max_retries=0)

    def embedding(self, **options: Any) -> Any:
        """Return OpenAI's embedding."""
        made = _loaded("llama_index.embeddings.openai", "OpenAIEmbedding")
        return made(**self._options("text-embedding-3-small", options))

    def own_manager(self) -> Any:
        """Return a callback manager of the program's own."""
        return CallbackManager([])

    def _options(self, model: str, options: dict[str, Any]) -> dict[str, Any]:
        base = {"api_base": self.provider.openai_url, "api_key": "k", "max_retries": 0}
        return {"model": model, **base, **options}


class FromCompletion(CustomLLM):
    """A program's own model, whose chats LlamaIndex derives from its completions."""

    client: Any

    @property
    def metadata(self) -> LLMMetadata:
        """What LlamaIndex asks of a model."""
        return LLMMetadata(model_name="own")

    @llm_completion_callback()
    def complete(self, prompt: str, *args: Any, **kwargs: Any) -> CompletionResponse:
        """Return the model's answer."""
        answer = self._ask(prompt)
        return CompletionResponse(text=answer.choices[0].message.content, raw=answer)

    @llm_completion_callback()
    def stream_complete(self, prompt: str, *args: Any, **kwargs: Any) -> CompletionResponseGen:
        """Return the model's answer as it comes."""

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


def chat(text: str) -> list[ChatMessage]:
    """Return a text as the messages of a chat."""
    return [ChatMessage(role="user", content=text)]


def _loaded(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)
