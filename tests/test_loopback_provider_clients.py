"""Real clients read the loopback provider's answers, and see what its ledger says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from agentsight_tokens.testing import LoopbackProvider, Reply, ToolCall
from agentsight_tokens.usage import TokenUsage

openai = pytest.importorskip("openai")

D = TokenUsage(input_tokens=11, output_tokens=7, cache_read_tokens=4, reasoning_tokens=2)


class Answer(BaseModel):
    usage: int


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    with LoopbackProvider() as running:
        yield running


@pytest.fixture
def client(provider: LoopbackProvider) -> Iterator[Any]:
    with openai.OpenAI(base_url=provider.openai_url, api_key="k", max_retries=0) as opened:
        yield opened


def user(text: str = "hi") -> list[Any]:
    return [{"role": "user", "content": text}]


def seen(usage: Any) -> TokenUsage:
    """Read the usage of an OpenAI object."""
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    return TokenUsage(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
        cache_read_tokens=prompt.cached_tokens,
        cache_creation_tokens=prompt.cache_write_tokens,
        audio_input_tokens=prompt.audio_tokens,
        reasoning_tokens=completion.reasoning_tokens,
        audio_output_tokens=completion.audio_tokens,
    )


def test_openai_chat(provider: LoopbackProvider, client: Any) -> None:
    """A chat answers "ok" and reports what the ledger billed."""
    answer = client.chat.completions.create(model="gpt-4o", messages=user())

    (call,) = provider.ledger
    assert answer.choices[0].message.content == "ok"
    assert answer.service_tier == "default"
    assert seen(answer.usage) == call.usage == D
    assert (call.model, call.operation, call.response_id) == ("gpt-4o", "chat", answer.id)
    assert (call.reported, call.streamed, call.status_code) == (True, False, 200)
    assert call.body["messages"] == user()


def test_openai_chat_stream_when_asked(provider: LoopbackProvider, client: Any) -> None:
    """A stream reports its usage in one last chunk if the client asks for it."""
    chunks = list(
        client.chat.completions.create(
            model="gpt-4o", messages=user(), stream=True, stream_options={"include_usage": True}
        )
    )

    told = [chunk.usage for chunk in chunks if chunk.usage]
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == "ok"
    assert [seen(usage) for usage in told] == [D]
    assert chunks[-1].choices == []
    assert [(call.streamed, call.reported) for call in provider.ledger] == [(True, True)]


def test_openai_chat_stream_unasked(provider: LoopbackProvider, client: Any) -> None:
    """A stream whose usage nobody asked for is billed and not reported."""
    chunks = list(client.chat.completions.create(model="gpt-4o", messages=user(), stream=True))

    assert not any(chunk.usage for chunk in chunks)
    assert provider.billed() == D
    assert [call.reported for call in provider.ledger] == [False]


@pytest.mark.parametrize(
    ("mode", "outputs"),
    [
        ("every_chunk", [0, 1, 3, 5, 7, 7]),
        ("last_content_chunk", [None, None, None, None, 7, None]),
        ("second_last_chunk", [None, None, None, 7, None, None]),
        ("never", [None] * 6),
    ],
)
def test_openai_usage_modes(
    provider: LoopbackProvider, client: Any, mode: Any, outputs: list[int | None]
) -> None:
    """A stream reports its usage on the chunks that the mode names, unasked."""
    provider.enqueue(Reply(text="four", chunks=4, usage_mode=mode))

    chunks = list(client.chat.completions.create(model="m", messages=user(), stream=True))

    assert [c.usage.completion_tokens if c.usage else None for c in chunks] == outputs
    assert [call.reported for call in provider.ledger] == [mode != "never"]


def test_openai_tool_calls(provider: LoopbackProvider, client: Any) -> None:
    """Tool calls come whole in an answer and in parts in a stream."""
    provider.default_reply = Reply(tool_calls=(ToolCall("add", {"a": 1}), ToolCall("sub")))

    message = client.chat.completions.create(model="m", messages=user()).choices[0].message
    with client.chat.completions.stream(model="m", messages=user()) as stream:
        streamed = stream.get_final_completion().choices[0]

    assert message.content is None
    for calls in (message.tool_calls, streamed.message.tool_calls):
        assert [(c.function.name, json.loads(c.function.arguments)) for c in calls] == [
            ("add", {"a": 1}),
            ("sub", {}),
        ]
    assert streamed.finish_reason == "tool_calls"


def test_openai_several_choices(provider: LoopbackProvider, client: Any) -> None:
    """Each of n choices bills its own output; the usage is reported once."""
    whole = client.chat.completions.create(model="m", messages=user(), n=3)
    chunks = list(client.chat.completions.create(model="m", messages=user(), n=3, stream=True))

    assert len(whole.choices) == 3
    assert {c.choices[0].index for c in chunks} == {0, 1, 2}
    usage = whole.usage
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (11, 21, 32)
    assert [call.usage.output_tokens for call in provider.ledger] == [21, 21]


def test_openai_legacy_completions(provider: LoopbackProvider, client: Any) -> None:
    """Each prompt of a completion bills what its own directive says, streamed or not."""
    prompts = ["[[in=1 out=2]]", "[[in=3 out=4]]", "[[in=5 out=6]]"]
    whole = client.completions.create(model="m", prompt=prompts)
    chunks = list(
        client.completions.create(
            model="m", prompt="hi", stream=True, stream_options={"include_usage": True}
        )
    )

    assert [choice.text for choice in whole.choices] == ["ok"] * 3
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens) == (9, 12)
    assert "".join(c.choices[0].text for c in chunks if c.choices) == "ok"
    assert seen(chunks[-1].usage) == D
    assert [call.operation for call in provider.ledger] == ["completion"] * 2


def test_openai_responses(provider: LoopbackProvider, client: Any) -> None:
    """The Responses API reports the same usage whole and streamed."""
    whole = client.responses.create(model="gpt-4o", input="hi")
    events = list(client.responses.create(model="gpt-4o", input=user(), stream=True))

    usage = whole.usage
    assert whole.output_text == "ok"
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (11, 7, 18)
    assert usage.input_tokens_details.cached_tokens == 4
    assert usage.output_tokens_details.reasoning_tokens == 2
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    assert events[-1].response.usage == usage
    assert [call.usage for call in provider.ledger] == [D, D]


def test_openai_responses_tools_and_structure(provider: LoopbackProvider, client: Any) -> None:
    """The Responses API sends function calls, and JSON for a schema."""
    provider.enqueue(Reply(tool_calls=(ToolCall("add", {"a": 1}),)), Reply(text='{"usage":5000}'))

    with client.responses.stream(model="m", input="hi") as stream:
        (item,) = stream.get_final_response().output
    parsed = client.responses.parse(model="m", input="hi", text_format=Answer)

    assert (item.type, item.name, item.arguments) == ("function_call", "add", '{"a":1}')
    assert parsed.output_parsed == Answer(usage=5000)


@pytest.mark.parametrize("billed", [True, False])
def test_openai_responses_failed(provider: LoopbackProvider, client: Any, billed: bool) -> None:
    """A failed response carries its usage if it is billed, else none."""
    provider.default_reply = Reply(response_status="failed", billed=billed)

    last = list(client.responses.create(model="m", input="hi", stream=True))[-1]

    assert last.type == "response.failed"
    assert last.response.error.code == "server_error"
    assert bool(last.response.usage) is billed
    assert provider.billed() == (D if billed else TokenUsage())


def test_openai_responses_incomplete(provider: LoopbackProvider, client: Any) -> None:
    """An incomplete response is billed and says why it ended."""
    provider.default_reply = Reply(response_status="incomplete")

    answer = client.responses.create(model="m", input="hi")

    assert answer.incomplete_details.reason == "max_output_tokens"
    assert provider.billed() == D


def test_openai_embeddings(provider: LoopbackProvider, client: Any) -> None:
    """Embeddings bill 13 tokens a text or what is asked for, in both encodings."""
    texts = ["[[in=3]]", "[[embedding=4 label=a]]", "plain"]
    default = client.embeddings.create(model="e", input=texts)
    plain = client.embeddings.create(model="e", input=texts, encoding_format="float")
    tokens = client.embeddings.create(model="e", input=[[1, 2], [3]], dimensions=5)
    client.embeddings.create(model="e", input=[1, 2, 3])

    assert [call.usage.embedding_tokens for call in provider.ledger] == [20, 20, 26, 13]
    assert default.usage.total_tokens == 20
    for one, other in zip(default.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
    assert [len(item.embedding) for item in tokens.data] == [5, 5]
    assert provider.billed("a").embedding_tokens == 40
    assert provider.billed().total_tokens == 0


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
    ],
)
def test_openai_errors(
    provider: LoopbackProvider, client: Any, status: int, error: type[Exception]
) -> None:
    """A failure is raised as the client's own exception and is not billed."""
    provider.enqueue(Reply(status=status))

    with pytest.raises(error, match="told to fail"):
        client.chat.completions.create(model="m", messages=user(), stream=True)

    assert provider.ledger == ()
    assert provider.requests == 1


