"""Streams of the OpenAI SDK: what they tell, and what becomes of them when nobody reads on."""

from __future__ import annotations

import asyncio
import gc
import gzip
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
from dirty_equals import IsFloat

from agentsight_tokens import ConversationTracker, TokenConfig
from agentsight_tokens.meter import meter
from agentsight_tokens.testing import LoopbackProvider, Reply
from agentsight_tokens_openai import OpenAIHandler, stream_usage
from tests.openai_kit import MODEL, USAGE, D, answering, asking, only, run


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    with LoopbackProvider(keep_alive=False) as provider:
        yield provider


@pytest.fixture
def client(provider: LoopbackProvider) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=provider.openai_url, api_key="k", max_retries=0) as client:
        yield client


@pytest.fixture(autouse=True)
def handler(
    tracker: ConversationTracker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[OpenAIHandler]:
    monkeypatch.setattr(stream_usage, "_accepting", {"https://api.openai.com/v1/"})
    monkeypatch.setattr(stream_usage, "_refusing", set())
    handler = OpenAIHandler()
    handler.install(meter, TokenConfig())
    yield handler
    handler.uninstall()


def events(*events: str, end: str = "") -> httpx.Response:
    """Return a stream of events."""
    body = "".join(f"data: {event}\n\n" for event in events) + end
    return httpx.Response(
        200, headers={"content-type": "text/event-stream"}, stream=httpx.ByteStream(body.encode())
    )


def text_of(chunks: Any) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks)


@pytest.mark.parametrize("more", [{}, {"extra_body": {"stream_options": {"x": 1}}}])
def test_usage_is_asked_for(
    tracker: ConversationTracker, provider: LoopbackProvider, client: openai.OpenAI, more: Any
) -> None:
    """A stream is asked for its usage, and shows the program the chunks that it expects."""
    chunks = [*client.chat.completions.create(**asking(stream=True, **more))]

    assert all(chunk.choices for chunk in chunks)
    assert provider.received[0].body["stream_options"]["include_usage"] is True
    record = only(tracker)
    assert (record.usage, record.status) == (D, "ok")
    assert record.response_id == chunks[0].id
    assert record.time_to_first_token_seconds == IsFloat(gt=0)


def test_usage_is_asked_for_async(tracker: ConversationTracker, provider: LoopbackProvider) -> None:
    """The same for the asynchronous client, and for legacy completions."""

    async def work(client: openai.AsyncOpenAI) -> list[Any]:
        chunks = [c async for c in await client.chat.completions.create(**asking(stream=True))]
        stream = await client.completions.create(model=MODEL, prompt="hi", stream=True)
        return [*chunks, *[chunk async for chunk in stream]]

    assert all(chunk.choices for chunk in run(provider, work))
    assert [record.usage for record in tracker.get_usage_history()] == [D, D]


def test_users_own_wish(
    tracker: ConversationTracker, provider: LoopbackProvider, client: openai.OpenAI
) -> None:
    """A program that asks sees the usage, and one that says no is not asked for it."""
    shown = [*client.chat.completions.create(**asking(stream=True, **USAGE))]
    refused: Any = {"stream_options": {"include_usage": False}}
    [*client.chat.completions.create(**asking(stream=True, **refused))]

    assert shown[-1].usage is not None
    assert provider.received[1].body["stream_options"] == {"include_usage": False}
    first, second = tracker.get_usage_history()
    assert (first.usage, second.unreported_reason) == (D, "stream_without_usage")


def test_switched_off(
    tracker: ConversationTracker,
    handler: OpenAIHandler,
    provider: LoopbackProvider,
    client: openai.OpenAI,
) -> None:
    """Nothing is asked for where the configuration says no."""
    handler.uninstall()
    handler.install(meter, TokenConfig(stream_usage=False))
    [*client.chat.completions.create(**asking(stream=True))]

    assert "stream_options" not in provider.received[0].body
    assert only(tracker).unreported_reason == "stream_without_usage"


