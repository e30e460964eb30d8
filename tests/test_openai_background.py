"""Responses that are made in the background."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from agentsight_tokens import ConversationTracker, TokenConfig
from agentsight_tokens.meter import meter
from agentsight_tokens_openai import OpenAIHandler, background
from tests.openai_kit import MODEL, answering, only

CREATE: Any = {"model": MODEL, "input": "hi", "background": True}


@pytest.fixture(autouse=True)
def handler(tracker: ConversationTracker) -> Iterator[OpenAIHandler]:
    handler = OpenAIHandler()
    handler.install(meter, TokenConfig())
    yield handler
    handler.uninstall()
    assert not background._pending


def response(status: str, *, tokens: int = 0, name: str = "resp_1") -> dict[str, Any]:
    usage = {"input_tokens": tokens, "output_tokens": 1, "total_tokens": tokens + 1}
    return {
        "id": name,
        "object": "response",
        "model": MODEL,
        "status": status,
        "output": [],
        "usage": usage if tokens else None,
    }


def body(*args: Any, **kwargs: Any) -> httpx.Response:
    return httpx.Response(200, json=response(*args, **kwargs))


def stream(*bodies: dict[str, Any]) -> httpx.Response:
    import json

    lines = [
        "data: "
        + json.dumps({"type": f"response.{each['status']}", "sequence_number": i, "response": each})
        for i, each in enumerate(bodies)
    ]
    content = httpx.ByteStream("\n\n".join([*lines, ""]).encode())
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=content)


def test_retrieved(tracker: ConversationTracker) -> None:
    """The final response counts, once, for whoever asked for it to be made."""
    with answering(
        body("queued"),
        body("in_progress"),
        body("completed", tokens=5),
        body("completed", tokens=5),
    ) as client:
        with tracker.conversation("a"):
            client.responses.create(**CREATE)
        assert not tracker.get_usage_history()
        for _ in range(3):
            client.responses.retrieve("resp_1")

    record = only(tracker)
    assert (record.input_tokens, record.status) == (5, "ok")
    assert record.scope.conversation_id == "a"


def test_cancelled(tracker: ConversationTracker) -> None:
    """A response that is cancelled has used what it tells."""
    with answering(body("queued"), body("cancelled", tokens=2)) as client:
        client.responses.create(**CREATE)
        client.responses.cancel("resp_1")

    assert only(tracker).input_tokens == 2


def test_done_at_once(tracker: ConversationTracker) -> None:
    """A response that is there at once counts at once."""
    with answering(body("completed", tokens=5)) as client:
        client.responses.create(**CREATE)

    assert only(tracker).input_tokens == 5


def test_stream(tracker: ConversationTracker) -> None:
    """A stream in the background counts at its end."""
    with answering(stream(response("in_progress"), response("completed", tokens=5))) as client:
        [*client.responses.create(**CREATE, stream=True)]

    assert only(tracker).input_tokens == 5


def test_stream_that_goes_on(tracker: ConversationTracker) -> None:
    """A stream that ended early, and then was left, is gone on with by another."""
    with answering(
        stream(response("in_progress")),
        stream(response("in_progress"), response("completed", tokens=5)),
        stream(response("completed", tokens=5)),
    ) as client:
        [*client.responses.create(**CREATE, stream=True)]
        with client.responses.retrieve("resp_1", stream=True) as left:
            next(left)
        [*client.responses.retrieve("resp_1", stream=True, starting_after=1)]

    assert only(tracker).input_tokens == 5


def test_stream_that_is_left(tracker: ConversationTracker) -> None:
    """A stream that is left without a word about the response is a call that was left."""
    with answering(
        stream(), stream(response("in_progress")), body("completed", tokens=5)
    ) as client:
        with client.responses.create(**CREATE, stream=True):
            pass
        with client.responses.create(**CREATE, stream=True) as left:
            next(left)
        client.responses.retrieve("resp_1")

    lost, found = tracker.get_usage_history()
    assert (lost.unreported_reason, found.input_tokens) == ("cancelled", 5)


def test_trouble_on_the_way(tracker: ConversationTracker) -> None:
    """A question that fails, or is never sent, leaves the call open for the next."""
    with answering(
        body("queued"), httpx.Response(500, json={}), httpx.Response(200), body("failed", tokens=5)
    ) as client:
        client.responses.create(**CREATE)
        with pytest.raises(openai.InternalServerError):
            client.responses.retrieve("resp_1")
        client.responses.with_raw_response.retrieve("resp_1")
        client.responses.retrieve("resp_1")

    assert only(tracker).input_tokens == 5


def test_never_retrieved(
    tracker: ConversationTracker, handler: OpenAIHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A response that nobody asks for is unreported at the end, and so is the oldest of many."""
    monkeypatch.setattr(background, "_MOST", 1)
    with answering(body("queued"), body("queued", name="resp_2")) as client:
        client.responses.create(**CREATE)
        client.responses.create(**CREATE)
    assert only(tracker).unreported_reason == "never_retrieved"
    handler.uninstall()

    assert [r.unreported_reason for r in tracker.get_usage_history()] == ["never_retrieved"] * 2
