"""The loopback provider's ledger, its choice of a reply, its faults, and the fakes beside it."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from agentsight_tokens.testing import (
    FakeClock,
    FakeIds,
    LoopbackProvider,
    LoopbackRequest,
    Reply,
    ToolCall,
)
from agentsight_tokens.usage import TokenUsage

CHAT = "/v1/chat/completions"
GEMINI = "/v1beta/models/gemini-2.5-flash"
D = TokenUsage(input_tokens=11, output_tokens=7, cache_read_tokens=4, reasoning_tokens=2)


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    with LoopbackProvider() as running:
        yield running
    assert running.faults == ()


def connect(provider: LoopbackProvider) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(provider.url.removeprefix("http://"), timeout=10)


def post(
    provider: LoopbackProvider, path: str, body: Any, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """Return (status, body) of one request on a connection of its own."""
    connection = connect(provider)
    try:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request("POST", path, raw, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def ask(provider: LoopbackProvider, text: str = "hi", **fields: Any) -> dict[str, Any]:
    """Return the body of one chat."""
    messages = fields.pop("messages", [{"role": "user", "content": text}])
    _, raw = post(provider, CHAT, {"model": "m", "messages": messages, **fields})
    answer: dict[str, Any] = json.loads(raw)
    return answer


def counts(usage: TokenUsage) -> tuple[int, int, int]:
    return usage.input_tokens, usage.output_tokens, usage.total_tokens


@pytest.mark.parametrize(
    ("directive", "expected"),
    [
        ("[[in=1 out=2]]", TokenUsage(input_tokens=1, output_tokens=2)),
        ("x [[ in=1 ]] y", TokenUsage(input_tokens=1, output_tokens=7, reasoning_tokens=2)),
        ("[[out=3]]", TokenUsage(input_tokens=11, output_tokens=3, cache_read_tokens=4)),
        ("[[in=1]] [[in=2 out=3]]", TokenUsage(input_tokens=2, output_tokens=3)),
        ("[[in=1 out=2 total=9]]", TokenUsage(input_tokens=1, output_tokens=2, total_tokens=9)),
        ("[[label=a]]", D),
        ("[[1, 2], [3, 4]]", D),
        ("[[wiki]]", D),
    ],
)
def test_directives(provider: LoopbackProvider, directive: str, expected: TokenUsage) -> None:
    """A directive names what is billed; what it does not name has the default, details none."""
    ask(provider, directive)

    assert provider.billed() == expected


def test_directive_places(provider: LoopbackProvider) -> None:
    """The last thing that the user says decides, then the system text, in every shape."""
    user = {"role": "user", "content": [{"type": "text", "text": "[[in=1 out=1]]"}]}
    plain = {"role": "user", "content": "hi"}
    system = {"role": "system", "content": "[[in=2 out=2 label=s]]"}
    tool = {"role": "tool", "content": "3"}
    image = {"role": "user", "content": [{"type": "image_url"}, 5]}

    ask(provider, messages=[system, user, tool])
    ask(provider, messages=[user, system, plain])
    ask(provider, messages=[user, {"role": "user", "content": 5}, image, "odd"])
    post(provider, "/v1/messages", {"messages": [plain], "system": [{"text": "[[in=3 out=3]]"}]})
    post(provider, "/v1/responses", {"input": "hi", "instructions": "[[in=4 out=4]]"})
    post(
        provider,
        f"{GEMINI}:generateContent",
        {"systemInstruction": {"parts": [{"text": "[[in=5]]"}]}},
    )
    post(provider, f"{GEMINI}:generateContent", {"contents": [{"parts": [{"text": "[[in=6]]"}]}]})

    assert [call.usage.input_tokens for call in provider.ledger] == [1, 2, 1, 3, 4, 5, 6]
    assert [call.label for call in provider.ledger][:3] == ["s", "s", None]


def test_bad_directives(provider: LoopbackProvider) -> None:
    """A directive that cannot be read is answered with a 400 that says why."""
    unknown = ask(provider, "[[tokens=1]]")["error"]["message"]
    unread = ask(provider, "[[in=many]]")["error"]["message"]

    assert "'tokens' is no directive" in unknown
    assert "in=many cannot be read" in unread
    assert provider.ledger == ()


def test_tool_directive(provider: LoopbackProvider) -> None:
    """A directive's tool is called until its result is there."""
    text = '[[in=1 out=1 tool=add args={"a":[1]}]]'
    user = {"role": "user", "content": text}
    used = {"role": "user", "content": [{"type": "tool_result", "content": "1"}]}
    response = {"functionResponse": {"name": "add"}}

    first = ask(provider, text)["choices"][0]
    second = ask(provider, messages=[user, {"role": "tool", "content": "1"}])["choices"][0]
    third = ask(provider, messages=[user, {"role": "assistant"}, used])["choices"][0]
    fourth = ask(provider, messages=[{"role": "assistant", "content": "[[tool=add]]"}])
    _, raw = post(
        provider,
        f"{GEMINI}:generateContent",
        {"contents": [{"parts": [{"text": text}]}, {"role": "model", "parts": [response]}]},
    )

    assert first["message"]["tool_calls"][0]["function"] == {
        "name": "add",
        "arguments": '{"a":[1]}',
    }
    assert first["finish_reason"] == "tool_calls"
    assert second["message"]["content"] == third["message"]["content"] == "ok"
    assert "tool_calls" not in fourth["choices"][0]["message"]
    assert json.loads(raw)["candidates"][0]["content"]["parts"] == [{"text": "ok"}]