def test_raw_streams(
    tracker: ConversationTracker, provider: LoopbackProvider, client: openai.OpenAI
) -> None:
    """A raw stream is not asked, and is counted where the program asks, however it reads."""
    raw = client.chat.completions.with_raw_response.create(**asking(stream=True, **USAGE))
    [*raw.parse()]
    streaming = client.chat.completions.with_streaming_response
    with streaming.create(**asking(stream=True, **USAGE)) as response:
        assert "data: [DONE]" in [*response.iter_lines()]
    with streaming.create(**asking(stream=True)) as response:
        [*response.iter_bytes()]

    assert "stream_options" not in provider.received[2].body
    records = tracker.get_usage_history()
    assert [record.usage for record in records[:2]] == [D, D]
    assert records[2].unreported_reason == "stream_without_usage"


@pytest.mark.parametrize("is_async", [False, True])
def test_strict_server(tracker: ConversationTracker, is_async: bool) -> None:
    """A server that does not know the field is asked without it, and only so from then on."""
    with LoopbackProvider(keep_alive=False, reject_unknown_stream_options=True) as strict:

        async def work(client: openai.AsyncOpenAI) -> None:
            for _ in range(2):
                async for _ in await client.chat.completions.create(**asking(stream=True)):
                    pass

        if is_async:
            run(strict, work)
        else:
            with openai.OpenAI(base_url=strict.openai_url, api_key="k") as client:
                for _ in range(2):
                    assert text_of(client.chat.completions.create(**asking(stream=True))) == "ok"

    assert strict.requests == 3
    reasons = [record.unreported_reason for record in tracker.get_usage_history()]
    assert reasons == ["stream_without_usage", "stream_without_usage"]


def test_server_that_does_not_say_what_it_refuses(tracker: ConversationTracker) -> None:
    """An unknown server may refuse without a word; its refusal of the rest is the program's."""
    said_nothing = httpx.Response(400, json={"error": "bad request"})
    bad = httpx.Response(422, json={"error": "no such model"})
    good = events('{"model":"m","choices":[{"delta":{"content":"ok"}}]}', "[DONE]")
    with answering(bad, bad, said_nothing, good) as client:
        with pytest.raises(openai.UnprocessableEntityError):
            client.chat.completions.create(**asking(stream=True))
        assert text_of(client.chat.completions.create(**asking(stream=True))) == "ok"

    failed, served = tracker.get_usage_history()
    assert (failed.status, failed.error_type) == ("error", "UnprocessableEntityError")
    assert served.unreported_reason == "stream_without_usage"


def test_server_that_accepts(
    tracker: ConversationTracker, provider: LoopbackProvider, client: openai.OpenAI
) -> None:
    """A server that took the field once is not asked twice where it refuses something else."""
    [*client.chat.completions.create(**asking(stream=True))]
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(**asking("[[status=400]]", stream=True))
    with pytest.raises(openai.InternalServerError):
        client.chat.completions.create(**asking("[[status=500]]", stream=True))

    assert provider.requests == 3
    assert [record.status for record in tracker.get_usage_history()] == ["ok", "error", "error"]


def test_helper(tracker: ConversationTracker, client: openai.OpenAI) -> None:
    """The helper that gathers a stream counts once."""
    with client.chat.completions.stream(**asking()) as stream:
        for _ in stream:
            pass
        assert stream.get_final_completion().choices[0].message.content == "ok"

    assert only(tracker).usage == D


@pytest.mark.parametrize("status", ["completed", "failed", "incomplete"])
def test_responses(
    tracker: ConversationTracker, provider: LoopbackProvider, client: openai.OpenAI, status: Any
) -> None:
    """A stream of the Responses API tells its usage however it ends."""
    provider.enqueue(Reply(response_status=status, billed=True))
    [*client.responses.create(model=MODEL, input="hi", stream=True)]

    record = only(tracker)
    assert record.usage == D
    assert record.status == ("error" if status == "failed" else "ok")
    assert (record.time_to_first_token_seconds is None) == (status == "failed")


