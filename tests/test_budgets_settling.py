"""However a call ends, what it held is settled: once, and in the window that held it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import openai
import pytest
from langchain_openai import ChatOpenAI

from agentsight_tokens import (
    Budget,
    BudgetExceededError,
    BudgetManager,
    ConversationTracker,
    TokenConfig,
    TokenMiddleware,
    TokenUsage,
)
from agentsight_tokens.budgets import WindowStatus
from agentsight_tokens.handlers import deactivate
from agentsight_tokens.meter import Asked, meter
from agentsight_tokens.testing import LoopbackProvider, Reply
from tests.budget_kit import SteeredClock

PROMPT = 8
"""The tokens of "hi" as a message, as OpenAI counts them."""
MOST = 50
HELD = PROMPT + MOST


class Program:
    """A program that uses OpenAI's SDK under a budget."""

    def __init__(self, provider: LoopbackProvider, folder: Path, handlers: str = "openai") -> None:
        self.provider = provider
        self.clock = SteeredClock()
        self.manager = BudgetManager(clock=self.clock)
        self.manager.set_budget(Budget(daily_token_limit=100_000))
        self.tracker = ConversationTracker(
            token_handler=handlers,
            config=TokenConfig(data_dir=str(folder), exit_flush_seconds=0),
            budgets=self.manager,
        )
        self.options: Any = {"base_url": provider.openai_url, "api_key": "k", "max_retries": 0}
        self.client = openai.OpenAI(**self.options)

    def asking(self, text: str = "hi", **more: Any) -> Any:
        messages = [{"role": "user", "content": text}]
        return {"model": "gpt-4o-mini", "messages": messages, "max_tokens": MOST, **more}

    def ask(self, **more: Any) -> Any:
        return self.client.chat.completions.create(**self.asking(**more))

    @property
    def window(self) -> WindowStatus:
        self.provider.settle()
        self.tracker.get_token_usage()  # which lets late callbacks land
        (window,) = self.manager.status()
        return window

    @property
    def used(self) -> tuple[int, int]:
        """What is used and held."""
        window = self.window
        return window.used_tokens, window.held_tokens


@pytest.fixture
def provider() -> Iterator[LoopbackProvider]:
    with LoopbackProvider(keep_alive=False) as provider:
        yield provider


@pytest.fixture
def program(provider: LoopbackProvider, tmp_path: Path) -> Iterator[Program]:
    program = Program(provider, tmp_path)
    yield program
    program.client.close()
    deactivate()
    program.tracker.close()


STREAM: Any = {"stream": True, "stream_options": {"include_usage": True}}


def test_a_running_call_holds_its_prompt_and_its_largest_output(program: Program) -> None:
    """Until its stream has ended; then what was used takes the place of it."""
    stream = program.ask(**STREAM)

    while_it_runs = program.used
    assert list(stream)
    assert while_it_runs == (0, HELD)
    assert program.used == (18, 0)


def test_an_abandoned_stream_costs_its_prompt(program: Program) -> None:
    """Left after the first chunk, closed or collected; nothing stays held."""
    program.provider.enqueue(Reply(hold_after_chunks=1), Reply(hold_after_chunks=1))

    closed = program.ask(**STREAM)
    next(closed)
    closed.close()
    first = program.used
    dropped = program.ask(**STREAM)
    next(dropped)
    del dropped
    gc.collect()

    assert first == (PROMPT, 0)
    assert program.used == (2 * PROMPT, 0)


def test_a_cancelled_call_costs_its_prompt(program: Program) -> None:
    """A task that is cancelled while it waits has sent its request."""
    program.provider.enqueue(Reply(delay_seconds=30))

    async def main() -> None:
        async with openai.AsyncOpenAI(**program.options) as client:
            call = asyncio.create_task(client.chat.completions.create(**program.asking()))
            while not program.provider.received:
                await asyncio.sleep(0.01)
            call.cancel()
            with suppress(asyncio.CancelledError):
                await call

    asyncio.run(main())

    (window,) = program.manager.status()
    assert (window.used_tokens, window.held_tokens) == (PROMPT, 0)


def test_a_call_that_timed_out_costs_its_prompt(program: Program) -> None:
    """It was sent; nobody knows what the provider made of it."""
    program.provider.enqueue(Reply(delay_seconds=1))

    with pytest.raises(openai.APITimeoutError):
        program.ask(timeout=0.1)

    assert program.used == (PROMPT, 0)


@pytest.mark.parametrize("status", [400, 429, 500])
def test_a_refused_call_costs_nothing(program: Program, status: int) -> None:
    """Providers bill no errors."""
    program.provider.enqueue(Reply(status=status))

    with pytest.raises(openai.APIStatusError):
        program.ask()

    assert program.used == (0, 0)