def test_order_of_choice(provider: LoopbackProvider) -> None:
    """A directive comes before the queue, the queue before the function and the default."""
    provider.default_reply = Reply(input_tokens=4)
    provider.respond = lambda request: Reply(input_tokens=3) if "ask" in request.text else None
    provider.enqueue(Reply(input_tokens=2))

    for text in ("[[in=1]] ask", "ask", "ask", "other"):
        ask(provider, text)

    assert [call.usage.input_tokens for call in provider.ledger] == [1, 2, 3, 4]


def test_respond_sees_the_request(provider: LoopbackProvider) -> None:
    """The function gets the request as a record."""
    seen: list[LoopbackRequest] = []
    provider.respond = seen.append  # type: ignore[assignment]  # append returns None, as it may

    ask(provider, "hello", stream=False)

    (request,) = seen
    assert (request.model, request.operation, request.text) == ("m", "chat", "hello")
    assert (request.endpoint, request.is_stream) == (CHAT, False)
    assert request.headers["content-length"]
    assert provider.received == (request,)


def test_respond_that_raises() -> None:
    """What the function raises is the client's 500 and stands in `faults`."""

    def fail(request: LoopbackRequest) -> Reply:
        raise KeyError("mine")

    with LoopbackProvider(respond=fail) as provider:
        answer = ask(provider)

        assert "KeyError('mine')" in answer["error"]["message"]
        assert [str(fault) for fault in provider.faults] == ["'mine'"]
        assert provider.ledger == ()
        provider.clear()
        assert provider.faults == ()


def test_labels(provider: LoopbackProvider) -> None:
    """A label comes from a header, the user, the metadata, a directive or the reply."""
    messages = [{"role": "user", "content": "[[label=directive]]"}]
    body = {"model": "m", "messages": messages}
    post(provider, CHAT, body | {"user": "user"}, {"X-Loopback-Label": "header"})
    post(provider, CHAT, body | {"user": "user", "metadata": {"label": "metadata"}})
    post(provider, CHAT, body | {"metadata": {"label": "metadata"}})
    post(provider, "/v1/messages", body | {"metadata": {"user_id": "anthropic"}})
    post(provider, CHAT, body | {"metadata": None})
    provider.enqueue(Reply(label="reply"))
    ask(provider)

    labels = [call.label for call in provider.ledger]
    assert labels == ["header", "user", "metadata", "anthropic", "directive", "reply"]
    assert provider.billed("user") == D
    assert provider.billed("nobody") == TokenUsage()


