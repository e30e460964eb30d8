"""What the LlamaIndex handler owes its host: the right owner, no trace of itself, no harm."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import llama_index_instrumentation as instrumentation
import pytest
from llama_index.core import Document, Settings, SummaryIndex
from llama_index.core.agent.workflow import AgentWorkflow, FunctionAgent
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.llms import ChatMessage, ChatResponse, CompletionResponse, MockLLM
from llama_index.core.prompts import PromptTemplate
from llama_index.core.storage.kvstore import SimpleKVStore
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai import OpenAI
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.event_handlers import BaseEventHandler
from openai.resources.responses import Responses
from pydantic import BaseModel

from agentsight_tokens import ConversationTracker, TokenUsage, handlers
from agentsight_tokens.errors import BudgetExceededError, EncodingUnavailableError
from agentsight_tokens.faults import fault_counts
from agentsight_tokens.handlers import deactivate
from agentsight_tokens.meter import meter
from agentsight_tokens.scope import current_attribution
from agentsight_tokens.testing import LoopbackProvider, Reply, ToolCall
from agentsight_tokens_llamaindex import LlamaIndexHandler
from agentsight_tokens_llamaindex.calls import CallTable
from agentsight_tokens_llamaindex.capture import Capture
from agentsight_tokens_llamaindex.generators import GeneratorTable, Origin
from agentsight_tokens_llamaindex.patches import Patches
from agentsight_tokens_llamaindex.spans import Span, SpanTable
from agentsight_tokens_llamaindex.stream_usage import (
    _first_contact,
    _first_contact_async,
    _Servers,
)
from agentsight_tokens_llamaindex.taps import _first_shown, _first_shown_async, _parse_patch
from tests.llamaindex_kit import (
    A,
    BatchEmbedding,
    D,
    FromCompletion,
    Kit,
    LocalEmbedding,
    SDKEmbedding,
    chat,
    drain,
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

LONG = "[[in=101 out=7 cached=40 reasoning=2 chunks=4 text=abcd]]"


class Answer(BaseModel):
    text: str


class Witness(BaseEventHandler):
    """A program's own handler, which counts the events that it gets."""

    @classmethod
    def class_name(cls) -> str:
        return "Witness"

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:
        seen[type(event).__name__] += 1


seen: Counter[str] = Counter()


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with handler_kit(tmp_path) as kit:
        yield kit


# Whose call it is


def test_stream_goes_to_where_it_began(kit: Kit) -> None:
    """A stream that was asked for under A is A's, wherever it is drained."""
    tracker = kit.tracker
    with tracker.conversation("A"):
        streams = [kit.openai().stream_chat(chat(LONG)) for _ in range(3)]
        next(streams[1])
    with tracker.conversation("B"):
        list(streams[0])
        list(streams[1])
    thread = threading.Thread(target=lambda: list(streams[2]))
    thread.start()
    thread.join()

    assert kit.usage(conversation_id="A").total_tokens == 324
    assert kit.usage().request_count == 3


def test_astream_goes_to_where_it_began(kit: Kit) -> None:
    """An asynchronous stream is A's too, when another task under B drains it."""

    async def move() -> None:
        with kit.tracker.conversation("A"):
            stream = await kit.openai().astream_chat(chat(LONG))
            await anext(stream)

        async def rest() -> None:
            with kit.tracker.conversation("B"):
                assert [each async for each in stream]

        await asyncio.create_task(rest())

    run(move())

    assert kit.usage(conversation_id="A").total_tokens == 108
    assert kit.usage().request_count == 1


def test_nested_stream_goes_to_where_it_began(kit: Kit) -> None:
    """A model that asks another one while it is drained asks in the name of A."""

    async def move() -> Any:
        with kit.tracker.conversation("A"):
            return await kit.custom().astream_chat(chat(LONG))

    async def rest(stream: Any) -> None:
        with kit.tracker.conversation("B"):
            assert [each async for each in stream]

    async def both() -> None:
        await rest(await move())

    run(both())

    assert kit.usage(conversation_id="A").total_tokens == 108
    assert kit.usage().request_count == 1


