"""LiteLLM's calls, each exact: what it sends, streams, retries, caches and never tells."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agentsight_tokens import TokenUsage
from agentsight_tokens.testing import Reply
from tests.litellm_kit import (
    QUIET,
    A,
    D,
    Kit,
    cache,
    drain,
    handler_kit,
    litellm,
    messages,
    run,
    told,
)

pytestmark = QUIET

OPENAI = (101, 7, 108, 0, 40, 0)
ANTHROPIC = (105, 9, 114, 0, 30, 0)
PLAIN = (11, 7, 18, 0, 4, 0)
NOTHING = (0, 0, 0, 0, 0, 0)
UNREPORTED = (0, 0, 0, 0, 0, 1)
EMBEDDING = (0, 0, 0, 26, 0, 0)


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with handler_kit(tmp_path) as kit:
        yield kit


ask = litellm.completion
aask = litellm.acompletion
Scenario = tuple[Callable[[Kit], Any], tuple[int, ...]]

CALLS: dict[str, Scenario] = {
    "openai": (lambda k: ask(**k.openai, messages=messages()), OPENAI),
    "openai async": (lambda k: run(aask(**k.openai, messages=messages())), OPENAI),
    "openai stream": (lambda k: list(ask(**k.openai, messages=messages(), stream=True)), OPENAI),
    "openai async stream": (
        lambda k: run(drain(aask(**k.openai, messages=messages(), stream=True))),
        OPENAI,
    ),
    "azure": (lambda k: ask(**k.azure, messages=messages()), OPENAI),
    "azure stream": (lambda k: list(ask(**k.azure, messages=messages(), stream=True)), OPENAI),
    "azure async stream": (
        lambda k: run(drain(aask(**k.azure, messages=messages(), stream=True))),
        OPENAI,
    ),
    "anthropic": (lambda k: ask(**k.anthropic, messages=messages(A)), ANTHROPIC),
    "anthropic async": (lambda k: run(aask(**k.anthropic, messages=messages(A))), ANTHROPIC),
    "anthropic stream": (
        lambda k: list(ask(**k.anthropic, messages=messages(A), stream=True)),
        ANTHROPIC,
    ),
    "anthropic async stream": (
        lambda k: run(
            drain(aask(**k.anthropic, messages=messages(A + "[[chunks=6]]"), stream=True))
        ),
        ANTHROPIC,
    ),
    "anthropic stream, output last": (
        lambda k: list(
            ask(**k.anthropic, messages=messages(A + "[[mode=output_only]]"), stream=True)
        ),
        ANTHROPIC,
    ),
    "anthropic's own messages": (
        lambda k: run(
            litellm.anthropic_messages(**k.anthropic, messages=messages(A), max_tokens=9)
        ),
        ANTHROPIC,
    ),
    "gemini": (lambda k: ask(**k.gemini, messages=messages()), OPENAI),
    "gemini stream": (lambda k: list(ask(**k.gemini, messages=messages(), stream=True)), OPENAI),
    "usage on every chunk": (
        lambda k: list(
            ask(**k.openai, messages=messages(D + "[[mode=every_chunk chunks=5]]"), stream=True)
        ),
        OPENAI,
    ),
    "usage on the last content chunk": (
        lambda k: list(
            ask(**k.openai, messages=messages(D + "[[mode=last_content_chunk]]"), stream=True)
        ),
        OPENAI,
    ),
    "embedding": (lambda k: litellm.embedding(**k.embedding, input=["a", "b"]), EMBEDDING),
    "embedding async": (
        lambda k: run(litellm.aembedding(**k.embedding, input=["a", "b"])),
        EMBEDDING,
    ),
    "legacy completion": (lambda k: litellm.text_completion(**k.legacy, prompt=D), OPENAI),
    "text completion of a chat model": (
        lambda k: litellm.text_completion(**k.openai, prompt=D),
        OPENAI,
    ),
    "text completion async": (
        lambda k: run(litellm.atext_completion(**k.openai, prompt=D)),
        OPENAI,
    ),
    "batch": (
        lambda k: litellm.batch_completion(**k.openai, messages=[messages()] * 3),
        (303, 21, 324, 0, 120, 0),
    ),
    "told to log nothing": (
        lambda k: ask(**k.openai, messages=messages(), **{"no-log": True}),
        OPENAI,
    ),
    "mocked": (lambda k: ask(**k.openai, messages=messages(), mock_response="hi"), NOTHING),
    "mocked stream": (
        lambda k: list(ask(**k.openai, messages=messages(), mock_response="hi", stream=True)),
        NOTHING,
    ),
    "mocked embedding": (
        lambda k: litellm.embedding(**k.embedding, input=["a"], mock_response=[0.1]),
        NOTHING,
    ),
    "silent": (lambda k: ask(**k.openai, messages=messages("[[mode=never]]")), UNREPORTED),
    "silent stream": (
        lambda k: list(ask(**k.openai, messages=messages("hi [[mode=never]]"), stream=True)),
        UNREPORTED,
    ),
    "silent async stream": (
        lambda k: run(drain(aask(**k.openai, messages=messages("hi [[mode=never]]"), stream=True))),
        UNREPORTED,
    ),
    "silent anthropic stream": (
        lambda k: list(ask(**k.anthropic, messages=messages("[[mode=never]]"), stream=True)),
        UNREPORTED,
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_are_exact_at_once(kit: Kit, name: str) -> None:
    """What is read right after a call is what the provider billed, or is unreported."""
    call, expected = CALLS[name]

    call(kit)

    assert told(kit.usage()) == expected
    billed = kit.provider.billed()
    if not expected[-1]:
        assert billed.total_tokens == expected[2]
        assert billed.embedding_tokens == expected[3]
    kit.tracker.flush(5)
    assert told(kit.usage()) == expected


RESPONSES: dict[str, Scenario] = {
    "whole": (lambda k: litellm.responses(**k.openai, input=D), OPENAI),
    "async": (lambda k: run(litellm.aresponses(**k.openai, input=D)), OPENAI),
    "stream": (lambda k: list(litellm.responses(**k.openai, input=D, stream=True)), OPENAI),
    "async stream": (
        lambda k: run(drain(litellm.aresponses(**k.openai, input=D, stream=True))),
        OPENAI,
    ),
    "over anthropic": (lambda k: litellm.responses(**k.anthropic, input=A), ANTHROPIC),
    "stream over anthropic": (
        lambda k: list(litellm.responses(**k.anthropic, input=A, stream=True)),
        ANTHROPIC,
    ),
    "silent": (lambda k: litellm.responses(**k.openai, input="[[mode=never]]"), UNREPORTED),
    "silent stream": (
        lambda k: list(litellm.responses(**k.openai, input="hi [[mode=never]]", stream=True)),
        UNREPORTED,
    ),
    "mocked": (lambda k: litellm.responses(**k.openai, input=D, mock_response="hi"), NOTHING),
}


@pytest.mark.parametrize("name", RESPONSES)
def test_responses_are_exact_at_once(kit: Kit, name: str) -> None:
    """OpenAI's Responses, and other providers' chats through them, count the same."""
    pytest.importorskip(
        "mcp", reason="LITELLM'S RESPONSES CANNOT BE CALLED WITHOUT mcp: litellm[mcp] installs it"
    )
    call, expected = RESPONSES[name]

    call(kit)

    assert told(kit.usage()) == expected


def test_a_failed_response_that_was_billed_counts(kit: Kit) -> None:
    """The usage that a stream tells with its failure is billed."""
    pytest.importorskip("mcp")
    kit.provider.enqueue(Reply(response_status="failed", billed=True))

    with suppress(Exception):
        list(litellm.responses(**kit.openai, input="hi", stream=True))

    assert told(kit.usage()) == PLAIN
    assert kit.record().error_type is not None


RETRIES: dict[str, tuple[int, Callable[[Kit], Any], int]] = {
    "router": (2, lambda k: k.router().completion("first", messages("x")), 3),
    "router async": (2, lambda k: run(k.router().acompletion("first", messages("x"))), 3),
    "router stream": (
        2,
        lambda k: list(k.router().completion("first", messages("x"), stream=True)),
        3,
    ),
    "router async stream": (
        2,
        lambda k: run(drain(k.router().acompletion("first", messages("x"), stream=True))),
        3,
    ),
    "fallbacks": (
        1,
        lambda k: ask(
            **k.openai, messages=messages("x"), fallbacks=[{**k.openai, "model": "openai/gpt-4o"}]
        ),
        2,
    ),
    "fallbacks async": (
        1,
        lambda k: run(
            aask(
                **k.openai,
                messages=messages("x"),
                fallbacks=[{**k.openai, "model": "openai/gpt-4o"}],
            )
        ),
        2,
    ),
    "retries": (2, lambda k: ask(**k.anthropic, messages=messages("x"), num_retries=2), 3),
    "retries async": (
        2,
        lambda k: run(aask(**k.anthropic, messages=messages("x"), num_retries=2)),
        3,
    ),
    "completion_with_retries": (
        2,
        lambda k: litellm.completion_with_retries(
            **k.openai, messages=messages("x"), num_retries=3
        ),
        3,
    ),
}


@pytest.mark.parametrize("name", RETRIES)
def test_failed_attempts_cost_nothing(kit: Kit, name: str) -> None:
    """Of retries, routers and fallbacks the answer counts; each failure is a record of zero."""
    failures, call, requests = RETRIES[name]
    kit.failing(failures)

    call(kit)

    assert told(kit.usage()) == PLAIN
    # LiteLLM tells of calls in threads, in any order.
    assert sorted(r.status for r in kit.records()) == ["error"] * (requests - 1) + ["ok"]
    assert all(r.error_type for r in kit.records(status="error"))


@pytest.mark.parametrize("is_async", [False, True])
def test_a_call_whose_retries_all_fail_costs_nothing(kit: Kit, is_async: bool) -> None:
    """LiteLLM tells one failure of a call; every attempt is known to have been refused."""
    kit.failing(9)
    options = {**kit.anthropic, "messages": messages("x"), "num_retries": 2}

    with pytest.raises(litellm.InternalServerError):
        run(aask(**options)) if is_async else ask(**options)

    assert told(kit.usage()) == NOTHING
    assert {r.status for r in kit.records()} == {"error"}
    assert len(kit.records()) == kit.provider.requests


FAILURES: dict[str, tuple[Callable[[Kit], Any], str, tuple[int, ...]]] = {
    "refused": (lambda k: ask(**k.openai, messages=messages("[[status=400]]")), "error", NOTHING),
    "server": (
        lambda k: run(aask(**k.openai, messages=messages("[[status=500]]"))),
        "error",
        NOTHING,
    ),
    "refused stream": (
        lambda k: list(ask(**k.openai, messages=messages("[[status=429]]"), stream=True)),
        "error",
        NOTHING,
    ),
    "never sent": (
        lambda k: ask(**{**k.openai, "api_base": "http://127.0.0.1:9/v1"}, messages=messages()),
        "error",
        NOTHING,
    ),
    "never sent async": (
        lambda k: run(
            aask(**{**k.anthropic, "api_base": "http://127.0.0.1:9"}, messages=messages())
        ),
        "error",
        NOTHING,
    ),
    "timed out": (
        lambda k: ask(**k.openai, messages=messages("[[delay=1]]"), timeout=0.2),
        "error",
        UNREPORTED,
    ),
    "timed out async": (
        lambda k: run(aask(**k.anthropic, messages=messages("[[delay=1]]"), timeout=0.2)),
        "error",
        UNREPORTED,
    ),
    "no answer": (
        lambda k: ask(**k.openai, messages=messages("[[break=0]]")),
        "error",
        UNREPORTED,
    ),
    "broken stream": (
        lambda k: list(
            ask(**k.openai, messages=messages("[[chunks=4 break=2 text=abcdefgh]]"), stream=True)
        ),
        "error",
        UNREPORTED,
    ),
    "broken async stream": (
        lambda k: run(
            drain(
                aask(
                    **k.openai, messages=messages("[[chunks=4 break=2 text=abcdefgh]]"), stream=True
                )
            )
        ),
        "error",
        UNREPORTED,
    ),
    "broken stream that told some": (
        lambda k: list(
            ask(
                **k.anthropic,
                messages=messages("[[in=5 out=9 chunks=4 break=2 text=abcdefgh]]"),
                stream=True,
            )
        ),
        "partial",
        (5, 1, 6, 0, 0, 0),
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failures_are_told_apart(kit: Kit, name: str) -> None:
    """What was refused costs nothing; what may have been billed is unreported or partial."""
    call, status, expected = FAILURES[name]

    with pytest.raises(Exception, match=r"\w"):
        call(kit)

    assert told(kit.usage()) == expected
    record = kit.record()
    assert record.status == status
    assert record.error_type is not None


def leave(kit: Kit, parts: int = 2, **options: Any) -> None:
    stream = ask(**{**kit.openai, "messages": messages("[[chunks=6]]"), **options}, stream=True)
    for _ in range(parts):
        next(stream)


async def leave_async(kit: Kit, *, closes: bool) -> None:
    stream = await aask(**kit.openai, messages=messages("[[chunks=6]]"), stream=True)
    await anext(stream)
    await anext(stream)
    if closes:
        await stream.aclose()
        assert kit.usage().unreported_calls == 1


async def cancel(kit: Kit, **options: Any) -> None:
    task = asyncio.ensure_future(
        aask(**{**kit.openai, "messages": messages("[[delay=1]]"), **options})
    )
    await asyncio.sleep(0.3)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert kit.usage().unreported_calls == 1


async def cancel_in_its_task(kit: Kit) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_later(0.3, task.cancel)
    with suppress(asyncio.CancelledError):
        await aask(**kit.openai, messages=messages("[[delay=1]]"))
    assert kit.usage().unreported_calls == 1


async def cancel_embedding(kit: Kit) -> None:
    kit.provider.enqueue(Reply(delay_seconds=1))
    with suppress(asyncio.TimeoutError):
        await asyncio.wait_for(litellm.aembedding(**kit.embedding, input=["a"]), 0.3)


LEFT: dict[str, Callable[[Kit], Any]] = {
    "stream": leave,
    "stream, untouched": lambda k: leave(k, 0),
    "async stream, closed": lambda k: run(leave_async(k, closes=True)),
    "async stream, dropped": lambda k: run(leave_async(k, closes=False)),
    "responses": lambda k: next(litellm.responses(**k.openai, input="x", stream=True)),
    "cancelled": lambda k: run(cancel(k)),
    "cancelled stream": lambda k: run(cancel(k, stream=True)),
    "cancelled anthropic": lambda k: run(cancel(k, **k.anthropic)),
    "cancelled in its own task": lambda k: run(cancel_in_its_task(k)),
    "cancelled embedding": lambda k: run(cancel_embedding(k)),
}


@pytest.mark.parametrize("name", LEFT)
def test_what_is_left_early_is_unreported(kit: Kit, name: str) -> None:
    """A call whose answer nobody waited for is unreported as cancelled, at once."""
    if name == "responses":
        pytest.importorskip("mcp")

    LEFT[name](kit)

    assert told(kit.usage()) == UNREPORTED
    assert (kit.record().status, kit.record().unreported_reason) == ("cancelled", "cancelled")


def test_a_stream_that_is_left_counts_what_it_told(kit: Kit) -> None:
    """Anthropic tells the input with the first event."""
    leave(kit, messages=messages("[[in=5 out=9 chunks=6]]"), **kit.anthropic)

    assert told(kit.usage()) == (5, 1, 6, 0, 0, 0)
    assert kit.record().status == "partial"


def test_a_stream_that_is_left_behind_its_end_is_whole(kit: Kit) -> None:
    """Who stops at the finish reason has everything that Anthropic tells."""
    stream = ask(**kit.anthropic, messages=messages(A), stream=True)
    while not next(stream).choices[0].finish_reason:
        pass
    del stream

    assert told(kit.usage()) == ANTHROPIC
    assert kit.record().status == "ok"


def test_a_stream_that_is_still_held_goes_on(kit: Kit) -> None:
    """A reader in the midst of a stream counts nothing of it, and takes nothing away."""
    stream = ask(**kit.openai, messages=messages(D + "[[chunks=5]]"), stream=True)
    next(stream)
    next(stream)

    assert told(kit.usage()) == NOTHING
    assert told(kit.usage()) == NOTHING
    list(stream)
    assert told(kit.usage()) == OPENAI


def test_a_router_s_stream_may_be_closed(kit: Kit) -> None:
    """Of the two wrappers around a router's stream the program holds the outer one."""

    async def close() -> None:
        stream = await kit.router().acompletion("first", messages("[[chunks=6]]"), stream=True)
        await anext(stream)
        await stream.aclose()

    run(close())

    assert told(kit.usage()) == UNREPORTED