def test_fixed_and_unique_ids() -> None:
    """Ids are unique unless a reply fixes one or the provider is given its own."""
    with LoopbackProvider(ids=FakeIds("x")) as provider:
        provider.enqueue(Reply(response_id="mine", model="other"))
        fixed, free = ask(provider), ask(provider)

    assert (fixed["id"], fixed["model"]) == ("mine", "other")
    assert free["id"] == "chatcmpl-x000002"
    assert [call.response_id for call in provider.ledger] == ["mine", "chatcmpl-x000002"]


def test_unknown_paths_and_bodies(provider: LoopbackProvider) -> None:
    """What is no request to a model is refused, counted and not billed."""
    assert post(provider, "/v1/nothing", {})[0] == 404
    assert post(provider, f"{GEMINI}:embedContent", {})[0] == 404
    assert post(provider, CHAT, b"{no json")[0] == 400
    assert post(provider, CHAT, [1])[0] == 400
    assert (provider.requests, len(provider.received), provider.ledger) == (4, 0, ())


def test_requests_that_call_no_model(provider: LoopbackProvider) -> None:
    """Counting tokens and listing models leave the queue and the ledger alone."""
    provider.enqueue(Reply(text="kept"))
    connection = connect(provider)
    connection.request("GET", "/v1/models")
    models = json.loads(connection.getresponse().read())
    connection.close()
    _, raw = post(provider, "/v1/messages/count_tokens?beta=true", {})

    assert models["object"] == "list"
    assert json.loads(raw) == {"input_tokens": 11}
    assert ask(provider)["choices"][0]["message"]["content"] == "kept"
    assert provider.requests == 3
    assert len(provider.ledger) == 1


def test_strict_stream_options(provider: LoopbackProvider) -> None:
    """A strict server answers a request with `stream_options` by a 400."""
    provider.reject_unknown_stream_options = True

    answer = ask(provider, stream=True, stream_options={"include_usage": True})

    assert "stream_options" in answer["error"]["message"]
    assert provider.ledger == ()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (CHAT, {"error": {"type": "server_error"}}),
        ("/v1/messages", {"type": "error", "error": {"type": "overloaded_error"}}),
        (f"{GEMINI}:generateContent", {"error": {"code": 529, "status": "INTERNAL"}}),
    ],
)
def test_error_bodies(provider: LoopbackProvider, path: str, expected: dict[str, Any]) -> None:
    """An error has its provider's shape, whatever its status, and is billed only if it says so."""
    provider.enqueue(Reply(status=529), Reply(status=529, billed=True, retry_after=0.5))

    status, raw = post(provider, path, {"messages": []})
    body = json.loads(raw)
    unbilled = provider.ledger
    post(provider, path, {"messages": []})

    assert status == 529
    assert body["error"].items() >= expected.pop("error").items()
    assert body.items() >= expected.items()
    assert unbilled == ()
    assert [(c.status_code, c.reported, counts(c.usage)) for c in provider.ledger] == [
        (529, False, (11, 7, 18))
    ]


@pytest.mark.parametrize(
    "path",
    [CHAT, "/v1/completions", "/v1/embeddings", "/v1/responses", f"{GEMINI}:generateContent"],
)
def test_usage_that_is_never_reported(provider: LoopbackProvider, path: str) -> None:
    """An answer without its usage is billed all the same."""
    provider.enqueue(Reply(usage_mode="never"))

    body = {"input": "hi", "prompt": "hi", "messages": [{"role": "user", "content": "hi"}]}
    _, raw = post(provider, path, body)

    answer = json.loads(raw)
    assert answer.get("usage") is None
    assert "usageMetadata" not in answer
    assert provider.billed()
    assert [call.reported for call in provider.ledger] == [False]


def test_anthropic_usage_that_is_never_reported(provider: LoopbackProvider) -> None:
    """Anthropic's clients require the field, so there it is zero."""
    provider.default_reply = Reply(usage_mode="never")

    _, raw = post(provider, "/v1/messages", {"messages": []})
    _, stream = post(provider, "/v1/messages", {"messages": [], "stream": True})

    assert json.loads(raw)["usage"]["output_tokens"] == 0
    assert b'"output_tokens":7' not in stream
    assert [call.reported for call in provider.ledger] == [False, False]


