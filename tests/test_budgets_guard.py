"""What is held for a call before it is sent, and the budgets of a configuration."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path

import pytest

from agentsight_tokens import (
    Budget,
    BudgetExceededError,
    BudgetManager,
    CostEstimator,
    Scope,
    TokenConfig,
    TokenUsage,
    budgets,
)
from agentsight_tokens.budgets.configured import configured_budget, configured_manager
from agentsight_tokens.budgets.guard import DEFAULT_OUTPUT_TOKENS, BudgetGuard
from agentsight_tokens.budgets.request import CallRequest
from agentsight_tokens.counting import TokenCounter
from agentsight_tokens.errors import AgentSightWarning, ConfigurationError
from tests.records import call

HELLO = [{"role": "user", "content": "Say hello."}]
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {}}}


@pytest.fixture
def manager() -> BudgetManager:
    manager = BudgetManager()
    manager.set_budget(Budget(daily_token_limit=10**6, cost_limit_usd=100))
    return manager


@pytest.fixture
def guard(manager: BudgetManager) -> BudgetGuard:
    return BudgetGuard(manager)


def request(**facts: object) -> CallRequest:
    known = {"scope": Scope(), "model": "gpt-4o", "prompt": HELLO, "max_output_tokens": 100}
    return CallRequest(**{**known, **facts})


def test_the_prompt_and_the_largest_output_are_held(guard: BudgetGuard) -> None:
    """Counted by the model's tokenizer, priced by the catalog."""
    estimate = guard.estimate(request())
    reservation = guard.reserve(request())

    prompt = TokenCounter(model="gpt-4o").count_messages(HELLO)
    assert estimate.prompt_tokens == prompt
    assert estimate.output_tokens == 100
    assert estimate.pico_usd == prompt * 2_500_000 + 100 * 10_000_000
    assert estimate.prompt_pico_usd == prompt * 2_500_000
    assert (reservation.tokens, reservation.pico_usd) == (prompt + 100, estimate.pico_usd)


@pytest.mark.parametrize(
    ("facts", "output"),
    [
        ({"max_output_tokens": None}, 16_384),
        ({"max_output_tokens": None, "model": None}, DEFAULT_OUTPUT_TOKENS),
        ({"max_output_tokens": 0}, 0),
        ({"choices": 3}, 300),
        ({"operation": "embedding"}, 0),
    ],
)
def test_the_largest_output_is_the_calls_or_the_models(
    guard: BudgetGuard, facts: dict[str, object], output: int
) -> None:
    """What the call sets, else what the model can produce, for each output asked for."""
    assert guard.estimate(request(**facts)).output_tokens == output


def test_a_smaller_output_may_be_held(manager: BudgetManager) -> None:
    """Where most calls stay far below their model's maximum, as the setting says."""
    guard = BudgetGuard(manager, output_tokens=500)

    assert guard.estimate(request(max_output_tokens=None)).output_tokens == 500
    assert guard.estimate(request(max_output_tokens=100)).output_tokens == 100


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        (None, 0),
        (42, 42),
        ("Say hello.", 3),
        ({"role": "user", "content": "Say hello."}, 10),
        (["Say hello.", "Say it."], 6),
        ([1, 2, 3, 4], 4),
        ([[1, 2], [3]], 3),
        (HELLO, 10),
        ([HELLO, HELLO], 20),
        (({"role": "user", "content": "Say hello."},), 10),
        (3.5, 3),
    ],
)
def test_prompts_come_in_many_forms(guard: BudgetGuard, prompt: object, tokens: int) -> None:
    """Texts, tokens, messages, batches of them, or a number that is known already."""
    assert guard.estimate(request(prompt=prompt)).prompt_tokens == tokens


def test_tools_are_read_too(guard: BudgetGuard) -> None:
    """Their definitions are a part of the prompt."""
    assert guard.estimate(request(tools=[TOOL])).prompt_tokens > 20


def test_another_makers_tokenizer_gets_a_margin(guard: BudgetGuard) -> None:
    """What stands in for it counts too few; the hold must not be too small."""
    with pytest.warns(UserWarning, match="no tokenizer"):
        estimate = guard.estimate(
            request(model="claude-3-5-sonnet-20241022", prompt="word " * 1000)
        )

    assert estimate.prompt_tokens == 1350 or estimate.prompt_tokens == 1351


def test_a_call_is_settled_by_how_it_ended(guard: BudgetGuard, manager: BudgetManager) -> None:
    """Its usage, its whole hold, its prompt, or nothing."""

    def used(record: object) -> int:
        before = manager.status().windows[0].used_tokens
        guard.settle(guard.reserve(request()), record)
        return manager.status().windows[0].used_tokens - before

    silent = {"usage": TokenUsage(), "unreported_reason": "provider_silent", "cost_pico_usd": None}

    assert used(call(10)) == 30
    assert used(call(1, **silent)) == 110
    assert used(call(1, **silent, status="cancelled")) == 10
    assert used(call(1, **silent, status="error")) == 10
    assert used(None) == 0
    assert manager.status().windows[0].held_tokens == 0


