"""BudgetManager: whose budgets a call meets, what is granted and what is settled."""

from __future__ import annotations

import gc
import pickle
import threading
from decimal import Decimal
from pathlib import Path

import pytest

from agentsight_tokens import (
    Budget,
    BudgetExceededError,
    BudgetManager,
    TokenBudgetManager,
    TokenUsage,
)
from agentsight_tokens.budgets.memory import MemoryStore
from agentsight_tokens.errors import InvalidCountError, InvalidScopeError, StorageError
from agentsight_tokens.testing import FakeClock
from tests.budget_kit import SteeredClock
from tests.records import call


def used(manager: BudgetManager, **scope: str) -> list[int]:
    return [window.used_tokens for window in manager.status(**scope)]


def test_a_call_meets_the_budgets_of_everyone_who_causes_it() -> None:
    """Global first, then org, user, agent, feature, session and model."""
    manager = BudgetManager()
    for scope in ("model", "session", "feature", "agent", "user", "org", "global"):
        manager.set_budget(Budget(daily_token_limit=100), scope=scope)
    who = {
        "org_id": "acme",
        "user_id": "alice",
        "agent": "writer",
        "feature": "search",
        "session_id": "s1",
        "model": "gpt-4o",
    }

    manager.reserve(10, **who).settle(10)

    assert [(w.scope, w.entity_id) for w in manager.status(**who)] == [
        ("global", "*"),
        ("org", "acme"),
        ("user", "alice"),
        ("agent", "writer"),
        ("feature", "search"),
        ("session", "s1"),
        ("model", "gpt-4o"),
    ]
    assert used(manager, **who) == [10] * 7
    assert used(manager, **{**who, "user_id": "bob"}) == [10, 10, 0, 10, 10, 10, 10]


def test_a_call_without_a_user_still_meets_the_global_budget() -> None:
    """Nobody gets past a limit by not saying who they are."""
    manager = BudgetManager()
    manager.set_budget(Budget(daily_token_limit=100))
    manager.set_budget(Budget(daily_token_limit=50), scope="user")

    with pytest.raises(BudgetExceededError) as caught:
        manager.reserve(101)
    manager.reserve(60)

    assert caught.value.scope == "global"


def test_an_own_budget_takes_the_place_of_everybodys() -> None:
    """`*` is for each that has none of its own, and each counts for itself."""
    manager = BudgetManager()
    manager.set_budget(Budget(daily_token_limit=50), scope="user")
    manager.set_budget(Budget(daily_token_limit=500), scope="user", entity_id="alice")

    manager.reserve(400, user_id="alice").settle(400)
    manager.reserve(50, user_id="bob")
    with pytest.raises(BudgetExceededError):
        manager.reserve(51, user_id="carol")

    assert manager.get_budget(scope="user", entity_id="alice").daily_token_limit == 500
    assert manager.get_budget(scope="user", entity_id="dave").daily_token_limit == 50
    assert manager.get_budget() is None


def test_sessions_count_each_for_itself() -> None:
    """A session's limit in anybody's budget is one for each session."""
    manager = BudgetManager()
    manager.set_budget(Budget(session_token_limit=100))

    manager.reserve(90, session_id="a").settle(90)
    manager.reserve(90, conversation_id="b").settle(90)
    with pytest.raises(BudgetExceededError, match="per session"):
        manager.reserve(11, session_id="a", conversation_id="c")

    assert used(manager, session_id="b") == [90]


def test_a_single_call_has_a_limit_of_its_own() -> None:
    """What a call may use at most is known before it is sent."""
    manager = BudgetManager()
    manager.set_budget(Budget(per_call_token_limit=1000, per_call_cost_limit=1))

    manager.reserve(1000, 1).settle()
    with pytest.raises(BudgetExceededError, match=r"per call.*set max_tokens on the call"):
        manager.reserve(1001)
    with pytest.raises(BudgetExceededError, match=r"\$1.50 needed") as caught:
        manager.reserve(1, 1.5)

    assert (caught.value.window, caught.value.unit, caught.value.limit) == ("call", "usd", 1)
    assert caught.value.resets_at is None


