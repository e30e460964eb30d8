"""What the LlamaIndex handler owes its host: no harm, and no trace of itself."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llama_index_instrumentation as instrumentation
import pytest
from llama_index.core import Settings
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.llms import CompletionResponse
from llama_index.core.prompts import PromptTemplate
from llama_index.llms.openai import OpenAI
from llama_index_instrumentation.base import BaseEvent
from llama_index_instrumentation.event_handlers import BaseEventHandler
from openai.resources.responses import Responses
from pydantic import BaseModel

from agentsight_tokens import ConversationTracker, TokenUsage, handlers
from agentsight_tokens.faults import fault_counts
from agentsight_tokens.handlers import deactivate
from agentsight_tokens.meter import meter
from agentsight_tokens.scope import current_attribution
from agentsight_tokens.testing import LoopbackProvider, Reply
from agentsight_tokens_llamaindex import LlamaIndexHandler
from agentsight_tokens_llamaindex.calls import CallTable
from agentsight_tokens_llamaindex.capture import Capture
from agentsight_tokens_llamaindex.generators import GeneratorTable, Origin
from agentsight_tokens_llamaindex.spans import Span, SpanTable
from agentsight_tokens_wire.patches import Patches
from tests.llamaindex_kit import (
    A,
    D,
    FromCompletion,
    Kit,
    LocalEmbedding,
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


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Count words, so that no encoding has to be on this machine."""
    monkeypatch.setattr(
        "agentsight_tokens.counting.TokenCounter.count",
        lambda self, text=None: len(text.split()),
    )


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


def test_call_nearer_the_wire_of_which_no_event_tells(kit: Kit) -> None:
    """Without events, too, the two are one call, whichever of them begins first."""

    class Silent(FromCompletion):
        def complete(self, *args: Any, **kwargs: Any) -> CompletionResponse:
            answer = ThroughAnother(client=self.client)._ask(D)
            return CompletionResponse(text="ok", raw=answer)

        def structured_predict(self, *args: Any, **kwargs: Any) -> Answer:
            return Answer(text=ThroughAnother(client=self.client)._ask(D).id)

    tapped = Responses.parse

    def parse(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = meter.begin_on_wire("sdk")
        answer = tapped(self, *args, **kwargs)
        if call is not None:
            call.finish(TokenUsage(input_tokens=1, output_tokens=2))
        return answer

    kit.provider.default_reply = Reply(text='{"text":"hi"}')
    Silent(client=kit.sdk()).complete("hi")
    Silent(client=kit.sdk()).structured_predict(Answer, PromptTemplate("hi"))
    try:
        Responses.parse = parse  # type: ignore[method-assign]  # a stranger's patch
        kit.responses().structured_predict(Answer, PromptTemplate("hi"))
    finally:
        Responses.parse = tapped  # type: ignore[method-assign]  # taken back

    assert [(r.total_tokens, r.handler) for r in kit.records()] == [(3, "llamaindex")] * 3


async def drain_ready(stream: Any) -> None:
    assert [each async for each in stream]


def test_model_inside_another_frameworks_call(kit: Kit) -> None:
    """The call of a framework around ours goes on, and ours is a part of it."""
    around = meter.begin("langchain", tool_name="outer")
    kit.custom().chat(chat(D))
    around.finish(TokenUsage(input_tokens=1))

    record = kit.record()
    assert (record.total_tokens, record.handler, record.tool_name) == (108, "langchain", "outer")


def test_faults_never_reach_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever of ours breaks, the program's calls, streams and embeddings go on."""

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError

    from agentsight_tokens import faults

    monkeypatch.setattr(faults, "_raises", False)
    # A log record that a test keeps would keep the frames of the streams open.
    monkeypatch.setattr(logging.getLogger("agentsight_tokens"), "disabled", True)
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

    (capture,) = (each.__self__ for each in meter.finders)  # type: ignore[attr-defined]  # a method
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