def test_responses_helper(tracker: ConversationTracker, client: openai.OpenAI) -> None:
    """The helper for Responses counts once, also when it is left after the end."""
    with client.responses.stream(model=MODEL, input="hi") as stream:
        for event in stream:
            if event.type == "response.completed":
                break

    assert (only(tracker).usage, only(tracker).status) == (D, "ok")


def test_cumulative_usage(tracker: ConversationTracker, client: openai.OpenAI) -> None:
    """Of a usage on every chunk the last one counts."""
    [*client.chat.completions.create(**asking("[[in=9 out=8 mode=every_chunk]]", stream=True))]

    assert (only(tracker).input_tokens, only(tracker).output_tokens) == (9, 8)


def test_closed_early(
    tracker: ConversationTracker, provider: LoopbackProvider, client: openai.OpenAI
) -> None:
    """A stream that is left has used what it told, which may be nothing."""
    for mode in ("normal", "every_chunk"):
        content = f"[[in=9 out=8 chunks=4 hold=2 mode={mode}]]"
        with client.chat.completions.create(**asking(content, stream=True)) as stream:
            for chunk in stream:
                if chunk.choices[0].delta.content:
                    break

    untold, told = tracker.get_usage_history()
    assert (untold.status, untold.unreported_reason) == ("cancelled", "cancelled")
    assert (told.status, told.input_tokens, told.output_tokens) == ("partial", 9, 4)


@pytest.mark.parametrize("reads", [0, 2])
def test_abandoned(tracker: ConversationTracker, client: openai.OpenAI, reads: int) -> None:
    """A stream that nobody holds any more is counted when it is collected."""
    stream = client.chat.completions.create(**asking("[[hold=1]]", stream=True))
    for _ in range(reads):
        next(stream)
    del stream
    gc.collect()

    assert only(tracker).unreported_reason == "cancelled"


def test_abandoned_async(tracker: ConversationTracker, provider: LoopbackProvider) -> None:
    """The same for an asynchronous stream."""

    async def work(client: openai.AsyncOpenAI) -> None:
        stream = await client.chat.completions.create(**asking("[[hold=1]]", stream=True))
        await anext(stream)
        del stream
        gc.collect()
        await asyncio.sleep(0.01)

    run(provider, work)
    gc.collect()

    assert only(tracker).unreported_reason == "cancelled"


@pytest.mark.parametrize("mode", ["normal", "every_chunk"])
def test_cancelled(tracker: ConversationTracker, provider: LoopbackProvider, mode: str) -> None:
    """A stream whose task is cancelled has used what it told."""

    async def work(client: openai.AsyncOpenAI) -> None:
        arrived = asyncio.Event()

        async def read() -> None:
            content = f"[[in=9 out=8 chunks=4 hold=2 mode={mode}]]"
            async for chunk in await client.chat.completions.create(**asking(content, stream=True)):
                if chunk.choices[0].delta.content == "o":
                    arrived.set()

        task = asyncio.ensure_future(read())
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(provider, work)

    record = only(tracker)
    assert record.error_type == "CancelledError"
    if mode == "normal":
        assert (record.status, record.unreported_reason) == ("cancelled", "cancelled")
    else:
        assert (record.status, record.output_tokens) == ("partial", 4)


def test_broken(tracker: ConversationTracker, client: openai.OpenAI) -> None:
    """A stream whose connection broke has used what it told."""
    for mode in ("normal", "every_chunk"):
        content = f"[[in=9 out=8 chunks=4 break=2 mode={mode}]]"
        with pytest.raises(httpx.RemoteProtocolError):
            [*client.chat.completions.create(**asking(content, stream=True))]

    untold, told = tracker.get_usage_history()
    assert (untold.status, untold.unreported_reason) == ("error", "error_without_usage")
    assert (told.status, told.output_tokens) == ("partial", 4)
    assert untold.error_type == told.error_type == "RemoteProtocolError"