def test_empty_replies(provider: LoopbackProvider) -> None:
    """A reply of no text has no content chunk and bills the whole usage."""
    provider.default_reply = Reply(text="", usage_mode="every_chunk", break_after_chunks=1)

    for path in (CHAT, "/v1/responses", "/v1/messages", f"{GEMINI}:streamGenerateContent?alt=sse"):
        post(provider, path, {"messages": [], "input": "hi", "stream": True})

    assert [counts(call.usage) for call in provider.ledger] == [(11, 7, 18)] * 4


def test_gemini(provider: LoopbackProvider) -> None:
    """Gemini's counts leave the thoughts and its own tools' results out, the ledger does not."""
    provider.default_reply = Reply(
        input_tokens=20,
        output_tokens=9,
        cache_read_tokens=4,
        reasoning_tokens=2,
        tool_use_prompt_tokens=3,
        audio_input_tokens=5,
        image_output_tokens=1,
        tool_calls=(ToolCall("add", {"a": 1}),),
    )

    _, raw = post(provider, f"{GEMINI}:generateContent", {"contents": []})

    answer = json.loads(raw)
    part = answer["candidates"][0]["content"]["parts"][0]
    assert part == {"functionCall": {"name": "add", "args": {"a": 1}}}
    assert answer["usageMetadata"] == {
        "promptTokenCount": 17,
        "candidatesTokenCount": 7,
        "totalTokenCount": 29,
        "promptTokensDetails": [
            {"modality": "TEXT", "tokenCount": 12},
            {"modality": "AUDIO", "tokenCount": 5},
        ],
        "candidatesTokensDetails": [
            {"modality": "TEXT", "tokenCount": 6},
            {"modality": "IMAGE", "tokenCount": 1},
        ],
        "thoughtsTokenCount": 2,
        "cachedContentTokenCount": 4,
        "toolUsePromptTokenCount": 3,
    }
    (call,) = provider.ledger
    assert (call.model, counts(call.usage)) == ("gemini-2.5-flash", (20, 9, 29))


@pytest.mark.parametrize(
    ("mode", "outputs"),
    [
        ("normal", [2, 4, 7]),
        ("last_content_chunk", [None, None, 7]),
        ("second_last_chunk", [None, 7, None]),
        ("never", [None, None, None]),
    ],
)
@pytest.mark.parametrize("query", ["?alt=sse", ""])
def test_gemini_streams(
    provider: LoopbackProvider, mode: Any, outputs: list[int | None], query: str
) -> None:
    """A Gemini stream reports cumulatively on every chunk, as events or as one JSON array."""
    provider.enqueue(Reply(output_tokens=7, text="one", chunks=3, usage_mode=mode))

    _, raw = post(provider, f"{GEMINI}:streamGenerateContent{query}", {"contents": []})

    if query:
        chunks = [json.loads(line[6:]) for line in raw.decode().split("\n\n") if line]
    else:
        chunks = json.loads(raw)
    told = [chunk.get("usageMetadata", {}).get("candidatesTokenCount") for chunk in chunks]
    assert told == outputs
    assert chunks[-1]["candidates"][0]["finishReason"] == "STOP"
    assert [(c.reported, c.streamed) for c in provider.ledger] == [(mode != "never", True)]


@pytest.mark.parametrize("mode", ["normal", "every_chunk"])
@pytest.mark.parametrize("broken", [0, 3, 7])
def test_broken_streams(provider: LoopbackProvider, mode: Any, broken: int) -> None:
    """A stream that breaks bills the output's share of what was generated."""
    provider.enqueue(Reply(chunks=7, usage_mode=mode, break_after_chunks=broken))

    with pytest.raises(http.client.IncompleteRead) as raised:
        ask(provider, stream=True, stream_options={"include_usage": True})

    (call,) = provider.ledger
    assert raised.value.partial.count(b'"content":"') == broken + 1
    assert counts(call.usage) == (11, broken, 11 + broken)
    assert call.usage.reasoning_tokens == 2 * broken // 7
    assert call.reported is (mode == "every_chunk")


