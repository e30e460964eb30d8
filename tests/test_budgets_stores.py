"""What every store of budgets does, memory, SQLite and a real Redis alike."""

# ruff: noqa: F811  # fixtures are imported, and named again where they are used
from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from agentsight_tokens import BudgetExceededError
from agentsight_tokens.budgets import Budget, BudgetManager, BudgetStatus
from agentsight_tokens.budgets.store import BudgetStore
from tests.budget_kit import (  # noqa: F401  # fixtures
    SteeredClock,
    clock,
    redis_server,
    running_redis,
    store,
)


@pytest.fixture
def manager(store: BudgetStore) -> BudgetManager:
    """A manager of each store in turn, without budgets."""
    return BudgetManager(store)


def only(status: BudgetStatus) -> Any:
    (window,) = status
    return window


def test_a_hold_is_what_was_reserved_and_a_settlement_what_was_used(
    manager: BudgetManager,
) -> None:
    """While a call runs it holds; when it has ended, what it used has taken the place."""
    manager.set_budget(Budget(daily_token_limit=1000, cost_limit_usd=2))

    reservation = manager.reserve(400, 0.5)
    running = only(manager.status())
    reservation.settle(150, cost=Decimal("0.125"))
    ended = only(manager.status())

    assert (running.used_tokens, running.held_tokens, running.tokens_left) == (0, 400, 600)
    assert (running.used_cost, running.held_cost, running.cost_left) == (0, Decimal("0.5"), 1.5)
    assert (ended.used_tokens, ended.held_tokens, ended.tokens_left) == (150, 0, 850)
    assert (ended.used_cost, ended.held_cost) == (Decimal("0.125"), 0)


def test_what_does_not_fit_is_refused_with_all_that_is_known(manager: BudgetManager) -> None:
    """The error has the scope, the key, the window, the amounts and the time of the reset."""
    manager.set_budget(Budget(daily_token_limit=1000), scope="user")
    manager.reserve(300, user_id="alice").settle(200)
    manager.reserve(500, user_id="alice")

    with pytest.raises(BudgetExceededError, match="used 200 tokens of 1,000 tokens") as caught:
        manager.reserve(301, user_id="alice")
    manager.reserve(300, user_id="alice")
    manager.reserve(1000, user_id="bob")

    error = caught.value
    assert (error.scope, error.entity_id, error.window, error.unit) == (
        "user",
        "alice",
        "day",
        "tokens",
    )
    assert (error.used, error.held, error.requested, error.limit) == (200, 500, 301, 1000)
    assert str(error.resets_at) == "2026-03-11 00:00:00+00:00"


def test_all_windows_hold_or_none(manager: BudgetManager) -> None:
    """A call that one window refuses holds nothing in the others."""
    manager.set_budget(Budget(hourly_token_limit=1000, daily_token_limit=1000, cost_limit_usd=9))
    manager.set_budget(Budget(session_token_limit=100), scope="session")

    with pytest.raises(BudgetExceededError) as caught:
        manager.reserve(101, 0.1, session_id="s")

    assert (caught.value.scope, caught.value.window) == ("session", "session")
    assert [w.held_tokens for w in manager.status(session_id="s")] == [0, 0, 0]


def test_money_is_exact_beyond_the_53_bits_of_a_float(manager: BudgetManager) -> None:
    """A budget of millions of USD is kept to the pico-USD."""
    limit = Decimal("1234567.890123456789")
    manager.set_budget(Budget(total_cost_limit=limit))
    manager.reserve(1, limit - Decimal("1e-12")).settle(1)

    with pytest.raises(BudgetExceededError):
        manager.reserve(1, Decimal("2e-12"))
    manager.reserve(1, Decimal("1e-12")).settle(1)

    assert only(manager.status()).used_cost == limit
    assert only(manager.status()).cost_left == 0


def test_a_second_settlement_does_nothing(manager: BudgetManager) -> None:
    """Whoever settles or releases first is the one who is believed."""
    manager.set_budget(Budget(daily_token_limit=1000))
    reservation = manager.reserve(500)

    reservation.settle(100)
    reservation.settle(400)
    reservation.cancel()
    reservation.release()

    assert (only(manager.status()).used_tokens, only(manager.status()).held_tokens) == (100, 0)


