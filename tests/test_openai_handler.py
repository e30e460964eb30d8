"""The handler of the OpenAI SDK, with real clients on a real wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from dirty_equals import IsFloat
from openai._base_client import AsyncAPIClient, SyncAPIClient
from pydantic import BaseModel, ValidationError

from agentsight_tokens import ConversationTracker, TokenConfig, TokenUsage
from agentsight_tokens.meter import meter
from agentsight_tokens.testing import LoopbackProvider, Reply
from agentsight_tokens_openai import OpenAIHandler
from tests.openai_kit import MODEL, D, answering, asking, only, run


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    with LoopbackProvider(keep_alive=False) as provider:
        yield provider


@pytest.fixture
def client(provider: LoopbackProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=provider.openai_url, api_key="k", max_retries=0) as client:
        yield client


@pytest.fixture(autouse=True)
def handler(tracker: ConversationTracker) -> Iterator[OpenAIHandler]:
    handler = OpenAIHandler()
    handler.install(meter, TokenConfig())
    yield handler
    handler.uninstall()


class City(BaseModel):
    name: str


def test_chat(tracker: ConversationTracker, client: openai.OpenAI) -> None:
    """A chat completion is one record with everything that the answer told."""
    completion = client.chat.completions.create(**asking())

    record = only(tracker)
    assert completion.choices[0].message.content == "ok"
    assert record.usage == D
    assert (record.operation, record.model, record.provider) == ("chat", MODEL, "openai")
    assert (record.handler, record.status, record.source) == ("openai", "ok", "provider")
    assert (record.response_id, record.service_tier) == (completion.id, "default")
    assert record.duration_seconds == IsFloat(gt=0)


def test_chat_async(tracker: ConversationTracker, provider: LoopbackProvider) -> None:
    """The asynchronous client's calls are counted alike."""
    run(provider, lambda client: client.chat.completions.create(**asking()))

    assert only(tracker).usage == D


def test_scope(tracker: ConversationTracker, client: openai.OpenAI) -> None:
    """A call belongs to the scope in which it is sent."""
    with tracker.conversation("a", user_id="u"):
        client.chat.completions.create(**asking())

    record = only(tracker)
    assert (record.scope.conversation_id, record.scope.user_id) == ("a", "u")


def test_raw_response(tracker: ConversationTracker, client: openai.OpenAI) -> None:
    """A raw response counts once, whether it is parsed or not."""
    raw = client.chat.completions.with_raw_response.create(**asking())
    assert raw.parse().choices
    client.chat.completions.with_raw_response.create(**asking())

    assert [record.usage for record in tracker.get_usage_history()] == [D, D]


def test_raw_response_async(tracker: ConversationTracker, provider: LoopbackProvider) -> None:
    """The same for the asynchronous client."""

    async def work(client: openai.AsyncOpenAI) -> None:
        raw = await client.chat.completions.with_raw_response.create(**asking())
        assert raw.parse().choices

    run(provider, work)

    assert only(tracker).usage == D


@pytest.mark.parametrize("way", ["parse", "json", "iter_lines", "read twice"])
def test_streaming_response(tracker: ConversationTracker, client: openai.OpenAI, way: str) -> None:
    """A response whose body the program reads itself counts however it is read."""
    streaming = client.chat.completions.with_streaming_response
    with streaming.create(**asking()) as response:
        if way == "parse":
            assert response.parse().choices
        elif way == "json":
            assert response.json()
        elif way == "iter_lines":
            assert [*response.iter_lines()]
        else:
            assert response.read() == response.read()

    assert only(tracker).usage == D


def test_streaming_response_async(tracker: ConversationTracker, provider: LoopbackProvider) -> None:
    """The same for the asynchronous client."""

    async def work(client: openai.AsyncOpenAI) -> None:
        streaming = client.chat.completions.with_streaming_response
        async with streaming.create(**asking()) as response:
            assert (await response.parse()).choices

    run(provider, work)

    assert only(tracker).usage == D


def test_parse(tracker: ConversationTracker, client: openai.OpenAI) -> None:
    """A structured output is a call like any other."""
    parsed = client.chat.completions.parse(
        **asking('[[in=3 out=5 text={"name":"Bonn"}]]'), response_format=City
    )

    assert parsed.choices[0].message.parsed == City(name="Bonn")
    assert (only(tracker).input_tokens, only(tracker).output_tokens) == (3, 5)