CACHED: dict[str, Callable[[Kit], Any]] = {
    "whole": lambda k: ask(**k.openai, messages=messages(), caching=True),
    "async": lambda k: run(aask(**k.openai, messages=messages(), caching=True)),
    "stream": lambda k: list(ask(**k.openai, messages=messages(), caching=True, stream=True)),
}


@pytest.mark.parametrize("name", CACHED)
def test_cached_answers_cost_nothing(kit: Kit, name: str) -> None:
    """The second of two identical calls is answered by LiteLLM itself."""
    with cache():
        CACHED[name](kit)
        kit.usage()
        CACHED[name](kit)

    assert kit.provider.requests == 1
    assert told(kit.usage()) == OPENAI
    assert kit.usage().request_count == 1


def test_cached_embeddings_cost_nothing(kit: Kit) -> None:
    """Of a batch of which some are cached the others are sent, and counted."""

    async def embed(*texts: str) -> None:
        await litellm.aembedding(**kit.embedding, input=list(texts), caching=True)
        await asyncio.sleep(0.05)

    with cache():
        for texts in (("a", "b"), ("a", "c"), ("a", "c")):
            run(embed(*texts))

    assert kit.usage().embedding_tokens == kit.provider.billed().embedding_tokens == 39
    assert kit.usage().request_count == 2