def test_a_hold_ends_with_its_lease(manager: BudgetManager, clock: SteeredClock) -> None:
    """What nobody settles is free again, and a settlement that comes later is counted once."""
    manager.set_budget(Budget(total_token_limit=1000))
    abandoned = manager.reserve(900, lease_seconds=60)
    late = manager.reserve(100, lease_seconds=60)

    clock.move(seconds=59)
    with pytest.raises(BudgetExceededError):
        manager.reserve(1)
    clock.move(seconds=2)
    manager.reserve(1000).settle(300)
    late.settle(80)
    late.settle(80)
    abandoned.release()

    assert (only(manager.status()).used_tokens, only(manager.status()).held_tokens) == (380, 0)


def test_a_stream_renews_its_lease(manager: BudgetManager, clock: SteeredClock) -> None:
    """What is renewed is held on; what had ended is held again."""
    manager.set_budget(Budget(total_token_limit=1000))
    streaming = manager.reserve(900, lease_seconds=60)

    clock.move(seconds=40)
    streaming.renew()
    clock.move(seconds=40)
    with pytest.raises(BudgetExceededError):
        manager.reserve(101)
    clock.move(seconds=40)
    held_after_its_end = only(manager.status()).held_tokens
    streaming.renew()
    held_again = only(manager.status()).held_tokens
    streaming.settle(500)

    assert (held_after_its_end, held_again) == (0, 900)
    assert (only(manager.status()).used_tokens, only(manager.status()).held_tokens) == (500, 0)


def test_windows_begin_again_by_the_calendar(manager: BudgetManager, clock: SteeredClock) -> None:
    """An hour, a day and a month each end by themselves, the total never."""
    manager.set_budget(
        Budget(
            hourly_token_limit=1000,
            daily_token_limit=1000,
            monthly_token_limit=1000,
            total_token_limit=1000,
        )
    )
    manager.reserve(100).settle(100)

    def used() -> list[int]:
        return [window.used_tokens for window in manager.status()]

    at_noon = used()
    clock.move(hours=1)
    at_one = used()
    clock.move(hours=11)
    tomorrow = used()
    clock.move(days=21)
    next_month = used()

    assert at_noon == [100, 100, 100, 100]
    assert at_one == [0, 100, 100, 100]
    assert tomorrow == [0, 0, 100, 100]
    assert next_month == [0, 0, 0, 100]


def test_a_late_settlement_goes_to_the_window_that_reserved(
    manager: BudgetManager,
    clock: SteeredClock,
) -> None:
    """A call that runs over midnight leaves nothing in the new day."""
    manager.set_budget(Budget(daily_token_limit=1000))
    overnight = manager.reserve(900)

    clock.move(hours=12, seconds=1)
    manager.reserve(1000).settle(5)
    overnight.settle(700)

    assert (only(manager.status()).used_tokens, only(manager.status()).held_tokens) == (5, 0)


def test_a_clock_that_is_set_back_opens_no_window_again(
    manager: BudgetManager,
    clock: SteeredClock,
) -> None:
    """An hour forth and back over midnight: one reset, and what was used stays used."""
    manager.set_budget(Budget(daily_token_limit=1000), scope="user")
    manager.reserve(900, user_id="a").settle(900)

    clock.move(hours=12, minutes=30)
    manager.reserve(800, user_id="a").settle(800)
    clock.move(hours=-1)
    with pytest.raises(BudgetExceededError):
        manager.reserve(201, user_id="a")
    clock.move(hours=1)

    assert only(manager.status(user_id="a")).used_tokens == 800