def test_what_was_not_held_is_counted(guard: BudgetGuard, manager: BudgetManager) -> None:
    """A call that nobody could stop counts for whoever caused it."""
    manager.set_budget(Budget(daily_token_limit=100), scope="user")

    guard.add(request(scope=Scope(user_id="alice")), call(10))

    assert [w.used_tokens for w in manager.status(user_id="alice")] == [30, 30]


def test_a_model_without_a_price_is_stopped_where_usd_are_limited(guard: BudgetGuard) -> None:
    """Unless a price is given for it."""
    with (
        pytest.warns(AgentSightWarning),
        pytest.raises(BudgetExceededError, match="no price is known"),
    ):
        guard.reserve(request(model="mystery"))

    priced = BudgetGuard(guard.manager, estimator=CostEstimator({"mystery": 0.001}))
    assert priced.reserve(request(model="mystery")).cost > 0


def test_the_environment_sets_budgets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One variable is a budget, kept in the data directory and shared by its processes."""
    monkeypatch.setenv("AGENTSIGHT_DAILY_COST_LIMIT_USD", "5")
    monkeypatch.setenv("AGENTSIGHT_SESSION_TOKEN_LIMIT", "1000")
    monkeypatch.setenv("AGENTSIGHT_BUDGET_TIMEZONE", "Europe/Berlin")
    monkeypatch.setenv("AGENTSIGHT_DATA_DIR", str(tmp_path))

    config = TokenConfig()
    manager = configured_manager(config)
    manager.reserve(10, 2).settle(10)
    again = configured_manager(config)

    assert configured_budget(config) == Budget(
        session_token_limit=1000, cost_limit_usd=5, timezone="Europe/Berlin"
    )
    assert again.status().windows[1].used_cost == 2
    assert (tmp_path / "budgets.db").exists()
    manager.close()
    again.close()


@pytest.mark.parametrize(
    ("variable", "limit"),
    [
        ("AGENTSIGHT_HOURLY_TOKEN_LIMIT", "hourly_token_limit"),
        ("AGENTSIGHT_DAILY_TOKEN_LIMIT", "daily_token_limit"),
        ("AGENTSIGHT_MONTHLY_TOKEN_LIMIT", "monthly_token_limit"),
        ("AGENTSIGHT_PER_CALL_TOKEN_LIMIT", "per_call_token_limit"),
        ("AGENTSIGHT_HOURLY_COST_LIMIT_USD", "hourly_cost_limit"),
        ("AGENTSIGHT_MONTHLY_COST_LIMIT_USD", "monthly_cost_limit"),
        ("AGENTSIGHT_SESSION_COST_LIMIT_USD", "session_cost_limit"),
        ("AGENTSIGHT_PER_CALL_COST_LIMIT_USD", "per_call_cost_limit"),
    ],
)
def test_every_limit_has_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, limit: str
) -> None:
    """Whichever is set limits what its name says; 0 is a limit too."""
    monkeypatch.setenv(variable, "0")

    assert configured_budget(TokenConfig()) == Budget(**{limit: 0})


def test_without_a_limit_there_is_no_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is kept and nothing asked; `off` is a switch for all of it."""
    assert configured_manager(TokenConfig()) is None

    monkeypatch.setenv("AGENTSIGHT_DAILY_TOKEN_LIMIT", "100")
    monkeypatch.setenv("AGENTSIGHT_ON_LIMIT", "OFF")

    assert configured_budget(TokenConfig()) is None


