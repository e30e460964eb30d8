"""The handler of the Anthropic SDK, with real clients on a real wire."""

from __future__ import annotations

import asyncio
import gc
import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import httpx
import pytest
from anthropic._base_client import SyncAPIClient
from dirty_equals import IsFloat
from pydantic import BaseModel

from agentsight_tokens import ConversationTracker, TokenConfig, TokenUsage, UsageRecord
from agentsight_tokens.meter import meter
from agentsight_tokens.testing import LoopbackProvider, Reply
from agentsight_tokens_anthropic import AnthropicHandler, batches

MODEL = "claude-haiku-4-5"
D = TokenUsage(
    input_tokens=11, output_tokens=7, total_tokens=18, cache_read_tokens=4, reasoning_tokens=2
)
"""What a prompt without a directive uses."""


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    with LoopbackProvider(keep_alive=False) as provider:
        yield provider


@pytest.fixture
def client(provider: LoopbackProvider) -> Iterator[anthropic.Anthropic]:
    url = provider.anthropic_url
    with anthropic.Anthropic(base_url=url, api_key="k", max_retries=0) as client:
        yield client


@pytest.fixture(autouse=True)
def handler(tracker: ConversationTracker) -> Iterator[AnthropicHandler]:
    handler = AnthropicHandler()
    handler.install(meter, TokenConfig())
    yield handler
    handler.uninstall()


class City(BaseModel):
    name: str


def asking(content: str = "hi", **more: Any) -> Any:
    messages = [{"role": "user", "content": content}]
    return {"model": MODEL, "max_tokens": 99, "messages": messages, **more}


def only(tracker: ConversationTracker) -> UsageRecord:
    (record,) = tracker.get_usage_history()
    return record


def run(provider: LoopbackProvider, work: Callable[[anthropic.AsyncAnthropic], Any]) -> Any:
    async def main() -> Any:
        url = provider.anthropic_url
        async with anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=0) as client:
            return await work(client)

    return asyncio.run(main())


@contextmanager
def answering(
    *answers: httpx.Response, kind: Callable[..., Any] = anthropic.Anthropic, **options: Any
) -> Iterator[Any]:
    """Yield a client that gets given answers, one each."""
    left = list(answers)
    options = {"base_url": "http://server", "max_retries": 0, **options}
    with (
        httpx.Client(transport=httpx.MockTransport(lambda _: left.pop(0))) as http,
        kind(http_client=http, **options) as client,
    ):
        yield client


def message(tokens: int = 5, **more: Any) -> dict[str, Any]:
    usage = {"input_tokens": tokens, "output_tokens": 1}
    return {"id": "msg_1", "type": "message", "model": MODEL, "content": [], "usage": usage, **more}


def test_message(tracker: ConversationTracker, client: anthropic.Anthropic) -> None:
    """A message is one record with everything that the answer told."""
    answer = client.messages.create(**asking())

    record = only(tracker)
    assert record.usage == D
    assert (record.operation, record.model, record.provider) == ("chat", MODEL, "anthropic")
    assert (record.handler, record.status) == ("anthropic", "ok")
    assert (record.response_id, record.service_tier) == (answer.id, "standard")


def test_message_async(tracker: ConversationTracker, provider: LoopbackProvider) -> None:
    """The asynchronous client's calls are counted alike."""
    run(provider, lambda client: client.messages.create(**asking()))

    assert only(tracker).usage == D


def test_cache(
    tracker: ConversationTracker, provider: LoopbackProvider, client: anthropic.Anthropic
) -> None:
    """Cache reads and writes are part of the input, in a stream as in a message."""
    content = "[[in=20 out=7 cached=4 written=5 written_1h=2]]"
    client.messages.create(**asking(content))
    [*client.messages.create(**asking(content, stream=True))]

    for record in tracker.get_usage_history():
        usage = record.usage
        assert (usage.input_tokens, usage.output_tokens, usage.cache_read_tokens) == (20, 7, 4)
        assert (usage.cache_creation_tokens, usage.cache_creation_1h_tokens) == (5, 2)