def test_a_call_that_was_never_sent_costs_nothing(program: Program) -> None:
    """Nobody listens at the address."""
    with (
        openai.OpenAI(base_url="http://127.0.0.1:9/v1", api_key="k", max_retries=0) as client,
        pytest.raises(openai.APIConnectionError),
    ):
        client.chat.completions.create(**program.asking())

    assert program.used == (0, 0)


def test_a_silent_provider_costs_what_was_held(program: Program) -> None:
    """The estimate is kept, since nobody knows better."""
    program.provider.enqueue(Reply(usage_mode="never"))

    list(program.ask(**STREAM))

    assert program.used == (HELD, 0)
    assert program.tracker.get_usage().unreported_calls == 1


def test_retries_hold_once(program: Program) -> None:
    """The SDK sends the request again within the same hold."""
    program.provider.enqueue(Reply(status=500, retry_after=0))

    program.client.with_options(max_retries=2).chat.completions.create(**program.asking())

    assert program.provider.requests == 2
    assert program.used == (18, 0)


def test_a_late_settlement_goes_to_the_window_that_held(program: Program) -> None:
    """A stream that runs past midnight is yesterday's."""
    stream = program.ask(**STREAM)
    program.clock.move(hours=20)
    list(stream)

    assert program.used == (0, 0)
    program.clock.move(hours=-20)
    yesterday = BudgetManager(program.manager._store, clock=None)
    yesterday.set_budget(Budget(daily_token_limit=1))
    (window,) = yesterday.status()
    assert window.used_tokens == 18


def test_a_stream_renews_its_hold(program: Program) -> None:
    """Chunk by chunk, however long it takes."""
    program.provider.enqueue(Reply(chunks=8))
    stream = program.ask(**STREAM)

    held = []
    for _ in stream:
        program.clock.move(seconds=400)
        held.append(program.manager.status().windows[0].held_tokens)

    assert set(held[:-1]) == {HELD}
    assert program.used == (18, 0)


def test_a_hold_that_nobody_settles_ends_with_its_lease(program: Program) -> None:
    """And a settlement that comes later still counts, once."""
    stream = program.ask(**STREAM)
    program.clock.move(seconds=631)

    without_lease = program.manager.status().windows[0].held_tokens
    list(stream)

    assert without_lease == 0
    assert program.used == (18, 0)


def test_parallel_calls_settle_each_for_itself(program: Program) -> None:
    """16 at a time; nothing is lost and nothing stays held."""
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda _: program.ask(), range(32)))

    assert program.used == (32 * 18, 0)


def test_a_tracker_that_is_closed_meanwhile_settles_too(program: Program) -> None:
    """What was used was used."""
    stream = program.ask(**STREAM)
    program.tracker.close()
    list(stream)

    (window,) = program.manager.status()
    assert (window.used_tokens, window.held_tokens) == (18, 0)


def test_a_response_that_is_counted_by_hand_too_counts_once(program: Program) -> None:
    """Its handler has settled it; by hand, a call of another program's is added."""
    answer = program.ask()
    program.tracker.record(answer)
    program.tracker.track_token_usage(100, 1, embedding_tokens=7)

    assert program.used == (18 + 108, 0)


def test_fallbacks_hold_each_for_itself(provider: LoopbackProvider, tmp_path: Path) -> None:
    """The first fails and costs nothing, the second answers."""
    program = Program(provider, tmp_path, "langchain")
    model = ChatOpenAI(model="gpt-4o-mini", max_tokens=MOST, **program.options)
    provider.enqueue(Reply(status=500))

    model.with_fallbacks([model]).invoke("hi")

    assert provider.requests == 2
    assert program.used == (18, 0)
    deactivate()
    program.tracker.close()


def test_a_model_that_a_budget_refuses_falls_back(
    provider: LoopbackProvider, tmp_path: Path
) -> None:
    """`with_fallbacks` takes a refusal for a failure; the fallback meets budgets of its own."""
    program = Program(provider, tmp_path, "langchain")
    program.manager.set_budget(Budget(daily_token_limit=0), scope="model", entity_id="gpt-4o")
    dear = ChatOpenAI(model="gpt-4o", max_tokens=MOST, **program.options)
    cheap = ChatOpenAI(model="gpt-4o-mini", max_tokens=MOST, **program.options)

    dear.with_fallbacks([cheap]).invoke("hi")

    assert [request.body["model"] for request in provider.received] == ["gpt-4o-mini"]
    assert program.tracker.get_usage().request_count == 1
    with pytest.raises(BudgetExceededError, match="model 'gpt-4o'"):
        dear.invoke("hi")
    deactivate()
    program.tracker.close()


