"""The handler of Google's Gen AI SDK, with real clients on a real wire."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from dirty_equals import IsFloat

from agentsight_tokens import ConversationTracker, TokenConfig, TokenUsage, UsageRecord
from agentsight_tokens.meter import meter
from agentsight_tokens.testing import LoopbackProvider, Reply
from agentsight_tokens_google import GoogleHandler

genai = pytest.importorskip("google.genai")

from google.genai import errors, types  # noqa: E402
from google.genai._api_client import BaseApiClient  # noqa: E402

MODEL = "gemini-2.5-flash"
D = TokenUsage(
    input_tokens=11, output_tokens=7, total_tokens=18, cache_read_tokens=4, reasoning_tokens=2
)
"""What a prompt without a directive uses."""

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:google")


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    with LoopbackProvider(keep_alive=False) as provider:
        yield provider


def client_of(provider: LoopbackProvider) -> Any:
    options = types.HttpOptions(base_url=provider.gemini_url)
    return genai.Client(api_key="k", http_options=options)


@pytest.fixture
def client(provider: LoopbackProvider) -> Iterator[Any]:
    with client_of(provider) as client:
        yield client


@pytest.fixture(autouse=True)
def handler(tracker: ConversationTracker) -> Iterator[GoogleHandler]:
    handler = GoogleHandler()
    handler.install(meter, TokenConfig())
    yield handler
    handler.uninstall()


def only(tracker: ConversationTracker) -> UsageRecord:
    (record,) = tracker.get_usage_history()
    return record


def run(provider: LoopbackProvider, work: Callable[[Any], Any]) -> Any:
    async def main() -> Any:
        async with client_of(provider).aio as client:
            return await work(client)

    return asyncio.run(main())


def answer(client: Any, monkeypatch: pytest.MonkeyPatch, *bodies: Any) -> None:
    """Let the client get these bodies, one each."""
    left = list(bodies)

    def request_once(self: Any, *args: Any, **kwargs: Any) -> Any:
        return genai._api_client.HttpResponse({}, [json.dumps(left.pop(0))])

    monkeypatch.setattr(BaseApiClient, "_request_once", request_once)


def test_generate(tracker: ConversationTracker, client: Any) -> None:
    """A generated content is one record with everything that the answer told."""
    response = client.models.generate_content(model=MODEL, contents="hi")

    record = only(tracker)
    assert response.text == "ok"
    assert record.usage == D
    assert (record.operation, record.model, record.provider) == ("chat", MODEL, "gemini")
    assert (record.handler, record.status) == ("google-genai", "ok")
    assert record.response_id == response.response_id


def test_generate_async(tracker: ConversationTracker, provider: LoopbackProvider) -> None:
    """Asynchronous calls are counted alike."""
    run(provider, lambda client: client.models.generate_content(model=MODEL, contents="hi"))

    assert only(tracker).usage == D


def test_tool_results(
    tracker: ConversationTracker, provider: LoopbackProvider, client: Any
) -> None:
    """The tokens of the provider's own tools are input."""
    provider.enqueue(Reply(input_tokens=20, output_tokens=5, tool_use_prompt_tokens=8))
    client.models.generate_content(model=MODEL, contents="hi")

    assert (only(tracker).input_tokens, only(tracker).output_tokens) == (20, 5)