@pytest.mark.parametrize("way", ["raw", "streaming", "beta", "parse", "path"])
def test_ways_to_call(tracker: ConversationTracker, client: anthropic.Anthropic, way: str) -> None:
    """Every way to call counts once."""
    content = '[[in=11 out=7 cached=4 reasoning=2 text={"name":"Bonn"}]]'
    if way == "raw":
        assert client.messages.with_raw_response.create(**asking(content)).parse()
    elif way == "streaming":
        with client.messages.with_streaming_response.create(**asking(content)) as response:
            assert response.parse()
    elif way == "beta":
        client.beta.messages.create(**asking(content))
    elif way == "parse":
        parsed = client.messages.parse(**asking(content), output_format=City)
        assert parsed.parsed_output == City(name="Bonn")
    else:
        client.post("/v1/messages", body=asking(content), cast_to=object)

    assert only(tracker).usage == D


@pytest.mark.parametrize("mode", ["normal", "output_only"])
@pytest.mark.parametrize("way", ["create", "stream", "beta"])
def test_stream(
    tracker: ConversationTracker, client: anthropic.Anthropic, mode: str, way: str
) -> None:
    """The first event's counts hold where the last one leaves them out."""
    content = f"[[in=11 out=7 cached=4 reasoning=2 mode={mode} deltas=2]]"
    if way == "create":
        [*client.messages.create(**asking(content, stream=True))]
    else:
        helper: Any = client.messages if way == "stream" else client.beta.messages
        with helper.stream(**asking(content)) as stream:
            assert "".join(stream.text_stream) == "ok"

    record = only(tracker)
    assert (record.input_tokens, record.output_tokens, record.cached_tokens) == (11, 7, 4)
    assert (record.status, record.model) == ("ok", MODEL)
    assert record.time_to_first_token_seconds == IsFloat(gt=0)


def test_stream_async(tracker: ConversationTracker, provider: LoopbackProvider) -> None:
    """Asynchronous streams are counted alike."""

    async def work(client: anthropic.AsyncAnthropic) -> None:
        async for _ in await client.messages.create(**asking(stream=True)):
            pass
        async with client.messages.stream(**asking()) as stream:
            assert await stream.get_final_text() == "ok"

    run(provider, work)

    assert [record.usage for record in tracker.get_usage_history()] == [D, D]


def test_closed_early(tracker: ConversationTracker, client: anthropic.Anthropic) -> None:
    """A stream that is left has used what its first event told."""
    with client.messages.stream(**asking("[[in=9 out=8 hold=1]]")) as stream:
        next(stream.text_stream)

    record = only(tracker)
    assert (record.status, record.input_tokens, record.output_tokens) == ("partial", 9, 1)


def test_left_after_the_end(tracker: ConversationTracker, client: anthropic.Anthropic) -> None:
    """A stream whose usage is complete is complete, read to its last byte or not."""
    with client.messages.create(**asking(stream=True)) as stream:
        for event in stream:
            if event.type == "message_delta":
                break

    assert (only(tracker).status, only(tracker).usage) == ("ok", D)


def test_abandoned(tracker: ConversationTracker, client: anthropic.Anthropic) -> None:
    """A stream that nobody holds any more is counted when it is collected."""
    stream = client.messages.create(**asking("[[hold=1]]", stream=True))
    next(stream)
    del stream
    gc.collect()

    assert (only(tracker).status, only(tracker).input_tokens) == ("partial", 11)


def test_cancelled(tracker: ConversationTracker, provider: LoopbackProvider) -> None:
    """A stream whose task is cancelled has used what it told."""

    async def work(client: anthropic.AsyncAnthropic) -> None:
        begun = asyncio.Event()

        async def read() -> None:
            async for _ in await client.messages.create(**asking("[[hold=1]]", stream=True)):
                begun.set()

        task = asyncio.ensure_future(read())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(provider, work)

    assert (only(tracker).status, only(tracker).input_tokens) == ("partial", 11)
    assert only(tracker).error_type == "CancelledError"


def test_broken(tracker: ConversationTracker, client: anthropic.Anthropic) -> None:
    """A stream whose connection broke has used what it told."""
    with pytest.raises(httpx.RemoteProtocolError):
        [*client.messages.create(**asking("[[in=9 break=1]]", stream=True))]

    assert (only(tracker).status, only(tracker).input_tokens) == ("partial", 9)


