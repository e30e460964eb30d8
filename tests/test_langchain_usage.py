"""How the LangChain handler reads what a result says."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from langchain_core.callbacks.manager import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, BaseLLM
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, Generation, LLMResult

from agentsight_tokens import TokenUsage
from agentsight_tokens.faults import fault_counts
from agentsight_tokens.meter import meter
from agentsight_tokens.testing import Reply
from agentsight_tokens_langchain.failures import failure
from agentsight_tokens_langchain.run_events import run_events
from agentsight_tokens_langchain.runs import OpenRuns, Run
from agentsight_tokens_langchain.usage import Answer, is_cache_hit, read_answer
from tests.langchain_kit import D, Kit, drain, handler_kit, run

RUN_ID = UUID(int=7)


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with handler_kit(tmp_path) as kit:
        yield kit


def message(usage: Any = None, **fields: Any) -> AIMessage:
    made = AIMessage("hi", response_metadata=fields.pop("response_metadata", {}), **fields)
    made.usage_metadata = usage
    return made


def answer(
    usage: Any = None, *, llm_output: Any = None, provider: str = "openai", **f: Any
) -> Answer:
    return read_answer(begun(provider), message(usage, **f), llm_output)


def begun(provider: str = "openai") -> Run:
    manager = CallbackManagerForLLMRun(run_id=RUN_ID, handlers=[], inheritable_handlers=[])
    return Run(meter.begin("langchain", provider=provider), manager)


def counts(given: int = 11, made: int = 7, **details: Any) -> dict[str, Any]:
    return {"input_tokens": given, "output_tokens": made, "total_tokens": given + made, **details}


@pytest.mark.parametrize(
    ("metadata", "usage"),
    [
        ({"input_tokens": 11, "output_tokens": 7}, TokenUsage(input_tokens=11, output_tokens=7)),
        (
            counts(total_tokens=20),
            TokenUsage(input_tokens=11, output_tokens=7, total_tokens=20),
        ),
        (
            counts(output_token_details=None),
            TokenUsage(input_tokens=11, output_tokens=7),
        ),
        (
            counts() | {"input_token_details": {"flex_cache_read": 4, "flex": 7, "audio": None}},
            TokenUsage(input_tokens=11, output_tokens=7, cache_read_tokens=4),
        ),
        (
            counts() | {"output_token_details": {"priority_reasoning": 2, "audio": 1}},
            TokenUsage(input_tokens=11, output_tokens=7, reasoning_tokens=2, audio_output_tokens=1),
        ),
        (
            counts()
            | {
                "input_token_details": {
                    "cache_creation": 0,
                    "ephemeral_5m_input_tokens": 3,
                    "ephemeral_1h_input_tokens": 2,
                    "image": 1,
                }
            },
            TokenUsage(
                input_tokens=11,
                output_tokens=7,
                cache_creation_tokens=5,
                cache_creation_1h_tokens=2,
                image_input_tokens=1,
            ),
        ),
        (
            counts() | {"input_token_details": {"cache_creation": 5, "audio": 2, "cache_read": 1}},
            TokenUsage(
                input_tokens=11,
                output_tokens=7,
                cache_creation_tokens=5,
                cache_read_tokens=1,
                audio_input_tokens=2,
            ),
        ),
        (counts(0, 0), None),
        (None, None),
    ],
)
def test_usage_metadata(metadata: Any, usage: TokenUsage | None) -> None:
    """Details are read with any tier before their name; nothing is added to the input."""
    assert answer(metadata).usage == usage


@pytest.mark.parametrize(
    "bad", [counts(-1), counts(1) | {"input_tokens": "11"}, {"input_token_details": 3}]
)
def test_usage_that_cannot_be_one(bad: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts that cannot be are a fault, and no usage."""
    monkeypatch.setattr("agentsight_tokens.faults._raises", False)

    assert answer(bad).usage is None
    assert fault_counts()["reading usage_metadata"] > 0


@pytest.mark.parametrize(
    ("llm_output", "provider", "usage"),
    [
        (
            {"token_usage": {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}},
            "openai",
            TokenUsage(input_tokens=11, output_tokens=7),
        ),
        (
            {"usage": {"input_tokens": 11, "output_tokens": 7, "cache_read_input_tokens": 4}},
            "anthropic",
            TokenUsage(input_tokens=15, output_tokens=7, cache_read_tokens=4),
        ),
        ({"usage": {"strange": 1}}, "openai", None),
        ({"usage": "much"}, "openai", None),
        ({}, "openai", None),
        (None, "openai", None),
    ],
)
def test_raw_usage(llm_output: Any, provider: str, usage: TokenUsage | None) -> None:
    """Where the message says nothing, the provider's own usage is read."""
    assert answer(None, llm_output=llm_output, provider=provider).usage == usage
    assert answer(None, response_metadata=llm_output or {}, provider=provider).usage == usage


