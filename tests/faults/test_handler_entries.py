"""A fault at every place where a framework or an SDK calls a handler: the program never sees it."""

from __future__ import annotations

import gc
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

import anthropic
import openai
import pytest
from google import genai
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool

from agentsight_tokens import ConversationTracker, TokenConfig, faults
from agentsight_tokens.conformance.clients import drain, run
from agentsight_tokens.conformance.langchain.clients import LangChainClients
from agentsight_tokens.conformance.litellm.clients import LiteLLMClients
from agentsight_tokens.conformance.llamaindex.clients import LlamaIndexClients, chat
from agentsight_tokens.faults import fault_counts
from agentsight_tokens.handlers import deactivate
from agentsight_tokens.testing import LoopbackProvider
from agentsight_tokens_langchain.run_events import run_events
from tests.litellm_kit import QUIET

pytestmark = [
    *QUIET,
    pytest.mark.filterwarnings("ignore:The `__fields:pydantic.warnings.PydanticDeprecatedSince20"),
]

SPOKEN = "[[text=spoken chunks=3]]"
FAILED = "[[status=400]]"


def told(call: Callable[[], Any]) -> str:
    """Return the name of what a call raises."""
    try:
        call()
    except Exception as error:  # noqa: BLE001  # whatever a framework raises
        return type(error).__name__
    return "nothing"


def strict_provider() -> LoopbackProvider:
    """Return a provider that refuses to be asked for a stream's usage."""
    provider = LoopbackProvider(keep_alive=False)
    provider.reject_unknown_stream_options = True
    return provider


def langchain_program(provider: LoopbackProvider) -> list[Any]:
    """Return what a program sees of LangChain."""
    clients = LangChainClients(provider)
    model, streams = clients.openai(), LangChainClients(provider)

    @tool
    def lookup() -> str:
        """Look something up."""
        return str((RunnableLambda(lambda text: text) | model).invoke("hi").content)

    @tool
    def fail() -> str:
        """Fail."""
        RunnableLambda(lambda text: text / 0).invoke("hi")
        return ""

    def ask(name: str) -> dict[str, Any]:
        return {"messages": [HumanMessage(f"[[in=11 out=7 tool={name}]]")]}

    def both(*texts: str) -> list[list[Any]]:
        return [[HumanMessage(text)] for text in texts]

    seen = [
        "".join(str(chunk.content) for chunk in streams.openai().stream(SPOKEN)),
        "".join(str(c.content) for c in run(drain(model.astream(SPOKEN)))),
        run(model.ainvoke("hi")).content,
        run(clients.legacy().ainvoke("hi")),
        "".join(clients.legacy().stream(SPOKEN)),
        clients.agent(lookup).invoke(ask("lookup"))["messages"][-1].content,
        told(lambda: clients.agent(fail).invoke(ask("fail"))),
        told(lambda: model.generate(both("hi", FAILED, "hi"))),
        told(lambda: list(model.stream(FAILED))),
        len(clients.embeddings().embed_query("hi")),
    ]
    with strict_provider() as strict:
        chunks = LangChainClients(strict).openai().stream(SPOKEN)
        return [*seen, "".join(str(chunk.content) for chunk in chunks)]


def llamaindex_program(provider: LoopbackProvider) -> list[Any]:
    """Return what a program sees of LlamaIndex."""
    clients = LlamaIndexClients(provider)
    model = clients.openai()

    def leave() -> str:
        parts = model.stream_complete(SPOKEN)
        return str(next(parts).delta)

    return [
        model.complete("hi").text,
        run(model.achat(chat("hi"))).message.content,
        "".join(part.delta for part in model.stream_chat(chat(SPOKEN))),
        "".join(part.delta for part in run(drain(model.astream_complete(SPOKEN)))),
        "".join(part.delta for part in clients.anthropic().stream_chat(chat(SPOKEN))),
        leave(),
        told(lambda: model.complete(FAILED)),
        told(lambda: list(model.stream_complete("[[chunks=3 text=abc break=2]]"))),
        len(clients.embedding().get_text_embedding_batch(["a", "b"])),
        told(lambda: clients.embedding().get_text_embedding(FAILED)),
    ]


def litellm_program(provider: LoopbackProvider) -> list[Any]:
    """Return what a program sees of LiteLLM."""
    clients = LiteLLMClients(provider)

    def joined(parts: list[Any]) -> str:
        return "".join(part.choices[0].delta.content or "" for part in parts)

    async def leave() -> str:
        stream = await clients.acomplete(SPOKEN, stream=True)
        first = await anext(stream)
        await stream.aclose()
        return str(first.choices[0].delta.content)

    def drop() -> str:
        part = next(iter(clients.complete(SPOKEN, stream=True)))
        gc.collect()
        return str(part.choices[0].delta.content)

    async def refused() -> str:
        try:
            await clients.acomplete(FAILED)
        except Exception as error:  # noqa: BLE001  # whatever a framework raises
            return type(error).__name__
        return "nothing"

    return [
        clients.complete().choices[0].message.content,
        run(clients.acomplete()).choices[0].message.content,
        joined(list(clients.complete(SPOKEN, stream=True))),
        joined(run(drain(clients.acomplete(SPOKEN, stream=True)))),
        run(leave()),
        drop(),
        told(lambda: clients.complete(FAILED)),
        run(refused()),
    ]