def test_answer_that_does_not_parse(tracker: ConversationTracker, client: openai.OpenAI) -> None:
    """An answer that the SDK cannot parse was billed all the same."""
    with pytest.raises(ValidationError):
        client.chat.completions.parse(**asking(), response_format=City)

    record = only(tracker)
    assert record.usage == D
    assert (record.status, record.error_type) == ("error", "ValidationError")


def test_answer_that_was_cut_short(
    tracker: ConversationTracker, provider: LoopbackProvider, client: openai.OpenAI
) -> None:
    """A structured output that reached its limit was billed all the same."""
    provider.enqueue(Reply(finish_reason="length"))
    with pytest.raises(openai.LengthFinishReasonError):
        client.chat.completions.parse(**asking(), response_format=City)

    record = only(tracker)
    assert (record.usage, record.error_type) == (D, "LengthFinishReasonError")


def test_choices(tracker: ConversationTracker, client: openai.OpenAI) -> None:
    """Several choices share one usage."""
    client.chat.completions.create(**asking(n=3))

    assert (only(tracker).input_tokens, only(tracker).output_tokens) == (11, 21)


def test_legacy_completion(tracker: ConversationTracker, client: openai.OpenAI) -> None:
    """A legacy completion of several prompts is one call."""
    client.completions.create(
        model="gpt-3.5-turbo-instruct", prompt=["[[in=1 out=2]]", "[[in=3 out=4]]"]
    )

    record = only(tracker)
    assert (record.operation, record.input_tokens, record.output_tokens) == ("completion", 4, 6)


def test_responses(tracker: ConversationTracker, client: openai.OpenAI) -> None:
    """A response of the Responses API is counted with its id."""
    response = client.responses.create(model=MODEL, input="hi")

    record = only(tracker)
    assert record.usage == D
    assert (record.operation, record.response_id) == ("chat", response.id)


def test_responses_parse(tracker: ConversationTracker, client: openai.OpenAI) -> None:
    """So is one that is parsed."""
    client.responses.parse(model=MODEL, input='[[in=3 text={"name":"Bonn"}]]', text_format=City)

    assert only(tracker).input_tokens == 3


@pytest.mark.parametrize("status", ["failed", "incomplete"])
def test_responses_that_failed(
    tracker: ConversationTracker, provider: LoopbackProvider, client: openai.OpenAI, status: Any
) -> None:
    """A response that failed or is incomplete is counted with what it was billed."""
    provider.enqueue(Reply(response_status=status, billed=True))
    client.responses.create(model=MODEL, input="hi")

    assert only(tracker).usage == D


def test_searches(tracker: ConversationTracker) -> None:
    """Searches of a response are counted besides its tokens."""
    items = [{"type": "web_search_call", "action": {"type": "search"}}] * 2
    body = {
        "id": "r",
        "object": "response",
        "model": MODEL,
        "output": items,
        "usage": {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7},
    }
    with answering(httpx.Response(200, json=body)) as client:
        client.responses.with_raw_response.create(model=MODEL, input="hi")

    assert only(tracker).usage.web_search_requests == 2


def test_media(tracker: ConversationTracker) -> None:
    """Images and transcriptions are counted where they report tokens."""
    image = {"usage": {"input_tokens": 2, "output_tokens": 9, "total_tokens": 11}, "data": []}
    spoken = {
        "text": "hi",
        "usage": {
            "type": "tokens",
            "input_tokens": 5,
            "output_tokens": 1,
            "total_tokens": 6,
            "input_token_details": {"audio_tokens": 5},
        },
    }
    with answering(httpx.Response(200, json=image), httpx.Response(200, json=spoken)) as client:
        client.images.generate(model="gpt-image-1", prompt="a cat")
        client.audio.transcriptions.create(model="gpt-4o-transcribe", file=b"sound")

    first, second = tracker.get_usage_history()
    assert (first.operation, first.usage.image_output_tokens) == ("other", 9)
    assert (second.model, second.usage.audio_input_tokens) == ("gpt-4o-transcribe", 5)


def test_other_requests(tracker: ConversationTracker, client: openai.OpenAI) -> None:
    """What calls no model is not counted."""
    assert client.models.list().data
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve("resp_unknown")

    assert not tracker.get_usage_history()