def test_searches(
    tracker: ConversationTracker, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Searches are counted besides the tokens."""
    body = {
        "candidates": [{"groundingMetadata": {"webSearchQueries": ["a", "b"]}}],
        "usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 3},
    }
    answer(client, monkeypatch, body)
    client.models.generate_content(model=MODEL, contents="hi")

    assert only(tracker).usage.web_search_requests == 2


def test_stream(tracker: ConversationTracker, client: Any) -> None:
    """A stream is counted when it ends."""
    chunks = [*client.models.generate_content_stream(model=MODEL, contents="hi")]

    record = only(tracker)
    assert "".join(chunk.text or "" for chunk in chunks) == "ok"
    assert (record.usage, record.status) == (D, "ok")
    assert record.time_to_first_token_seconds == IsFloat(gt=0)


def test_stream_async(tracker: ConversationTracker, provider: LoopbackProvider) -> None:
    """Asynchronous streams are counted alike."""

    async def work(client: Any) -> None:
        async for _ in await client.models.generate_content_stream(model=MODEL, contents="hi"):
            pass

    run(provider, work)

    assert only(tracker).usage == D


def test_chats(tracker: ConversationTracker, client: Any) -> None:
    """A chat's messages count once each."""
    chat = client.chats.create(model=MODEL)
    chat.send_message("hi")
    [*chat.send_message_stream("hi")]

    assert [record.usage for record in tracker.get_usage_history()] == [D, D]


def test_automatic_functions(tracker: ConversationTracker, client: Any) -> None:
    """Each request of the SDK's own loop over tools counts."""

    def lookup() -> str:
        """Look something up."""
        return "found"

    client.models.generate_content(
        model=MODEL,
        contents="[[in=5 out=1 tool=lookup]]",
        config=types.GenerateContentConfig(tools=[lookup]),
    )

    assert [record.input_tokens for record in tracker.get_usage_history()] == [5, 5]


def test_closed_early(tracker: ConversationTracker, client: Any) -> None:
    """A stream that is left has used what it told."""
    stream = client.models.generate_content_stream(
        model=MODEL, contents="[[in=9 out=8 chunks=4 hold=2]]"
    )
    next(stream)
    stream.close()
    del stream
    gc.collect()

    record = only(tracker)
    assert (record.status, record.input_tokens, record.output_tokens) == ("partial", 9, 2)


def test_cancelled(tracker: ConversationTracker, provider: LoopbackProvider) -> None:
    """A stream whose task is cancelled has used what it told."""

    async def work(client: Any) -> None:
        begun = asyncio.Event()

        async def read() -> None:
            stream = await client.models.generate_content_stream(
                model=MODEL, contents="[[in=9 out=8 chunks=4 hold=2]]"
            )
            async for _ in stream:
                begun.set()

        task = asyncio.ensure_future(read())
        await begun.wait()
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(provider, work)

    assert (only(tracker).status, only(tracker).input_tokens) == ("partial", 9)


def test_broken(tracker: ConversationTracker, client: Any) -> None:
    """A stream whose connection broke has used what it told."""
    stream = client.models.generate_content_stream(
        model=MODEL, contents="[[in=9 out=8 chunks=4 break=2]]"
    )
    # The class is that of whichever HTTP library is there.
    with pytest.raises(Exception, match=r".") as caught:
        list(stream)

    record = only(tracker)
    assert (record.status, record.input_tokens, record.output_tokens) == ("partial", 9, 4)
    assert record.error_type == caught.type.__name__


@pytest.mark.parametrize("is_stream", [False, True])
def test_refused(tracker: ConversationTracker, client: Any, is_stream: bool) -> None:
    """A call with an HTTP error is a failed call that cost nothing."""
    with pytest.raises(errors.ClientError):
        if is_stream:
            [*client.models.generate_content_stream(model=MODEL, contents="[[status=400]]")]
        else:
            client.models.generate_content(model=MODEL, contents="[[status=400]]")

    record = only(tracker)
    assert (record.status, record.error_type) == ("error", "ClientError")
    assert (record.total_tokens, record.unreported_reason) == (0, None)


@pytest.mark.parametrize("is_stream", [False, True])
def test_refused_async(
    tracker: ConversationTracker, provider: LoopbackProvider, is_stream: bool
) -> None:
    """The same for asynchronous calls."""

    async def work(client: Any) -> None:
        method = client.models.generate_content
        if is_stream:
            method = client.models.generate_content_stream
        result = await method(model=MODEL, contents="[[status=400]]")
        async for _ in result:
            pass

    with pytest.raises(errors.ClientError):
        run(provider, work)

    assert (only(tracker).status, only(tracker).total_tokens) == ("error", 0)


def test_retries(tracker: ConversationTracker, provider: LoopbackProvider) -> None:
    """The SDK's retries are one call."""
    provider.enqueue(Reply(status=503))
    options = types.HttpOptions(
        base_url=provider.gemini_url,
        retry_options=types.HttpRetryOptions(attempts=2, initial_delay=0.01),
    )
    with genai.Client(api_key="k", http_options=options) as client:
        client.models.generate_content(model=MODEL, contents="hi")

    assert (provider.requests, only(tracker).usage) == (2, D)


def test_silent_server(tracker: ConversationTracker, client: Any) -> None:
    """A server that reports nothing is unreported."""
    client.models.generate_content(model=MODEL, contents="[[mode=never]]")
    [*client.models.generate_content_stream(model=MODEL, contents="[[mode=never]]")]

    reasons = [record.unreported_reason for record in tracker.get_usage_history()]
    assert reasons == ["provider_silent", "stream_without_usage"]


def test_embeddings(
    tracker: ConversationTracker, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Embeddings are counted where the provider tells their tokens."""
    values = [{"values": [0.5]}]
    answer(
        client,
        monkeypatch,
        {"embeddings": values, "usageMetadata": {"promptTokenCount": 4}},
        {"embeddings": values},
    )
    for _ in range(2):
        client.models.embed_content(model="gemini-embedding-001", contents="hi")

    told, untold = tracker.get_usage_history()
    assert (told.operation, told.embedding_tokens, told.total_tokens) == ("embedding", 4, 0)
    assert told.model == "gemini-embedding-001"
    assert untold.unreported_reason == "provider_silent"


def test_vertex(tracker: ConversationTracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client of Vertex AI names Vertex AI as the provider."""
    embedded = {"embeddings": {"values": [0.5], "statistics": {"token_count": 3}}}
    with genai.Client(vertexai=True, api_key="k") as client:
        answer(
            client,
            monkeypatch,
            {"usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 3}},
            {"predictions": [embedded, embedded]},
        )
        client.models.generate_content(model=MODEL, contents="hi")
        client._api_client.request(
            "post", "publishers/google/models/text-embedding-005:predict", {}
        )

    first, second = tracker.get_usage_history()
    assert (first.provider, first.input_tokens) == ("vertex_ai", 3)
    assert (second.provider, second.embedding_tokens) == ("vertex_ai", 6)


def test_other_requests(tracker: ConversationTracker, client: Any) -> None:
    """What calls no model is not counted."""
    with pytest.raises(errors.ClientError):
        client.models.count_tokens(model=MODEL, contents="hi")

    assert not tracker.get_usage_history()


def test_older_sdk(tracker: ConversationTracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that comes decoded, or not at all, is read as well."""
    body = {"usageMetadata": {"promptTokenCount": 3, "totalTokenCount": 3}}
    bodies = [body, None]
    monkeypatch.setattr(BaseApiClient, "_request_once", None)

    class Client(BaseApiClient):
        vertexai = False

        def __init__(self) -> None:
            pass

        def __del__(self) -> None:
            pass

        def _build_request(self, *args: Any) -> Any:
            return None

        def _request(self, *args: Any, **kwargs: Any) -> Any:
            class Response:
                headers = None
                response_stream = (bodies.pop(0),)

            return Response()

    monkeypatch.setattr(genai._api_client, "SdkHttpResponse", lambda headers, body: body)
    client = Client()
    for _ in range(2):
        client.request(http_method="post", path=f"models/{MODEL}:generateContent", request_dict={})

    told, untold = tracker.get_usage_history()
    assert (told.input_tokens, untold.unreported_reason) == (3, "provider_silent")


def test_install_and_uninstall(
    tracker: ConversationTracker, handler: GoogleHandler, client: Any
) -> None:
    """A handler installs once, its end restores the SDK, and what is left below does nothing."""
    ours = BaseApiClient.request
    handler.install(meter, TokenConfig())
    handler.uninstall()
    handler.uninstall()

    assert BaseApiClient.request is not ours
    path = f"models/{MODEL}:generateContent"
    contents = {"contents": [{"parts": [{"text": "hi"}]}]}
    assert ours(client._api_client, "post", path, contents).body
    assert not tracker.get_usage_history()


@pytest.mark.parametrize(
    "place",
    [
        "agentsight_tokens_google.requests.endpoint_of",
        "agentsight_tokens_google.requests._body",
        "agentsight_tokens.open_call.OpenCall.finish",
    ],
)
def test_faults_of_ours(client: Any, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    """Trouble of ours never reaches the program."""
    monkeypatch.setattr("agentsight_tokens.faults._raises", False)

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(place)

    monkeypatch.setattr(place, fail)

    assert client.models.generate_content(model=MODEL, contents="hi").text == "ok"
    assert [*client.models.generate_content_stream(model=MODEL, contents="hi")]
    with pytest.raises(errors.ClientError):
        client.models.generate_content(model=MODEL, contents="[[status=400]]")


def test_absent_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where not even Google's namespace is there, the handler is skipped."""
    from agentsight_tokens.handlers import is_installed

    assert is_installed("google.genai")
    assert not is_installed("agentsight_tokens.no_module")
    assert not is_installed("no_package.no_module")
