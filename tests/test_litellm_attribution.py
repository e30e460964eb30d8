"""To whom LiteLLM's calls belong, whatever thread or task makes them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from agentsight_tokens.faults import fault_counts
from agentsight_tokens.scope import tool_scope
from tests.litellm_kit import QUIET, D, Kit, drain, handler_kit, litellm, messages, run, told

pytestmark = QUIET

OPENAI = (101, 7, 108, 0, 40, 0)
ask = litellm.completion
aask = litellm.acompletion


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with handler_kit(tmp_path) as kit:
        yield kit


async def in_a_loop(call: Callable[[], Any]) -> None:
    call()


def fallbacks(kit: Kit) -> Any:
    return ask(**kit.openai, messages=messages(), fallbacks=[kit.openai])


SCOPED: dict[str, Callable[[Kit], Any]] = {
    "sync": lambda k: ask(**k.openai, messages=messages()),
    "async": lambda k: run(aask(**k.openai, messages=messages())),
    "async anthropic": lambda k: run(aask(**k.anthropic, messages=messages())),
    "async stream": lambda k: run(drain(aask(**k.openai, messages=messages(), stream=True))),
    "batch": lambda k: litellm.batch_completion(**k.openai, messages=[messages()]),
    "batch of models": lambda k: litellm.batch_completion_models(
        **{**k.openai, "model": None}, models=[k.openai["model"]], messages=messages()
    ),
    "fallbacks": fallbacks,
    "fallbacks within a loop": lambda k: run(in_a_loop(lambda: fallbacks(k))),
    "router": lambda k: k.router().completion("first", messages()),
    "router within a loop": lambda k: run(
        in_a_loop(lambda: k.router().completion("first", messages()))
    ),
    "router async": lambda k: run(k.router().acompletion("first", messages())),
}


@pytest.mark.parametrize("name", SCOPED)
def test_the_scope_in_force_is_the_call_s(kit: Kit, name: str) -> None:
    """Also in the threads that LiteLLM itself starts."""
    with kit.tracker.conversation("a", agent="planner"), tool_scope("search"):
        SCOPED[name](kit)

    record = kit.record()
    assert told(kit.usage(conversation_id="a")) == OPENAI
    assert (record.scope.agent, record.tool_name) == ("planner", "search")


def test_a_thread_is_left_as_it_was(kit: Kit) -> None:
    """A thread of LiteLLM's pool has no scope behind the call that brought it."""
    seen: list[str | None] = []

    def respond(request: Any) -> None:
        seen.append(request.text)

    kit.provider.respond = respond
    with kit.tracker.conversation("a"):
        litellm.batch_completion(**kit.openai, messages=[messages("x")] * 3, max_workers=1)
    litellm.batch_completion(**kit.openai, messages=[messages("x")], max_workers=1)

    assert kit.usage(conversation_id="a").request_count == 3
    assert kit.usage(conversation_id="default").request_count == 1


ASKED = {"agentsight_conversation_id": "m", "agentsight_user_id": "u", "agentsight_tags": ["x"]}

NAMED: dict[str, Callable[[Kit], Any]] = {
    "metadata": lambda k: ask(**k.openai, messages=messages(), metadata=ASKED),
    "metadata async": lambda k: run(aask(**k.openai, messages=messages(), metadata=ASKED)),
    "litellm_metadata": lambda k: ask(**k.openai, messages=messages(), litellm_metadata=ASKED),
    "a proxy's caller": lambda k: ask(
        **k.openai, messages=messages(), metadata={"requester_metadata": ASKED}
    ),
    "batch": lambda k: litellm.batch_completion(**k.openai, messages=[messages()], metadata=ASKED),
    "router": lambda k: k.router().completion("first", messages(), metadata=ASKED),
    "router async": lambda k: run(k.router().acompletion("first", messages(), metadata=ASKED)),
    "bare thread": lambda k: in_thread(
        lambda: ask(**k.openai, messages=messages(), metadata=ASKED)
    ),
}


def in_thread(call: Callable[[], Any]) -> None:
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


@pytest.mark.parametrize("name", NAMED)
def test_metadata_wins_over_the_scope(kit: Kit, name: str) -> None:
    """The metadata keys name the conversation and everything else of a scope."""
    with kit.tracker.conversation("a", user_id="other", agent="planner"):
        NAMED[name](kit)

    record = kit.record()
    assert told(kit.usage(conversation_id="m")) == OPENAI
    assert (record.scope.user_id, record.scope.tags) == ("u", ("x",))
    if name != "bare thread":
        assert record.scope.agent == "planner"


def test_embeddings_take_metadata(kit: Kit) -> None:
    """Embeddings are attributed as completions are."""
    litellm.embedding(**kit.embedding, input=["a"], metadata=ASKED)
    run(litellm.aembedding(**kit.embedding, input=["a"], metadata=ASKED))

    assert kit.usage(conversation_id="m", user_id="u").embedding_tokens == 26


