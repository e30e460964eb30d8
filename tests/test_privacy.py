"""Privacy: what people say to a model reaches neither the disk nor the wire nor the log."""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from agentsight_tokens import ConversationTracker, TokenConfig
from agentsight_tokens.testing import LoopbackProvider, LoopbackRequest, Reply, ToolCall
from tests.faults.backend import Backend, planted_in, running_backend

PROMPT = "planted-prompt-4711"
SYSTEM = "planted-system-4711"
COMPLETION = "planted-completion-4711"
ARGUMENT = "planted-argument-4711"
TOOL_RESULT = "planted-tool-result-4711"
EMBEDDED = "planted-embedded-4711"
KEY = "sk-planted-key-4711"
ERROR = "planted-error-4711"
USER = "planted-user-4711@example.com"
PLANTED = (PROMPT, SYSTEM, COMPLETION, ARGUMENT, TOOL_RESULT, EMBEDDED, KEY, ERROR, USER)

TOOL = {
    "type": "function",
    "function": {"name": "search", "parameters": {"type": "object", "properties": {}}},
}


def answer(request: LoopbackRequest) -> Reply | None:
    """Say, ask and complain with planted words."""
    if request.operation == "embedding":
        return None
    if "fail" in str(request.body):
        return Reply(status=400, error_message=ERROR)
    if request.body.get("tools") and not request.has_tool_result:
        return Reply(text=COMPLETION, tool_calls=(ToolCall("search", {"query": ARGUMENT}),))
    return Reply(text=COMPLETION)


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    with LoopbackProvider(respond=answer, keep_alive=False) as provider:
        yield provider


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[Backend]:
    with running_backend(tmp_path / "collector") as backend:
        backend.takes_anything = True
        yield backend


def messages(text: str = PROMPT) -> list[dict[str, Any]]:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}]


def by_openai(provider: LoopbackProvider, _: ConversationTracker) -> int:
    openai = pytest.importorskip("openai")
    asked = {"model": "gpt-4o-mini", "messages": messages()}
    with openai.OpenAI(base_url=provider.openai_url, api_key=KEY, max_retries=0) as client:
        client.chat.completions.create(**asked, tools=[TOOL])
        for _chunk in client.chat.completions.create(**asked, stream=True):
            pass
        client.responses.create(model="gpt-4o-mini", instructions=SYSTEM, input=PROMPT)
        client.embeddings.create(model="text-embedding-3-small", input=[EMBEDDED])
        with pytest.raises(openai.BadRequestError, match=ERROR):
            client.chat.completions.create(**{**asked, "messages": messages("fail")})
    return 4


def by_anthropic(provider: LoopbackProvider, _: ConversationTracker) -> int:
    anthropic = pytest.importorskip("anthropic")
    asked = {"model": "claude-haiku-4-5", "max_tokens": 99, "system": SYSTEM}
    said = [{"role": "user", "content": PROMPT}]
    url = provider.anthropic_url
    with anthropic.Anthropic(base_url=url, api_key=KEY, max_retries=0) as client:
        tool = {"name": "search", "input_schema": {"type": "object"}}
        client.messages.create(**asked, messages=said, tools=[tool])
        with client.messages.stream(**asked, messages=said) as stream:
            stream.until_done()
        with pytest.raises(anthropic.BadRequestError, match=ERROR):
            client.messages.create(**asked, messages=[{"role": "user", "content": "fail"}])
    return 2


def by_google(provider: LoopbackProvider, _: ConversationTracker) -> int:
    genai = pytest.importorskip("google.genai")
    errors = importlib.import_module("google.genai.errors")
    http = {"base_url": provider.gemini_url}
    asked = {"model": "gemini-2.5-flash", "contents": PROMPT}
    with genai.Client(api_key=KEY, http_options=http) as client:
        tools = [{"function_declarations": [{"name": "search"}]}]
        client.models.generate_content(
            **asked, config={"system_instruction": SYSTEM, "tools": tools}
        )
        for _chunk in client.models.generate_content_stream(**asked):
            pass
        with pytest.raises(errors.ClientError, match=ERROR):
            client.models.generate_content(**{**asked, "contents": "fail"})
    return 2


def by_langchain(provider: LoopbackProvider, _: ConversationTracker) -> int:
    langchain_openai = pytest.importorskip("langchain_openai")
    agents = pytest.importorskip("langchain.agents")
    tools = importlib.import_module("langchain_core.tools")

    @tools.tool
    def search(query: str) -> str:
        """Search."""
        assert query == ARGUMENT
        return TOOL_RESULT

    options = {"base_url": provider.openai_url, "api_key": KEY, "max_retries": 0}
    model = langchain_openai.ChatOpenAI(model="gpt-4o-mini", **options)
    agent = agents.create_agent(model, [search], system_prompt=SYSTEM)
    agent.invoke({"messages": [("user", PROMPT)]})
    for _chunk in model.stream(messages()):
        pass
    embeddings = langchain_openai.OpenAIEmbeddings(check_embedding_ctx_length=False, **options)
    embeddings.embed_documents([EMBEDDED])
    with pytest.raises(Exception, match=ERROR):
        model.invoke(messages("fail"))
    return 4