def test_lost_answers(provider: LoopbackProvider) -> None:
    """An answer that is lost on its way is billed in full and unreported."""
    provider.enqueue(Reply(break_after_chunks=0))

    with pytest.raises(http.client.RemoteDisconnected):
        ask(provider)

    assert [(call.usage, call.reported) for call in provider.ledger] == [(D, False)]


@pytest.mark.parametrize(
    "reply",
    [
        Reply(chunks=7, hold_after_chunks=2),
        Reply(chunks=7, chunk_delay_seconds=30, usage_mode="never"),
        Reply(delay_seconds=30),
    ],
    ids=["hold", "chunk_delay", "delay"],
)
def test_clients_that_leave(
    provider: LoopbackProvider, capfd: pytest.CaptureFixture[str], reply: Reply
) -> None:
    """A client that leaves is billed for what had been generated, without a word on stderr."""
    provider.enqueue(reply)
    connection = connect(provider)
    body = json.dumps({"model": "m", "messages": [], "stream": True})
    connection.request("POST", CHAT, body)
    if not reply.delay_seconds:
        answer = connection.getresponse()
        while b'"content":"' not in answer.readline():
            pass
        answer.close()
    connection.close()

    assert provider.settle(requests=1)
    (call,) = provider.ledger
    generated = 7 if reply.delay_seconds else reply.hold_after_chunks or 1
    assert counts(call.usage) == (11, generated, 11 + generated)
    assert not call.reported
    assert capfd.readouterr().err == ""


def test_clients_that_reset(provider: LoopbackProvider) -> None:
    """A client that resets its connection while the server writes is billed for its share."""
    provider.enqueue(Reply(text="x" * 40_000_000, chunks=4, chunk_delay_seconds=0.001))
    raw = json.dumps({"model": "m", "messages": [], "stream": True}).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nContent-Length: {len(raw)}\r\n\r\n".encode()

    client = socket.create_connection(("127.0.0.1", int(provider.url.rpartition(":")[2])))
    client.sendall(head + raw)
    client.recv(1000)
    client.close()

    assert provider.settle()
    assert [(c.usage.output_tokens, c.reported) for c in provider.ledger] == [(1, False)]


def test_clients_that_reset_while_waiting(provider: LoopbackProvider) -> None:
    """A client that resets its connection before the answer is billed in full."""
    provider.enqueue(Reply(delay_seconds=30))
    client = socket.create_connection(("127.0.0.1", int(provider.url.rpartition(":")[2])))
    client.sendall(f"POST {CHAT} HTTP/1.1\r\nContent-Length: 2\r\n\r\n{{}}".encode())
    while not provider.received:
        time.sleep(0.001)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()

    assert provider.settle()
    assert [(call.usage, call.reported) for call in provider.ledger] == [(D, False)]


def test_chunk_delay_and_delay(provider: LoopbackProvider) -> None:
    """The delays are waited for."""
    provider.enqueue(Reply(delay_seconds=0.02), Reply(chunks=3, chunk_delay_seconds=0.01))
    raw = json.dumps({"model": "m", "messages": [], "stream": True}).encode()
    request = f"POST {CHAT} HTTP/1.1\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw

    begun = time.monotonic()
    client = socket.create_connection(("127.0.0.1", int(provider.url.rpartition(":")[2])))
    client.sendall(request * 3)
    received = b""
    while received.count(b"[DONE]") < 3:
        received += client.recv(65536)
    client.close()

    assert time.monotonic() - begun >= 0.04
    assert [call.usage for call in provider.ledger] == [D] * 3


def test_many_threads(provider: LoopbackProvider) -> None:
    """64 clients at once are each answered, and every call is billed once."""
    started = threading.Barrier(64)

    def work(number: int) -> None:
        connection = connect(provider)
        started.wait(10)
        for _ in range(10):
            text = f"[[in={1000 + number} out={number} label=c{number}]]"
            body = json.dumps({"model": "m", "messages": [{"role": "user", "content": text}]})
            connection.request("POST", CHAT, body)
            connection.getresponse().read()
        connection.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert provider.requests == len(provider.ledger) == 640
    for number in range(64):
        billed = provider.billed(f"c{number}")
        assert counts(billed)[:2] == (10 * (1000 + number), 10 * number)


