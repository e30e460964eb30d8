"""What the record of a call through LlamaIndex says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.llms import ChatMessage, ChatResponse, CompletionResponse, MockLLM
from llama_index.core.prompts import PromptTemplate
from pydantic import BaseModel

from agentsight_tokens.errors import BudgetExceededError
from agentsight_tokens.testing import Reply
from tests.llamaindex_kit import (
    A,
    D,
    FromCompletion,
    Kit,
    chat,
    handler_kit,
    run,
)

pytestmark = [
    # llama-index-workflows looks at every attribute of an agent.
    pytest.mark.filterwarnings("ignore:The `__fields:pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings(
        "ignore:Accessing the 'model_:pydantic.warnings.PydanticDeprecatedSince211"
    ),
]


class Answer(BaseModel):
    text: str


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with handler_kit(tmp_path) as kit:
        yield kit


class Odd(FromCompletion):
    """A model without LlamaIndex's callbacks."""

    answer: Any = None

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return ChatResponse(message=ChatMessage(content="x"), raw=self.answer)


def test_record_of_a_stream(kit: Kit) -> None:
    """A record names the model that answered, its provider, response and times."""
    list(kit.openai().stream_chat(chat("[[in=101 out=7 model=gpt-4o-mini-2024-07-18 id=r1]]")))

    record = kit.record()
    assert (record.model, record.provider) == ("gpt-4o-mini-2024-07-18", "openai")
    assert (record.response_id, record.handler, record.status) == ("r1", "llamaindex", "ok")
    assert record.time_to_first_token_seconds is not None
    assert 0 < record.time_to_first_token_seconds <= (record.duration_seconds or 0)


def test_record_of_anthropic(kit: Kit) -> None:
    """Anthropic's lifetimes of cache writes and its first event's id arrive too."""
    list(
        kit.anthropic().stream_chat(
            chat("[[in=105 out=9 cached=30 written=25 written_1h=5 id=msg_1]]")
        )
    )

    record = kit.record()
    assert record.usage.cache_creation_1h_tokens == 5
    assert (record.provider, record.response_id) == ("anthropic", "msg_1")


def test_anthropic_stream_closed_early_is_partial(kit: Kit) -> None:
    """What Anthropic tells at the beginning is billed whatever comes after."""
    stream = kit.anthropic().stream_chat(chat(A + "[[chunks=4 text=abcd]]"))
    next(stream)
    stream.close()

    record = kit.record()
    assert (record.status, record.input_tokens) == ("partial", 105)


def test_refusal_costs_nothing(kit: Kit) -> None:
    """A refused call is an error without usage, and not unreported."""
    with pytest.raises(Exception, match="429"):
        kit.openai().complete("[[status=429]]")

    record = kit.record()
    assert (record.status, record.error_type) == ("error", "RateLimitError")
    assert not record.is_unreported


def test_unsent_call_costs_nothing(kit: Kit) -> None:
    """A call whose connection was never made is no unreported one."""
    with pytest.raises(Exception, match="Connection"):
        kit.openai(api_base="http://127.0.0.1:1/v1").complete(D)

    assert (kit.record().error_type, kit.record().is_unreported) == ("APIConnectionError", False)


def test_broken_stream_is_unreported(kit: Kit) -> None:
    """A stream that breaks before it told its usage is unreported."""
    with pytest.raises(Exception, match=r"."):
        list(kit.openai().stream_complete("[[in=101 out=7 chunks=3 text=abc break=2]]"))

    assert (kit.record().status, kit.record().unreported_reason) == (
        "error",
        "error_without_usage",
    )


def test_failed_response_that_was_billed(kit: Kit) -> None:
    """A response that failed says what it used all the same."""
    kit.provider.enqueue(Reply(response_status="failed", billed=True))
    list(kit.responses().stream_chat(chat("hi")))

    assert kit.record().usage == kit.provider.billed()