def test_openai_stream_closed_early(provider: LoopbackProvider, client: Any) -> None:
    """A stream that its client closes is billed up to there."""
    provider.enqueue(Reply(chunks=7, hold_after_chunks=3, usage_mode="every_chunk"))

    stream = client.chat.completions.create(model="m", messages=user(), stream=True)
    told = [next(stream).usage.completion_tokens for _ in range(4)]
    stream.close()

    assert provider.settle()
    assert told == [0, 1, 2, 3]
    assert provider.billed().total_tokens == 14


def test_openai_retries(provider: LoopbackProvider, client: Any) -> None:
    """A client that retries is billed for the attempt that succeeds."""
    provider.enqueue(Reply(status=500, retry_after=0.001), Reply(status=429, retry_after=0.001))

    client.with_options(max_retries=2).chat.completions.create(model="m", messages=user())

    assert (provider.requests, provider.billed()) == (3, D)


def test_azure_paths(provider: LoopbackProvider) -> None:
    """Azure's deployments answer as the chat does, under the deployment's name."""
    with openai.AzureOpenAI(
        azure_endpoint=provider.url, api_key="k", api_version="2024-10-21"
    ) as client:
        client.chat.completions.create(model="my-deployment", messages=user())

    assert [call.model for call in provider.ledger] == ["my-deployment"]