def test_stream_that_the_collector_closes(kit: Kit) -> None:
    """A stream that nobody closes is counted in A when it is collected."""
    with kit.tracker.conversation("A"):
        stream = kit.openai().stream_chat(chat(LONG))
        next(stream)
        next(stream)
        cycle: list[Any] = [stream]
        cycle.append(cycle)
    with kit.tracker.conversation("B"):
        del stream, cycle
        gc.collect()

    record = kit.record()
    assert record.conversation_id == "A"
    assert (record.status, record.unreported_reason) == ("cancelled", "cancelled")


def test_lazy_query_engine_goes_to_where_it_was_asked(kit: Kit) -> None:
    """A query under A is A's, although its model is called only when B reads the answer."""
    kit.provider.default_reply = Reply(input_tokens=101, output_tokens=7, text="it is")
    documents = [Document(text=f"fact {i}") for i in range(3)]
    index = SummaryIndex.from_documents(documents)
    engine = index.as_query_engine(llm=kit.openai(), streaming=True, response_mode="tree_summarize")
    refined = index.as_query_engine(llm=kit.openai(), streaming=True, response_mode="refine")
    with kit.tracker.conversation("A"):
        answers = [engine.query("what?"), refined.query("what?")]
    with kit.tracker.conversation("B"):
        assert [str(text) for answer in answers for text in answer.response_gen]

    usage = kit.usage(conversation_id="A")
    assert usage.total_tokens == kit.provider.billed().total_tokens > 0
    assert kit.usage(conversation_id="B").request_count == 0


def test_64_conversations_on_16_threads(kit: Kit) -> None:
    """Each of 64 conversations gets its own calls, whatever the others do."""
    tracker, model = kit.tracker, kit.openai()

    def work(i: int) -> None:
        prompt = f"[[in={1000 + i} out={i} label=c{i}]]"
        with tracker.conversation(f"c{i}"):
            model.complete(prompt)
            list(model.stream_chat(chat(prompt)))
            run(model.achat(chat(prompt)))
            run(drain(model.astream_complete(prompt)))

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, range(64)))

    for i in range(64):
        usage = kit.usage(conversation_id=f"c{i}")
        assert (usage.input_tokens, usage.output_tokens) == (4 * (1000 + i), 4 * i)
    assert kit.usage().total_tokens == kit.provider.billed().total_tokens


def test_tool_and_agent_are_named(kit: Kit) -> None:
    """A call inside a tool carries the tool's name, and every call the agent's."""

    def lookup(q: str = "") -> str:
        """Look something up."""
        return str(kit.openai().complete("[[in=100 out=50]]"))

    agent = FunctionAgent(name="clerk", tools=[lookup], llm=kit.openai())

    async def ask() -> None:
        await agent.run(user_msg="[[in=101 out=7 tool=lookup]]")

    with kit.tracker.conversation("c"):
        run(ask())

    found = {(r.input_tokens, r.tool_name, r.scope.agent) for r in kit.records()}
    assert found == {(101, None, "clerk"), (100, "lookup", "clerk")}
    assert kit.usage(conversation_id="c").request_count == 3


def test_embedding_in_a_tool_is_named(kit: Kit) -> None:
    """What the tap on the SDK counts knows its tool as well."""
    tool = FunctionTool.from_defaults(lambda: kit.embedding().get_text_embedding("a"), name="find")

    tool.call()

    assert (kit.record().tool_name, kit.record().operation) == ("find", "embedding")


def test_instrument_tags_name_a_scope(kit: Kit) -> None:
    """LlamaIndex's own tags may name the conversation."""
    with instrumentation.dispatcher.instrument_tags({"agentsight_conversation_id": "tagged"}):
        kit.openai().complete(D)

    assert kit.record().conversation_id == "tagged"


# What a record says


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
        "stream_without_usage",
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
    )

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