def test_an_agents_calls_are_held_one_by_one(program: Program) -> None:
    """What is wrapped may make many calls: each meets the budget before it is sent."""
    program.manager.set_budget(Budget(total_token_limit=100), scope="agent")

    @TokenMiddleware(program.tracker).wrap(agent="worker")
    def work(prompt: str, max_tokens: int = MOST) -> None:
        while True:
            program.ask()

    with pytest.raises(BudgetExceededError) as caught:
        work("hi")

    # 18 + 18 + 18 are used, and 58 more do not fit.
    assert (caught.value.scope, caught.value.used) == ("agent", 54)
    assert program.provider.requests == 3
    assert program.used == (54, 0)


@pytest.mark.parametrize("handlers", ["openai,langchain", "langchain"])
def test_calls_around_one_another_hold_once(
    provider: LoopbackProvider, tmp_path: Path, handlers: str
) -> None:
    """The framework's call and the SDK's are for one request."""
    program = Program(provider, tmp_path, handlers)
    model = ChatOpenAI(model="gpt-4o-mini", max_tokens=MOST, **program.options)

    held = [program.manager.status().windows[0].held_tokens for _ in model.stream("hi")]

    assert held[0] == HELD
    assert program.used == (18, 0)
    deactivate()
    program.tracker.close()


class TestNesting:
    """What the meter does with holds where calls nest."""

    @pytest.fixture
    def manager(self) -> BudgetManager:
        manager = BudgetManager()
        manager.set_budget(Budget(daily_token_limit=1000))
        return manager

    @pytest.fixture(autouse=True)
    def budgeted(self, manager: BudgetManager) -> Iterator[ConversationTracker]:
        with ConversationTracker(budgets=manager) as tracker:
            yield tracker

    @staticmethod
    def begin(handler: str) -> Any:
        return meter.begin(handler, model="gpt-4o-mini", asked=lambda: Asked(10, 90))

    @staticmethod
    def sums(manager: BudgetManager) -> tuple[int, int]:
        (window,) = manager.status()
        return window.used_tokens, window.held_tokens

    @pytest.mark.parametrize(
        ("finish", "sums"),
        [
            (lambda outer, inner: (inner.finish(TokenUsage(input_tokens=5)),), (5, 0)),
            (lambda outer, inner: (inner.drop(),), (0, 0)),
            (lambda outer, inner: (inner.finish(None), outer.finish(None)), (100, 0)),
            (lambda outer, inner: (outer.finish(None), inner.finish(None)), (100, 0)),
            (lambda outer, inner: (outer.forget(),), (0, 0)),
            (lambda outer, inner: (outer.release(),), (0, 0)),
            (
                lambda outer, inner: (
                    inner.finish(None),
                    outer.finish(TokenUsage(input_tokens=7)),
                ),
                (7, 0),
            ),
            (lambda outer, inner: (inner.finish(None, status="error"),), (0, 100)),
        ],
    )
    def test_a_chain_has_one_hold(
        self,
        manager: BudgetManager,
        finish: Callable[[Any, Any], Any],
        sums: tuple[int, int],
    ) -> None:
        """It is settled by whoever records, and given back by whoever forgets."""
        outer = self.begin("outer")
        inner = self.begin("inner")
        held = self.sums(manager)

        finish(outer, inner)

        assert held == (0, 100)
        assert self.sums(manager) == sums
        outer.drop()
        inner.drop()

    def test_a_second_request_within_a_call_holds_its_own(self, manager: BudgetManager) -> None:
        """As the turns of an agent; the call around them has used what they have."""
        outer = self.begin("outer")
        self.begin("inner").finish(TokenUsage(input_tokens=5))
        second = self.begin("inner")

        held = self.sums(manager)
        second.finish(TokenUsage(input_tokens=6))
        outer.finish(TokenUsage(input_tokens=11))

        assert held == (5, 100)
        assert self.sums(manager) == (11, 0)

    def test_a_refused_request_leaves_the_call_around_it_whole(
        self, manager: BudgetManager
    ) -> None:
        """It may answer without it."""
        outer = self.begin("outer")
        self.begin("inner").finish(TokenUsage(input_tokens=950))

        with pytest.raises(BudgetExceededError):
            self.begin("inner")
        outer.finish(TokenUsage(input_tokens=950))

        assert self.sums(manager) == (950, 0)

    def test_what_cannot_be_read_is_counted_afterwards(
        self, manager: BudgetManager, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Trouble of ours stops no call."""
        monkeypatch.setattr("agentsight_tokens.faults._raises", False)

        def broken() -> Asked:
            raise OSError("no tokenizer")

        call = meter.begin("sdk", asked=broken)
        call.finish(TokenUsage(input_tokens=5))

        assert self.sums(manager) == (5, 0)