def test_a_budget_of_usd_needs_the_price_of_every_call() -> None:
    """An unknown price is not a price of 0: the call is stopped, or counted as it can be."""
    manager = BudgetManager()
    manager.set_budget(Budget(cost_limit_usd=5))

    with pytest.raises(BudgetExceededError, match="no price is known for 'mystery'") as caught:
        manager.reserve(10, None, model="mystery")
    manager.set_budget(Budget(cost_limit_usd=5, on_limit="warning"))
    manager.reserve(10, None, model="mystery").settle(10)

    assert caught.value.requested is None
    assert caught.value.limit == 5


def test_what_is_granted_may_be_less_than_what_was_asked_for() -> None:
    """A budget that clamps grants down to the prompt and the least output, in both units."""
    manager = BudgetManager()
    manager.set_budget(Budget(daily_token_limit=1000, cost_limit_usd=1, clamp=True))
    manager.reserve(300, 0.2)

    by_tokens = manager.reserve(5000, 0, prompt_tokens=100)
    by_tokens.release()
    by_cost = manager.reserve(500, 5, prompt_tokens=100, prompt_cost=1 - 0.2 - 0.4)
    by_cost.release()
    with pytest.raises(BudgetExceededError):
        manager.reserve(5000, 0, prompt_tokens=100, min_output_tokens=601)
    with pytest.raises(BudgetExceededError):
        manager.reserve(5000, 0, prompt_tokens=700)
    with pytest.raises(BudgetExceededError):
        manager.reserve(5000)

    assert (by_tokens.tokens, by_tokens.max_output_tokens, by_tokens.is_clamped) == (700, 600, True)
    assert by_cost.max_output_tokens == 34  # 400 for 4.60 USD, and 0.40 left beyond the prompt
    assert by_cost.cost <= Decimal("0.8")


def test_a_single_call_is_clamped_too() -> None:
    """The limit of a call shrinks what is asked; a budget that does not clamp refuses it."""
    manager = BudgetManager()
    manager.set_budget(Budget(per_call_token_limit=500, clamp=True))
    manager.set_budget(Budget(per_call_token_limit=200), scope="user")

    assert manager.reserve(5000, prompt_tokens=100).tokens == 500
    with pytest.raises(BudgetExceededError):
        manager.reserve(5000, prompt_tokens=100, user_id="alice")


def test_a_settlement_takes_tokens_a_usage_or_a_record() -> None:
    """Embeddings count; the cost is the record's, the given one or what was held."""
    manager = BudgetManager()
    manager.set_budget(Budget(daily_token_limit=10**6, cost_limit_usd=100))

    def settled(usage: object, cost: float | None = None) -> tuple[int, Decimal, bool]:
        before = manager.status().windows[0]
        reservation = manager.reserve(1000, 0.5)
        reservation.settle(usage, cost=cost)
        after = manager.status().windows[0]
        return (
            after.used_tokens - before.used_tokens,
            after.used_cost - before.used_cost,
            reservation.is_estimate,
        )

    assert settled(700) == (700, Decimal("0.5"), False)
    assert settled(700, 0.25) == (700, Decimal("0.25"), False)
    assert settled(TokenUsage(input_tokens=5, embedding_tokens=6)) == (11, Decimal("0.5"), False)
    assert settled(call(10)) == (30, Decimal("70e-12"), False)
    assert settled(call(10, cost_pico_usd=None)) == (30, Decimal("0.5"), False)
    assert settled(None) == (1000, Decimal("0.5"), True)
    assert settled(call(10, usage=TokenUsage(), unreported_reason="silent"))[0] == 1000


def test_a_cancelled_call_costs_its_prompt_and_a_refused_one_nothing() -> None:
    """What was sent was read; what was never sent costs nothing."""
    manager = BudgetManager()
    manager.set_budget(Budget(daily_token_limit=10**6, cost_limit_usd=100))

    cancelled = manager.reserve(1000, 0.5, prompt_tokens=200, prompt_cost=0.1)
    cancelled.cancel()
    manager.reserve(1000, 0.5).release()

    window = manager.status().windows[0]
    assert (window.used_tokens, window.used_cost, window.held_tokens) == (200, Decimal("0.1"), 0)
    assert cancelled.is_estimate