# Embeddings that no tap sees


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count words, so that no encoding has to be on this machine."""
    monkeypatch.setattr(
        "agentsight_tokens.counting.TokenCounter.count",
        lambda self, text=None: len(text.split()),
    )


@pytest.mark.usefixtures("words")
@pytest.mark.parametrize("model", [LocalEmbedding(), BatchEmbedding()], ids=lambda m: type(m))
def test_untapped_embeddings_are_estimated(kit: Kit, model: Any) -> None:
    """Embeddings that no tap saw are counted by a tokenizer, and say so."""
    model.embed_batch_size = 2
    model.get_text_embedding_batch(["a b", "c d", "e"])
    run(model.aget_text_embedding_batch(["a b", "c d", "e"]))
    model.get_text_embedding("one two")
    run(model.aget_text_embedding("one two"))
    model.get_query_embedding("one two")
    run(model.aget_query_embedding("one two"))

    assert kit.usage().embedding_tokens == 18
    assert {record.source for record in kit.records()} == {"estimated"}


def test_estimates_are_offline(kit: Kit) -> None:
    """The encoding that comes with LlamaIndex is found without a network."""
    LocalEmbedding(model_name="text-embedding-3-small").get_query_embedding("one two three")

    assert kit.record().embedding_tokens == 3
    assert (kit.record().model, kit.record().source) == ("text-embedding-3-small", "estimated")


@pytest.mark.usefixtures("words")
def test_cached_estimates(kit: Kit) -> None:
    """A text that the cache answered is neither estimated nor unreported."""
    model = LocalEmbedding(embeddings_cache=SimpleKVStore())
    for _ in range(2):
        model.get_query_embedding("one two")
        model.get_text_embedding_batch(["three"])
        run(model.aget_text_embedding_batch(["four"]))

    usage = kit.usage()
    assert (usage.embedding_tokens, usage.unreported_calls) == (4, 0)


@pytest.mark.usefixtures("words")
def test_cached_batches_that_tell_nothing(kit: Kit) -> None:
    """Where nobody tells how much the cache answered, nothing is guessed."""
    BatchEmbedding(embeddings_cache=SimpleKVStore()).get_text_embedding_batch(["one two"])

    assert (kit.usage().embedding_tokens, kit.usage().unreported_calls) == (0, 1)


@pytest.mark.usefixtures("words")
def test_embedding_through_the_sdk_is_not_estimated(kit: Kit) -> None:
    """What the tap counts below a program's own class is not counted again."""
    SDKEmbedding(client=kit.sdk()).get_text_embedding_batch(["a [[in=13]]", "b [[in=13]]"])
    with pytest.raises(Exception, match="400"):
        SDKEmbedding(client=kit.sdk()).get_text_embedding("[[status=400]]")

    usage = kit.usage()
    assert (usage.embedding_tokens, usage.request_count, usage.unreported_calls) == (26, 3, 0)


def test_agents_of_a_workflow_are_named(kit: Kit) -> None:
    """Each call of a workflow carries the agent that made it."""
    kit.provider.default_reply = Reply(input_tokens=101, output_tokens=7, text="done")
    kit.provider.enqueue(
        Reply(tool_calls=(ToolCall("handoff", {"to_agent": "two", "reason": "r"}),))
    )
    agents = [
        FunctionAgent(name=name, description=name, tools=[], llm=kit.openai())
        for name in ("one", "two")
    ]
    workflow = AgentWorkflow(agents=agents, root_agent="one")

    async def ask() -> None:
        await workflow.run(user_msg="hi")

    run(ask())

    assert [record.scope.agent for record in kit.records()] == ["one", "two"]