class OwnProvider(litellm.CustomLLM):
    """A provider that the program added."""

    def completion(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs["messages"][0]["content"] == "fail":
            raise litellm.llms.custom_llm.CustomLLMError(status_code=500, message="failed")
        answer = litellm.ModelResponse()
        answer.choices = [litellm.Choices(message=litellm.Message(content="x"))]
        answer.usage = litellm.Usage(prompt_tokens=3, completion_tokens=4, total_tokens=7)
        return answer

    async def acompletion(self, *args: Any, **kwargs: Any) -> Any:
        return self.completion(*args, **kwargs)


def test_a_provider_of_the_program_s_own_counts(kit: Kit) -> None:
    """LiteLLM tells no start of its calls, cached answers among them."""
    litellm.custom_provider_map = [{"provider": "own", "custom_handler": OwnProvider()}]

    ask("own/model", messages("x"))
    run(aask("own/model", messages("x")))
    with pytest.raises(Exception, match="failed"):
        ask("own/model", messages("fail"))
    with cache():
        for _ in range(2):
            ask("own/model", messages("again"), caching=True)
            kit.usage()

    assert kit.usage().total_tokens == 3 * 7
    assert sorted((r.provider, r.status) for r in kit.records()) == [
        ("own", "error"),
        *[("own", "ok")] * 3,
    ]


def test_streams_are_asked_only_where_the_program_did_not_say(kit: Kit) -> None:
    """`include_usage: false` is the program's word; its other options are kept."""
    options = {**kit.openai, "messages": messages(), "stream": True}

    list(ask(**options, stream_options={"include_usage": False}))
    list(ask(**options, stream_options={"include_obfuscation": False}))

    sent = [request.body["stream_options"] for request in kit.provider.received]
    assert sent == [
        {"include_usage": False},
        {"include_obfuscation": False, "include_usage": True},
    ]
    assert told(kit.usage()) == (101, 7, 108, 0, 40, 1)


def test_the_program_sees_the_same_parts(kit: Kit, tmp_path: Path) -> None:
    """Asking for the usage brings no part more."""
    options = {**kit.openai, "messages": messages("[[text=abcdefgh chunks=4]]"), "stream": True}

    def parts() -> list[str | None]:
        return [part.choices[0].delta.content for part in ask(**options)]

    with_us = parts()
    with handler_kit(tmp_path / "off", configure=lambda config: config.replace(stream_usage=False)):
        pass  # the handler is off from here on

    assert parts() == with_us


def test_a_server_that_refuses_the_options_is_asked_without(tmp_path: Path) -> None:
    """The program's call succeeds, and that server is not asked again."""
    with handler_kit(tmp_path, strict=True) as kit:
        for _ in range(2):
            list(ask(**kit.openai, messages=messages(), stream=True))
        run(drain(aask(**kit.openai, messages=messages(), stream=True)))

        assert kit.provider.requests == 4
        assert kit.usage().unreported_calls == 3


def test_an_asynchronous_call_retreats_too(tmp_path: Path) -> None:
    """The first contact with a strict server may be asynchronous; other refusals are raised."""
    with handler_kit(tmp_path, strict=True) as kit:
        run(drain(aask(**kit.openai, messages=messages(), stream=True)))
        assert kit.provider.requests == 2

    with handler_kit(tmp_path / "other") as kit, pytest.raises(litellm.BadRequestError):
        run(drain(aask(**kit.openai, messages=messages("[[status=400]]"), stream=True)))


def test_streams_are_not_asked_where_the_setting_says_no(tmp_path: Path) -> None:
    """With `stream_usage` off the request goes out as it is."""
    with handler_kit(tmp_path, configure=lambda config: config.replace(stream_usage=False)) as kit:
        list(ask(**kit.openai, messages=messages(), stream=True))

        assert "stream_options" not in kit.provider.received[0].body
        assert told(kit.usage()) == UNREPORTED


def test_records_say_what_litellm_knows(kit: Kit) -> None:
    """The model that answered, its provider, the times, the provider's id of the response."""
    answer = list(ask(**kit.azure, messages=messages("[[model=gpt-4o-2024-08-06]]"), stream=True))

    record = kit.record()
    assert (record.handler, record.operation) == ("litellm", "chat")
    assert (record.model, record.provider) == ("gpt-4o-2024-08-06", "azure")
    assert record.response_id == answer[0].id
    assert record.duration_seconds is not None
    assert record.time_to_first_token_seconds is not None


def test_litellm_s_own_costs_are_not_taken(kit: Kit) -> None:
    """Calls are priced by our catalog, whatever LiteLLM computes."""
    ask(**kit.openai, messages=messages(), input_cost_per_token=1.0, output_cost_per_token=1.0)

    assert kit.record().usage == TokenUsage(
        input_tokens=101, output_tokens=7, cache_read_tokens=40, reasoning_tokens=2
    )
    assert kit.record().cost is not None
    assert kit.record().cost < 1
