"""Where LlamaIndex's integrations put a provider's usage, and what is read from there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from llama_index.core.llms import ChatMessage, ChatResponse, CompletionResponse
from openai.types.chat import ChatCompletionChunk

from agentsight_tokens.usage import TokenUsage
from agentsight_tokens_llamaindex.answers import (
    find_source,
    is_first_token,
    lacks_cache,
    read_answer,
)
from agentsight_tokens_llamaindex.providers import provider_of

OPENAI = {"prompt_tokens": 101, "completion_tokens": 7, "total_tokens": 108}
GEMINI = {
    "prompt_token_count": 100,
    "candidates_token_count": 5,
    "thoughts_token_count": 3,
    "total_token_count": 108,
}
CHUNK: dict[str, Any] = {
    "id": "c",
    "object": "chat.completion.chunk",
    "created": 1,
    "model": "llama-3.3-70b",
    "choices": [],
}


class Message:
    """Stands for protobuf's messages, whose fields are properties."""

    __slots__ = ("_usage",)

    def __init__(self, usage: Any) -> None:
        self._usage = usage

    @property
    def usage_metadata(self) -> Any:
        return self._usage


def read(response: Any, provider: str | None = None) -> TokenUsage | None:
    return read_answer(find_source(response), response.raw, None, provider).usage


@pytest.mark.parametrize(
    ("raw", "extra"),
    [
        ({"usage": OPENAI}, {}),
        (SimpleNamespace(usage=SimpleNamespace(**OPENAI)), {}),
        ({"type": "response.completed", "response": {"object": "response", "usage": OPENAI}}, {}),
        (ChatCompletionChunk.model_validate({**CHUNK, "usage": OPENAI}), {}),
        (ChatCompletionChunk.model_validate({**CHUNK, "x_groq": {"usage": OPENAI}}), {}),
        (None, {"usage": OPENAI}),
        (None, OPENAI),
        (None, {"usage": SimpleNamespace(**OPENAI)}),
        (OPENAI, {}),
    ],
    ids=["dict", "object", "event", "chunk", "groq", "extra", "flat", "extra object", "raw"],
)
def test_usage_is_found(raw: Any, extra: dict[str, Any]) -> None:
    """Every place that an integration uses is looked into, in dicts and in objects."""
    usage = read(CompletionResponse(text="", raw=raw, additional_kwargs=extra))

    assert usage is not None
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (101, 7, 108)


@pytest.mark.parametrize(
    "raw",
    [
        {"usage_metadata": GEMINI},
        {"_raw_response": {"usage_metadata": GEMINI}},
        SimpleNamespace(usage_metadata=SimpleNamespace(**GEMINI)),
        Message(Message(None)),
    ],
    ids=["dict", "older", "object", "unreadable"],
)
def test_gemini_counts_thoughts_as_output(raw: Any) -> None:
    """Gemini's thoughts are output, wherever the integration put them."""
    usage = read(CompletionResponse(text="", raw=raw), "gemini")

    if isinstance(raw, Message):
        assert usage is None
    else:
        assert usage is not None
        assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (100, 8, 108)


def test_other_shapes() -> None:
    """Ollama and Cohere are read from their raw answers too."""
    ollama = {"model": "l", "created_at": "", "done": True, "prompt_eval_count": 3, "eval_count": 4}
    cohere = {"text": "x", "meta": {"billed_units": {"input_tokens": 3, "output_tokens": 4}}}
    for raw in (ollama, cohere):
        usage = read(CompletionResponse(text="", raw=raw))
        assert usage is not None
        assert (usage.input_tokens, usage.output_tokens) == (3, 4)


@pytest.mark.parametrize(
    "raw",
    [
        None,
        7,
        {"usage": 5000},
        {"usage": {"prompt_tokens": 0, "completion_tokens": 0}},
        {"usage": "much"},
        {"response": "text"},
        SimpleNamespace(usage=5000),
    ],
    ids=repr,
)
def test_what_is_no_usage(raw: Any) -> None:
    """A field that happens to be called usage, or one that is all zero, says nothing."""
    assert find_source(CompletionResponse(text="", raw=raw)) is None


def test_impossible_counts_say_nothing() -> None:
    """A usage that cannot be one is unreported, and no fault."""
    raw = {"usage": {"prompt_tokens": -5, "completion_tokens": "many"}}
    assert not read(CompletionResponse(text="", raw=raw))


def test_first_token() -> None:
    """Text, a thought and a tool call are tokens; a role is none."""

    def part(delta: str = "", extra: Any = None, told: Any = None) -> ChatResponse:
        message = ChatMessage(content="", additional_kwargs=told or {})
        return ChatResponse(message=message, delta=delta, additional_kwargs=extra or {})

    assert is_first_token(part("a"))
    assert is_first_token(part(extra={"thinking_delta": "a"}))
    assert is_first_token(part(told={"tool_calls": [1]}))
    assert not is_first_token(part(extra={"other": 1}))
    assert not is_first_token(CompletionResponse(text=""))


@pytest.mark.parametrize(
    ("module", "provider"),
    [
        ("llama_index.llms.azure_openai.base", "azure"),
        ("llama_index.llms.google_genai.base", "gemini"),
        ("llama_index.llms.bedrock_converse.base", "bedrock"),
        ("llama_index.llms.groq.base", "groq"),
        ("llama_index.embeddings.openai.base", "openai"),
        ("llama_index.llms.openai_like.base", None),
        ("llama_index.llms.litellm.base", None),
        ("my.own", None),
    ],
)
def test_provider_of_a_class(module: str, provider: str | None) -> None:
    """A class names its provider by the integration that it comes from."""
    assert provider_of(type("Model", (), {"__module__": module})) == provider


def test_stream_that_keeps_the_cache_to_itself() -> None:
    """Anthropic's last event tells the cache, or only its first one has."""
    told = {"input_tokens": 50, "output_tokens": 9}
    for usage, is_lacking in (
        (told, True),
        ({**told, "cache_read_input_tokens": 0}, False),
        ({**told, "cache_creation_input_tokens": 25}, False),
    ):
        raw = {"type": "message_delta", "usage": usage}
        assert lacks_cache(find_source(CompletionResponse(text="", raw=raw))) is is_lacking
    assert not lacks_cache(find_source(CompletionResponse(text="", raw={"usage": told})))
    assert not lacks_cache(None)