@pytest.mark.parametrize(
    ("start", "midnights"),
    [
        ("2026-03-28T12:00", ["2026-03-28T23:00", "2026-03-29T22:00"]),  # 23 hours lie between
        ("2026-10-24T12:00", ["2026-10-24T22:00", "2026-10-25T23:00"]),  # 25 hours
        ("2028-02-28T12:00", ["2028-02-28T23:00", "2028-02-29T23:00"]),  # a leap day
    ],
)
def test_days_begin_once_however_the_clock_goes(
    manager: BudgetManager, clock: SteeredClock, start: str, midnights: list[str]
) -> None:
    """By the zone's calendar; a clock that goes an hour forth and back resets nothing twice."""
    manager.set_budget(
        Budget(daily_token_limit=10**6, monthly_token_limit=10**6, timezone="Europe/Berlin")
    )
    begin = datetime.fromisoformat(start).replace(tzinfo=timezone.utc)
    resets = []
    before = 0

    for quarter in range(4 * 48):
        for minutes in (0, 60, -60):
            clock.time = begin + timedelta(minutes=15 * quarter + minutes)
            manager.reserve(1).settle(1)
            used = manager.status().windows[0].used_tokens
            if used != before + 1:
                resets.append(f"{clock.time:%Y-%m-%dT%H:%M}")
            before = used

    assert resets == midnights
    months = manager.status().windows[1].used_tokens
    assert months == (96 * 6 if start[5:7] != "02" else before)


def test_a_window_that_slides_forgets_slowly(manager: BudgetManager, clock: SteeredClock) -> None:
    """What was used counts for the whole duration and, at most, for one sixtieth more."""
    manager.set_budget(Budget(rolling_token_limit=1000, rolling_window="72h"))
    manager.reserve(600).settle(600)
    clock.move(hours=40)
    held = manager.reserve(400)

    with pytest.raises(BudgetExceededError) as caught:
        manager.reserve(1)
    held.settle(300)
    clock.move(hours=31, minutes=59)
    with pytest.raises(BudgetExceededError):
        manager.reserve(101)
    clock.move(hours=1, minutes=13)
    manager.reserve(700).settle(700)

    assert caught.value.window == "rolling 72h"
    assert only(manager.status()).used_tokens == 1000


def test_a_budget_that_only_warns_counts_the_same(manager: BudgetManager) -> None:
    """Nothing is refused, and the status goes beyond the limit."""
    manager.set_budget(Budget(daily_token_limit=100, cost_limit_usd=1, on_limit="warning"))

    manager.reserve(500, 5).settle(500)
    manager.reserve(500, None).settle(500)

    assert only(manager.status()).used_tokens == 1000
    assert only(manager.status()).used_cost == 5
    assert only(manager.status()).tokens_left == 0
    assert not manager.status().is_exhausted


def test_a_limit_of_0_allows_nothing(manager: BudgetManager) -> None:
    """None is no limit, and 0 is the smallest one, also for a call that costs nothing."""
    manager.set_budget(Budget(cost_limit_usd=0), scope="user", entity_id="suspended")
    manager.set_budget(Budget(daily_token_limit=0), scope="user", entity_id="banned")

    for user in ("suspended", "banned"):
        with pytest.raises(BudgetExceededError):
            manager.reserve(0, 0, user_id=user)
    manager.reserve(10**9, 1000, user_id="other")


def test_a_new_limit_finds_what_was_used_under_the_old(manager: BudgetManager) -> None:
    """Setting a budget again, or taking it away meanwhile, resets nothing."""
    manager.set_budget(Budget(daily_token_limit=1000))
    manager.reserve(900).settle(900)

    manager.set_budget(Budget(daily_token_limit=950))
    with pytest.raises(BudgetExceededError):
        manager.reserve(51)
    manager.remove_budget()
    manager.reserve(10**6).settle(10**6)
    manager.set_budget(Budget(daily_token_limit=950))

    assert only(manager.status()).used_tokens == 900


def test_what_nothing_was_reserved_for_counts_too(manager: BudgetManager) -> None:
    """A call that nobody could stop is counted all the same."""
    manager.set_budget(Budget(daily_token_limit=1000, cost_limit_usd=1))

    manager.add(990, cost=0.5)

    with pytest.raises(BudgetExceededError):
        manager.reserve(11)
    assert only(manager.status()).used_cost == Decimal("0.5")


def test_an_alert_is_claimed_once(store: BudgetStore) -> None:
    """Of several managers of a store, one tells of a level."""
    told: list[tuple[int, float]] = []
    for number in range(3):
        manager = BudgetManager(store)
        manager.set_budget(Budget(daily_token_limit=100, alert_at=0.5))
        manager.on_alert(lambda alert, number=number: told.append((number, alert.level)))
        manager.reserve(20).settle(20)

    assert told == [(2, 0.5)]