def test_call_that_a_budget_stopped(kit: Kit) -> None:
    """A call that a budget stopped before it was sent was none."""

    class Stop(TokenCountingHandler):
        def on_event_start(self, *args: Any, **kwargs: Any) -> str:
            raise BudgetExceededError("no")

    model = kit.openai(callback_manager=CallbackManager([Stop()]))
    with pytest.raises(BudgetExceededError):
        model.complete(D)

    assert not kit.records()


def test_call_without_usage_is_unreported(kit: Kit) -> None:
    """A model that says nothing about its usage is unreported, once for each call."""
    MockLLM(max_tokens=3).chat(chat("one two"))

    assert kit.usage().unreported_calls == 1
    assert kit.record().unreported_reason == "provider_silent"


def test_untapped_structured_predict_is_unreported(kit: Kit) -> None:
    """A class that calls its SDK without an event or a tap is not lost silently."""

    class Own(FromCompletion):
        def structured_predict(self, *args: Any, **kwargs: Any) -> Answer:
            return Answer(text="hi")

    Own(client=None).structured_predict(Answer, PromptTemplate("hi"))

    assert kit.usage().unreported_calls == 1


def test_structured_predict_that_is_refused(kit: Kit) -> None:
    """A tapped call that the provider refuses is an error without usage."""
    with pytest.raises(Exception, match="400"):
        kit.responses().structured_predict(Answer, PromptTemplate("[[status=400]]"))
    with pytest.raises(Exception, match="400"):
        run(kit.responses().astructured_predict(Answer, PromptTemplate("[[status=400]]")))

    assert [r.status for r in kit.records()] == ["error", "error"]
    assert kit.usage().unreported_calls == 0


def test_parse_outside_of_llamaindex_is_not_ours(kit: Kit) -> None:
    """A program's own call of the SDK is left to the SDK's handler."""
    kit.provider.default_reply = Reply(text='{"text":"hi"}')
    model = kit.responses()
    model._client.responses.parse(model="gpt-4o-mini", input="hi", text_format=Answer)
    run(model._aclient.responses.parse(model="gpt-4o-mini", input="hi", text_format=Answer))
    kit.anthropic()._client.messages.create(
        model="claude-sonnet-4-5", max_tokens=9, messages=[], stream=True
    ).close()

    assert not kit.records()


def test_usage_object_is_billed_once(kit: Kit) -> None:
    """A model that hands an earlier answer out again made no call."""
    model = kit.custom()
    first = model.complete(D)

    class Remembering(FromCompletion):
        def complete(self, *args: Any, **kwargs: Any) -> CompletionResponse:
            return first

    Remembering(client=None).chat(chat(D))

    assert kit.usage().total_tokens == 108


def test_other_models_of_an_answer(kit: Kit) -> None:
    """What an answer used of another model is a record of its own."""
    iterations = [
        {"type": "advisor_message", "model": "claude-opus-4-5", "input_tokens": 5},
    ]
    usage = {"input_tokens": 50, "output_tokens": 9, "iterations": iterations}

    answer = {"type": "message", "model": "claude-sonnet-4-5", "usage": usage}
    Odd(client=None, answer=answer).chat(chat("hi"))

    assert sorted((r.model, r.input_tokens) for r in kit.records()) == [
        ("claude-opus-4-5", 5),
        ("claude-sonnet-4-5", 50),
    ]


def test_model_without_events(kit: Kit) -> None:
    """A class that fires no event is counted by what it returns, or is unreported."""
    Odd(client=None, answer={"usage": {"odd": 1}}).chat(chat("hi"))
    assert kit.usage().unreported_calls == 1

    usage = {"prompt_tokens": 101, "completion_tokens": 7}
    Odd(client=None, answer={"object": "chat.completion", "usage": usage}).chat(chat("hi"))
    assert kit.usage().total_tokens == 108
    assert all(record.duration_seconds for record in kit.records())
