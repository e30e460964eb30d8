"""The tap on the OpenAI SDK's embeddings, with real clients."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from openai._base_client import AsyncAPIClient, SyncAPIClient

from agentsight_tokens import ConversationTracker, UsageRecord
from agentsight_tokens.meter import meter
from agentsight_tokens.testing import LoopbackProvider
from agentsight_tokens_openai.embeddings import install_embeddings_tap, uninstall_embeddings_tap
from agentsight_tokens_wire.errors import http_status, is_unbilled

NINE = "[[embedding=9]]"
MODEL = "text-embedding-3-small"


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    with LoopbackProvider(keep_alive=False) as provider:
        yield provider


@pytest.fixture
def client(provider: LoopbackProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=provider.openai_url, api_key="k", max_retries=0) as client:
        yield client


@pytest.fixture
def tap(tracker: ConversationTracker) -> Iterator[ConversationTracker]:
    """A tracker that the tap counts for."""
    install_embeddings_tap(meter)
    yield tracker
    uninstall_embeddings_tap()


def only(tracker: ConversationTracker) -> UsageRecord:
    (record,) = tracker.get_usage_history()
    return record


@pytest.mark.parametrize(
    "encoding", [{}, {"encoding_format": "float"}, {"encoding_format": "base64"}]
)
def test_create(tap: ConversationTracker, client: openai.OpenAI, encoding: Any) -> None:
    """A call is counted whatever encoding it asks for, and the response is left as it is."""
    response = client.embeddings.create(model=MODEL, input=NINE, **encoding)

    record = only(tap)
    assert len(response.data[0].embedding) > 0
    assert (record.embedding_tokens, record.total_tokens) == (9, 0)
    assert (record.operation, record.model, record.provider) == ("embedding", MODEL, "openai")
    assert (record.handler, record.status, record.source) == ("openai", "ok", "provider")


@pytest.mark.parametrize("way", ["plain", "raw", "streamed"])
def test_ways_to_call(tap: ConversationTracker, client: openai.OpenAI, way: str) -> None:
    """Raw and streamed responses are counted too."""
    if way == "plain":
        client.embeddings.create(model=MODEL, input=NINE)
    elif way == "raw":
        assert client.embeddings.with_raw_response.create(model=MODEL, input=NINE).parse().data
    else:
        with client.embeddings.with_streaming_response.create(model=MODEL, input=NINE) as response:
            assert response.parse().data

    assert only(tap).embedding_tokens == 9


@pytest.mark.parametrize("way", ["plain", "raw", "streamed"])
def test_ways_to_call_async(tap: ConversationTracker, provider: LoopbackProvider, way: str) -> None:
    """The asynchronous client's calls are counted in all the same ways."""

    async def call() -> None:
        async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="k") as client:
            if way == "plain":
                await client.embeddings.create(model=MODEL, input=NINE)
            elif way == "raw":
                await client.embeddings.with_raw_response.create(model=MODEL, input=NINE)
            else:
                streaming = client.embeddings.with_streaming_response
                async with streaming.create(model=MODEL, input=NINE) as response:
                    await response.parse()

    asyncio.run(call())

    assert only(tap).embedding_tokens == 9


def test_unread_response(tap: ConversationTracker, client: openai.OpenAI) -> None:
    """A response that nobody reads is a call that was left, and unreported."""
    with client.embeddings.with_streaming_response.create(model=MODEL, input=NINE):
        pass

    assert only(tap).unreported_reason == "cancelled"


def test_azure(tap: ConversationTracker, provider: LoopbackProvider) -> None:
    """A client of Azure names Azure as the provider."""
    with openai.AzureOpenAI(
        azure_endpoint=provider.url, api_key="k", api_version="2024-10-21"
    ) as client:
        client.embeddings.create(model=MODEL, input=NINE)

    assert only(tap).provider == "azure"


def test_refused_call(tap: ConversationTracker, client: openai.OpenAI) -> None:
    """A call with an HTTP error is a failed call that cost nothing."""
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model=MODEL, input="[[status=400]]")

    record = only(tap)
    assert (record.status, record.error_type) == ("error", "BadRequestError")
    assert (record.embedding_tokens, record.unreported_reason) == (0, None)


def test_broken_call(tap: ConversationTracker, client: openai.OpenAI) -> None:
    """A call whose answer never came is unreported."""
    with pytest.raises(openai.APIConnectionError):
        client.embeddings.create(model=MODEL, input="[[break=0]]")

    assert only(tap).unreported_reason == "error_without_usage"


def test_silent_server(tap: ConversationTracker, client: openai.OpenAI) -> None:
    """A server that reports no usage is unreported."""
    client.embeddings.create(model=MODEL, input="[[mode=never]]")

    assert only(tap).unreported_reason == "provider_silent"


def test_cancelled_call(tap: ConversationTracker, provider: LoopbackProvider) -> None:
    """A cancelled call is unreported."""

    async def cancel() -> None:
        async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="k") as client:
            call = client.embeddings.create(model=MODEL, input="[[delay=5]]")
            task = asyncio.ensure_future(call)
            while not provider.requests:
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(cancel())

    assert only(tap).status == "cancelled"