def test_raw_usage_that_cannot_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider's counts that cannot be are a fault, and no usage."""
    monkeypatch.setattr("agentsight_tokens.faults._raises", False)
    raw = {"prompt_tokens": -11, "completion_tokens": 7, "total_tokens": 18}

    assert answer(None, llm_output={"token_usage": raw}).usage is None


def test_searches_beside_the_tokens() -> None:
    """The searches that Anthropic bills stand in its own usage."""
    raw = {"input_tokens": 11, "output_tokens": 7, "server_tool_use": {"web_search_requests": 3}}

    found = answer(counts(), llm_output={"usage": raw}, provider="anthropic").usage
    without = answer(counts(), llm_output={"usage": raw | {"server_tool_use": {}}}).usage

    assert found is not None
    assert found.web_search_requests == 3
    assert without == TokenUsage(input_tokens=11, output_tokens=7)


@pytest.mark.parametrize(
    ("own_id", "metadata", "response_id"),
    [
        ("lc_run--1", {}, None),
        ("run-1", {}, None),
        ("chatcmpl-1", {}, "chatcmpl-1"),
        ("lc_run--1", {"id": "resp_1"}, "resp_1"),
        (None, {}, None),
    ],
)
def test_response_id(own_id: str | None, metadata: Any, response_id: str | None) -> None:
    """LangChain's own ids are no ids of the provider."""
    assert answer(counts(), id=own_id, response_metadata=metadata).response_id == response_id


@pytest.mark.parametrize(
    ("said", "is_hit"),
    [
        (message(counts() | {"total_cost": 0}, id="lc_run--1"), True),
        (message(counts() | {"total_cost": 0}, id=f"lc_run--{RUN_ID}-0"), False),
        (message(counts() | {"total_cost": 0.1}, id="a"), False),
        (message(counts(), id="a"), False),
        (message(None, id=None), True),
        (message(None, id="a"), False),
        (None, False),
    ],
)
def test_cache_hit(said: Any, is_hit: bool) -> None:
    """Only what LangChain's cache marked, and nothing that was paid for, is a hit."""
    assert is_cache_hit(begun(), said) is is_hit


@pytest.mark.parametrize(("output", "calls"), [({"model_name": "m"}, 1), (None, 0)])
def test_answer_with_an_output_is_no_cache_hit(kit: Kit, output: Any, calls: int) -> None:
    """LangChain's cache keeps nothing of what a model says beside its answer."""
    said = ChatGeneration(message=message(counts() | {"total_cost": 0}, id="a"))

    run_events.answered(begun(), [said], output)

    assert kit.tracker.get_usage().request_count == calls


def test_stream_is_no_cache_hit() -> None:
    """What came in chunks came from a provider."""
    open_run = begun()
    open_run.add_report({"input_tokens": 11})

    assert not is_cache_hit(open_run, message(None, id=None))


@pytest.mark.parametrize(
    ("reports", "total"),
    [
        ([(11, 1), (11, 4), (11, 7)], 18),
        ([(11, 7), (11, 7)], 18),
        ([(11, 0), (0, 7)], 99),
        ([(11, 5), (11, 2)], 99),
        ([(12, 1), (11, 7)], 99),
        ([(11, 7)], 99),
    ],
)
def test_cumulative_reports(reports: list[tuple[int, int]], total: int) -> None:
    """Running totals are taken from the last chunk; anything else was merged rightly."""
    open_run = begun()
    for given, made in reports:
        open_run.add_report(counts(given, made))

    found = read_answer(open_run, message(counts(90, 9)), None).usage

    assert found is not None
    assert found.total_tokens == total


def test_ended_runs_are_bounded() -> None:
    """Of the runs that ended only the latest are known."""
    runs, first = OpenRuns(), uuid4()
    for run_id in (first, *(uuid4() for _ in range(1000))):
        runs.open(Run(meter.begin("langchain"), key=run_id.int))
        runs.close(run_id)

    assert runs.ends_again(run_id)
    assert not runs.ends_again(first)
    assert runs.ends_again(first)


def test_nothing_at_all() -> None:
    """A result without any message says nothing."""
    assert read_answer(begun(), None, None) == Answer(usage=None)


def test_failure_without_any_response() -> None:
    """An error alone says only that it happened."""
    assert failure(begun(), ValueError("no"), None) == {
        "usage": None,
        "status": "error",
        "error_type": "ValueError",
        "unreported_reason": "error_without_usage",
    }
    empty = failure(begun(), KeyboardInterrupt(), LLMResult(generations=[]))
    assert (empty["status"], empty["unreported_reason"]) == ("cancelled", "cancelled")


def test_failure_whose_body_is_no_json() -> None:
    """An answer that is not even JSON tells no usage."""
    said = message(response_metadata={"status_code": 200, "body": "<html>"})
    response = LLMResult(generations=[[ChatGeneration(message=said)]])

    found = failure(begun(), ValueError("no"), response)

    assert found["unreported_reason"] == "error_without_usage"


