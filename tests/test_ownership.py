"""Whatever handlers are on, a call is counted once: every subset of them, on real clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from agentsight_tokens import TokenUsage
from tests.litellm_kit import QUIET, litellm, messages

pytest.importorskip("langchain_litellm", reason="asks for Python 3.11")
pytest.importorskip("llama_index.llms.litellm", reason="asks for Python 3.11")

import anthropic
import openai
from google import genai
from google.genai.types import HttpOptions
from langchain_anthropic import ChatAnthropic
from langchain_litellm import ChatLiteLLM
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from llama_index.core.llms import ChatMessage
from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.llms.anthropic import Anthropic
from llama_index.llms.litellm import LiteLLM
from llama_index.llms.openai import OpenAI

from agentsight_tokens import ConversationTracker, TokenConfig
from agentsight_tokens.handlers import deactivate
from agentsight_tokens.testing import LoopbackProvider

pytestmark = [*QUIET, pytest.mark.filterwarnings("ignore::UserWarning")]

HANDLERS = ("langchain", "llamaindex", "litellm", "openai", "anthropic", "google-genai")

LANGCHAIN, LLAMAINDEX, LITELLM = {"langchain"}, {"llamaindex"}, {"litellm"}
FRAMEWORKS = {"langchain", "llamaindex"}
"""Their handlers count the embeddings of OpenAI's SDK, whoever asks for them."""


class Clients:
    """One client of each kind, made before any handler is on, and a loop for them all."""

    def __init__(self, provider: LoopbackProvider) -> None:
        self.provider = provider
        self.loop = asyncio.new_event_loop()
        over_openai: dict[str, Any] = {"api_key": "k", "max_retries": 0}
        there = provider.anthropic_url
        wired: dict[str, Any] = {"api_base": provider.openai_url, **over_openai}
        self.wired = {"model": "openai/gpt-4o-mini", **wired}
        self.claude: dict[str, Any] = {"model": "anthropic/claude-sonnet-4-5", "api_key": "k"}
        self.claude["api_base"] = there
        chat = {"model": "gpt-4o-mini", "base_url": provider.openai_url, **over_openai}
        model, vectors = "claude-sonnet-4-5", "text-embedding-3-small"
        self.langchain = {
            "openai": ChatOpenAI(**chat, stream_usage=True),
            "anthropic": ChatAnthropic(
                model_name=model, base_url=there, api_key="k", max_retries=0
            ),
            "litellm": ChatLiteLLM(**self.wired),
        }
        self.llamaindex = {
            "openai": OpenAI(model="gpt-4o-mini", **wired),
            "anthropic": Anthropic(model=model, base_url=there, api_key="k", max_retries=0),
            # Only the handler of LiteLLM asks for the usage of its streams.
            "litellm": LiteLLM(
                **self.wired, additional_kwargs={"stream_options": {"include_usage": True}}
            ),
        }
        self.embeddings = OpenAIEmbeddings(
            **{**chat, "model": vectors}, check_embedding_ctx_length=False
        )
        self.embedding = OpenAIEmbedding(model_name=vectors, **wired)
        self.sdk = openai.OpenAI(base_url=provider.openai_url, **over_openai)
        self.async_sdk = openai.AsyncOpenAI(base_url=provider.openai_url, **over_openai)
        self.anthropic = anthropic.Anthropic(base_url=there, **over_openai)
        self.async_anthropic = anthropic.AsyncAnthropic(base_url=there, **over_openai)
        self.google = genai.Client(
            api_key="k", http_options=HttpOptions(base_url=provider.gemini_url)
        )

    def close(self) -> None:
        self.loop.run_until_complete(self.async_sdk.close())
        self.loop.run_until_complete(self.async_anthropic.close())
        self.loop.run_until_complete(litellm.close_litellm_async_clients())
        self.loop.close()
        for client in (self.sdk, self.anthropic, self.google):
            client.close()

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def drain(self, stream: Any) -> None:
        async def drained() -> None:
            async for _ in stream if hasattr(stream, "__aiter__") else await stream:
                pass

        self.run(drained())


@pytest.fixture(scope="module")
def clients() -> Iterator[Clients]:
    with LoopbackProvider(keep_alive=False) as provider:
        clients = Clients(provider)
        yield clients
        clients.close()


Call = tuple[set[str], Callable[[Clients, str], Any]]


def of_langchain(over: str, seen_by: set[str]) -> dict[str, Call]:
    def model(k: Clients) -> Any:
        return k.langchain[over]

    return {
        f"langchain over {over}": (seen_by, lambda k, text: model(k).invoke(text)),
        f"langchain over {over}, async": (
            seen_by,
            lambda k, text: k.run(model(k).ainvoke(text)),
        ),
        f"langchain over {over}, stream": (seen_by, lambda k, text: list(model(k).stream(text))),
        f"langchain over {over}, async stream": (
            seen_by,
            lambda k, text: k.drain(model(k).astream(text)),
        ),
    }


def of_llamaindex(over: str, seen_by: set[str]) -> dict[str, Call]:
    def model(k: Clients) -> Any:
        return k.llamaindex[over]

    def said(text: str) -> list[ChatMessage]:
        return [ChatMessage(role="user", content=text)]

    return {
        f"llamaindex over {over}": (seen_by, lambda k, text: model(k).chat(said(text))),
        f"llamaindex over {over}, async": (
            seen_by,
            lambda k, text: k.run(model(k).achat(said(text))),
        ),
        f"llamaindex over {over}, stream": (
            seen_by,
            lambda k, text: list(model(k).stream_chat(said(text))),
        ),
        f"llamaindex over {over}, async stream": (
            seen_by,
            lambda k, text: k.drain(model(k).astream_chat(said(text))),
        ),
    }