def test_a_block_settles_however_it_ends() -> None:
    """At what it says, at all that was held, or at the prompt if it raised."""
    manager = BudgetManager()
    manager.set_budget(Budget(daily_token_limit=10**6))

    with manager.reserve(100) as reservation:
        reservation.settle(30)
    with manager.reserve(100):
        pass
    with pytest.raises(OSError, match="broke"), manager.reserve(100, prompt_tokens=7):
        raise OSError("broke")

    assert used(manager) == [137]


def test_who_is_in_no_budget_is_not_counted() -> None:
    """Without windows a reservation is free, and settling it does nothing."""
    manager = BudgetManager()
    manager.set_budget(Budget(daily_token_limit=10), scope="org")

    reservation = manager.reserve(10**6, 10**6)
    reservation.renew()
    reservation.settle(5)
    manager.add(5)

    assert len(manager.status()) == 0
    assert manager.status().fraction == 0
    assert manager.status().tokens_left is None
    assert manager.status().cost_left is None
    assert reservation.is_settled


def test_wrong_use_raises_at_the_call() -> None:
    """Unknown scopes and fields, impossible counts, a clock given twice."""
    manager = BudgetManager()

    with pytest.raises(ValueError, match="scope is one of"):
        manager.set_budget(Budget(), scope="planet")
    with pytest.raises(ValueError, match="has no entity_id"):
        manager.set_budget(Budget(), entity_id="alice")
    with pytest.raises(InvalidScopeError, match="no fields of a call's scope"):
        manager.reserve(1, planet="earth")
    with pytest.raises(InvalidCountError):
        manager.reserve(-1)
    with pytest.raises(InvalidCountError):
        manager.reserve("many")
    with pytest.raises(ValueError, match="cost must be USD"):
        manager.reserve(1, -0.5)
    with pytest.raises(ValueError, match="lease_seconds must be above 0"):
        BudgetManager(lease_seconds=0)
    with pytest.raises(ValueError, match="has its own clock"):
        BudgetManager(MemoryStore(), clock=FakeClock())


def test_reads_as_a_user_would(tmp_path: Path) -> None:
    """A path is a store; windows survive a restart, and so does what was used."""
    with BudgetManager(tmp_path / "b.db") as manager:
        manager.set_budget(Budget(daily_token_limit=100))
        manager.reserve(60).settle(60)
    with BudgetManager(str(tmp_path / "b.db")) as again:
        again.set_budget(Budget(daily_token_limit=100))

        with pytest.raises(BudgetExceededError):
            again.reserve(41)
    with BudgetManager("memory", clock=FakeClock()) as manager:
        assert manager.status().windows == ()


def test_the_error_survives_pickling() -> None:
    """It crosses the boundary of a process with all that it tells."""
    manager = BudgetManager()
    manager.set_budget(Budget(daily_token_limit=10), scope="user")
    with pytest.raises(BudgetExceededError) as caught:
        manager.reserve(11, user_id="alice")

    copied = pickle.loads(pickle.dumps(caught.value))

    assert str(copied) == str(caught.value)
    assert vars(copied) == vars(caught.value)


def test_a_clock_far_ahead_does_not_close_today_for_ever() -> None:
    """A small step back is ignored, a large one is a clock that was set right."""
    clock = SteeredClock()
    manager = BudgetManager(clock=clock)
    manager.set_budget(Budget(daily_token_limit=100), scope="user")

    clock.move(days=400)
    manager.reserve(100, user_id="a").settle(100)
    clock.move(days=-400)
    manager.reserve(100, user_id="b").settle(100)

    assert str(manager.status(user_id="b").windows[0].starts_at)[:10] == "2026-03-10"


def test_a_collected_stream_settles_in_the_middle_of_anything() -> None:
    """The garbage collector may end a call while another one is being reserved."""
    manager = BudgetManager()
    manager.set_budget(Budget(daily_token_limit=10**9))

    class Abandoned:
        def __init__(self) -> None:
            self.reservation = manager.reserve(10)
            self.itself = self

        def __del__(self) -> None:
            self.reservation.settle(1)

    thresholds = gc.get_threshold()
    gc.set_threshold(5, 1, 1)
    try:
        for _ in range(300):
            Abandoned()
            manager.reserve(10).settle(2)
    finally:
        gc.set_threshold(*thresholds)
    gc.collect()

    assert used(manager) == [300 * 3]
    assert manager.status().windows[0].held_tokens == 0


