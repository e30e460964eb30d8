"""The LangChain handler in trouble: its own faults, cancelled calls, lost starts, limits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.callbacks import (
    AsyncCallbackManager,
    BaseCallbackHandler,
    CallbackManager,
    CallbackManagerForLLMRun,
)
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.fake_chat_models import (
    FakeListChatModel,
    GenericFakeChatModel,
)
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult, LLMResult
from langchain_core.tools import tool
from langchain_core.tracers.context import _configure_hooks, register_configure_hook
from langchain_openai.chat_models.base import BaseChatOpenAI

from agentsight_tokens import BudgetExceededError, TokenConfig
from agentsight_tokens.faults import fault_counts
from agentsight_tokens.handlers import deactivate
from agentsight_tokens.meter import Meter, OpenCall, meter
from agentsight_tokens_langchain import asking, registration, stream_usage, usage
from agentsight_tokens_langchain import run_events as events
from agentsight_tokens_langchain.run_events import run_events
from agentsight_tokens_langchain.runs import OpenRuns, Run, ToolRuns
from tests.langchain_kit import D, Kit, drain, handler_kit, run


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with handler_kit(tmp_path) as kit:
        yield kit


def program(kit: Kit) -> list[str]:
    """Return what a program sees of every kind of call."""
    asked = {"messages": [HumanMessage("[[in=11 out=7 tool=lookup]]")]}
    chain = kit.openai() | (lambda message: message.content)

    @tool
    def lookup() -> str:
        """Look something up."""
        kit.embeddings().embed_query(D)
        return str(chain.invoke(D))

    counts: Any = {"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}
    no_sdks = GenericFakeChatModel(messages=iter([AIMessage("its own", usage_metadata=counts)]))

    seen = [
        kit.openai().invoke(D).content,
        str(no_sdks.invoke(D).content),
        chain.invoke(D),
        "".join(str(chunk.content) for chunk in kit.openai().stream("[[text=streamed]]")),
        run(kit.openai().ainvoke(D)).content,
        "".join(str(c.content) for c in run(drain(kit.openai().astream("[[text=streamed]]")))),
        kit.legacy().invoke(D),
        run(kit.legacy().ainvoke(D)),
        kit.agent(lookup).invoke(asked)["messages"][-1].content,
        str(len(kit.embeddings().embed_query(D))),
    ]
    for prompt in ("[[status=400]]", "[[status=500]]"):
        with pytest.raises(Exception, match="told to fail") as raised:
            kit.openai().invoke(prompt)
        seen.append(type(raised.value).__name__)
    return seen


def broken(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("a fault of ours")


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Meter, "begin"),
        (OpenCall, "finish"),
        (OpenCall, "first_token"),
        (OpenRuns, "close"),
        (OpenRuns, "get"),
        (OpenRuns, "open"),
        (ToolRuns, "close"),
        (ToolRuns, "name"),
        (ToolRuns, "open"),
        (events, "agent_name"),
        (events, "failure"),
        (events, "first_generations"),
        (events, "is_cache_hit"),
        (events, "names_no_agent"),
        (events, "read_answer"),
        (registration, "config_in_force"),
        (stream_usage, "_address"),
        (usage, "_from_metadata"),
    ],
    ids=lambda each: getattr(each, "__name__", each),
)
def test_faults_never_reach_the_program(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    """Whatever of ours breaks, the program sees what it sees without it."""
    monkeypatch.setattr("agentsight_tokens.faults._raises", False)
    expected = program(kit)
    before = sum(fault_counts().values())

    monkeypatch.setattr(owner, name, broken)

    assert program(kit) == expected
    assert sum(fault_counts().values()) > before
    run_events.runs.expire_all()
    run_events.tools.clear()


WAYS: dict[str, Callable[[Kit], Any]] = {
    "invoke": lambda k: k.openai().invoke(D),
    "stream": lambda k: list(k.openai().stream(D)),
    "batch": lambda k: k.openai().batch([D, D]),
    "ainvoke": lambda k: run(k.openai().ainvoke(D)),
    "astream": lambda k: run(drain(k.openai().astream(D))),
    "legacy": lambda k: k.legacy().invoke(D),
    "legacy async": lambda k: run(k.legacy().ainvoke(D)),
    "embedding": lambda k: k.embeddings().embed_query(D),
    "embedding async": lambda k: run(k.embeddings().aembed_query(D)),
}


@pytest.mark.parametrize("way", WAYS)
def test_budget_stops_the_call(kit: Kit, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
    """A budget's error reaches the program before anything is sent."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise BudgetExceededError("no more")

    monkeypatch.setattr(Meter, "begin", refuse)

    with pytest.raises(BudgetExceededError):
        WAYS[way](kit)

    assert kit.provider.requests == 0