def test_openai_async(provider: LoopbackProvider) -> None:
    """Many asynchronous calls at once are each billed once."""

    async def ask() -> list[Any]:
        async with openai.AsyncOpenAI(base_url=provider.openai_url, api_key="k") as client:
            asked = [
                client.chat.completions.create(model="m", messages=user(f"[[in={i} out=1]]"))
                for i in range(1, 51)
            ]
            return await asyncio.gather(*asked)

    answers = asyncio.run(ask())

    assert sum(a.usage.prompt_tokens for a in answers) == provider.billed().input_tokens == 1275
    assert len({a.id for a in answers}) == 50


def test_models(client: Any) -> None:
    """The list of models can be read."""
    assert "gpt-4o" in [model.id for model in client.models.list()]


def test_anthropic_sdk(provider: LoopbackProvider) -> None:
    """Anthropic's disjoint counts add up to the ledger's inclusive ones."""
    anthropic = pytest.importorskip("anthropic")
    provider.default_reply = Reply(
        input_tokens=20,
        output_tokens=7,
        cache_read_tokens=4,
        cache_creation_tokens=5,
        cache_creation_1h_tokens=2,
        web_search_requests=1,
    )
    asked: Any = {"model": "claude", "max_tokens": 9, "messages": user()}

    with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="k") as client:
        message = client.messages.create(**asked)
        with client.messages.stream(**asked) as stream:
            streamed = stream.get_final_message()

    for one in (message, streamed):
        usage = one.usage
        assert one.content[0].text == "ok"
        assert (usage.input_tokens, usage.output_tokens) == (11, 7)
        assert (usage.cache_read_input_tokens, usage.cache_creation_input_tokens) == (4, 5)
        assert usage.cache_creation.ephemeral_1h_input_tokens == 2
        assert usage.cache_creation.ephemeral_5m_input_tokens == 3
        assert usage.server_tool_use.web_search_requests == 1
    billed = provider.ledger[0].usage
    assert (billed.input_tokens, billed.total_tokens, billed.web_search_requests) == (20, 27, 1)
    assert [call.reported for call in provider.ledger] == [True, True]


def test_anthropic_stream_shapes(provider: LoopbackProvider) -> None:
    """Several final events report cumulatively; the older shape reports the output alone."""
    anthropic = pytest.importorskip("anthropic")
    provider.enqueue(
        Reply(input_tokens=11, output_tokens=8, message_deltas=2),
        Reply(input_tokens=11, output_tokens=8, usage_mode="output_only"),
        Reply(tool_calls=(ToolCall("add", {"a": 1}),)),
    )
    asked: Any = {"model": "claude", "max_tokens": 9, "messages": user()}

    with anthropic.Anthropic(base_url=provider.anthropic_url, api_key="k") as client:
        twice, older = (
            [
                (event.usage.input_tokens, event.usage.output_tokens)
                for event in client.messages.create(**asked, stream=True)
                if event.type == "message_delta"
            ]
            for _ in range(2)
        )
        with client.messages.stream(**asked) as stream:
            message = stream.get_final_message()

    assert twice == [(11, 4), (11, 8)]
    assert older == [(None, 8)]
    assert message.content[0].input == {"a": 1}
    assert message.stop_reason == "tool_use"


def test_anthropic_errors(provider: LoopbackProvider) -> None:
    """A failure has Anthropic's shape and its client's exception."""
    anthropic = pytest.importorskip("anthropic")
    provider.enqueue(Reply(status=429))

    with (
        anthropic.Anthropic(base_url=provider.anthropic_url, api_key="k", max_retries=0) as client,
        pytest.raises(anthropic.RateLimitError) as raised,
    ):
        client.messages.create(model="claude", max_tokens=9, messages=user())

    assert raised.value.body["error"]["type"] == "rate_limit_error"
    assert provider.ledger == ()