def test_siblings_of_a_batch() -> None:
    """Only the runs of the same request are counted by their sibling."""
    runs = OpenRuns()
    mine, sibling, other = (
        Run(meter.begin("langchain"), key=uuid4().int, batch=n) for n in (1, 1, 2)
    )
    for each in (mine, sibling, other):
        runs.open(each)

    runs.count_siblings(mine)

    assert sibling.is_counted_by_sibling
    assert not other.is_counted_by_sibling


@pytest.mark.skipif(not hasattr(BaseChatModel, "stream_events"), reason="an older langchain-core")
@pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainBetaWarning")
@pytest.mark.parametrize("mode", ["normal", "every_chunk"])
def test_protocol_events(kit: Kit, mode: str) -> None:
    """The newer stream of events is counted once, although it may end twice."""
    prompt = f"[[in=11 out=7 chunks=7 text=1234567 mode={mode}]]"

    async def astream() -> str:
        return str(await (await kit.openai().astream_events(prompt, version="v3")).text)

    seen = [str(kit.openai().stream_events(prompt, version="v3").text), run(astream())]

    assert seen == ["1234567"] * 2
    assert kit.usage().total_tokens == 36
    assert kit.usage().request_count == 2


def test_legacy_batch_that_reports_nothing(kit: Kit) -> None:
    """Every prompt of a silent batch is unreported; none passes for counted."""

    class Silent(BaseLLM):
        """A model whose result has an empty usage from the start."""

        def _generate(self, prompts: list[str], *args: Any, **kwargs: Any) -> LLMResult:
            generations = [[Generation(text="hi")] for _ in prompts]
            return LLMResult(generations=generations, llm_output={"token_usage": {}})

        @property
        def _llm_type(self) -> str:
            return "silent"

    Silent().batch(["a", "b", "c"])

    assert kit.usage().unreported_calls == 3


def test_legacy_stream(kit: Kit) -> None:
    """A legacy stream tells no usage, and says so."""
    list(kit.legacy().stream(D))
    run(drain(kit.legacy().astream(D)))

    assert {r.operation for r in kit.records()} == {"completion"}
    assert {r.unreported_reason for r in kit.records()} <= {"stream_without_usage", None}
    assert kit.usage().request_count == 2


def test_anthropic_stream_cut_off(kit: Kit) -> None:
    """Anthropic reports the input first, so a stream that is left has used at least that."""
    stream = kit.anthropic().stream("[[chunks=7 text=1234567]]")
    next(stream)
    next(stream)
    stream.close()

    record = kit.record()
    assert (record.status, record.input_tokens, record.output_tokens) == ("partial", 11, 1)


def test_other_total(kit: Kit) -> None:
    """The total that the provider reports stands."""
    kit.provider.enqueue(Reply(input_tokens=11, output_tokens=7, total_tokens=21))

    kit.openai().invoke(D)

    assert kit.usage().total_tokens == 21


@pytest.mark.parametrize(
    "first",
    [
        "import langchain_core.callbacks",
        "from langchain_core.callbacks import UsageMetadataCallbackHandler",
        "import langchain_core.tracers.context",
        "import langchain_openai",
        "import langgraph.graph",
    ],
)
def test_imports_in_any_order(first: str) -> None:
    """Installing imports no framework, and registers whatever the program imports first."""
    program = f"""
import sys
from agentsight_tokens.config import TokenConfig
from agentsight_tokens.faults import raising_faults
from agentsight_tokens.meter import meter
from agentsight_tokens_langchain import LangChainHandler
handler = LangChainHandler()
handler.install(meter, TokenConfig())
heavy = ("langchain", "langgraph", "openai", "pydantic")
assert not [name for name in sys.modules if name.startswith(heavy)]
with raising_faults():
    {first}
    import langchain_core.callbacks.manager as manager, langchain_core.language_models.chat_models
start = manager.CallbackManager.on_chat_model_start
assert not hasattr(start.__wrapped__, "__wrapped__")
handler.uninstall()
assert manager.CallbackManager.on_chat_model_start is start.__wrapped__
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


def test_uninstalled_before_the_import() -> None:
    """A handler that was taken back before the framework was imported stays away."""
    program = """
from agentsight_tokens.config import TokenConfig
from agentsight_tokens.meter import meter
from agentsight_tokens_langchain import LangChainHandler
handler = LangChainHandler()
handler.install(meter, TokenConfig())
handler.uninstall()
handler.uninstall()
import langchain_openai, langchain_core.callbacks.manager as manager
assert not hasattr(manager.CallbackManager.on_chat_model_start, "__wrapped__")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


def test_uuid_of_a_run_is_unknown(kit: Kit) -> None:
    """Tokens of a run that is not known change nothing."""
    from agentsight_tokens_langchain.run_events import run_events

    run_events.token(uuid4(), "x", None)

    assert kit.usage().request_count == 0
