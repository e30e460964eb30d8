"""LangChain and LlamaIndex over LiteLLM, over OpenAI's SDK: counted once, by the nearest wire."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.litellm_kit import (
    QUIET,
    A,
    D,
    Kit,
    cache,
    drain,
    handler_kit,
    litellm,
    messages,
    run,
    told,
    told_in_the_end,
)

pytest.importorskip("langchain_litellm", reason="asks for Python 3.11")
pytest.importorskip("llama_index.llms.litellm", reason="asks for Python 3.11")

from langchain_litellm import ChatLiteLLM
from llama_index.core.llms import ChatMessage
from llama_index.llms.litellm import LiteLLM

pytestmark = [*QUIET, pytest.mark.filterwarnings("ignore::UserWarning")]

OPENAI = (101, 7, 108, 0, 40, 0)
ANTHROPIC = (105, 9, 114, 0, 30, 0)
NOTHING = (0, 0, 0, 0, 0, 0)
UNREPORTED = (0, 0, 0, 0, 0, 1)

SETS = ("litellm,langchain,llamaindex", "langchain,litellm", "llamaindex,litellm", "auto")


@pytest.fixture(params=SETS)
def kit(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kit]:
    with handler_kit(tmp_path, handlers=request.param) as kit:
        yield kit


def langchain(kit: Kit, **options: Any) -> ChatLiteLLM:
    return ChatLiteLLM(**{**kit.openai, **options})


def llama(kit: Kit, **options: Any) -> LiteLLM:
    return LiteLLM(**{**kit.openai, **options})


async def astream(stream: Any) -> list[Any]:
    return [each async for each in stream]


CHAT = [ChatMessage(role="user", content=D)]
Scenario = tuple[Callable[[Kit], Any], tuple[int, ...]]

LANGCHAIN: dict[str, Scenario] = {
    "invoke": (lambda k: langchain(k).invoke(D), OPENAI),
    "ainvoke": (lambda k: run(langchain(k).ainvoke(D)), OPENAI),
    "stream": (lambda k: list(langchain(k).stream(D)), OPENAI),
    "astream": (lambda k: run(astream(langchain(k).astream(D))), OPENAI),
    "batch": (lambda k: langchain(k).batch([D, D]), (202, 14, 216, 0, 80, 0)),
    "anthropic": (lambda k: langchain(k, **k.anthropic).invoke(A), ANTHROPIC),
    "anthropic stream": (lambda k: list(langchain(k, **k.anthropic).stream(A)), ANTHROPIC),
    "silent": (lambda k: langchain(k).invoke("[[mode=never]]"), UNREPORTED),
    "silent stream": (lambda k: list(langchain(k).stream("hi [[mode=never]]")), UNREPORTED),
    "mocked": (lambda k: langchain(k, model_kwargs={"mock_response": "hi"}).invoke(D), NOTHING),
}

LLAMA: dict[str, Scenario] = {
    "chat": (lambda k: llama(k).chat(CHAT), OPENAI),
    "achat": (lambda k: run(llama(k).achat(CHAT)), OPENAI),
    "stream_chat": (lambda k: list(llama(k).stream_chat(CHAT)), OPENAI),
    "astream_chat": (lambda k: run(drain(llama(k).astream_chat(CHAT))), OPENAI),
    "complete": (lambda k: llama(k).complete(D), OPENAI),
}


@pytest.mark.parametrize("name", LANGCHAIN)
def test_langchain_over_litellm_counts_once(kit: Kit, name: str) -> None:
    """Whatever handlers are on, and in whatever order they were switched on."""
    call, expected = LANGCHAIN[name]

    with kit.tracker.conversation("a"):
        call(kit)

    assert told(kit.usage()) == told(kit.usage(conversation_id="a")) == expected


@pytest.mark.parametrize("name", LLAMA)
def test_llamaindex_over_litellm_counts_once(kit: Kit, name: str) -> None:
    """Whatever handlers are on, and in whatever order they were switched on."""
    call, expected = LLAMA[name]

    with kit.tracker.conversation("a"):
        call(kit)

    assert told(kit.usage()) == told(kit.usage(conversation_id="a")) == expected


def test_failures_beneath_a_framework_cost_nothing(kit: Kit) -> None:
    """One record of zero."""
    with suppress(litellm.BadRequestError):
        langchain(kit).invoke("[[status=400]]")

    assert told(kit.usage()) == NOTHING
    assert [r.status for r in kit.records()] == ["error"]


@pytest.mark.parametrize("name", ["invoke", "ainvoke", "stream", "chat"])
def test_what_litellm_caches_costs_a_framework_nothing(kit: Kit, name: str) -> None:
    """LiteLLM's cache repeats the usage, which the framework shows."""
    call, _ = {**LANGCHAIN, **LLAMA}[name]

    with cache():
        call(kit)
        kit.usage()
        call(kit)

    assert kit.provider.requests == 1
    assert told(kit.usage()) == OPENAI


