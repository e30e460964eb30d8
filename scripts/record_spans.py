"""
Record what instrumentations write of calls to the loopback provider, for `tests/recorded/otlp`.

Each scene runs in a process of its own, as instrumentations patch what they find. Its file holds
the versions, what the provider billed, and the requests as an OTLP exporter would send them.
Where an exception was raised in is left out.

    python scripts/record_spans.py [SCENE ...]

in an environment with the package, opentelemetry-exporter-otlp-proto-http, langgraph,
langchain, langchain-openai, langchain-anthropic, openai, anthropic<1, and of the instrumentations
openinference-instrumentation-{openai,anthropic,langchain},
opentelemetry-instrumentation-{openai,anthropic,langchain} and
opentelemetry-instrumentation-openai-v2.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import subprocess
import sys
from base64 import b64decode
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from google.protobuf.json_format import MessageToDict
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from agentsight_tokens.testing import LoopbackProvider, Reply

RECORDED: Final = Path(__file__).parents[1] / "tests" / "recorded" / "otlp"
_ASK: Final = "hi [[in=120 out=30 cached=80 reasoning=10]]"
_MESSAGES: Final[Any] = [{"role": "user", "content": _ASK}]
_CACHED: Final = "hi [[in=120 out=30 cached=80 written=15]]"


def openai_scene(url: str) -> None:
    """Chat, streams with and without usage, Responses, embeddings, and a call that fails."""
    import openai

    client = openai.OpenAI(base_url=url + "/v1", api_key="k", max_retries=0)
    client.chat.completions.create(model="gpt-4o-mini", messages=_MESSAGES, user="ann")
    told: Any = {"stream": True, "stream_options": {"include_usage": True}}
    for _ in client.chat.completions.create(model="gpt-4o-mini", messages=_MESSAGES, **told):
        pass
    silent: Any = {"stream": True}
    for _ in client.chat.completions.create(model="gpt-4o-mini", messages=_MESSAGES, **silent):
        pass
    client.responses.create(model="gpt-4o-mini", input=_ASK)
    client.embeddings.create(model="text-embedding-3-small", input="hi [[in=9]]")
    with contextlib.suppress(openai.APIError):
        client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "hi [[status=500]]"}]
        )


def anthropic_scene(url: str) -> None:
    """Messages that read and write a cache, streamed and not."""
    import anthropic

    client = anthropic.Anthropic(base_url=url, api_key="k", max_retries=0)
    asked: Any = {
        "model": "claude-sonnet-4-5",
        "max_tokens": 100,
        "messages": [{"role": "user", "content": _CACHED}],
    }
    client.messages.create(**asked)
    for _ in client.messages.create(stream=True, **asked):
        pass
    with client.messages.stream(**asked) as stream:
        stream.get_final_message()


def langchain_scene(url: str) -> None:
    """A chain, a stream, and an agent of LangGraph that calls a tool, over OpenAI."""
    from langchain.agents import create_agent
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model="gpt-4o-mini", base_url=url + "/v1", api_key="k", max_retries=0)
    prompt = ChatPromptTemplate.from_messages([("user", "{text}")])
    (prompt | model).invoke({"text": _ASK})
    for _ in (prompt | model).stream({"text": _ASK}):
        pass

    @tool
    def weather(city: str) -> str:
        """Return the weather."""
        return f"rain in {city}"

    agent = create_agent(model, [weather], name="forecaster")
    asked = 'weather? [[in=50 out=5 tool=weather args={"city":"Oslo"}]]'
    agent.invoke({"messages": [("user", asked)]}, {"configurable": {"thread_id": "t-1"}})


def langchain_anthropic_scene(url: str) -> None:
    """A model of Anthropic within LangChain, with a cache, streamed and not."""
    from langchain_anthropic import ChatAnthropic

    model = ChatAnthropic(
        model="claude-sonnet-4-5", base_url=url, api_key="k", max_retries=0, max_tokens=100
    )
    model.invoke(_CACHED)
    for _ in model.stream(_CACHED):
        pass


_OPENINFERENCE: Final = "openinference.instrumentation"
_OPENTELEMETRY: Final = "opentelemetry.instrumentation"
_Scene = tuple[Callable[[str], None], tuple[str, ...]]
SCENES: Final[dict[str, _Scene]] = {
    "openinference_openai": (openai_scene, (f"{_OPENINFERENCE}.openai:OpenAIInstrumentor",)),
    "openllmetry_openai": (openai_scene, (f"{_OPENTELEMETRY}.openai:OpenAIInstrumentor",)),
    "opentelemetry_openai": (openai_scene, (f"{_OPENTELEMETRY}.openai_v2:OpenAIInstrumentor",)),
    "two_openai": (
        openai_scene,
        (
            f"{_OPENINFERENCE}.openai:OpenAIInstrumentor",
            f"{_OPENTELEMETRY}.openai:OpenAIInstrumentor",
        ),
    ),
    "openinference_anthropic": (
        anthropic_scene,
        (f"{_OPENINFERENCE}.anthropic:AnthropicInstrumentor",),
    ),
    "openllmetry_anthropic": (
        anthropic_scene,
        (f"{_OPENTELEMETRY}.anthropic:AnthropicInstrumentor",),
    ),
    "openinference_langchain": (
        langchain_scene,
        (f"{_OPENINFERENCE}.langchain:LangChainInstrumentor",),
    ),
    "openllmetry_langchain": (
        langchain_scene,
        (f"{_OPENTELEMETRY}.langchain:LangchainInstrumentor",),
    ),
    "openinference_langchain_and_openai": (
        langchain_scene,
        (
            f"{_OPENINFERENCE}.langchain:LangChainInstrumentor",
            f"{_OPENINFERENCE}.openai:OpenAIInstrumentor",
        ),
    ),
    "openllmetry_langchain_and_openai": (
        langchain_scene,
        (
            f"{_OPENTELEMETRY}.langchain:LangchainInstrumentor",
            f"{_OPENTELEMETRY}.openai:OpenAIInstrumentor",
        ),
    ),
    "openinference_langchain_anthropic": (
        langchain_anthropic_scene,
        (f"{_OPENINFERENCE}.langchain:LangChainInstrumentor",),
    ),
    "openllmetry_langchain_anthropic": (
        langchain_anthropic_scene,
        (f"{_OPENTELEMETRY}.langchain:LangchainInstrumentor",),
    ),
}
"""What is run, and which instrumentations write of it."""
_PACKAGES: Final = (
    "openai",
    "anthropic",
    "langchain",
    "langchain-openai",
    "langchain-anthropic",
    "opentelemetry-sdk",
)


def record(name: str) -> None:
    """Run a scene and write its file."""
    scene, instrumentors = SCENES[name]
    memory = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": name}))
    provider.add_span_processor(SimpleSpanProcessor(memory))
    trace.set_tracer_provider(provider)
    packages = list(_PACKAGES)
    for each in instrumentors:
        module, _, kind = each.partition(":")
        packages.append(module.replace(".", "-").replace("_", "-"))
        getattr(importlib.import_module(module), kind)().instrument(tracer_provider=provider)
    with LoopbackProvider(default_reply=Reply(), keep_alive=False) as loopback:
        scene(loopback.url)
        loopback.settle()
        ledger = [
            {"model": call.model, "reported": call.reported, "usage": _counts(call.usage)}
            for call in loopback.ledger
        ]
    request = MessageToDict(encode_spans(memory.get_finished_spans()))
    for span in _spans(request):
        _clean(span)
    content = {"versions": _versions(packages), "billed": ledger, "request": request}
    RECORDED.mkdir(exist_ok=True)
    text = json.dumps(content, indent=1, ensure_ascii=False)
    (RECORDED / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def _counts(usage: Any) -> dict[str, int]:
    return {n: getattr(usage, n) for n in usage.__struct_fields__ if getattr(usage, n)}


def _versions(packages: list[str]) -> dict[str, str]:
    found = {}
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _spans(request: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for resource_spans in request["resourceSpans"]:
        for scope_spans in resource_spans["scopeSpans"]:
            yield from scope_spans["spans"]


def _clean(span: dict[str, Any]) -> None:
    """Write ids as OTLP's JSON does, and leave out where an exception was raised."""
    for name in ("traceId", "spanId", "parentSpanId"):
        if name in span:
            span[name] = b64decode(span[name]).hex()
    span.pop("links", None)
    for event in span.get("events", ()):
        event["attributes"] = [
            each for each in event.get("attributes", ()) if each["key"] != "exception.stacktrace"
        ]


def main() -> None:
    """Record the scenes that are named, or all."""
    names = sys.argv[1:]
    if len(names) == 1:
        record(names[0])
        return
    for name in names or SCENES:
        subprocess.run([sys.executable, __file__, name], check=True)  # noqa: S603  # this file


if __name__ == "__main__":
    main()