def test_error_in_the_stream(tracker: ConversationTracker) -> None:
    """An error event ends the call, which has used what the first event told."""
    begun = {"type": "message_start", "message": message(tokens=9)}
    failed = {"type": "error", "error": {"type": "overloaded_error", "message": "busy"}}
    lines = [f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in (begun, failed)]
    headers = {"content-type": "text/event-stream"}
    answers = [
        httpx.Response(200, headers=headers, stream=httpx.ByteStream("".join(each).encode()))
        for each in (lines, lines[1:])
    ]
    with answering(*answers, api_key="k") as client:
        for _ in answers:
            with pytest.raises(anthropic.APIStatusError):
                [*client.messages.create(**asking(stream=True))]

    told, untold = tracker.get_usage_history()
    assert (told.status, told.input_tokens) == ("partial", 9)
    assert (untold.status, untold.unreported_reason) == ("error", "error_without_usage")
    assert told.error_type == untold.error_type == "APIStatusError"


def test_silent_server(tracker: ConversationTracker, client: anthropic.Anthropic) -> None:
    """A usage of zeros tells nothing."""
    client.messages.create(**asking("[[mode=never]]"))
    [*client.messages.create(**asking("[[mode=never]]", stream=True))]

    reasons = [record.unreported_reason for record in tracker.get_usage_history()]
    assert reasons == ["provider_silent", "stream_without_usage"]


def test_refused_call(tracker: ConversationTracker, client: anthropic.Anthropic) -> None:
    """A call with an HTTP error is a failed call that cost nothing."""
    with pytest.raises(anthropic.BadRequestError):
        client.messages.create(**asking("[[status=400]]"))

    record = only(tracker)
    assert (record.status, record.error_type) == ("error", "BadRequestError")
    assert (record.total_tokens, record.unreported_reason) == (0, None)


def test_retries(tracker: ConversationTracker, provider: LoopbackProvider) -> None:
    """The SDK's retries are one call."""
    provider.enqueue(Reply(status=529, retry_after=0.01))
    url = provider.anthropic_url
    with anthropic.Anthropic(base_url=url, api_key="k", max_retries=1) as client:
        client.messages.create(**asking())

    assert (provider.requests, only(tracker).usage) == (2, D)


def test_other_requests(tracker: ConversationTracker, client: anthropic.Anthropic) -> None:
    """Counting tokens calls no model."""
    client.messages.count_tokens(model=MODEL, messages=asking()["messages"])

    assert not tracker.get_usage_history()


def test_advisors(tracker: ConversationTracker) -> None:
    """What another model used within the answer is a record of its own."""
    usage = {
        "input_tokens": 5,
        "output_tokens": 1,
        "iterations": [
            {"type": "message", "input_tokens": 5, "output_tokens": 1},
            {
                "type": "advisor_message",
                "model": "claude-opus-4-6",
                "input_tokens": 20,
                "output_tokens": 3,
            },
        ],
    }
    body = message(usage=usage)
    with answering(httpx.Response(200, json=body), api_key="k") as client:
        client.beta.messages.create(**asking())

    models = {record.model: record.total_tokens for record in tracker.get_usage_history()}
    assert models == {MODEL: 6, "claude-opus-4-6": 23}


def test_vertex(tracker: ConversationTracker) -> None:
    """A client of Vertex AI names Vertex AI as the provider."""
    with answering(
        httpx.Response(200, json=message()),
        kind=anthropic.AnthropicVertex,
        region="us-east5",
        project_id="p",
        access_token="t",
    ) as client:
        client.messages.create(**asking())

    assert (only(tracker).provider, only(tracker).total_tokens) == ("vertex_ai", 6)


def frames(*events: dict[str, Any]) -> bytes:
    """Return AWS's binary event stream."""
    from binascii import crc32

    body = b""
    for each in events:
        payload = json.dumps({"bytes": b64encode(json.dumps(each).encode()).decode()}).encode()
        headers = b"".join(
            bytes([len(name)]) + name + b"\x07" + len(value).to_bytes(2, "big") + value
            for name, value in (
                (b":event-type", b"chunk"),
                (b":content-type", b"application/json"),
                (b":message-type", b"event"),
            )
        )
        lengths = (16 + len(headers) + len(payload)).to_bytes(4, "big") + len(headers).to_bytes(
            4, "big"
        )
        frame = lengths + crc32(lengths).to_bytes(4, "big") + headers + payload
        body += frame + crc32(frame).to_bytes(4, "big")
    return body


