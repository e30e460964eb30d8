"""Every scenario of every framework, against the provider's own ledger."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest

from agentsight_tokens import TokenConfig
from agentsight_tokens.conformance import (
    FRAMEWORKS,
    Figures,
    Scenario,
    run_suite,
    run_with_tracker,
    scenarios_of,
    versions,
)
from agentsight_tokens.conformance.clients import expect_failure
from agentsight_tokens.conformance.figures import COUNTED
from agentsight_tokens.conformance.scenario import judged
from agentsight_tokens.faults import fault_counts
from agentsight_tokens.handlers import registered_handlers
from agentsight_tokens.testing import LoopbackProvider

pytestmark = [
    # llama-index-llms-anthropic 0.12 passes what anthropic 2 calls by another name.
    pytest.mark.filterwarnings("ignore:The 'output_format' parameter:DeprecationWarning"),
    # llama-index-core 0.14 streams structured answers by pydantic's old names.
    pytest.mark.filterwarnings(
        "ignore:The `json` method is deprecated:pydantic.warnings.PydanticDeprecatedSince20"
    ),
    # llama-index-workflows looks at every attribute of an agent.
    pytest.mark.filterwarnings("ignore:The `__fields:pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings(
        "ignore:Accessing the 'model_:pydantic.warnings.PydanticDeprecatedSince211"
    ),
    # LiteLLM's models do not fit its types, and it leaves clients and coroutines open.
    pytest.mark.filterwarnings("ignore::UserWarning:pydantic"),
    pytest.mark.filterwarnings("ignore:.*was never awaited:RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ANY_VERSIONS = bool(os.environ.get("CONFORMANCE_OF_ANY_VERSIONS"))
"""Whether scenarios may lack what a framework of another version cannot do or does not tell."""

HAS_SWITCH = "wire_taps" in TokenConfig.__struct_fields__
WAYS = ("callbacks only", "with taps", "all handlers") if HAS_SWITCH else ("callbacks only",)


def _is_here(framework: str) -> bool:
    module = FRAMEWORKS[framework].module.partition(".")[0]
    return framework in registered_handlers() and importlib.util.find_spec(module) is not None


def cases() -> list[Any]:
    return [
        pytest.param(
            framework,
            scenario,
            way,
            id=f"{framework}, {scenario.name}, {way}",
        )
        for framework in FRAMEWORKS
        if _is_here(framework)
        for scenario in scenarios_of(framework)
        for way in WAYS
        if (framework, way) != ("litellm", "with taps")  # its handler uses none
    ]


@pytest.mark.parametrize(("framework", "scenario", "way"), cases())
def test_scenario(tmp_path: Path, framework: str, scenario: Scenario, way: str) -> None:
    """What is counted is what is expected, and that is what the provider billed."""
    handlers = "auto" if way == "all handlers" else framework
    config = TokenConfig(data_dir=str(tmp_path), exit_flush_seconds=0, token_handler=handlers)
    if HAS_SWITCH:
        config = config.replace(wire_taps=way != "callbacks only")

    faults = fault_counts()

    with LoopbackProvider(keep_alive=False) as provider:
        result = run_with_tracker(framework, scenario, provider, config)
    assert fault_counts() == faults  # LlamaIndex swallows what its handlers raise
    if result.verdict == "skipped" and (ANY_VERSIONS or "No module named" in str(result.reason)):
        pytest.skip(result.reason or "")

    if way != "all handlers" and scenario.only_wire_tells and result.verdict != "exact":
        assert result.verdict in {"unreported", "under"}
        return
    if ANY_VERSIONS and result.verdict == "unreported":
        return
    assert result.reason is None
    assert result.verdict == ("unreported" if scenario.unreported else "exact")
    if way != "all handlers":  # there, an attempt that failed may be a call of its own
        assert result.counted is not None
        counted = result.counted._replace(partial_calls=0)
        assert counted == scenario.expected
    if scenario.is_told:
        billed = provider.billed()
        assert [getattr(result.expected, name) for name in COUNTED] == [
            getattr(billed, name) for name in COUNTED
        ]


RIGHT = Figures(11, 7, 18)
JUDGEMENTS = {
    "exact": (RIGHT, RIGHT, "exact", None),
    "over": (RIGHT, Figures(11, 14, 25), "over", "output_tokens 14 of 7, total_tokens 25 of 18"),
    "over in a detail": (
        RIGHT,
        Figures(11, 7, 18, reasoning_tokens=2),
        "over",
        "reasoning_tokens 2 of 0",
    ),
    "under": (RIGHT, Figures(11, 6, 17), "under", "output_tokens 6 of 7, total_tokens 17 of 18"),
    "said to be missing": (
        Figures(embedding_tokens=3),
        Figures(unreported_calls=1),
        "unreported",
        "embedding_tokens 0 of 3",
    ),
    "said to be a part": (
        RIGHT,
        Figures(11, 0, 11, partial_calls=1),
        "unreported",
        "output_tokens 0 of 7, total_tokens 11 of 18",
    ),
    "unknowable": (Figures(unreported_calls=1), Figures(unreported_calls=1), "unreported", None),
    "nothing said": (
        Figures(unreported_calls=1),
        Figures(),
        "under",
        "1 unreported_calls are not told",
    ),
}


@pytest.mark.parametrize("name", JUDGEMENTS)
def test_judged(name: str) -> None:
    """Too much is over, too little is under unless it is said."""
    expected, counted, verdict, reason = JUDGEMENTS[name]

    assert judged(expected, counted) == (verdict, reason)


def test_framework_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line stands for the scenarios of a framework that is not installed."""
    absent = FRAMEWORKS["langchain"]._replace(module="no_such_framework.core")
    monkeypatch.setitem(FRAMEWORKS, "langchain", absent)

    (result,) = run_suite("langchain")

    assert result.verdict == "skipped"
    assert result.reason == "no module named 'no_such_framework.core'"