def sdk_program(provider: LoopbackProvider) -> list[Any]:
    """Return what a program sees of the SDKs."""
    asked: dict[str, Any] = {"model": "gpt-4o-mini"}
    options: dict[str, Any] = {"api_key": "k", "max_retries": 0}

    def said(text: str) -> list[Any]:
        return [{"role": "user", "content": text}]

    def joined(parts: Any) -> str:
        return "".join(part.choices[0].delta.content or "" for part in parts if part.choices)

    async def asynchronously() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=provider.openai_url, **options) as client:
            make = client.chat.completions.create
            stream = await make(**asked, messages=said(SPOKEN), stream=True)
            return [
                joined(await drain(stream)),
                await refusal(make(**asked, messages=said(FAILED))),
            ]

    async def refusal(call: Any) -> str:
        try:
            await call
        except Exception as error:  # noqa: BLE001  # whatever an SDK raises
            return type(error).__name__
        return "nothing"

    with (
        openai.OpenAI(base_url=provider.openai_url, **options) as client,
        anthropic.Anthropic(base_url=provider.anthropic_url, **options) as claude,
        genai.Client(api_key="k", http_options={"base_url": provider.gemini_url}) as gemini,
    ):
        make, generate = client.chat.completions.create, gemini.models
        message = {"model": "claude-haiku-4-5", "max_tokens": 9}
        seen = [
            make(**asked, messages=said("hi")).choices[0].message.content,
            joined(make(**asked, messages=said(SPOKEN), stream=True)),
            told(lambda: make(**asked, messages=said(FAILED))),
            len(client.embeddings.create(model="text-embedding-3-small", input="hi").data),
            claude.messages.create(**message, messages=said("hi")).content[0].text,
            generate.generate_content(model="gemini-2.5-flash", contents="hi").text,
            "".join(
                part.text or ""
                for part in generate.generate_content_stream(
                    model="gemini-2.5-flash", contents=SPOKEN
                )
            ),
            told(lambda: generate.generate_content(model="gemini-2.5-flash", contents=FAILED)),
            *run(asynchronously()),
        ]
    with (
        strict_provider() as strict,
        openai.OpenAI(base_url=strict.openai_url, **options) as client,
    ):
        make = client.chat.completions.create
        return [*seen, joined(make(**asked, messages=said(SPOKEN), stream=True))]


class Program(NamedTuple):
    """What a host does, and the handlers that watch it."""

    act: Callable[[LoopbackProvider], list[Any]]
    handlers: str


PROGRAMS = {
    "langchain": Program(langchain_program, "langchain"),
    "llamaindex": Program(llamaindex_program, "llamaindex"),
    "litellm": Program(litellm_program, "litellm"),
    "wire": Program(sdk_program, "openai,anthropic,google-genai"),
    "google": Program(sdk_program, "openai,anthropic,google-genai"),
}

BARE: dict[Callable[..., Any], list[Any]] = {}
"""What the programs see where nothing watches them."""


def modules(package: str) -> Iterator[ModuleType]:
    name = f"agentsight_tokens_{package}"
    folder = importlib.import_module(name).__path__
    for found in pkgutil.walk_packages(folder, f"{name}."):
        yield importlib.import_module(found.name)


def guarded_in(package: str) -> Iterator[tuple[str, FunctionType]]:
    """Yield what a framework or an SDK calls, as far as it stands in a module or a class."""
    for module in modules(package):
        holders: list[Any] = [module]
        holders += [
            each
            for _, each in inspect.getmembers(module, inspect.isclass)
            if each.__module__ == module.__name__
        ]
        for holder in holders:
            for each in vars(holder).values():
                if is_guarded(each) and each.__module__ == module.__name__:
                    yield f"{package}: {each.__qualname__}", each


def is_guarded(each: Any) -> bool:
    return isinstance(each, FunctionType) and each.__code__ is GUARD


GUARD = faults.guarded(print).__code__  # type: ignore[attr-defined]  # it is a function

ENTRIES = {name: (package, entry) for package in PROGRAMS for name, entry in guarded_in(package)}


def watched(folder: Path, program: Program) -> list[Any]:
    """Return what a program sees while its handlers count it."""
    with LoopbackProvider(keep_alive=False) as provider:
        config = TokenConfig(data_dir=str(folder), exit_flush_seconds=0)
        tracker = ConversationTracker(None, "c", token_handler=program.handlers, config=config)
        try:
            seen = program.act(provider)
            with suppress(Exception):
                tracker.get_usage()
        finally:
            deactivate()
            tracker.close()
            run_events.runs.expire_all()
            run_events.tools.clear()
        return seen


def bare(program: Program) -> list[Any]:
    if program.act not in BARE:
        with LoopbackProvider(keep_alive=False) as provider:
            BARE[program.act] = program.act(provider)
    return BARE[program.act]


@pytest.mark.parametrize("name", ENTRIES)
def test_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The program sees what it sees unwatched, and each fault is counted once."""
    package, entry = ENTRIES[name]
    monkeypatch.setattr("agentsight_tokens.faults._raises", False)
    expected = bare(PROGRAMS[package])
    before = fault_counts().get(entry.__qualname__, 0)
    raised = []

    def broken(*args: Any, **kwargs: Any) -> Any:
        raised.append(1)
        raise RuntimeError("a fault of ours")

    broken.__qualname__ = entry.__qualname__
    (cell,) = entry.__closure__ or ()
    monkeypatch.setattr(cell, "cell_contents", broken)

    assert watched(tmp_path, PROGRAMS[package]) == expected
    assert raised
    assert fault_counts()[entry.__qualname__] - before == len(raised)
