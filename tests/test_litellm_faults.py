"""The LiteLLM handler in trouble: its own faults, the program's callbacks, lost ends, limits."""

from __future__ import annotations

import asyncio
import copy
import gc
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from litellm.integrations.custom_logger import CustomLogger

from agentsight_tokens import ConversationTracker
from agentsight_tokens.extract import Extracted
from agentsight_tokens.faults import fault_counts
from agentsight_tokens.handlers import deactivate
from agentsight_tokens.meter import Meter, OpenCall, meter
from agentsight_tokens.testing import LoopbackProvider
from agentsight_tokens.usage import TokenUsage
from agentsight_tokens_litellm import answers, barrier, caches, calls, failures, logger, streams
from agentsight_tokens_litellm.barrier import Barrier
from agentsight_tokens_litellm.call import Call
from agentsight_tokens_litellm.calls import CallTable
from agentsight_tokens_litellm.logger import AgentSightUsageLogger
from agentsight_tokens_litellm.patches import Patches
from agentsight_tokens_litellm.refusals import Refusals
from agentsight_tokens_litellm.stream_usage import StreamUsage
from agentsight_tokens_litellm.streams import StreamWatch
from tests.litellm_kit import (
    QUIET,
    D,
    Kit,
    cache,
    drain,
    handler_kit,
    litellm,
    messages,
    run,
    told,
    told_in_the_end,
)

pytestmark = QUIET

OPENAI = (101, 7, 108, 0, 40, 0)
UNREPORTED = (0, 0, 0, 0, 0, 1)
ask = litellm.completion
aask = litellm.acompletion


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with handler_kit(tmp_path) as kit:
        yield kit


def ours() -> AgentSightUsageLogger:
    (found,) = [each for each in litellm.callbacks if isinstance(each, AgentSightUsageLogger)]
    return found


def broken(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("a fault of ours")


def program(kit: Kit) -> list[str]:
    """Return what a program sees of every kind of call."""
    text = messages("[[text=streamed chunks=3]]")

    def joined(parts: list[Any]) -> str:
        return "".join(part.choices[0].delta.content or "" for part in parts)

    seen = [
        ask(**kit.openai, messages=messages()).choices[0].message.content,
        run(aask(**kit.openai, messages=messages())).choices[0].message.content,
        joined(list(ask(**kit.openai, messages=text, stream=True))),
        joined(run(drain(aask(**kit.openai, messages=text, stream=True)))),
        joined(list(ask(**kit.anthropic, messages=text, stream=True))),
        str(len(litellm.embedding(**kit.embedding, input=["a"]).data)),
        str(len(run(litellm.aembedding(**kit.embedding, input=["a"])).data)),
        str(len(litellm.batch_completion(**kit.openai, messages=[messages()] * 2))),
        ask(**kit.openai, messages=messages(), mock_response="mocked").choices[0].message.content,
        litellm.responses(**kit.openai, input=D).output_text,
        str(len(list(litellm.responses(**kit.openai, input=D, stream=True)))),
        run(leave(kit)),
        run(cancel(kit)),
    ]
    with cache():
        for _ in range(2):
            answer = ask(**kit.openai, messages=text, caching=True)
            seen.append(answer.choices[0].message.content)
    for status in (400, 500):
        for options in ({}, {"stream": True}):
            with pytest.raises(Exception, match="told to fail") as raised:
                list(ask(**kit.openai, messages=messages(f"[[status={status}]]"), **options))
            seen.append(type(raised.value).__name__)
    with pytest.raises(Exception, match="told to fail") as raised:
        run(aask(**kit.anthropic, messages=messages("[[status=500]]")))
    seen.append(type(raised.value).__name__)
    with suppress(Exception):
        kit.usage()
    return seen


EXPECTED: list[str] = []
"""What the program sees, the same in every test."""


async def leave(kit: Kit) -> str:
    stream = await aask(**kit.openai, messages=messages("[[chunks=6 text=abcdef]]"), stream=True)
    first = await anext(stream)
    await stream.aclose()
    return str(first.choices[0].delta.content)


async def cancel(kit: Kit) -> str:
    try:
        await asyncio.wait_for(aask(**kit.openai, messages=messages("[[delay=1]]")), 0.1)
    except asyncio.TimeoutError as error:
        with suppress(Exception):
            kit.usage()
        return type(error).__name__
    return "answered"


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Meter, "begin"),
        (OpenCall, "finish"),
        (OpenCall, "first_token"),
        (Barrier, "_await_letting_go"),
        (Barrier, "_settle_asynchronous"),
        (Barrier, "settle_streams"),
        (CallTable, "begin"),
        (CallTable, "end_stream"),
        (CallTable, "fail"),
        (CallTable, "finish"),
        (CallTable, "get"),
        (CallTable, "leave_stream"),
        (CallTable, "nothing_sent"),
        (CallTable, "succeed"),
        (CallTable, "under_way"),
        (StreamUsage, "ask"),
        (StreamWatch, "_call_of"),
        (barrier, "_is_inside_litellm"),
        (calls, "key_of"),
        (calls, "attribution_in"),
        (calls, "is_unbilled"),
        (calls, "read_answer"),
        (calls, "read_parts"),
        (logger, "Request"),
        (logger, "_details_of"),
        (logger, "_is_mocked"),
        (streams, "_has_content"),
        (streams, "_told_by"),
    ],
    ids=lambda each: getattr(each, "__name__", each),
)
def test_faults_never_reach_the_program(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    """Whatever of ours breaks, the program sees what it sees without it."""
    pytest.importorskip("mcp")
    monkeypatch.setattr("agentsight_tokens.faults._raises", False)
    monkeypatch.setattr(barrier, "_LONGEST_WAIT_UNANSWERED_SECONDS", 0.01)
    monkeypatch.setattr(ours()._barrier, "_longest_seconds", 0.01)
    if not EXPECTED:
        EXPECTED.extend(program(kit))
    before = sum(fault_counts().values())

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, broken)

        assert program(kit) == EXPECTED
    assert sum(fault_counts().values()) > before