def test_embeddings_without_an_encoding(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an encoding on this machine nothing is guessed."""

    def unavailable(self: Any, text: str | None = None) -> int:
        raise EncodingUnavailableError("cl100k_base")

    monkeypatch.setattr("agentsight_tokens.counting.TokenCounter.count", unavailable)
    LocalEmbedding().get_text_embedding("one two")

    assert (kit.usage().embedding_tokens, kit.usage().unreported_calls) == (0, 1)


def test_embedding_that_fails(kit: Kit) -> None:
    """A failed embedding is one unreported error."""
    with pytest.raises(ConnectionError):
        LocalEmbedding().get_text_embedding("fail")

    assert (kit.record().status, kit.record().error_type) == ("error", "ConnectionError")


def test_embeddings_can_be_left_out(tmp_path: Path) -> None:
    """`capture_embeddings` off: no embedding is counted at all."""
    with handler_kit(tmp_path, configure=lambda c: c.replace(capture_embeddings=False)) as kit:
        kit.embedding().get_text_embedding("a")
        LocalEmbedding().get_text_embedding("a")

        assert not kit.records()


# Asking streams for their usage


def test_stream_usage_is_not_asked_of_whatever_server(kit: Kit) -> None:
    """OpenAILike may lead to a server that refuses what it does not know."""

    class OpenAILike(OpenAI):
        __module__ = "llama_index.llms.openai_like.base"

    model = OpenAILike(model="gpt-4o", api_base=kit.provider.openai_url, api_key="k")
    list(model.stream_complete(D))

    assert "stream_options" not in kit.provider.received[0].body
    assert kit.usage().unreported_calls == 1


def test_what_the_user_said_about_streams_holds(kit: Kit) -> None:
    """Whoever switched the usage off, or asked for more, gets just that."""
    for options in ({"include_usage": False}, {"other": True}):
        model = kit.openai(additional_kwargs={"stream_options": options})
        list(model.stream_complete(D))

    asked = [request.body["stream_options"] for request in kit.provider.received]
    assert asked == [{"include_usage": False}, {"other": True, "include_usage": True}]


def test_stream_usage_can_be_left_out(tmp_path: Path) -> None:
    """`stream_usage` off: requests are left as they are."""
    with handler_kit(tmp_path, configure=lambda c: c.replace(stream_usage=False)) as kit:
        list(kit.openai().stream_complete(D))

        assert "stream_options" not in kit.provider.received[0].body


def test_server_that_refuses_stream_options(kit: Kit) -> None:
    """A strict server is asked again without the field, and not bothered any more."""
    with LoopbackProvider(keep_alive=False, reject_unknown_stream_options=True) as strict:
        model = kit.openai(api_base=strict.openai_url)
        assert list(model.stream_complete(D))
        assert list(model.stream_chat(chat(D)))
        assert run(drain(model.astream_chat(chat(D))))
        assert strict.requests == 4

    with LoopbackProvider(keep_alive=False, reject_unknown_stream_options=True) as strict:
        model = kit.openai(api_base=strict.openai_url)
        assert run(drain(model.astream_chat(chat(D))))
        assert strict.requests == 2
    assert {r.unreported_reason for r in kit.records()} == {"stream_without_usage"}
    assert kit.usage().unreported_calls == 4


def test_other_refusals_reach_the_program(kit: Kit) -> None:
    """An error that is not about what we added is the program's."""
    with pytest.raises(Exception, match="400"):
        list(kit.openai().stream_complete("[[status=400]]"))
    with pytest.raises(Exception, match="400"):
        run(drain(kit.openai().astream_complete("[[status=400]]")))

    assert kit.provider.requests == 2
    assert kit.usage().unreported_calls == 0


# Other handlers


def test_users_handlers_fire_once(kit: Kit) -> None:
    """A program's own handlers, of both kinds, see every call exactly once."""
    counter = TokenCountingHandler(tokenizer=str.split)
    manager = Settings.callback_manager
    witness = Witness()
    seen.clear()
    instrumentation.root_dispatcher.add_event_handler(witness)
    try:
        Settings.callback_manager = CallbackManager([counter])
        own = Settings.callback_manager
        kit.openai(callback_manager=own).complete(D)
        assert Settings.callback_manager is own
    finally:
        Settings.callback_manager = manager
        instrumentation.root_dispatcher.event_handlers.remove(witness)

    assert len(counter.llm_token_counts) == 1
    assert (seen["LLMCompletionStartEvent"], seen["LLMCompletionEndEvent"]) == (1, 1)
    assert kit.usage().total_tokens == 108


def test_both_frameworks_count_an_embedding_once(tmp_path: Path) -> None:
    """The tap on the SDK is one for all handlers."""
    with handler_kit(tmp_path, handlers="llamaindex,langchain") as kit:
        kit.embedding().get_text_embedding("a [[in=13]]")
        kit.openai().complete(D)

        usage = kit.usage()
        assert (usage.embedding_tokens, usage.total_tokens) == (13, 108)


class ThroughAnother(FromCompletion):
    """A model that asks through a package with a handler of its own."""

    def _ask(self, prompt: str, **options: Any) -> Any:
        call = meter.begin_on_wire("sdk", model="gpt-4o-mini", provider="openai")
        answer = super()._ask(prompt, **options)
        if call is not None:
            call.finish(TokenUsage(input_tokens=1, output_tokens=2))
        return answer


def test_call_nearer_the_wire_wins(kit: Kit) -> None:
    """What another handler counts of the same request is counted once, as it tells it."""
    model = ThroughAnother(client=kit.sdk())
    waiting = kit.openai().stream_complete(D)
    with kit.tracker.conversation("A"):
        model.chat(chat(D))
        streams = [model.stream_chat(chat(D)), run(model.astream_chat(chat(D)))]
    with kit.tracker.conversation("B"):
        list(streams[0])
        run(drain_ready(streams[1]))
    list(waiting)

    assert [r.total_tokens for r in kit.records(conversation_id="A")] == [3, 3, 3]
    assert {r.handler for r in kit.records()} == {"llamaindex"}
    assert kit.usage().total_tokens == 9 + 108


async def drain_ready(stream: Any) -> None:
    assert [each async for each in stream]


def test_model_inside_another_frameworks_call(kit: Kit) -> None:
    """The call of a framework around ours goes on, and ours is a part of it."""
    around = meter.begin("langchain", tool_name="outer")
    kit.custom().chat(chat(D))
    around.finish(TokenUsage(input_tokens=1))

    record = kit.record()
    assert (record.total_tokens, record.handler, record.tool_name) == (108, "langchain", "outer")


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


# No harm


def test_faults_never_reach_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever of ours breaks, the program's calls, streams and embeddings go on."""

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError

    from agentsight_tokens import faults

    monkeypatch.setattr(faults, "_raises", False)
    targets: list[tuple[Any, str]] = [
        (SpanTable, "enter"),
        (SpanTable, "leave"),
        (CallTable, "begin"),
        (CallTable, "observe"),
        (CallTable, "end"),
        (CallTable, "fail"),
        (CallTable, "nearest"),
        (CallTable, "abandon"),
        (GeneratorTable, "add"),
        (GeneratorTable, "running"),
        (Capture, "active_span"),
        (ConversationTracker, "receive"),
    ]
    for owner, name in targets:
        with monkeypatch.context() as patch, LoopbackProvider(keep_alive=False) as provider:
            patch.setattr(owner, name, broken)
            tracker = ConversationTracker(None, "x", token_handler="llamaindex")
            try:
                _everything(Kit(provider, tracker))
            finally:
                deactivate()
                tracker.close()
    assert fault_counts()["Capture.start"]


def _everything(kit: Kit) -> None:
    """Go through every callback of the handler."""
    kit.provider.default_reply = Reply(text='{"text":"hi"}')
    assert kit.openai().complete("hi").text
    assert list(kit.openai().stream_chat(chat("hi")))
    assert run(drain(kit.openai().astream_chat(chat("hi"))))
    assert kit.anthropic().complete("hi").text
    assert list(kit.anthropic().stream_complete("hi"))
    assert kit.responses().structured_predict(Answer, PromptTemplate("hi")).text == "hi"
    assert kit.embedding().get_text_embedding_batch(["a", "b"])
    assert LocalEmbedding().get_text_embedding("a")
    stream = kit.openai().stream_complete("hi")
    next(stream)
    stream.close()
    stream = kit.openai().stream_complete("hi")
    next(stream)
    del stream
    with pytest.raises(Exception, match="400"):
        kit.openai().complete("[[status=400]]")


def test_uninstall_leaves_nothing(tmp_path: Path) -> None:
    """What was registered and patched is taken back, and nothing is counted any more."""
    root = instrumentation.root_dispatcher
    before = (list(root.event_handlers), list(root.span_handlers), OpenAI._get_model_kwargs)
    parse = Responses.parse
    with handler_kit(tmp_path) as kit:
        assert OpenAI._get_model_kwargs is not before[2]
        stream = kit.openai().stream_complete(D)
        next(stream)
        tracker, model = kit.tracker, kit.openai()
        deactivate()
        list(stream)
        model.complete(D)

        assert tracker.get_usage().request_count == 0
    after = (list(root.event_handlers), list(root.span_handlers), OpenAI._get_model_kwargs)
    assert after == before
    assert Responses.parse is parse
    assert not meter.barriers
    assert not meter.finders


def test_install_twice_registers_once(kit: Kit) -> None:
    """A second install changes nothing."""
    root = instrumentation.root_dispatcher
    handler = handlers._installed["llamaindex"]
    count = len(root.event_handlers)
    handler.install(meter, kit.tracker.config)
    assert len(root.event_handlers) == count

    other = LlamaIndexHandler()
    other.uninstall()
    kit.openai().complete(D)
    assert kit.usage().request_count == 1


def test_a_strangers_patch_stays(tmp_path: Path) -> None:
    """What somebody put around ours is left, and ours does nothing any more."""
    original = OpenAI._get_model_kwargs
    with handler_kit(tmp_path) as kit:
        ours = OpenAI._get_model_kwargs

        def strangers(self: Any, **kwargs: Any) -> Any:
            return ours(self, **kwargs)

        OpenAI._get_model_kwargs = strangers
        try:
            deactivate()
            assert OpenAI._get_model_kwargs is strangers
            list(kit.openai().stream_complete(D))
            assert "stream_options" not in kit.provider.received[0].body
        finally:
            OpenAI._get_model_kwargs = original


def test_tables_are_bounded(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Streams that are kept open for ever are given up, as unreported, not kept."""
    monkeypatch.setattr("agentsight_tokens_llamaindex.calls._MAX_CALLS", 2)
    monkeypatch.setattr("agentsight_tokens_llamaindex.generators._MAX_GENERATORS", 2)
    monkeypatch.setattr("agentsight_tokens_llamaindex.spans.MAX_OPEN", 2)
    monkeypatch.setattr("agentsight_tokens_llamaindex.calls._MAX_BILLED", 1)
    streams = [kit.anthropic().stream_chat(chat(A)) for _ in range(5)]

    assert {r.unreported_reason for r in kit.records()} == {"run_never_closed"}
    assert kit.usage().unreported_calls == 3
    for stream in streams:
        list(stream)
    assert kit.usage().request_count == 5

    monkeypatch.setattr("agentsight_tokens_llamaindex.spans.MAX_OPEN", 0)
    monkeypatch.setattr("agentsight_tokens_llamaindex.spans._MAX_KINDS", 0)
    monkeypatch.setattr("agentsight_tokens_llamaindex.calls._MAX_CALLS", 0)
    kit.custom().chat(chat(D))
    assert kit.usage().total_tokens == 2 * 114 + 108


@pytest.mark.usefixtures("words")
def test_nothing_is_kept(kit: Kit) -> None:
    """After its calls the handler holds no span, call or generator."""
    _everything(kit)
    run(drain(kit.custom().astream_chat(chat(D))))
    gc.collect()
    kit.usage()

    capture: Any = meter.barriers[-1].__self__  # type: ignore[attr-defined]  # a bound method
    assert (len(capture.spans), len(capture.calls), len(capture.generators)) == (0, 0, 0)


def test_install_imports_no_framework() -> None:
    """Importing and installing costs a program nothing that never calls LlamaIndex."""
    program = """
import sys
from agentsight_tokens.config import TokenConfig
from agentsight_tokens.meter import meter
from agentsight_tokens_llamaindex import LlamaIndexHandler
handler = LlamaIndexHandler()
handler.install(meter, TokenConfig())
loaded = {name.partition(".")[0] for name in sys.modules}
heavy = {"llama_index", "llama_index_instrumentation", "pydantic", "openai", "anthropic", "tiktoken"}
assert not loaded & heavy, loaded & heavy
handler.uninstall()
import llama_index_instrumentation
assert len(llama_index_instrumentation.root_dispatcher.event_handlers) == 1
"""
    subprocess.run([sys.executable, "-c", program], check=True)


def test_hook_that_comes_too_late() -> None:
    """A module that is imported after the uninstall is left as it is."""
    patches = Patches()
    patches.undo()
    patches.after_import("json", lambda module: pytest.fail("patched"))


def test_streams_that_bring_nothing() -> None:
    """An empty stream from an unknown server stays empty."""
    servers = _Servers(Patches())
    assert not list(_first_contact(servers, None, iter(()), lambda: iter((1,))))

    async def nothing() -> AsyncIterator[Any]:
        for each in ():
            yield each

    async def read() -> list[Any]:
        return [each async for each in _first_contact_async(servers, None, nothing(), nothing)]

    assert not run(read())


def test_taps_on_what_is_not_there(kit: Kit) -> None:
    """An SDK without `parse` is left alone, and an empty stream stays empty."""
    older = SimpleNamespace(Messages=type("M", (), {}), AsyncMessages=type("A", (), {}))
    capture: Any = meter.barriers[-1].__self__  # type: ignore[attr-defined]  # a bound method
    _parse_patch(capture, Patches(), "Messages", "AsyncMessages")(older)
    assert not hasattr(older.Messages, "parse")

    call: Any = SimpleNamespace(first=None)
    assert not list(_first_shown(iter(()), call))

    class Events:
        def __aiter__(self) -> Any:
            return self

        async def __anext__(self) -> Any:
            raise StopAsyncIteration

    async def read() -> list[Any]:
        return [each async for each in _first_shown_async(Events(), call)]

    assert not run(read())
    assert call.first is None


def test_generator_that_is_done_is_not_kept() -> None:
    """A span may return a generator that has finished."""
    table = GeneratorTable()
    done = (each for each in ())
    list(done)
    span = Span("C.m-" + "0" * 36, None, "other", None)
    table.add(done, Origin(current_attribution(), None, span), None)

    assert not len(table)


def test_handlers_are_named(kit: Kit) -> None:
    """LlamaIndex's dispatcher may ask its handlers for their names."""
    root = instrumentation.root_dispatcher
    assert kit.tracker
    assert root.event_handlers[-1].class_name() == "AgentSightTokensEventHandler"
    assert root.span_handlers[-1].class_name() == "AgentSightTokensSpanHandler"
    root.shutdown()


class Odd(FromCompletion):
    """A model without LlamaIndex's callbacks."""

    answer: Any = None

    def chat(self, messages: Sequence[ChatMessage], **kwargs: Any) -> ChatResponse:
        return ChatResponse(message=ChatMessage(content="x"), raw=self.answer)


def test_model_without_events(kit: Kit) -> None:
    """A class that fires no event is counted by what it returns, or is unreported."""
    Odd(client=None, answer={"usage": {"odd": 1}}).chat(chat("hi"))
    assert kit.usage().unreported_calls == 1

    usage = {"prompt_tokens": 101, "completion_tokens": 7}
    Odd(client=None, answer={"object": "chat.completion", "usage": usage}).chat(chat("hi"))
    assert kit.usage().total_tokens == 108
    assert all(record.duration_seconds for record in kit.records())