def test_a_configured_webhook_gets_the_alerts() -> None:
    """Signed by its secret, through whatever delivers for the program."""
    put = []

    class Outbox:
        def put(self, message: object) -> None:
            put.append(message)

    config = TokenConfig(
        daily_token_limit=100,
        on_limit="warning",
        alert_at=0.5,
        budget_store="memory",
        alert_webhook_url="https://hooks.example/1",
        alert_webhook_secret="s",
    )
    manager = configured_manager(config, outbox=Outbox())
    manager.add(60)

    assert "AgentSight-Signature" in put[0].headers
    assert json.loads(put[0].body)["text"].startswith("budget of all calls at 50%")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"daily_token_limit": -1}, "AGENTSIGHT_DAILY_TOKEN_LIMIT must be at least 0"),
        ({"daily_cost_limit_usd": float("inf")}, "AGENTSIGHT_DAILY_COST_LIMIT_USD must be"),
        ({"on_limit": "explode"}, "AGENTSIGHT_ON_LIMIT='explode' is none of error, warning, off"),
        ({"on_store_error": "panic"}, "AGENTSIGHT_ON_STORE_ERROR='panic' is none of"),
        ({"alert_at": 0}, "AGENTSIGHT_ALERT_AT must lie above 0"),
        ({"compression_threshold": 1.5}, "AGENTSIGHT_COMPRESSION_THRESHOLD must lie above 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, object], message: str) -> None:
    """At the start, and by the name of their variable."""
    with pytest.raises(ConfigurationError, match=message):
        TokenConfig(**settings)


@pytest.mark.parametrize(
    "settings",
    [
        {"budget_timezone": "Mars/Olympus"},
        {"alert_webhook_url": "ftp://example"},
        {"budget_store": "rediss://"},
    ],
)
def test_settings_that_cannot_be_used_are_refused(
    settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A zone, an address or a package that does not exist."""
    monkeypatch.setitem(__import__("sys").modules, "redis", None)

    with pytest.raises(ConfigurationError, match="cannot be"):
        configured_manager(TokenConfig(daily_token_limit=1, **settings))


def test_presets_have_their_documents_figures() -> None:
    """Limits per day, session and hour, USD per day, and what happens at the limit."""
    figures = {
        name: (
            config.daily_token_limit,
            config.session_token_limit,
            config.hourly_token_limit,
            config.daily_cost_limit_usd,
            config.on_limit,
            config.alert_at,
        )
        for name in (
            "production",
            "development",
            "staging",
            "enterprise",
            "research",
            "demo",
            "minimal",
            "migration",
            "testing",
        )
        for config in (TokenConfig.preset(name),)
    }

    assert figures == {
        "production": (1_000_000, 50_000, 100_000, 100, "error", 0.8),
        "development": (100_000, 10_000, None, 10, "warning", 0.9),
        "staging": (500_000, 25_000, None, 50, "error", 0.8),
        "enterprise": (10_000_000, 100_000, 1_000_000, 1000, "error", 0.85),
        "research": (5_000_000, 200_000, None, 500, "warning", 0.8),
        "demo": (10_000, 2_000, None, 2, "error", 0.7),
        "minimal": (50_000, 5_000, None, 5, "error", 0.8),
        "migration": (1_000_000, 50_000, 100_000, 100, "warning", 0.8),
        "testing": (None, None, None, None, "off", 0.8),
    }
    assert TokenConfig.production() == TokenConfig.preset("production")
    assert TokenConfig.development().environment == "development"
    assert TokenConfig.enterprise().compression_threshold == 0.8


def test_arguments_win_over_the_environment_and_it_over_a_preset(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with every other setting."""
    monkeypatch.setenv("AGENTSIGHT_DAILY_TOKEN_LIMIT", "7")
    monkeypatch.setenv("AGENTSIGHT_SESSION_TOKEN_LIMIT", "8")

    config = TokenConfig.production(session_token_limit=9)

    assert (config.daily_token_limit, config.session_token_limit) == (7, 9)
    assert config.hourly_token_limit == 100_000
    with pytest.raises(ConfigurationError, match="is no preset"):
        TokenConfig.preset("paradise")


@pytest.mark.parametrize(
    ("variables", "preset"),
    [
        ({}, "production"),
        ({"AGENTSIGHT_ENVIRONMENT": "Staging", "DEBUG": "1"}, "staging"),
        ({"AGENTSIGHT_ENVIRONMENT": "blue", "DEBUG": "true"}, "development"),
        ({"DEBUG": "0"}, "production"),
        ({"TESTING": "yes", "DEBUG": "1"}, "testing"),
        ({"PYTEST_CURRENT_TEST": "test_x"}, "testing"),
    ],
)
def test_the_environment_is_recognised(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], preset: str
) -> None:
    """By its own variable, by pytest's, TESTING and DEBUG; else it is production."""
    for name in ("PYTEST_CURRENT_TEST", "TESTING", "DEBUG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    config = TokenConfig.detected()

    expected = TokenConfig.preset(preset)
    assert config.replace(environment=None) == expected.replace(environment=None)
    monkeypatch.setenv("PYTEST_CURRENT_TEST", "so that pytest finds it")


def test_a_configuration_is_checked_saved_and_read(tmp_path: Path) -> None:
    """Its problems are told, and what is saved comes back."""
    config = TokenConfig.production(api_key="k", daily_cost_limit_usd=12.5)

    config.save(tmp_path / "config.json")

    assert TokenConfig.from_file(tmp_path / "config.json") == config
    assert TokenConfig.problems(config.to_dict()) == []
    assert "AGENTSIGHT_ALERT_AT" in TokenConfig.problems({"alert_at": 7})[0]


def test_the_package_names_what_it_has() -> None:
    """Public names are imported when they are first used."""
    assert budgets.BudgetManager is BudgetManager
    assert sorted(budgets.__all__) == budgets.__all__
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = budgets.nothing
    assert Decimal(0) == BudgetManager().reserve(0).cost
