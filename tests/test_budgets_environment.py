"""One variable and a handler are a budget that holds, across resets, trackers and restarts."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from agentsight_tokens import Budget, BudgetExceededError, ConversationTracker
from agentsight_tokens.handlers import deactivate
from agentsight_tokens.testing import LoopbackProvider
from tests.openai_kit import asking


@pytest.fixture
def client() -> Iterator[Any]:
    with (
        LoopbackProvider(keep_alive=False) as provider,
        openai.OpenAI(base_url=provider.openai_url, api_key="k") as client,
    ):
        client.provider = provider
        yield client
    deactivate()


@pytest.fixture(autouse=True)
def switched_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTSIGHT_TOKEN_HANDLER_TYPE", "openai")


def ask(client: Any) -> Any:
    return client.chat.completions.create(**asking(max_tokens=50))


LIMITS = {
    "AGENTSIGHT_HOURLY_TOKEN_LIMIT": ("40", "hour", "tokens"),
    "AGENTSIGHT_DAILY_TOKEN_LIMIT": ("40", "day", "tokens"),
    "AGENTSIGHT_MONTHLY_TOKEN_LIMIT": ("40", "month", "tokens"),
    "AGENTSIGHT_SESSION_TOKEN_LIMIT": ("40", "session", "tokens"),
    "AGENTSIGHT_PER_CALL_TOKEN_LIMIT": ("40", "call", "tokens"),
    "AGENTSIGHT_HOURLY_COST_LIMIT_USD": ("0.00002", "hour", "usd"),
    "AGENTSIGHT_DAILY_COST_LIMIT_USD": ("0.00002", "day", "usd"),
    "AGENTSIGHT_MONTHLY_COST_LIMIT_USD": ("0.00002", "month", "usd"),
    "AGENTSIGHT_SESSION_COST_LIMIT_USD": ("0.00002", "session", "usd"),
    "AGENTSIGHT_PER_CALL_COST_LIMIT_USD": ("0.00002", "call", "usd"),
}


@pytest.mark.parametrize("variable", LIMITS)
def test_a_variable_is_all_it_takes(
    variable: str, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program itself says nothing of budgets."""
    limit, window, unit = LIMITS[variable]
    monkeypatch.setenv(variable, limit)

    with ConversationTracker(), pytest.raises(BudgetExceededError) as caught:
        ask(client)

    assert (caught.value.window, caught.value.unit) == (window, unit)
    assert client.provider.requests == 0


def test_a_limit_that_only_warns_stops_nothing(
    client: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each level is told once."""
    monkeypatch.setenv("AGENTSIGHT_DAILY_TOKEN_LIMIT", "20")
    monkeypatch.setenv("AGENTSIGHT_ON_LIMIT", "warning")

    with ConversationTracker():
        for _ in range(3):
            ask(client)

    told = [record.message for record in caplog.records if "budget of" in record.message]
    assert told == [
        "budget of all calls at 80%: used 18 tokens of 20 tokens per day",
        "budget of all calls at 100%: used 36 tokens of 20 tokens per day",
    ]


@pytest.mark.parametrize("store", ["memory", ""])
def test_no_reset_gives_a_budget_back(
    store: str, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a send, another tracker or a higher limit; `memory` lasts as long as the process."""
    monkeypatch.setenv("AGENTSIGHT_DAILY_TOKEN_LIMIT", "100")
    monkeypatch.setenv("AGENTSIGHT_BUDGET_STORE", store)
    with ConversationTracker() as tracker:
        tracker.track_token_usage(90)
        tracker.send_tracked_data()
        tracker.reset_tracking()
        tracker.reset_all()
        assert tracker.get_usage().total_tokens == 0
        with pytest.raises(BudgetExceededError, match="used 90 tokens of 100 tokens"):
            ask(client)
    monkeypatch.setenv("AGENTSIGHT_DAILY_TOKEN_LIMIT", "120")

    with ConversationTracker(), pytest.raises(BudgetExceededError, match="used 90 tokens of 120"):
        ask(client)


def test_a_restart_gives_no_budget_back(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another process has used counts here, because the file says so."""
    monkeypatch.setenv("AGENTSIGHT_DAILY_TOKEN_LIMIT", "100")
    spend = (
        "from agentsight_tokens import ConversationTracker;"
        "ConversationTracker(token_handler='openai').track_token_usage(90)"
    )
    subprocess.run([sys.executable, "-c", spend], check=True)

    with ConversationTracker(), pytest.raises(BudgetExceededError, match="used 90 tokens"):
        ask(client)


def test_an_argument_wins_over_the_environment(
    client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with every setting."""
    monkeypatch.setenv("AGENTSIGHT_DAILY_TOKEN_LIMIT", "0")

    with ConversationTracker(budgets=Budget(daily_token_limit=1000)) as tracker:
        ask(client)

        assert tracker.guard.manager.status().windows[0].used_tokens == 18


def test_sessions_have_each_their_own(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversation is a session where none is named, the tracker's own one too."""
    monkeypatch.setenv("AGENTSIGHT_SESSION_TOKEN_LIMIT", "70")

    with ConversationTracker() as tracker:
        for conversation in ("a", "b"):
            with tracker.conversation(conversation):
                ask(client)
        ask(client)
        with tracker.conversation("a"), pytest.raises(BudgetExceededError, match="per session"):
            ask(client)
        with pytest.raises(BudgetExceededError, match="per session"):
            ask(client)


def test_without_a_limit_nothing_is_loaded() -> None:
    """A program without budgets does not pay for them."""
    check = (
        "import sys; from agentsight_tokens import ConversationTracker;"
        "ConversationTracker().track_token_usage(1);"
        "assert not any(m.endswith(('budgets.manager', 'budgets.guard')) for m in sys.modules)"
    )

    subprocess.run([sys.executable, "-c", check], check=True)