def test_metadata_comes_before_litellm_metadata(kit: Kit) -> None:
    """Where both name a field, `metadata` is the program's own."""
    ask(
        **kit.openai,
        messages=messages(),
        metadata={"agentsight_conversation_id": "m"},
        litellm_metadata={"agentsight_conversation_id": "n", "agentsight_feature": "f"},
    )

    assert kit.record().scope.conversation_id == "m"
    assert kit.record().scope.feature == "f"


def test_the_end_user_is_the_user_where_nothing_names_one(kit: Kit) -> None:
    """`user` is what providers are told; a scope or the metadata knows better."""
    options = {**kit.openai, "messages": messages(), "user": "end"}
    ask(**options)
    with kit.tracker.attribution(user_id="scope"):
        ask(**options)
    ask(**options, metadata={"agentsight_user_id": "meta"})

    # LiteLLM tells of calls in threads, in any order.
    assert sorted(r.scope.user_id or "" for r in kit.records()) == ["end", "meta", "scope"]


def test_wrong_names_cost_no_count(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call whose metadata names what no scope can have is counted without it."""
    monkeypatch.setattr("agentsight_tokens.faults._raises", False)

    ask(**kit.openai, messages=messages(), metadata={"agentsight_user_id": "u" * 5000})

    assert told(kit.usage()) == OPENAI
    assert kit.record().scope.user_id is None
    assert fault_counts()["attribution of a litellm call"] > 0


def test_a_stream_belongs_to_whoever_asked_for_it(kit: Kit) -> None:
    """One that is made in A and drained in B, or in a thread, is A's."""
    with kit.tracker.conversation("a"):
        streams = [ask(**kit.openai, messages=messages(), stream=True) for _ in range(2)]
    with kit.tracker.conversation("b"):
        list(streams[0])
        in_thread(lambda: list(streams[1]))

    assert kit.usage(conversation_id="a").total_tokens == 216
    assert kit.usage(conversation_id="b").request_count == 0


def test_calls_that_share_an_id_are_told_apart(kit: Kit) -> None:
    """A program may give one id to several calls at once."""

    async def both() -> None:
        calls = (
            aask(
                **kit.openai,
                messages=messages(f"[[in={100 + n} out=1 delay=0.1]]"),
                litellm_call_id="same",
                metadata={"agentsight_conversation_id": str(n)},
            )
            for n in range(8)
        )
        await asyncio.gather(*calls)

    run(both())

    for n in range(8):
        assert kit.usage(conversation_id=str(n)).input_tokens == 100 + n


@pytest.mark.parametrize("is_async", [False, True])
def test_many_at_once_stay_apart(kit: Kit, is_async: bool) -> None:
    """32 workers, 64 conversations of 4 calls each, read and sent meanwhile."""
    stop = threading.Event()

    def read() -> None:
        while not stop.wait(0.003):
            kit.tracker.send_tracked_data()

    def converse(n: int) -> None:
        prompt = messages(f"[[in={1000 + n} out={n + 1}]]")
        with kit.tracker.conversation(f"c{n}"):
            for turn in range(4):
                options = {**kit.openai, "messages": prompt, "stream": turn == 3}
                if is_async:
                    answer = run(drain(aask(**options)) if turn == 3 else aask(**options))
                else:
                    answer = ask(**options)
                list(answer)

    sender = threading.Thread(target=read)
    sender.start()
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(converse, range(64)))
    stop.set()
    sender.join()

    assert kit.usage().request_count == kit.provider.requests == 256
    for n in range(64):
        usage = kit.usage(conversation_id=f"c{n}")
        assert (usage.input_tokens, usage.output_tokens) == (4 * (1000 + n), 4 * (n + 1))
    assert kit.usage().total_tokens == kit.provider.billed().total_tokens


def test_calls_of_a_loop_stay_apart(kit: Kit) -> None:
    """Concurrent calls of one event loop, each in its own conversation."""

    async def converse(n: int) -> None:
        with kit.tracker.conversation(f"c{n}"):
            prompt = messages(f"[[in={1000 + n} out={n + 1}]]")
            await aask(**kit.openai, messages=prompt)
            await drain(aask(**kit.openai, messages=prompt, stream=True))

    async def main() -> None:
        await asyncio.gather(*(converse(n) for n in range(32)))

    run(main())

    for n in range(32):
        usage = kit.usage(conversation_id=f"c{n}")
        assert (usage.input_tokens, usage.output_tokens) == (2 * (1000 + n), 2 * (n + 1))


def test_a_call_s_prompt_is_not_kept(kit: Kit) -> None:
    """What a record holds of a call is counts and names."""
    ask(**kit.openai, messages=messages(D + " a secret"))

    assert "secret" not in repr(kit.record())