def only(monkeypatch: pytest.MonkeyPatch, *scenarios: Scenario) -> None:
    module = importlib.import_module("agentsight_tokens.conformance.langchain")
    monkeypatch.setattr(module, "SCENARIOS", scenarios)


def raising(error: Exception) -> Any:
    def act(clients: Any) -> None:
        raise error

    return act


def test_suite_skips_what_cannot_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that is missing or fails says nothing about the counting."""
    missing = ModuleNotFoundError("No module named 'x'")
    only(
        monkeypatch,
        Scenario("not installed", print, build=raising(missing)),
        Scenario("fails", raising(TypeError("another version\nwith details"))),
        Scenario("works", lambda kit: kit.openai().invoke("[[in=1 out=2]]"), 1, 2),
    )

    found = [(each.verdict, each.reason) for each in run_suite("langchain")]

    assert found == [
        ("skipped", "No module named 'x'"),
        ("skipped", "TypeError: another version"),
        ("exact", None),
    ]


def test_suite_without_the_frameworks_handler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the framework's own handler is off, its scenarios are skipped."""
    only(monkeypatch, Scenario("off", print))

    (result,) = run_suite("langchain", handlers="llamaindex")

    assert (result.verdict, result.reason) == ("skipped", "the handler is off")


@pytest.mark.parametrize(("counted", "verdict"), [(9, "over"), (7, "under")])
def test_miscount_that_the_scenario_sees(
    monkeypatch: pytest.MonkeyPatch, counted: int, verdict: str
) -> None:
    """A scenario may find for itself that what was sent is wrong."""
    from agentsight_tokens.conformance import MiscountError

    only(monkeypatch, Scenario("sends", raising(MiscountError(8, counted))))

    (result,) = run_suite("langchain")

    assert (result.verdict, result.reason) == (verdict, f"{counted} of 8 tokens were sent")


def test_share_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several conversations, the worst is told."""
    only(
        monkeypatch,
        Scenario(
            "shares",
            lambda kit: kit.openai().invoke("[[in=1 out=2]]"),
            1,
            2,
            shares={"c": (1, 2), "d": (1, 0)},
        ),
    )

    (result,) = run_suite("langchain")

    assert (result.verdict, result.reason) == (
        "under",
        "d: input_tokens 0 of 1, total_tokens 0 of 1",
    )


def test_call_that_another_conversation_has_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is counted for a conversation must not be counted for another one as well."""

    def act(kit: Any) -> None:
        kit.openai().invoke("[[in=1 out=2]]")
        with kit.meter.conversation("other"):
            kit.openai().invoke("[[in=1 out=2]]")

    only(monkeypatch, Scenario("twice", act, 1, 2))

    (result,) = run_suite("langchain")

    assert result.verdict == "over"
    assert str(result.reason).startswith("in another conversation too: input_tokens 2 of 1")


def test_versions() -> None:
    """The versions of what is installed are named."""
    assert "langchain-core" in versions()


def test_expect_failure() -> None:
    """The block must raise, and what was expected."""
    with expect_failure("refused"):
        raise ValueError("it was refused")
    with pytest.raises(ValueError, match="another"), expect_failure("refused"):
        raise ValueError("another")
    with pytest.raises(AssertionError, match="nothing was raised"), expect_failure("refused"):
        pass