def test_expect_and_close(provider: LoopbackProvider) -> None:
    """A client may ask before it sends its body, and ask for the connection's end."""
    client = socket.create_connection(("127.0.0.1", int(provider.url.rpartition(":")[2])))
    client.sendall(
        f"POST {CHAT} HTTP/1.1\r\nExpect: 100-continue\r\nConnection: close\r\n"
        "Content-Length: 2\r\n\r\n".encode()
    )
    assert client.recv(100).startswith(b"HTTP/1.1 100 ")
    client.sendall(b"{}")
    received = b"".join(iter(lambda: client.recv(65536), b""))
    client.close()

    assert b"connection: close" in received
    assert provider.requests == 1


def test_nonsense_is_a_fault() -> None:
    """A request that is no HTTP ends its connection and stands in `faults`."""
    with LoopbackProvider() as provider:
        client = socket.create_connection(("127.0.0.1", int(provider.url.rpartition(":")[2])))
        client.sendall(b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n")
        assert client.recv(100) == b""
        client.close()

        assert provider.settle()
        (fault,) = provider.faults
        assert isinstance(fault, ValueError)


def test_start_and_close(capfd: pytest.CaptureFixture[str]) -> None:
    """A provider can be started and closed by hand, and ends its clients' streams."""
    provider = LoopbackProvider(default_reply=Reply(hold_after_chunks=1, chunks=7))
    with pytest.raises(RuntimeError, match="not running"):
        _ = provider.url
    assert provider.start() is provider.start()
    assert provider.openai_url == f"{provider.anthropic_url}/v1"
    assert provider.gemini_url == provider.url
    connection = connect(provider)
    connection.request("POST", CHAT, json.dumps({"model": "m", "messages": [], "stream": True}))
    answer = connection.getresponse()

    provider.close()
    provider.close()

    with pytest.raises(http.client.IncompleteRead):
        answer.read()
    connection.close()
    assert provider.settle()
    assert provider.billed().output_tokens == 1
    assert capfd.readouterr().err == ""
    provider.clear()
    assert (provider.requests, provider.ledger, provider.received) == (0, (), ())


def test_settle_gives_up(provider: LoopbackProvider) -> None:
    """Waiting ends at its time-out while a stream is still open."""
    provider.enqueue(Reply(hold_after_chunks=1))
    connection = connect(provider)
    connection.request("POST", CHAT, json.dumps({"model": "m", "messages": [], "stream": True}))
    answer = connection.getresponse()

    assert not provider.settle(timeout=0.01)

    answer.close()
    connection.close()
    assert provider.settle()


def test_no_framework_is_imported() -> None:
    """The provider's modules import no framework and no SDK."""
    import subprocess

    code = (
        "import sys, agentsight_tokens.testing;"
        "print([n for n in ('openai', 'anthropic', 'httpx', 'langchain_core') if n in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert run.stdout.strip() == "[]"


def test_fake_clock() -> None:
    """The clock moves both its hands when it is told to, and never back."""
    clock = FakeClock()
    begun = clock()

    clock.advance(1.5)
    clock.sleep(0.5)

    assert clock.now() - begun == timedelta(seconds=2)
    assert clock.now().tzinfo is timezone.utc
    assert clock.monotonic() == 2.0
    with pytest.raises(ValueError, match="at least 0"):
        clock.advance(-1)
    with pytest.raises(ValueError, match="time zone"):
        FakeClock(datetime(2026, 1, 1))  # noqa: DTZ001 - the case


def test_fake_ids() -> None:
    """Ids count up and sort by their time."""
    ids = FakeIds("call-")

    made = [ids() for _ in range(12)]

    assert made[0] == "call-000001"
    assert made == sorted(set(made))