def test_memory_stays_small_over_many_sessions() -> None:
    """Windows that have ended are forgotten; those that count are not."""
    clock = FakeClock()
    store = MemoryStore(clock)
    manager = BudgetManager(store)
    manager.set_budget(Budget(session_token_limit=10, hourly_token_limit=10**9))
    held = manager.reserve(5, session_id="held", lease_seconds=10**8)

    for batch in range(4):
        for number in range(4000):
            manager.reserve(1, session_id=f"{batch}-{number}").settle(1)
        clock.advance(31 * 86400)

    assert len(store._cells) < 9000
    assert manager.status(session_id="held").windows[0].held_tokens == 5
    held.release()


def test_plans_stay_few_over_many_users() -> None:
    """A host with a million users does not keep a plan for each."""
    manager = BudgetManager()
    manager.set_budget(Budget(daily_token_limit=10), scope="user")

    for number in range(10_050):
        manager.reserve(1, user_id=str(number))

    assert len(manager._plans) < 10_000


def test_a_store_without_a_time_is_reported() -> None:
    """A store that calls every plan outdated is broken; the host is told, not kept waiting."""

    class Confused(MemoryStore):
        def reserve(self, reservation: object) -> str:
            return "outdated"

    manager = BudgetManager(Confused())
    manager.set_budget(Budget(daily_token_limit=10))

    with pytest.raises(StorageError, match="changes its time"):
        manager.reserve(1)


def test_64_threads_never_pass_a_limit() -> None:
    """Reserve, then spend: with 64 calls at once the sum stays within each window."""
    manager = BudgetManager()
    manager.set_budget(Budget(daily_token_limit=20_000, cost_limit_usd=2))
    gate = threading.Barrier(64)
    spent: list[int] = []

    def work() -> None:
        gate.wait()
        for _ in range(20):
            try:
                reservation = manager.reserve(1500, 0.15)
            except BudgetExceededError:
                continue
            spent.append(1400)
            reservation.settle(1400, cost=0.14)

    threads = [threading.Thread(target=work) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 18_500 <= sum(spent) <= 20_000
    assert used(manager) == [sum(spent)]


def test_the_questions_of_an_application() -> None:
    """Would it fit, how much is left, and what should be done."""
    manager = TokenBudgetManager()
    manager.configure_budget("alice", Budget(daily_token_limit=1000, cost_limit_usd=1))
    manager.reserve(900, 0.2, user_id="alice").settle(900, cost=0.2)

    fits = manager.check_budget_limit("alice", 100, 0.5)
    tokens = manager.check_budget_limit("alice", 101)
    money = manager.check_budget_limit("alice", 1, 0.9)
    unknown = manager.check_budget_limit("bob", 10**9)

    assert fits.within_limit
    assert fits.reason is None
    assert fits.current_usage == {"user.day.tokens": 900, "user.day.cost_usd": Decimal("0.2")}
    assert fits.limit_details == {"user.day.tokens": 1000, "user.day.cost_usd": 1}
    assert tokens.reason == "101 tokens asked, 100 tokens left of the user budget per day"
    assert money.reason == "$0.90 asked, $0.80 left of the user budget per day"
    assert unknown.within_limit
    assert manager.get_budget_status("alice").tokens_left == 100
    assert manager.get_budget_status("alice").cost_left == Decimal("0.8")
    assert "90% of the user budget per day is used" in fits.recommendations[0]
    assert manager.get_budget_recommendations("bob") == []


def test_recommendations_end_where_there_is_room() -> None:
    """Most urgent first, and nothing about budgets that are hardly used."""
    manager = TokenBudgetManager()
    manager.set_budget(
        Budget(total_token_limit=100, daily_token_limit=10**6, monthly_token_limit=0)
    )
    manager.add(95)

    advice = manager.get_budget_recommendations()

    assert [text[:4] for text in advice] == ["100%", "95% "]
    assert "until" not in advice[1]
    assert not manager.check_budget_limit(None, 0).within_limit
    assert manager.status().is_exhausted