def test_azure(tracker: ConversationTracker, provider: LoopbackProvider) -> None:
    """A client of Azure names Azure as the provider."""
    with openai.AzureOpenAI(
        azure_endpoint=provider.url, api_key="k", api_version="2024-10-21"
    ) as client:
        client.chat.completions.create(**asking())

    assert (only(tracker).provider, only(tracker).usage) == ("azure", D)


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("https://api.deepseek.com", "deepseek"),
        ("https://api.x.ai/v1", "xai"),
        ("https://mine.openai.azure.com/openai/v1/", "azure"),
        ("http://10.1.2.3/v1", None),
    ],
)
def test_other_providers(tracker: ConversationTracker, address: str, name: str | None) -> None:
    """The address tells who answers, where it can."""
    body = {"model": "m", "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    with answering(httpx.Response(200, json=body), base_url=address) as client:
        client.chat.completions.create(**asking())

    assert (only(tracker).provider, only(tracker).total_tokens) == (name, 3)


def test_users_own_clients(tracker: ConversationTracker, provider: LoopbackProvider) -> None:
    """A subclass with a `request` of its own, and a request by path, count once each."""

    class Client(openai.OpenAI):
        def request(self, *args: Any, **kwargs: Any) -> Any:
            return super().request(*args, **kwargs)

    with Client(base_url=provider.openai_url, api_key="k") as client:
        client.chat.completions.create(**asking())
        client.post("/chat/completions", body=asking(), cast_to=object)
        client.with_options(timeout=5).chat.completions.create(**asking())

    assert [record.usage for record in tracker.get_usage_history()] == [D, D, D]


def test_other_instruments(
    tracker: ConversationTracker,
    handler: OpenAIHandler,
    client: openai.OpenAI,
    provider: LoopbackProvider,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An instrument that wrapped the client's method before keeps none of its calls from us."""
    handler.uninstall()
    before, before_async = SyncAPIClient.request, AsyncAPIClient.request

    def theirs(self: Any, *args: Any, **kwargs: Any) -> Any:
        return before(self, *args, **kwargs)

    async def theirs_async(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await before_async(self, *args, **kwargs)

    monkeypatch.setattr(openai.OpenAI, "request", theirs, raising=False)
    monkeypatch.setattr(openai.AsyncOpenAI, "request", theirs_async, raising=False)
    handler.install(meter, TokenConfig())
    client.chat.completions.create(**asking())
    run(provider, lambda client: client.chat.completions.create(**asking()))
    handler.uninstall()

    assert [record.usage for record in tracker.get_usage_history()] == [D, D]
    assert vars(openai.OpenAI)["request"] is theirs


def test_client_that_sends_nothing(tracker: ConversationTracker, handler: OpenAIHandler) -> None:
    """A user's own client that answers by itself is not counted."""
    handler.uninstall()

    class Canned(openai.OpenAI):
        def request(self, *args: Any, **kwargs: Any) -> Any:
            return "canned"

    handler.install(meter, TokenConfig())
    with Canned(api_key="k") as client:
        assert client.chat.completions.create(**asking()) == "canned"

    assert not tracker.get_usage_history()


def test_refused_call(tracker: ConversationTracker, client: openai.OpenAI) -> None:
    """A call with an HTTP error is a failed call that cost nothing."""
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(**asking("[[status=400]]"))

    record = only(tracker)
    assert (record.status, record.error_type) == ("error", "BadRequestError")
    assert (record.total_tokens, record.unreported_reason) == (0, None)


def test_retries(tracker: ConversationTracker, provider: LoopbackProvider) -> None:
    """The SDK's retries are one call."""
    provider.enqueue(Reply(status=500), Reply(status=429, retry_after=0.01))
    with openai.OpenAI(base_url=provider.openai_url, api_key="k", max_retries=2) as client:
        client.chat.completions.create(**asking())

    assert (provider.requests, only(tracker).usage) == (3, D)


def test_unreachable_server(tracker: ConversationTracker) -> None:
    """A call that never arrived cost nothing."""
    with (
        openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="k", max_retries=0) as client,
        pytest.raises(openai.APIConnectionError),
    ):
        client.chat.completions.create(**asking())

    record = only(tracker)
    assert (record.status, record.total_tokens, record.unreported_reason) == ("error", 0, None)


@pytest.mark.parametrize("content", ["[[break=0]]", "[[delay=5]]"])
def test_answer_that_never_came(
    tracker: ConversationTracker, client: openai.OpenAI, content: str
) -> None:
    """A call whose answer got lost, or came too late, is unreported."""
    with pytest.raises(openai.APIConnectionError):
        client.chat.completions.create(**asking(content), timeout=0.2)

    assert only(tracker).unreported_reason == "error_without_usage"


def test_cancelled_call(tracker: ConversationTracker, provider: LoopbackProvider) -> None:
    """A call that was cancelled before its answer came is unreported."""

    async def work(client: openai.AsyncOpenAI) -> None:
        call = client.chat.completions.create(**asking("[[delay=5]]"))
        task = asyncio.ensure_future(call)
        while not provider.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(provider, work)

    record = only(tracker)
    assert (record.status, record.unreported_reason) == ("cancelled", "cancelled")


def test_silent_server(tracker: ConversationTracker, client: openai.OpenAI) -> None:
    """A server that reports nothing, or zeros, is unreported."""
    zeros = {"model": "m", "usage": {"prompt_tokens": 0, "completion_tokens": 0}}
    client.chat.completions.create(**asking("[[mode=never]]"))
    with answering(httpx.Response(200, json=zeros)) as other:
        other.chat.completions.create(**asking())

    reasons = [record.unreported_reason for record in tracker.get_usage_history()]
    assert reasons == ["provider_silent", "provider_silent"]


def test_compressed_body(tracker: ConversationTracker) -> None:
    """A compressed body that the program reads itself is read along."""
    import gzip

    body = {"model": MODEL, "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    packed = httpx.Response(
        200,
        headers={"content-encoding": "gzip", "content-type": "application/json"},
        stream=httpx.ByteStream(gzip.compress(json.dumps(body).encode())),
    )
    with answering(packed) as client:
        streaming = client.chat.completions.with_streaming_response
        with streaming.create(**asking()) as response:
            assert response.json() == body

    assert only(tracker).total_tokens == 3


def test_install_and_uninstall(tracker: ConversationTracker, client: openai.OpenAI) -> None:
    """Installs are counted, the SDK is restored, and a handler installs once."""
    first, second = OpenAIHandler(), OpenAIHandler()
    first.install(meter, TokenConfig())
    first.install(meter, TokenConfig())
    second.install(meter, TokenConfig())
    client.chat.completions.create(**asking())
    first.uninstall()
    first.uninstall()
    second.uninstall()
    client.chat.completions.create(**asking())

    assert tracker.get_usage().request_count == 2


def test_method_from_before(
    tracker: ConversationTracker, handler: OpenAIHandler, client: openai.OpenAI
) -> None:
    """What holds on to a patched method after the end counts nothing and still works."""
    request = SyncAPIClient.request
    process = SyncAPIClient._process_response
    handler.uninstall()
    assert SyncAPIClient.request is not request

    options = openai._models.FinalRequestOptions.construct(
        method="post", url="/chat/completions", json_data=asking()
    )
    assert request(client, object, options=options, stream=False)
    assert SyncAPIClient._process_response is not process
    assert not tracker.get_usage_history()


@pytest.mark.parametrize(
    "place",
    [
        "agentsight_tokens_openai.requests.endpoint_of",
        "agentsight_tokens_wire.exchange.read_json",
        "agentsight_tokens_wire.streams.splitter_for",
        "agentsight_tokens.meter.Meter.begin_on_wire",
        "agentsight_tokens.open_call.OpenCall.finish",
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_faults_of_ours(
    client: openai.OpenAI, monkeypatch: pytest.MonkeyPatch, place: str, stream: bool
) -> None:
    """Trouble of ours never reaches the program."""
    monkeypatch.setattr("agentsight_tokens.faults._raises", False)

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(place)

    monkeypatch.setattr(place, fail)
    with client.chat.completions.with_streaming_response.create(**asking()) as response:
        assert response.json()
    result: Any = client.chat.completions.create(**asking(stream=stream))

    if stream:
        assert "".join(chunk.choices[0].delta.content or "" for chunk in result) == "ok"
    else:
        assert result.choices[0].message.content == "ok"
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(**asking("[[status=400]]", stream=stream))


def test_usage_is_what_was_billed(
    tracker: ConversationTracker, provider: LoopbackProvider, client: openai.OpenAI
) -> None:
    """The sum of everything is the provider's ledger."""
    for number in range(1, 6):
        content = f"[[in={number} out={2 * number}]]"
        client.chat.completions.create(**asking(content))
        client.responses.create(model=MODEL, input=content)
        [*client.chat.completions.create(**asking(content, stream=True))]

    billed: TokenUsage = provider.billed()
    assert tracker.get_usage().input_tokens == billed.input_tokens == 45
    assert tracker.get_usage().output_tokens == billed.output_tokens == 90