def test_installs_are_counted(tracker: ConversationTracker, client: openai.OpenAI) -> None:
    """Two installs count once, and the SDK is restored with the last uninstall."""
    originals = SyncAPIClient.request, AsyncAPIClient.request
    install_embeddings_tap(meter)
    install_embeddings_tap(meter)
    client.embeddings.create(model=MODEL, input=NINE)
    uninstall_embeddings_tap()
    client.embeddings.create(model=MODEL, input=NINE)
    uninstall_embeddings_tap()
    uninstall_embeddings_tap()
    client.embeddings.create(model=MODEL, input=NINE)

    assert tracker.get_usage().embedding_tokens == 18
    assert (SyncAPIClient.request, AsyncAPIClient.request) == originals


def test_method_from_before(tracker: ConversationTracker, provider: LoopbackProvider) -> None:
    """What holds on to a patched method after the end counts nothing and still works."""

    async def acall() -> Any:
        async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="k") as client:
            install_embeddings_tap(meter)
            create = client.embeddings.create
            uninstall_embeddings_tap()
            return await create(model=MODEL, input=NINE)

    with openai.OpenAI(base_url=provider.openai_url, api_key="k") as client:
        install_embeddings_tap(meter)
        create = client.embeddings.create
        uninstall_embeddings_tap()
        assert create(model=MODEL, input=NINE).data
    assert asyncio.run(acall()).data
    assert not tracker.get_usage_history()


def test_wrapper_of_others(tracker: ConversationTracker, client: openai.OpenAI) -> None:
    """A wrapper around ours stays when we go, and is not wrapped twice when we return."""
    original = SyncAPIClient.request
    install_embeddings_tap(meter)
    ours = SyncAPIClient.request

    def theirs(self: Any, *args: Any, **kwargs: Any) -> Any:
        return ours(self, *args, **kwargs)

    SyncAPIClient.request = theirs  # type: ignore[assignment]
    try:
        uninstall_embeddings_tap()
        install_embeddings_tap(meter)
        client.embeddings.create(model=MODEL, input=NINE)
        assert only(tracker).embedding_tokens == 9
        uninstall_embeddings_tap()
        assert SyncAPIClient.request is theirs
    finally:
        SyncAPIClient.request = original  # type: ignore[method-assign]


def test_surroundings(tracker: ConversationTracker, client: openai.OpenAI) -> None:
    """A framework tells what it knows of the call; its trouble is not the call's."""

    def known() -> dict[str, Any]:
        return {"tool_name": "t", "fallback_conversation_id": "c"}

    install_embeddings_tap(meter, surroundings=known)
    client.embeddings.create(model=MODEL, input=NINE)
    uninstall_embeddings_tap(surroundings=known)

    assert (only(tracker).tool_name, only(tracker).conversation_id) == ("t", "c")


@pytest.mark.parametrize("bad", [{"metadata": {"agentsight_user_id": ""}}, None])
def test_surroundings_in_trouble(
    tracker: ConversationTracker,
    client: openai.OpenAI,
    monkeypatch: pytest.MonkeyPatch,
    bad: dict[str, Any] | None,
) -> None:
    """Surroundings that raise, or name what cannot be, lose no call."""
    monkeypatch.setattr("agentsight_tokens.faults._raises", False)

    def known() -> dict[str, Any]:
        if bad is None:
            raise RuntimeError("no")
        return bad

    install_embeddings_tap(meter, surroundings=known)
    client.embeddings.create(model=MODEL, input=NINE)
    uninstall_embeddings_tap(surroundings=known)

    assert only(tracker).embedding_tokens == 9


def test_call_that_is_never_sent(tap: ConversationTracker, client: openai.OpenAI) -> None:
    """What the SDK itself refuses is no call."""
    with pytest.raises(TypeError):
        client.embeddings.create(input=NINE)  # type: ignore[call-arg]

    assert not tap.get_usage_history()


@pytest.mark.parametrize("body", [b"no JSON", b"[]", b'{"data": [], "usage": null}', b"\xff"])
def test_answer_without_usage(tap: ConversationTracker, body: bytes) -> None:
    """Whatever a server answers, the call is counted, as unreported."""
    transport = httpx.MockTransport(lambda _: httpx.Response(200, content=body))
    with (
        httpx.Client(transport=transport) as http,
        openai.OpenAI(base_url="http://server/v1", api_key="k", http_client=http) as client,
    ):
        client.embeddings.with_raw_response.create(model=MODEL, input=NINE)

    assert only(tap).unreported_reason == "provider_silent"


def test_install_before_the_import() -> None:
    """The SDK is patched when it is imported, or never if the tap is gone by then."""
    program = """
from agentsight_tokens.meter import meter
from agentsight_tokens_openai.embeddings import install_embeddings_tap, uninstall_embeddings_tap
install_embeddings_tap(meter)
if {stays}:
    install_embeddings_tap(meter)
uninstall_embeddings_tap()
from openai._base_client import SyncAPIClient
assert hasattr(SyncAPIClient.request, "__wrapped__") is {stays}
"""
    for stays in (True, False):
        subprocess.run([sys.executable, "-c", program.format(stays=stays)], check=True)


def test_errors() -> None:
    """The status is found under the names that the SDKs give it, and in what caused an error."""

    class Coded(Exception):
        code = 429

    class ConnectError(Exception):
        pass

    class Worded(Exception):
        code = "invalid"

    outer = ValueError("no")
    outer.__cause__ = ConnectError()
    loop = ValueError("loop")
    loop.__cause__ = loop

    assert http_status(Coded()) == 429
    assert http_status(Worded()) is None
    assert is_unbilled(Coded())
    assert is_unbilled(outer)
    assert not is_unbilled(loop)
    assert not is_unbilled(ValueError("no"))
