"""Calls of LiteLLM that a budget refuses: not sent, and the program is told by our exception."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentsight_tokens import BudgetExceededError
from agentsight_tokens.meter import Meter
from tests.litellm_kit import QUIET, D, Kit, drain, handler_kit, litellm, messages, run, told

pytestmark = QUIET

ask = litellm.completion
aask = litellm.acompletion


@pytest.fixture
def kit(tmp_path: Path) -> Iterator[Kit]:
    with handler_kit(tmp_path) as kit:
        yield kit


@pytest.fixture
def spent(tmp_path: Path) -> Iterator[Kit]:
    """A program whose budget is spent."""
    limits = {"daily_token_limit": 400, "budget_store": "memory"}
    with handler_kit(tmp_path, configure=lambda config: config.replace(**limits)) as kit:
        kit.tracker.track_token_usage(400)
        yield kit


def refuse(*args: Any, **kwargs: Any) -> Any:
    raise BudgetExceededError("used 400 of 400 tokens")


REFUSED: dict[str, Callable[[Kit], Any]] = {
    "sync": lambda k: ask(**k.openai, messages=messages()),
    "async": lambda k: run(aask(**k.openai, messages=messages())),
    "stream": lambda k: list(ask(**k.openai, messages=messages(), stream=True)),
    "async stream": lambda k: run(drain(aask(**k.openai, messages=messages(), stream=True))),
    "anthropic": lambda k: ask(**k.anthropic, messages=messages()),
    "anthropic async": lambda k: run(aask(**k.anthropic, messages=messages())),
    "azure async": lambda k: run(aask(**k.azure, messages=messages())),
    "gemini": lambda k: ask(**k.gemini, messages=messages()),
    "text": lambda k: litellm.text_completion(**k.legacy, prompt=D),
    "embedding": lambda k: litellm.embedding(**k.embedding, input=["a"]),
    "embedding async": lambda k: run(litellm.aembedding(**k.embedding, input=["a"])),
    "messages": lambda k: run(
        litellm.anthropic_messages(**k.anthropic, messages=messages(), max_tokens=9)
    ),
    "retries": lambda k: ask(**k.openai, messages=messages(), num_retries=2),
    "retries async": lambda k: run(aask(**k.openai, messages=messages(), num_retries=2)),
    "fallbacks": lambda k: ask(**k.openai, messages=messages(), fallbacks=["openai/gpt-4o"]),
    "fallbacks async": lambda k: run(
        aask(**k.openai, messages=messages(), fallbacks=["openai/gpt-4o"])
    ),
    "router": lambda k: k.router().completion("first", messages()),
    "router async": lambda k: run(k.router().acompletion("first", messages())),
    "router stream": lambda k: k.router().completion("first", messages(), stream=True),
    "router async stream": lambda k: run(
        drain(k.router().acompletion("first", messages(), stream=True))
    ),
    "batch": lambda k: raise_first(litellm.batch_completion(**k.openai, messages=[messages()])),
    "own provider": lambda k: ask("own/model", messages()),
    "responses": lambda k: litellm.responses(**k.openai, input=D),
    "responses async": lambda k: run(litellm.aresponses(**k.openai, input=D)),
    "responses stream": lambda k: list(litellm.responses(**k.openai, input=D, stream=True)),
    "responses over anthropic": lambda k: litellm.responses(**k.anthropic, input=D),
}


def raise_first(found: list[Any]) -> None:
    raise found[0]


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_call_is_not_sent(spent: Kit, name: str) -> None:
    """Whatever LiteLLM would repeat, send elsewhere, or turn into an error of its own."""
    if "responses" in name:
        pytest.importorskip("mcp")
    litellm.custom_provider_map = [{"provider": "own", "custom_handler": litellm.CustomLLM()}]

    with pytest.raises(BudgetExceededError, match="400 tokens of 400 tokens"):
        REFUSED[name](spent)

    assert spent.provider.requests == 0
    assert spent.usage().request_count == 1


@pytest.mark.parametrize("name", ["sync", "async", "stream", "embedding", "anthropic", "router"])
def test_what_an_allowed_call_used_takes_the_place_of_its_hold(tmp_path: Path, name: str) -> None:
    """The budget has what the tracker counted, and nothing is held any more."""
    limits = {"daily_token_limit": 100_000, "budget_store": "memory"}
    with handler_kit(tmp_path, configure=lambda config: config.replace(**limits)) as kit:
        REFUSED[name](kit)

        usage = kit.usage()
        (window,) = kit.tracker.guard.manager.status()
        assert usage.request_count == 1
        assert window.used_tokens == usage.total_tokens + usage.embedding_tokens > 0
        assert window.held_tokens == 0


def test_a_router_keeps_a_deployment_that_was_not_asked(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal says nothing of the deployment, which is not taken out of service."""
    router = kit.router(allowed_fails=0)
    with monkeypatch.context() as patch:
        patch.setattr(Meter, "begin", refuse)
        with pytest.raises(BudgetExceededError):
            router.completion("first", messages())

    router.completion("first", messages())

    assert [request.body["model"] for request in kit.provider.received] == ["gpt-4o-mini"]


@pytest.mark.parametrize("is_async", [False, True])
def test_a_program_may_go_on_after_a_refusal(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, is_async: bool
) -> None:
    """What fails while it deals with the refusal fails for its own reason."""

    def call(text: str) -> Any:
        options = {**kit.openai, "messages": messages(text)}
        return run(aask(**options)) if is_async else ask(**options)

    try:
        with monkeypatch.context() as patch:
            patch.setattr(Meter, "begin", refuse)
            call(D)
    except BudgetExceededError:
        with pytest.raises(litellm.BadRequestError):
            call("[[status=400]]")
        call(D)

    assert told(kit.usage()) == (101, 7, 108, 0, 40, 0)


def test_a_fallback_that_is_allowed_answers(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of `completion(fallbacks=...)` each model is held against the budgets by itself."""
    begin = Meter.begin

    def refuse_dear(self: Meter, *args: Any, **kwargs: Any) -> Any:
        return refuse() if kwargs["model"] == "gpt-4o-mini" else begin(self, *args, **kwargs)

    monkeypatch.setattr(Meter, "begin", refuse_dear)

    ask(**kit.openai, messages=messages(), fallbacks=["openai/gpt-4o"])

    assert [request.body["model"] for request in kit.provider.received] == ["gpt-4o"]
    assert told(kit.usage()) == (101, 7, 108, 0, 40, 0)