def test_a_litellm_of_another_shape_is_left_alone(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the callbacks cannot be looked after, calls are made all the same."""
    monkeypatch.setattr("agentsight_tokens.faults._raises", False)
    monkeypatch.setattr(ours()._register.__self__, "_litellm", None)  # type: ignore[attr-defined]

    assert ask(**kit.openai, messages=messages()).usage.total_tokens == 108
    assert fault_counts()["Registration.ensure"] > 0


class Theirs(CustomLogger):
    """A program's own logger."""

    def __init__(self, read: Callable[[], Any] = lambda: None) -> None:
        super().__init__()
        self.seen: list[str] = []
        self.read = read

    def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
        self.seen.append("pre")

    def log_success_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        self.seen.append("success")
        self.read()

    async def async_log_success_event(
        self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        self.seen.append("async success")
        self.read()


LISTS: dict[str, Callable[[Theirs], None]] = {
    "callbacks": lambda theirs: setattr(litellm, "callbacks", [theirs]),
    "success_callback": lambda theirs: setattr(litellm, "success_callback", [theirs]),
    "every list": lambda theirs: [
        setattr(litellm, name, [theirs] if name == "callbacks" else [])
        for name in (
            *("callbacks", "input_callback", "success_callback", "failure_callback"),
            *("_async_success_callback", "_async_failure_callback"),
        )
    ],
}


@pytest.mark.parametrize("after_a_call", [False, True])
@pytest.mark.parametrize("name", LISTS)
def test_the_program_s_callbacks_take_nothing_away(kit: Kit, name: str, after_a_call: bool) -> None:
    """Setting a list drops our logger; it comes back, and theirs is told once."""
    theirs = Theirs()
    if after_a_call:
        ask(**kit.openai, messages=messages("[[in=1 out=1]]"))
        kit.usage()
        kit.tracker.reset_all()
    LISTS[name](theirs)

    ask(**kit.openai, messages=messages())
    run(aask(**kit.openai, messages=messages()))

    assert kit.usage().total_tokens == 216
    assert theirs.seen.count("success") == 1
    if name != "success_callback":
        assert litellm.callbacks[0] is theirs
        assert theirs.seen.count("pre") == 2
    assert ours()


def test_a_program_with_thirty_callbacks_is_counted_too(kit: Kit) -> None:
    """LiteLLM refuses more, and says so."""
    litellm.callbacks = [type(f"Theirs{n}", (Theirs,), {})() for n in range(30)]

    ask(**kit.openai, messages=messages())

    assert told(kit.usage()) == OPENAI


def test_a_callback_may_read(kit: Kit) -> None:
    """A program's own callback that reads gets an answer, though its own call is not through."""
    theirs = Theirs(kit.usage)
    litellm.callbacks = [theirs]

    ask(**kit.openai, messages=messages())
    while "success" not in theirs.seen:
        time.sleep(0.001)

    assert told(kit.usage()) == OPENAI


def test_the_logger_is_never_copied() -> None:
    """LiteLLM and its proxy copy callbacks."""
    table = CallTable(Meter())
    one = AgentSightUsageLogger(
        table,
        Barrier(table),
        stream_usage=StreamUsage(is_on=True),
        refusals=Refusals(),
        register=lambda: None,
    )

    assert copy.copy(one) is one
    assert copy.deepcopy([one])[0] is one


def test_the_handler_can_be_switched_off_and_on(tmp_path: Path) -> None:
    """Off, LiteLLM is as it was: its functions, classes and lists."""
    handled = sys.modules["litellm.litellm_core_utils.streaming_handler"].CustomStreamWrapper
    utils = sys.modules["litellm.utils"]

    def state() -> list[Any]:
        methods = [vars(handled)[n] for n in ("__init__", "__next__", "__anext__", "__del__")]
        return [*methods, utils.function_setup, len(litellm.callbacks)]

    before = state()
    for turn in range(2):
        with handler_kit(tmp_path / str(turn)) as kit:
            assert state()[:-1] != before[:-1]
            ask(**kit.openai, messages=messages())
            assert told(kit.usage()) == OPENAI
            stream = ask(**kit.openai, messages=messages(), stream=True)
            next(stream)
            deactivate()
            assert state() == before
            assert ours_or_none() is None
            assert kit.usage().unreported_calls == 1  # it was under way
            list(stream)
            ask(**kit.openai, messages=messages())
            run(drain(aask(**kit.openai, messages=messages(), stream=True)))
            assert kit.usage().request_count == 2
    assert meter.barriers == meter.finders == []


def ours_or_none() -> AgentSightUsageLogger | None:
    lists = (litellm.callbacks, litellm.success_callback, litellm._async_success_callback)
    found = [c for each in lists for c in each if isinstance(c, AgentSightUsageLogger)]
    return found[0] if found else None


def test_what_others_wrapped_since_is_left(kit: Kit) -> None:
    """A stranger's wrapper around ours stays, and ours passes on."""
    utils = sys.modules["litellm.utils"]
    handled = sys.modules["litellm.litellm_core_utils.streaming_handler"].CustomStreamWrapper
    base = sys.modules["litellm.responses.streaming_iterator"].BaseResponsesAPIStreamingIterator
    wrapped = {
        (utils, "function_setup"): utils.function_setup,
        (handled, "__next__"): handled.__next__,
        (handled, "__anext__"): handled.__anext__,
        (handled, "__init__"): handled.__init__,
        (base, "__del__"): base.__del__,
    }

    def around(original: Any) -> Any:
        return lambda *args, **kwargs: original(*args, **kwargs)

    strangers = {place: around(original) for place, original in wrapped.items()}
    for (owner, name), stranger in strangers.items():
        setattr(owner, name, stranger)
    try:
        deactivate()

        assert all(vars(o)[n] is strangers[o, n] for o, n in strangers)
        list(ask(**kit.openai, messages=messages(), stream=True))
        run(drain(aask(**kit.openai, messages=messages(), stream=True)))
        assert kit.usage().request_count == 0
    finally:
        for (owner, name), original in wrapped.items():
            setattr(owner, name, original)


def test_a_version_without_a_name_is_left_alone() -> None:
    """What is not there is not replaced."""
    patches = Patches()

    patches.replace(Patches, "not_there", broken)

    assert not hasattr(Patches, "not_there")
    patches.undo()


def test_the_handler_is_installed_once(kit: Kit) -> None:
    """Another tracker that asks for it finds it on."""
    with ConversationTracker(token_handler="litellm") as other:
        ask(**kit.openai, messages=messages())

        assert told(other.get_usage()) == OPENAI
    assert len(meter.barriers) == 1


def test_litellm_is_not_imported_for_a_program_that_does_not() -> None:
    """Switching the handler on costs nothing of LiteLLM's seconds."""
    code = (
        "import sys; from agentsight_tokens import ConversationTracker; "
        "tracker = ConversationTracker(token_handler='litellm'); "
        "assert tracker.handler_status == {'litellm': 'active'}; "
        "assert not {'litellm', 'openai', 'httpx'} & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def details(number: int = 0, **fields: Any) -> dict[str, Any]:
    began = datetime(2026, 1, 1) + timedelta(seconds=number)  # noqa: DTZ001  # as LiteLLM's own
    return {
        "litellm_call_id": f"id{number}",
        "start_time": began,
        "call_type": "completion",
        "model": "m",
        **fields,
    }


@pytest.fixture
def table(tracker: ConversationTracker) -> CallTable:
    return CallTable(meter, most=2, longest=10)


def begun(table: CallTable, number: int = 0, **fields: Any) -> Call:
    call = table.begin(details(number, **fields))
    assert call is not None
    return call


def test_a_call_is_under_way_until_its_record_is_kept(
    table: CallTable, tracker: ConversationTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where LiteLLM tells its end twice, in two threads at once (litellm 1.110)."""
    receive = ConversationTracker.receive
    begins, goes_on = threading.Event(), threading.Event()

    def slow(*args: Any) -> Any:
        begins.set()  # the first record of a process makes its files
        goes_on.wait(10)
        return receive(*args)

    monkeypatch.setattr(ConversationTracker, "receive", slow)
    call, answer = begun(table), Extracted(usage=TokenUsage(input_tokens=5))
    first = threading.Thread(target=table.finish, args=(call, answer))
    first.start()
    begins.wait(10)

    table.finish(call, answer)

    assert table.is_under_way(call)
    goes_on.set()
    first.join()
    assert not table.is_under_way(call)
    assert tracker.get_usage().input_tokens == 5


def test_the_table_is_bounded_in_number(table: CallTable, tracker: ConversationTracker) -> None:
    """The oldest call leaves unreported."""
    for number in range(5):
        begun(table, number)

    assert len(table) == 2
    assert {r.unreported_reason for r in tracker.get_usage_history()} == {"run_never_closed"}
    assert tracker.get_usage().unreported_calls == 3


def test_the_table_is_bounded_in_age(table: CallTable, tracker: ConversationTracker) -> None:
    """A call that nobody ends leaves in the end."""
    begun(table).began -= 11
    table._next_look = 0.0

    begun(table, 1)

    assert len(table) == 1
    assert tracker.get_usage().unreported_calls == 1


def test_what_is_no_call_of_a_model_is_none(table: CallTable) -> None:
    """Files, moderations and what else LiteLLM sends are not billed by tokens."""
    assert table.begin(details(call_type="afile_retrieve")) is None
    table.close()
    assert table.begin(details()) is None
    table.nothing_sent()


def test_an_end_without_a_start_counts_once(table: CallTable, tracker: ConversationTracker) -> None:
    """Where the start was lost the call still counts, if LiteLLM has sent it."""
    answer = {"object": "chat.completion", "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
    lost = details(api_call_start_time=datetime.now())  # noqa: DTZ005  # as LiteLLM's own

    for _ in range(2):
        table.succeed(lost, answer)
    table.succeed(details(1), answer)
    now = datetime.now()  # noqa: DTZ005  # as LiteLLM's own
    table.succeed(details(2, cache_hit=True, api_call_start_time=now), answer)
    table.succeed(details(3, call_type="afile_retrieve", api_call_start_time=now), answer)
    before = now - timedelta(hours=1)  # when the handler was not on yet
    table.succeed(details(4, api_call_start_time=before), answer)

    assert tracker.get_usage().total_tokens == 7


def test_an_attempt_that_another_follows_has_failed(
    table: CallTable, tracker: ConversationTracker
) -> None:
    """Of one whose failure nobody told it is not known what it cost."""
    begun(table)
    begun(table)

    assert len(table) == 1
    assert tracker.get_usage().unreported_calls == 1


def test_a_call_that_has_returned_unanswered_is_waited_for(
    table: CallTable, tracker: ConversationTracker
) -> None:
    """A synchronous call whose end nobody tells is unreported after a while."""
    begun(table)

    Barrier(table, longest=0.01).settle()

    assert tracker.get_usage().unreported_calls == 1


def test_a_call_that_was_answered_is_never_given_up(table: CallTable) -> None:
    """An answer that cannot be read leaves the call to LiteLLM's late callback."""
    call = begun(table)
    call.is_answered = True
    call.raw = '{"answer": 42}'

    Barrier(table, longest=0.01).settle()

    assert table.is_under_way(call)


def test_an_answer_without_a_callback_counts(
    table: CallTable, tracker: ConversationTracker
) -> None:
    """LiteLLM drops callbacks when its queue is full."""
    call = begun(table)
    call.is_answered = True
    call.raw = '{"object": "chat.completion", "usage": {"prompt_tokens": 3}}'

    Barrier(table, longest=0.01).settle()

    assert tracker.get_usage().input_tokens == 3


def test_a_call_of_another_thread_is_left_alone(table: CallTable) -> None:
    """It is still running, for all that this thread can know."""
    thread = threading.Thread(target=begun, args=(table,))
    thread.start()
    thread.join()

    call = table.under_way()[0]
    call.thread = -1
    Barrier(table, longest=0.01).settle()

    assert table.is_under_way(call)


def test_what_was_caught_ends_a_call_without_a_wait(
    table: CallTable, tracker: ConversationTracker
) -> None:
    """The exception in the place of an answer says what the call cost."""
    call = begun(table)
    call.error = ConnectionRefusedError()

    Barrier(table).settle()

    (record,) = tracker.get_usage_history()
    assert (record.status, record.error_type) == ("error", "ConnectionRefusedError")
    assert not record.is_unreported


@pytest.mark.parametrize("is_known", [False, True])
def test_a_task_that_is_gone_waits_for_nothing(
    table: CallTable, tracker: ConversationTracker, is_known: bool
) -> None:
    """A task that was destroyed, and one that never was known."""

    async def begin() -> None:
        begun(table, call_type="acompletion")

    run(begin())
    gc.collect()
    (call,) = table.under_way()
    if not is_known:
        call.task = None
    Barrier(table).settle()

    assert tracker.get_usage().unreported_calls == int(is_known)


def test_a_task_that_still_waits_is_left_alone(table: CallTable) -> None:
    """Another task's call is running; a reader does not end it."""

    async def main() -> None:
        async def wait() -> None:
            begun(table, call_type="acompletion")
            await asyncio.sleep(1)

        task = asyncio.ensure_future(wait())
        await asyncio.sleep(0.01)
        Barrier(table).settle()
        await asyncio.to_thread(Barrier(table).settle)
        assert len(table) == 1
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    run(main())


def test_a_child_process_begins_anew(table: CallTable) -> None:
    """The parent sees its calls to their end."""
    call = begun(table)
    lock = table.ended

    calls._begin_anew_in_child()

    assert len(table) == 0
    assert call.open.is_finished  # what the child drops of it is not counted
    assert table.ended is not lock


FORKING = """
import gc, os, warnings
from agentsight_tokens import ConversationTracker
from agentsight_tokens.testing import LoopbackProvider
warnings.simplefilter("ignore")
tracker = ConversationTracker(conversation_id="c", token_handler="litellm")
import litellm

def ask(text, **options):
    return litellm.completion(
        "openai/gpt-4o-mini", [{"role": "user", "content": text}],
        api_base=provider.openai_url, api_key="k", **options,
    )

with LoopbackProvider(keep_alive=False) as provider:
    stream = ask("[[in=5 out=2 chunks=4 text=abcd]]", stream=True)
    next(stream)
    child = os.fork()
    if not child:
        del stream
        gc.collect()
        ask("[[in=7 out=1]]")
        usage = tracker.get_usage()
        is_right = (usage.input_tokens, usage.unreported_calls) == (7, 0)
        os._exit(0 if is_right else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0, status
    list(stream)
    usage = tracker.get_usage()
    assert (usage.input_tokens, usage.unreported_calls) == (5, 0), usage
os._exit(0)
"""


def test_a_fork_counts_its_own_calls() -> None:
    """A stream under way is the parent's, though the child drops its copy of it."""
    done = subprocess.run(
        [sys.executable, "-c", FORKING], capture_output=True, text=True, check=False, timeout=100
    )

    assert done.returncode == 0, done.stderr


def test_nothing_is_kept_of_calls_that_ended(kit: Kit) -> None:
    """However many there were."""
    for _ in range(30):
        ask(**kit.openai, messages=messages())
        list(ask(**kit.openai, messages=messages(), stream=True))
    kit.usage()

    assert len(ours()._table) == 0
    assert kit.usage().request_count == 60


def test_a_stream_that_was_dropped_lets_go_of_its_connection(kit: Kit) -> None:
    """LiteLLM's details hold a synchronous stream that holds them; we loosen that."""
    gc.disable()
    try:
        stream = ask(**kit.openai, messages=messages("[[chunks=6]]"), stream=True)
        held = stream.logging_obj.model_call_details["original_response"]
        assert held.logging_obj is stream.logging_obj
        next(stream)
        del stream

        assert told_in_the_end(kit, UNREPORTED) == UNREPORTED
        with pytest.raises(ReferenceError):
            held.chunks  # noqa: B018  # it is asked whether it is there
    finally:
        gc.enable()


CAUSES: dict[str, tuple[BaseException, bool]] = {
    "none": (ValueError("x"), False),
    "a status": (type("Refused", (Exception,), {"status_code": 429})(), True),
    "aiohttp's status": (type("Refused", (Exception,), {"status": 500})(), True),
    "no error": (type("Odd", (Exception,), {"status_code": 200})(), False),
    "made up": (litellm.Timeout("x", "m", "p"), False),
    "LiteLLM's own": (litellm.NotFoundError("x", "m", "p"), True),
    "connection": (litellm.APIConnectionError("x", "p", "m"), False),
}


@pytest.mark.parametrize("name", CAUSES)
def test_exceptions_say_what_was_billed(name: str) -> None:
    """Only what the provider refused, or never saw, is known to cost nothing."""
    error, expected = CAUSES[name]

    assert failures.is_unbilled(error) is expected


def test_an_earlier_failure_says_nothing_of_a_later_one() -> None:
    """What was being handled when an attempt began is its context."""
    earlier = litellm.NotFoundError("x", "m", "p")
    later = ValueError()
    later.__context__ = earlier

    assert failures.is_unbilled(later)
    assert not failures.is_unbilled(later, before=earlier)


def test_a_usage_that_cannot_be_is_unreported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A negative count is a fault of the provider's, and no count."""
    monkeypatch.setattr("agentsight_tokens.faults._raises", False)
    answer = {"object": "chat.completion", "usage": {"prompt_tokens": -3}}

    assert answers.read_answer(answer, "openai") == Extracted()
    assert answers.read_answer(object(), None) == Extracted()


def test_a_cache_that_knows_nothing_is_no_hit(table: CallTable) -> None:
    """Neither is one that knows some embeddings of a batch."""
    call = begun(table)
    logged = type("Logged", (), {"model_call_details": details()})()

    caches._look(None, {"logging_obj": logged}, table)
    partial = type("Found", (), {"cached_result": [1], "final_embedding_cached_response": 1})()
    caches._look(partial, {"logging_obj": logged}, table)
    assert table.is_under_way(call)

    caches._look(type("Found", (), {"cached_result": 1})(), {"logging_obj": logged}, table)
    assert not table.is_under_way(call)


def test_a_provider_that_is_not_there_is_waited_for_by_nobody(tmp_path: Path) -> None:
    """A keyboard interrupt within a call leaves it cancelled or unreported."""

    def interrupt(request: Any) -> None:
        raise KeyboardInterrupt

    with handler_kit(tmp_path) as kit:
        stream = ask(**kit.openai, messages=messages("[[chunks=6]]"), stream=True)
        stream.completion_stream = type(
            "Interrupted", (), {"__next__": interrupt, "__iter__": lambda self: self}
        )()
        with pytest.raises(KeyboardInterrupt):
            next(stream)

        assert told(kit.usage()) == UNREPORTED
        assert kit.record().status == "cancelled"


def test_the_usage_is_told_though_the_answer_cannot_be_used(kit: Kit) -> None:
    """A tracker that is gone takes nothing, and the call goes on."""
    meter.default_recorder = None

    answer = ask(**kit.openai, messages=messages())

    assert answer.usage.total_tokens == 108
    assert kit.usage().request_count == 0
    assert TokenUsage() == kit.provider.billed("nobody")
    assert isinstance(kit.provider, LoopbackProvider)