def test_bedrock(tracker: ConversationTracker) -> None:
    """A client of Bedrock is counted, also its streams, in whatever pieces they come."""
    stream = frames(
        {"type": "message_start", "message": message(tokens=9)},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "o"}},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 4},
        },
        {"type": "message_stop"},
    )
    headers = {"content-type": "application/vnd.amazon.eventstream"}
    pieces = [stream[i : i + 50] for i in range(0, len(stream), 50)]
    with answering(
        httpx.Response(200, json=message()),
        httpx.Response(200, headers=headers, content=iter(pieces)),
        kind=anthropic.AnthropicBedrock,
        aws_region="us-east-1",
        aws_access_key="a",
        aws_secret_key="b",
    ) as client:
        client.messages.create(**asking())
        assert len([*client.messages.create(**asking(stream=True))]) == 4

    plain, streamed = tracker.get_usage_history()
    assert (plain.provider, plain.model, plain.total_tokens) == ("bedrock", MODEL, 6)
    assert (streamed.status, streamed.input_tokens, streamed.output_tokens) == ("ok", 9, 4)
    assert streamed.time_to_first_token_seconds == IsFloat(gt=0)


def test_compatible_server(tracker: ConversationTracker) -> None:
    """The address tells who answers, where it can."""
    with answering(
        httpx.Response(200, json=message()),
        base_url="https://api.deepseek.com/anthropic",
        api_key="k",
    ) as client:
        client.messages.create(**asking())

    assert only(tracker).provider == "deepseek"


def results(*numbers: int) -> httpx.Response:
    """Return the results of a batch, of which the last failed."""
    lines = [
        {"custom_id": f"c{n}", "result": {"type": "succeeded", "message": message(n, id=f"m{n}")}}
        for n in numbers
    ]
    failed = {"custom_id": "x", "result": {"type": "errored", "error": {"type": "error"}}}
    text = "\n".join(json.dumps(line) for line in (*lines, failed)) + "\nno JSON"
    headers = {"content-type": "application/binary"}
    return httpx.Response(200, headers=headers, stream=httpx.ByteStream(text.encode()))


def batch() -> httpx.Response:
    url = "https://api.anthropic.com/v1/messages/batches/msgbatch_1/results"
    return httpx.Response(200, json={"id": "msgbatch_1", "results_url": url})


def test_batches(tracker: ConversationTracker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each result of a batch counts once, for whoever read it first."""
    monkeypatch.setattr(batches, "_MOST", 3)
    monkeypatch.setattr(batches, "_counted", type(batches._counted)())
    with answering(
        batch(), results(3, 4), batch(), results(3, 4, 5), batch(), results(6), api_key="k"
    ) as client:
        with tracker.conversation("a"):
            decoder = client.messages.batches.results("msgbatch_1")
        for _ in range(2):
            next(decoder)
        decoder.close()
        decoder = client.messages.batches.results("msgbatch_1")
        for _ in range(3):
            next(decoder)
        decoder.close()
        client.beta.messages.batches.results("msgbatch_1").close()

    records = tracker.get_usage_history()
    assert [(r.input_tokens, r.response_id) for r in records] == [(3, "m3"), (4, "m4"), (5, "m5")]
    assert [r.scope.conversation_id for r in records][:2] == ["a", "a"]
    assert {(r.service_tier, r.provider, r.model) for r in records} == {
        ("batch", "anthropic", MODEL)
    }


def test_batches_in_trouble(tracker: ConversationTracker) -> None:
    """Results that cannot be read cost nothing."""
    with answering(batch(), httpx.Response(500, json={}), batch(), api_key="k") as client:
        with pytest.raises(anthropic.InternalServerError):
            client.messages.batches.results("msgbatch_1")
        with pytest.raises(anthropic.APIConnectionError):
            client.messages.batches.results("msgbatch_1")

    assert not tracker.get_usage_history()


def test_install_and_uninstall(
    tracker: ConversationTracker, handler: AnthropicHandler, client: anthropic.Anthropic
) -> None:
    """A handler installs once, and its end restores the SDK."""
    ours = SyncAPIClient.request
    handler.install(meter, TokenConfig())
    handler.uninstall()
    handler.uninstall()
    client.messages.create(**asking())

    assert SyncAPIClient.request is not ours
    assert not tracker.get_usage_history()