def by_llamaindex(provider: LoopbackProvider, _: ConversationTracker) -> int:
    llms = pytest.importorskip("llama_index.llms.openai")
    embeddings = pytest.importorskip("llama_index.embeddings.openai")
    message = importlib.import_module("llama_index.core.llms").ChatMessage
    options = {"api_base": provider.openai_url, "api_key": KEY, "max_retries": 0}
    model = llms.OpenAI(model="gpt-4o-mini", **options)
    said = [message(**each) for each in messages()]
    model.chat(said, tools=[TOOL])
    for _chunk in model.stream_chat(said):
        pass
    embeddings.OpenAIEmbedding(**options).get_text_embedding(EMBEDDED)
    with pytest.raises(Exception, match=ERROR):
        model.chat([message(**each) for each in messages("fail")])
    return 3


def by_litellm(provider: LoopbackProvider, _: ConversationTracker) -> int:
    litellm = pytest.importorskip("tests.litellm_kit").litellm
    options = {"api_base": provider.openai_url, "api_key": KEY, "max_retries": 0}
    asked = {"model": "openai/gpt-4o-mini", "messages": messages(), **options}
    litellm.completion(**asked, tools=[TOOL])
    for _chunk in litellm.completion(**asked, stream=True):
        pass
    litellm.embedding(model="openai/text-embedding-3-small", input=[EMBEDDED], **options)
    with pytest.raises(litellm.BadRequestError, match=ERROR):
        litellm.completion(**{**asked, "messages": messages("fail")})
    return 3


def by_hand(_: LoopbackProvider, tracker: ConversationTracker) -> int:
    called = {"id": "1", "type": "function", "function": {"name": "f", "arguments": ARGUMENT}}
    message = {"role": "assistant", "content": COMPLETION, "tool_calls": [called]}
    tracker.record(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "model": "gpt-4o",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
            "prompt": PROMPT,
            "error": {"message": ERROR},
        }
    )
    tracker.track_token_usage(3, 4, model="gpt-4o")
    tracker.get_token_count(PROMPT)
    return 2


HANDLERS: dict[str, Callable[[LoopbackProvider, ConversationTracker], int]] = {
    "openai": by_openai,
    "anthropic": by_anthropic,
    "google-genai": by_google,
    "langchain": by_langchain,
    "llamaindex": by_llamaindex,
    "litellm": by_litellm,
    "": by_hand,
}


@contextmanager
def tracking(handler: str, collector: Backend, folder: Path) -> Iterator[ConversationTracker]:
    """Track with a handler, every destination on and user ids hashed."""
    url = collector.url
    vendors = f"otlp:{url}, otlp-metrics:{url}, langfuse:{url}, langsmith:{url}"
    config = TokenConfig(
        token_handler=handler,
        api_key="k",
        destinations=f"embedded, http:{url}, jsonl:{folder / 'calls.jsonl'}, {vendors}",
        hash_user_ids=True,
        hash_key="a long random key",
    )
    with ConversationTracker(config=config, conversation_id="c") as tracker:
        yield tracker


def found_in(folder: Path) -> list[tuple[str, str]]:
    """Return the planted texts that are in any file of a folder, with the file's name."""
    found = []
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            content = path.read_bytes() if path.is_file() else b""
            found += [(path.name, text) for text in PLANTED if text.encode() in content]
    return found


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::UserWarning:pydantic")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("handler", HANDLERS, ids=lambda name: name or "by_hand")
def test_what_people_say_stays_with_them(
    handler: str,
    provider: LoopbackProvider,
    collector: Backend,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nothing planted is found while it waits, after it is delivered, or in any request."""
    for name in ("LANGFUSE_PUBLIC_KEY", "LANGFUSE_SECRET_KEY", "LANGSMITH_API_KEY"):
        monkeypatch.setenv(name, "ours")
    monkeypatch.setenv("LANGSMITH_TRACING", "false")
    caplog.set_level(logging.DEBUG, "agentsight_tokens")
    data = TokenConfig().directory
    collector.status = 404  # which the exporter does not retry by itself
    with tracking(handler, collector, tmp_path) as tracker:
        with tracker.attribution(user_id=USER):
            calls = HANDLERS[handler](provider, tracker)
        provider.settle()
        assert tracker.send_tracked_data().status == "queued"
        while_waiting = found_in(data)
        collector.status = 200
        assert tracker.flush(60)
        afterwards = found_in(data)
        history = tracker.get_usage_history()

    assert len([record for record in history if record.status == "ok"]) == calls
    assert {len(record.scope.user_id or "") for record in history} == {32}
    assert while_waiting == afterwards == found_in(data) == []
    assert found_in(tmp_path / "collector") == []
    assert USER not in (tmp_path / "calls.jsonl").read_text()
    assert [t for t in PLANTED if t in (tmp_path / "calls.jsonl").read_text()] == []
    assert "ours" in {headers.get("x-api-key") for headers, _ in collector.requests}  # LangSmith
    assert planted_in(collector, *PLANTED) == []
    ours = [r.getMessage() for r in caplog.records if r.name.startswith("agentsight_tokens")]
    assert [text for text in PLANTED if any(text in message for message in ours)] == []


def test_the_search_finds_what_is_there(tmp_path: Path, collector: Backend) -> None:
    """What is planted where it must not be is found, so that the test above can fail."""
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "deep" / "file").write_text(f"... {PROMPT} ...")
    with ConversationTracker(
        config=TokenConfig(destinations=f"http:{collector.url}"), conversation_id=PROMPT
    ) as tracker:
        tracker.track_token_usage(1)
        tracker.send_tracked_data(wait=20)

    assert ("file", PROMPT) in found_in(tmp_path / "data")
    assert planted_in(collector, *PLANTED) == [PROMPT]