async def cancel(kit: Kit) -> None:
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(
            litellm.acompletion(**kit.openai, messages=messages("[[delay=1]]")), 0.3
        )


def leave(kit: Kit) -> None:
    stream = litellm.completion(**kit.openai, messages=messages("[[chunks=6]]"), stream=True)
    next(stream)
    next(stream)


BARE: dict[str, Scenario] = {
    "sync": (lambda k: litellm.completion(**k.openai, messages=messages()), OPENAI),
    "async": (lambda k: run(litellm.acompletion(**k.openai, messages=messages())), OPENAI),
    "stream": (
        lambda k: list(litellm.completion(**k.openai, messages=messages(), stream=True)),
        OPENAI,
    ),
    "async stream": (
        lambda k: run(drain(litellm.acompletion(**k.openai, messages=messages(), stream=True))),
        OPENAI,
    ),
    "embedding": (
        lambda k: litellm.embedding(**k.embedding, input=["a", "b"]),
        (0, 0, 0, 26, 0, 0),
    ),
    "async embedding": (
        lambda k: run(litellm.aembedding(**k.embedding, input=["a", "b"])),
        (0, 0, 0, 26, 0, 0),
    ),
    "silent stream": (
        lambda k: list(
            litellm.completion(**k.openai, messages=messages("hi [[mode=never]]"), stream=True)
        ),
        UNREPORTED,
    ),
    "cancelled": (lambda k: run(cancel(k)), UNREPORTED),
    "left": (leave, UNREPORTED),
}


@pytest.mark.parametrize("name", BARE)
def test_litellm_itself_counts_once(kit: Kit, name: str) -> None:
    """With every other handler on, and the tap on the SDK that sends the request."""
    call, expected = BARE[name]

    call(kit)

    assert told_in_the_end(kit, expected) == expected
    assert {r.handler for r in kit.records()} == {"litellm"}


def test_a_framework_s_handler_alone_counts_litellm_too(tmp_path: Path) -> None:
    """Without the handler of LiteLLM the framework's own counts."""
    for handler, call in (("langchain", LANGCHAIN["invoke"]), ("llamaindex", LLAMA["chat"])):
        with handler_kit(tmp_path / handler, handlers=handler) as kit:
            call[0](kit)

            assert told(kit.usage()) == OPENAI


def test_the_tap_tells_the_usage_and_litellm_the_rest(tmp_path: Path) -> None:
    """With the tap on OpenAI's SDK the record is still LiteLLM's call."""
    with handler_kit(tmp_path, handlers="litellm,openai") as kit:
        metadata = {"agentsight_conversation_id": "m"}
        list(litellm.completion(**kit.openai, messages=messages(), stream=True, metadata=metadata))

        assert told(kit.usage()) == told(kit.usage(conversation_id="m")) == OPENAI
        assert kit.record().handler == "litellm"