def asked(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": messages(text), **more}


VECTORS = "text-embedding-3-small"
USAGE: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": True}}

CALLS: dict[str, Call] = {
    **of_langchain("openai", LANGCHAIN | {"openai"}),
    **of_langchain("anthropic", LANGCHAIN | {"anthropic"}),
    **of_langchain("litellm", LANGCHAIN | LITELLM | {"openai"}),
    **of_llamaindex("openai", LLAMAINDEX | {"openai"}),
    **of_llamaindex("anthropic", LLAMAINDEX | {"anthropic"}),
    **of_llamaindex("litellm", LLAMAINDEX | LITELLM | {"openai"}),
    "langchain's embeddings": (
        FRAMEWORKS | {"openai"},
        lambda k, text: k.embeddings.embed_documents([text]),
    ),
    "llamaindex's embedding": (
        FRAMEWORKS | {"openai"},
        lambda k, text: k.embedding.get_text_embedding(text),
    ),
    "litellm's embedding": (
        FRAMEWORKS | LITELLM | {"openai"},
        lambda k, text: litellm.embedding(
            **{**k.wired, "model": f"openai/{VECTORS}"}, input=[text]
        ),
    ),
    "litellm": (
        LITELLM | {"openai"},
        lambda k, text: litellm.completion(**k.wired, **asked(text)),
    ),
    "litellm, async": (
        LITELLM | {"openai"},
        lambda k, text: k.run(litellm.acompletion(**k.wired, **asked(text))),
    ),
    "litellm, stream": (
        LITELLM | {"openai"},
        lambda k, text: list(litellm.completion(**k.wired, **asked(text, **USAGE))),
    ),
    "litellm over anthropic": (
        LITELLM,
        lambda k, text: litellm.completion(**k.claude, **asked(text)),
    ),
    "openai": (
        {"openai"},
        lambda k, text: k.sdk.chat.completions.create(model="gpt-4o-mini", **asked(text)),
    ),
    "openai, async stream": (
        {"openai"},
        lambda k, text: k.drain(
            k.async_sdk.chat.completions.create(model="gpt-4o-mini", **asked(text, **USAGE))
        ),
    ),
    "openai's embeddings": (
        FRAMEWORKS | {"openai"},
        lambda k, text: k.sdk.embeddings.create(model=VECTORS, input=[text]),
    ),
    "anthropic": (
        {"anthropic"},
        lambda k, text: k.anthropic.messages.create(
            model="claude-sonnet-4-5", max_tokens=9, **asked(text)
        ),
    ),
    "anthropic, async": (
        {"anthropic"},
        lambda k, text: k.run(
            k.async_anthropic.messages.create(
                model="claude-sonnet-4-5", max_tokens=9, **asked(text)
            )
        ),
    ),
    "google-genai": (
        {"google-genai"},
        lambda k, text: k.google.models.generate_content(model="gemini-2.5-flash", contents=text),
    ),
}


def calls_of(handlers: Sequence[str]) -> dict[str, Call]:
    """Return the calls to make: of several handlers, those that more than one of them sees."""
    if len(handlers) in {1, len(HANDLERS)}:
        return CALLS
    return {name: call for name, call in CALLS.items() if len(call[0] & {*handlers}) > 1}


SUBSETS = [
    handlers
    for number in range(1, len(HANDLERS) + 1)
    for handlers in combinations(HANDLERS, number)
    if calls_of(handlers)
]


def count(
    clients: Clients, folder: Path, handlers: Sequence[str], **settings: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Make the calls, and return what was counted of each, beside what is right."""
    clients.provider.clear()
    config = TokenConfig(data_dir=str(folder), exit_flush_seconds=0).replace(**settings)
    tracker = ConversationTracker(None, "default", token_handler=",".join(handlers), config=config)
    on = {*HANDLERS} if "auto" in handlers else {*handlers}
    counted, right = {}, {}
    try:
        assert tracker.handler_status == dict.fromkeys(on, "active")
        for number, (name, (seen_by, call)) in enumerate(calls_of(handlers).items()):
            used = f"in={20 + number} out={number + 1} embedding={number + 3}"
            with tracker.conversation(name):
                call(clients, f"hi [[{used} label={number}]]")
            billed = clients.provider.billed(str(number))
            assert billed
            right[name] = (1, billed) if seen_by & on else (0, TokenUsage())
        for name in right:
            usage = tracker.get_usage(conversation_id=name)
            total = TokenUsage(**{f: getattr(usage, f) for f in TokenUsage.__struct_fields__})
            counted[name] = (usage.request_count, total)
        assert tracker.get_usage(conversation_id="default").request_count == 0
    finally:
        deactivate()
        tracker.close()
    return counted, right


@pytest.mark.parametrize("handlers", [*SUBSETS, ("auto",)], ids="+".join)
def test_a_call_is_counted_once(
    clients: Clients, tmp_path: Path, handlers: tuple[str, ...]
) -> None:
    """By whoever of them sees it, with what the provider billed, in its own conversation."""
    counted, right = count(clients, tmp_path, handlers)

    assert counted == right


def test_a_call_is_counted_once_by_callbacks_alone(clients: Clients, tmp_path: Path) -> None:
    """Where frameworks have no taps beneath them, their handlers still know one another's."""
    counted, right = count(clients, tmp_path, ("auto",), wire_taps=False)

    assert counted == right