@pytest.mark.parametrize("way", ["invoke", "stream", "ainvoke", "legacy", "legacy async"])
def test_refused_call_ends_for_other_callbacks(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """The program's own callbacks hear of the end of a run that a budget has refused."""
    heard: list[str] = []

    class Own(BaseCallbackHandler):
        def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
            heard.append("start")

        def on_llm_start(self, *args: Any, **kwargs: Any) -> None:
            heard.append("start")

        def on_llm_error(self, error: BaseException, **kwargs: Any) -> None:
            heard.append(type(error).__name__)

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise BudgetExceededError("no more")

    monkeypatch.setattr(Meter, "begin", refuse)
    own = Own()
    hook = ContextVar("own", default=own)
    register_configure_hook(hook, inheritable=True)
    try:
        with pytest.raises(BudgetExceededError):
            WAYS[way](kit)
    finally:
        _configure_hooks[:] = [each for each in _configure_hooks if each[0] is not hook]

    assert heard == ["start", "BudgetExceededError"]
    assert not kit.records()


def test_budget_stops_the_second_prompt(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the second prompt is refused it is not sent, and the first is counted."""
    begin, begun = Meter.begin, []

    def refuse(meter: Meter, handler: str, *args: Any, **kwargs: Any) -> Any:
        begun.append(handler)
        if begun.count("langchain") == 2:
            raise BudgetExceededError("no more")
        return begin(meter, handler, *args, **kwargs)

    monkeypatch.setattr(Meter, "begin", refuse)
    with pytest.raises(BudgetExceededError):
        kit.openai().generate([[HumanMessage(D)], [HumanMessage(D)]])

    assert kit.provider.requests == 1
    assert kit.usage().total_tokens == 18
    run_events.runs.expire_all()


@pytest.mark.parametrize("method", ["ainvoke", "astream"])
def test_cancelled_call(kit: Kit, method: str) -> None:
    """A cancelled call is unreported at once; the provider may have billed it."""

    async def cancel() -> None:
        model = kit.openai()
        call = (
            model.ainvoke("[[delay=5]]")
            if method == "ainvoke"
            else drain(model.astream("[[delay=5]]"))
        )
        task = asyncio.ensure_future(call)
        while not kit.provider.requests:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(cancel())

    record = kit.record()
    assert (record.status, record.unreported_reason) == ("cancelled", "cancelled")


@pytest.mark.parametrize("wire_taps", [True, False])
def test_one_of_two_is_cancelled(tmp_path: Path, wire_taps: bool) -> None:
    """What was answered before the cancellation counts, the other is unreported."""
    answered = asyncio.Event()

    class Slow(FakeListChatModel):
        async def _agenerate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
            if messages[0].content == "slow":
                await answered.wait()
                await asyncio.sleep(60)
            usage: Any = {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3}
            answered.set()
            message = AIMessage(content="a", usage_metadata=usage)
            return ChatResult(generations=[ChatGeneration(message=message)])

    async def cancel() -> None:
        both = Slow(responses=[]).agenerate([[HumanMessage("quick")], [HumanMessage("slow")]])
        task = asyncio.ensure_future(both)
        await answered.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with handler_kit(tmp_path, configure=lambda c: c.replace(wire_taps=wire_taps)) as kit:
        run(cancel())

        assert [(r.total_tokens, r.unreported_reason) for r in kit.records()] == [
            (3, None),
            (0, "cancelled"),
        ]


def test_generate_that_fails_in_between(kit: Kit) -> None:
    """The prompts before the one that failed were billed, those behind it were never sent."""
    prompts = [D, "[[status=400]]", D]

    with pytest.raises(Exception, match="400"):
        kit.openai().generate([[HumanMessage(prompt)] for prompt in prompts])

    assert kit.provider.requests == 2
    assert [(r.status, r.total_tokens) for r in kit.records()] == [("ok", 18), ("error", 0)]


def test_agenerate_that_fails_in_between(kit: Kit) -> None:
    """At once, all prompts are sent, and each is counted for what it used."""
    prompts = [D, "[[status=400]]", D]

    with pytest.raises(Exception, match="400"):
        run(kit.openai().agenerate([[HumanMessage(prompt)] for prompt in prompts]))

    assert sorted(r.status for r in kit.records()) == ["error", "ok", "ok"]
    assert kit.usage().total_tokens == 36


def test_callback_of_the_program_that_raises(kit: Kit) -> None:
    """Where a callback before ours ends the run, the call is not lost."""

    class Raising(BaseCallbackHandler):
        raise_error = True

        def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
            raise ValueError("the program's own")

    with pytest.raises(ValueError, match="own"):
        kit.openai().invoke(D, {"callbacks": [Raising()]})

    assert kit.record().total_tokens == 18


@pytest.mark.parametrize(
    ("prompt", "status", "reason"),
    [
        ("[[status=400]]", "error", None),
        ("[[status=429]]", "error", None),
        ("[[status=500]]", "error", None),
        ("[[break=0]]", "error", "error_without_usage"),
        ("[[mode=never]]", "ok", "provider_silent"),
    ],
)
def test_reasons(kit: Kit, prompt: str, status: str, reason: str | None) -> None:
    """A refused call costs nothing; one that broke off is unreported, and says why."""
    with suppress(Exception):
        kit.openai().invoke(prompt)

    assert (kit.record().status, kit.record().unreported_reason) == (status, reason)
    assert kit.record().total_tokens == 0


def test_refused_connection_costs_nothing(kit: Kit) -> None:
    """A call that never reached a provider is an error, and not unreported."""
    with pytest.raises(Exception, match="Connection"):
        kit.openai(base_url="http://127.0.0.1:9/v1").invoke(D)

    assert (kit.record().status, kit.record().unreported_reason) == ("error", None)


def test_stream_that_breaks(kit: Kit) -> None:
    """What a stream told before it broke is counted; without that it is unreported."""
    for mode in ("every_chunk", "normal"):
        with suppress(Exception):
            list(kit.openai().stream(f"[[in=11 out=7 chunks=7 text=1234567 break=3 mode={mode}]]"))

    told, untold = kit.records()
    assert (told.status, told.input_tokens, told.output_tokens) == ("partial", 11, 3)
    assert (untold.status, untold.unreported_reason) == ("error", "error_without_usage")


def test_end_without_a_start(kit: Kit) -> None:
    """A run that began before it was listened to is counted at its end, once."""
    message = AIMessage(
        "hi", usage_metadata={"input_tokens": 11, "output_tokens": 7, "total_tokens": 18}
    )
    message.response_metadata = {"model_name": "gpt-4o-mini", "model_provider": "openai"}
    message.id = "chatcmpl-1"

    late = CallbackManagerForLLMRun(
        run_id=uuid4(),
        handlers=[],
        inheritable_handlers=[],
        metadata={"agentsight_user_id": "u"},
    )
    late.on_llm_end(LLMResult(generations=[[ChatGeneration(message=message)]]))
    late.on_llm_end(LLMResult(generations=[[ChatGeneration(message=message)]]))

    record = kit.record()
    assert record.scope.user_id == "u"
    assert (record.total_tokens, record.model, record.provider) == (18, "gpt-4o-mini", "openai")
    assert record.response_id == "chatcmpl-1"


def test_run_ids_may_be_used_again(kit: Kit) -> None:
    """A run id is no identity of a call: the program may pass the same one twice."""
    config: Any = {"run_id": uuid4()}

    for _ in range(2):
        kit.openai().invoke(D, dict(config))
        list(kit.openai().stream(D, dict(config)))

    assert kit.usage().total_tokens == 72


def test_run_id_used_again_while_open(kit: Kit) -> None:
    """A run that never closed is unreported when its id is used for another."""
    config: Any = {"run_id": uuid4()}
    stream = kit.openai().stream("[[chunks=4 text=abcd]]", dict(config))
    next(stream)

    kit.openai().invoke(D, dict(config))

    assert [r.unreported_reason for r in kit.records()] == [None, "run_never_closed"]


def call() -> OpenCall:
    return meter.begin("langchain")


def test_open_runs_are_bounded(kit: Kit) -> None:
    """Too many or too old runs leave the table as unreported calls."""
    runs = OpenRuns(most=2, longest=3600)
    for _ in range(3):
        runs.open(Run(call(), key=uuid4().int))
    old = Run(call())
    old.call.began -= 7200
    late = OpenRuns(longest=3600)
    late.open(old)
    late.open(Run(call(), key=1))

    assert (len(runs), len(late)) == (2, 1)
    assert {r.unreported_reason for r in kit.records()} == {"run_never_closed"}
    assert kit.usage().request_count == 2


def test_tool_runs_are_bounded() -> None:
    """The oldest tool is forgotten where there are too many."""
    tools, first = ToolRuns(most=2), uuid4()
    tools.open(first, "a")
    for name in "bc":
        tools.open(uuid4(), name)

    assert len(tools.names) == 2
    assert tools.name(first) is None
    assert tools.name(None) is None


def test_uninstalled(tmp_path: Path) -> None:
    """Nothing is counted after deactivation, the patches are gone, and it can come back."""
    patched = [
        (CallbackManager, "on_chat_model_start"),
        (CallbackManagerForLLMRun, "on_llm_end"),
        (BaseChatModel, "_generate_with_cache"),
        (BaseChatModel, "_agenerate_with_cache"),
        (BaseChatOpenAI, "_stream"),
    ]
    with handler_kit(tmp_path) as kit:
        ours = [vars(owner)[name] for owner, name in patched]
        open_stream = kit.openai().stream("[[chunks=3 text=abc]]")
        next(open_stream)
        deactivate()
        list(open_stream)
        kit.openai().invoke(D)
        list(kit.openai().stream(D))
        kit.embeddings().embed_query(D)

        assert [vars(owner)[name] for owner, name in patched] == [f.__wrapped__ for f in ours]
        assert kit.record().unreported_reason == "run_never_closed"
    with handler_kit(tmp_path / "again") as kit:
        kit.openai().invoke(D)
        assert kit.usage().total_tokens == 18


def test_wrappers_of_others_survive(tmp_path: Path) -> None:
    """What others wrapped around our patches stays, and ours only passes calls on."""
    patched = [
        (BaseChatModel, "generate"),
        (BaseChatOpenAI, "_stream"),
        (AsyncCallbackManager, "on_llm_start"),
        (CallbackManager, "on_chat_model_start"),
        (CallbackManagerForLLMRun, "on_llm_new_token"),
        (CallbackManagerForLLMRun, "on_llm_end"),
    ]
    originals = [(owner, name, vars(owner)[name]) for owner, name in patched]

    def wrapped(ours: Any) -> Any:
        def theirs(self: Any, *args: Any, **kwargs: Any) -> Any:
            return ours(self, *args, **kwargs)

        return theirs

    try:
        with handler_kit(tmp_path) as kit:
            theirs = [wrapped(vars(owner)[name]) for owner, name in patched]
            for (owner, name), wrapper in zip(patched, theirs, strict=True):
                setattr(owner, name, wrapper)
            deactivate()

            assert [vars(owner)[name] for owner, name in patched] == theirs
            assert kit.openai().invoke(D).content == "ok"
            assert len(list(kit.openai().stream(D))) > 0
            assert run(kit.legacy().ainvoke(D)) == "ok"
            assert not kit.records()
        with handler_kit(tmp_path / "again") as kit:
            kit.openai().invoke(D)
            list(kit.openai().stream(D))
            assert [r.total_tokens for r in kit.records()] == [18, 18]
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


def test_a_stream_is_asked_by_no_generate(kit: Kit) -> None:
    """Its call begins at its start."""
    stream = kit.openai().stream(D)
    next(stream)

    assert asking.call_in_force() is None
    assert len(run_events.runs) == 1
    list(stream)


def test_generate_of_anothers_making(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call begins once also where a start is told from code that is not known."""
    for code in [*run_events.asks_later]:
        monkeypatch.delitem(run_events.asks_later, code)
    kit.openai().invoke(D)
    run(kit.openai().ainvoke(D))
    kit.legacy().invoke(D)
    run(kit.legacy().ainvoke(D))

    assert [r.total_tokens for r in kit.records()] == [18, 18, 18, 18]


def silent(config: TokenConfig) -> TokenConfig:
    return config.replace(stream_usage=False, capture_embeddings=False)


def test_assists_can_be_switched_off(tmp_path: Path) -> None:
    """Without the assists a stream is asked for nothing, and embeddings are not counted."""
    with handler_kit(tmp_path, configure=silent) as kit:
        list(kit.openai().stream(D))
        kit.embeddings().embed_query(D)

        assert "stream_options" not in kit.provider.received[0].body
        assert kit.record().unreported_reason == "stream_without_usage"


@pytest.mark.parametrize(
    "options",
    [{"stream_usage": False}, {"model_kwargs": {"stream_options": {"include_usage": False}}}],
)
def test_word_of_the_program_is_kept(kit: Kit, options: dict[str, Any]) -> None:
    """A program that declines the usage of streams is not overruled."""
    list(kit.openai(**options).stream(D))

    asked = kit.provider.received[0].body.get("stream_options") or {}
    assert not asked.get("include_usage")
    assert kit.record().unreported_reason == "stream_without_usage"


@pytest.mark.parametrize("is_async", [False, True])
def test_stream_without_any_chunk(kit: Kit, is_async: bool) -> None:
    """A stream that ends at once is the program's to see, and no server's word."""

    async def nothing(*args: Any, **kwargs: Any) -> Any:
        for each in ():
            yield each

    servers = stream_usage._Servers()
    model = kit.openai()
    if is_async:
        stream = stream_usage._retreating_async(servers, nothing)
        assert run(drain(stream(model))) == []
    else:
        assert list(stream_usage._retreating(servers, lambda self: iter(()))(model)) == []
    assert not servers.accepting


def test_server_that_refuses_stream_options(kit: Kit) -> None:
    """A server that does not know the field is asked again without it, and then no more."""
    kit.provider.reject_unknown_stream_options = True
    first = list(kit.openai().stream("[[text=abcd]]"))
    second = run(drain(kit.openai().astream("[[text=abcd]]")))

    assert ["".join(str(c.content) for c in chunks) for chunks in (first, second)] == ["abcd"] * 2
    assert kit.provider.requests == 3
    assert [r.unreported_reason for r in kit.records()] == ["stream_without_usage"] * 2


def test_server_that_refuses_stream_options_async(kit: Kit) -> None:
    """The first contact may be asynchronous."""
    kit.provider.reject_unknown_stream_options = True

    chunks = run(drain(kit.openai().astream("[[text=abcd]]")))

    assert "".join(str(chunk.content) for chunk in chunks) == "abcd"
    assert kit.provider.requests == 2


def test_legacy_stream_that_is_refused(kit: Kit) -> None:
    """Legacy streams are asked for their usage too, and again without it."""
    kit.provider.reject_unknown_stream_options = True
    chunks = list(kit.legacy().stream("[[text=abcd]]"))
    more = run(drain(kit.legacy().astream("[[text=abcd]]")))

    assert ["".join(each) for each in (chunks, more)] == ["abcd"] * 2
    assert kit.provider.requests == 3
    assert [r.unreported_reason for r in kit.records()] == ["stream_without_usage"] * 2


@pytest.mark.parametrize("is_async", [False, True])
def test_first_contact_that_fails_otherwise(kit: Kit, is_async: bool) -> None:
    """Another error of the first stream is the program's."""
    model = kit.openai()
    with pytest.raises(Exception, match="told to fail"):
        run(drain(model.astream("[[status=400]]"))) if is_async else list(
            model.stream("[[status=400]]")
        )

    assert kit.provider.requests == 1
    assert kit.record().status == "error"
