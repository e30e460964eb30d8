"""Presets, and the environment by which one is chosen."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentsight_tokens import ConfigurationError, TokenConfig
from agentsight_tokens.presets import PRESETS

FIGURES = {
    # name: tokens a day, a session, an hour, USD a day, at the limit, first alert, compression
    "production": (1_000_000, 50_000, 100_000, 100, "error", 0.8, 0.85),
    "migration": (1_000_000, 50_000, 100_000, 100, "warning", 0.8, 0.85),
    "staging": (500_000, 25_000, None, 50, "error", 0.8, 0.85),
    "development": (100_000, 10_000, None, 10, "warning", 0.9, None),
    "enterprise": (10_000_000, 100_000, 1_000_000, 1000, "error", 0.85, 0.8),
    "research": (5_000_000, 200_000, None, 500, "warning", 0.8, None),
    "demo": (10_000, 2_000, None, 2, "error", 0.7, None),
    "minimal": (50_000, 5_000, None, 5, "error", 0.8, None),
    "testing": (None, None, None, None, "off", 0.8, None),
}


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_has_its_figures(name: str) -> None:
    """Limits, what happens at them, the first alert and the compression."""
    config = TokenConfig.preset(name)

    assert (
        config.daily_token_limit,
        config.session_token_limit,
        config.hourly_token_limit,
        config.daily_cost_limit_usd,
        config.on_limit,
        config.alert_at,
        config.compression_threshold if config.compress_context else None,
    ) == FIGURES[name]
    assert config.environment == name


def test_the_three_presets_with_methods() -> None:
    """They are the presets of their names."""
    assert TokenConfig.production() == TokenConfig.preset("production")
    assert TokenConfig.development() == TokenConfig.preset("development")
    assert TokenConfig.enterprise() == TokenConfig.preset("enterprise")


def test_the_environment_wins_over_a_preset_and_arguments_over_both(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As everywhere: argument, environment, default."""
    monkeypatch.setenv("AGENTSIGHT_DAILY_TOKEN_LIMIT", "7")

    assert TokenConfig.production().daily_token_limit == 7
    assert TokenConfig.production(daily_token_limit=8).daily_token_limit == 8
    assert TokenConfig.production().session_token_limit == 50_000


def test_an_unknown_preset_is_refused() -> None:
    """With the list of those that there are."""
    with pytest.raises(ConfigurationError, match=r"'moon' is no preset; they are production, mig"):
        TokenConfig.preset("moon")


@pytest.mark.parametrize(
    ("variables", "preset"),
    [
        ({"AGENTSIGHT_ENVIRONMENT": "Staging"}, "staging"),
        ({"AGENTSIGHT_ENVIRONMENT": "demo", "TESTING": "1"}, "demo"),
        ({"AGENTSIGHT_ENVIRONMENT": "eu-west", "TESTING": "true"}, "testing"),
        ({"DEBUG": "1"}, "development"),
        ({"DEBUG": "0", "TESTING": "no"}, "production"),
        ({}, "production"),
    ],
)
def test_the_environment_is_detected(
    variables: dict[str, str], preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name, by the signs of tests and of debugging; else it is production."""
    for name in ("TESTING", "DEBUG", "PYTEST_CURRENT_TEST"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert TokenConfig.detected().on_limit == PRESETS[preset]["on_limit"]
    assert TokenConfig.detected().daily_token_limit == PRESETS[preset].get("daily_token_limit")


def test_under_pytest_nothing_is_limited() -> None:
    """pytest names itself, and so the preset is that of tests."""
    assert TokenConfig.detected().environment == "testing"


def test_what_is_wrong_with_settings_is_listed() -> None:
    """As texts, without raising; nothing for settings that can be taken."""
    assert TokenConfig.problems({"daily_token_limit": 5}) == []
    (unknown,) = TokenConfig.problems({"dayly_token_limit": 5})
    (wrong,) = TokenConfig.problems({"alert_at": 7})
    assert "dayly_token_limit" in unknown
    assert "AGENTSIGHT_ALERT_AT" in wrong


def test_settings_are_saved_and_read_again(tmp_path: Path) -> None:
    """Through a JSON file; a change makes another configuration."""
    config = TokenConfig.preset("minimal")
    config.save(tmp_path / "tokens.json")

    changed = TokenConfig.from_file(tmp_path / "tokens.json").replace(daily_token_limit=1)

    assert TokenConfig.from_file(tmp_path / "tokens.json") == config
    assert (changed.daily_token_limit, config.daily_token_limit) == (1, 50_000)