def test_error_in_the_stream(tracker: ConversationTracker) -> None:
    """An error that the provider sends as an event ends the call."""
    failing = events('{"id":"c","model":"m","choices":[]}', '{"error":{"message":"overloaded"}}')
    with answering(failing) as client, pytest.raises(openai.APIError):
        [*client.chat.completions.create(**asking(stream=True))]

    record = only(tracker)
    assert (record.status, record.error_type) == ("error", "APIError")
    assert record.unreported_reason == "error_without_usage"


def test_any_cut_through_the_bytes(tracker: ConversationTracker) -> None:
    """However the bytes are cut into pieces, the same is read, also without a last newline."""
    whole = (
        'event: x\r\ndata: {"id":"c","model":"m","choices":[{"delta":{"content":"é"}}]}\r\n\r\n'
        ': comment\n\ndata:{"id":"c","model":"m","choices":[],'
        '"usage":{"prompt_tokens":3,"completion_tokens":4}}'
    ).encode()
    answers = []
    for size in (1, 2, 3, 7, 1000):
        pieces = [whole[i : i + size] for i in range(0, len(whole), size)]
        headers = {"content-type": "text/event-stream"}
        answers.append(httpx.Response(200, headers=headers, content=iter(pieces)))
    count = len(answers)
    with answering(*answers) as client:
        streaming = client.chat.completions.with_streaming_response
        for _ in range(count):
            with streaming.create(**asking(stream=True)) as response:
                [*response.iter_bytes()]

    assert [record.total_tokens for record in tracker.get_usage_history()] == [7] * count


def test_compressed(tracker: ConversationTracker) -> None:
    """A compressed stream is counted at its end."""
    body = b'data: {"model":"m","choices":[],"usage":{"prompt_tokens":3}}\n\ndata: [DONE]\n\n'
    headers = {"content-type": "text/event-stream", "content-encoding": "gzip"}
    packed = httpx.Response(200, headers=headers, stream=httpx.ByteStream(gzip.compress(body)))
    with answering(packed) as client:
        assert not [*client.chat.completions.create(**asking(stream=True))]

    assert only(tracker).input_tokens == 3


def test_answer_without_a_stream(tracker: ConversationTracker) -> None:
    """A server that answers a stream's request with one body is counted."""
    body = {"model": "m", "choices": [], "usage": {"prompt_tokens": 3}}
    plain = httpx.Response(
        200,
        headers={"content-type": "application/json"},
        stream=httpx.ByteStream(str(body).replace("'", '"').encode()),
    )
    with answering(plain) as client:
        [*client.chat.completions.create(**asking(stream=True))]

    assert only(tracker).input_tokens == 3


def test_event_hook_that_reads(tracker: ConversationTracker) -> None:
    """A hook that reads the whole stream first takes nothing from the count."""
    hooks = {"response": [lambda response: response.read()]}
    told = events('{"model":"m","choices":[],"usage":{"prompt_tokens":3}}', "[DONE]")
    with answering(told, event_hooks=hooks) as client:
        [*client.chat.completions.create(**asking(stream=True))]

    assert only(tracker).input_tokens == 3


def test_groq(tracker: ConversationTracker) -> None:
    """Groq tells the usage in a place of its own."""
    told = events('{"model":"m","choices":[],"x_groq":{"usage":{"prompt_tokens":3}}}', "[DONE]")
    with answering(told, base_url="https://api.groq.com/openai/v1") as client:
        [*client.chat.completions.create(**asking(stream=True))]

    assert (only(tracker).provider, only(tracker).input_tokens) == ("groq", 3)


def test_scope_of_a_stream(tracker: ConversationTracker, client: openai.OpenAI) -> None:
    """A stream belongs to where it was asked for, wherever it is read."""
    with tracker.conversation("a"):
        stream = client.chat.completions.create(**asking(stream=True))
    with tracker.conversation("b"):
        assert text_of(stream) == "ok"

    assert only(tracker).scope.conversation_id == "a"
