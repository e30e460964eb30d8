"""The configuration."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from agentsight_tokens import ConfigurationError, TokenConfig
from agentsight_tokens.config import VARIABLES


def test_every_setting_has_its_variable_in_its_docstring() -> None:
    """The text below a field begins with its variable."""
    source = inspect.getsource(TokenConfig)

    for name in TokenConfig.__struct_fields__:
        begin = source.index(f"    {name}: ")
        documented = source[begin:].split('"""')[1]
        assert documented.startswith(VARIABLES.get(name, "AGENTSIGHT_COST_RATES__<MODEL>")), name


def test_the_environment_wins_over_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables are read when the configuration is made; an argument wins over them."""
    monkeypatch.setenv("AGENTSIGHT_API_KEY", "from-environment")
    monkeypatch.setenv("AGENTSIGHT_OUTBOX_MAX_MB", "5")
    monkeypatch.setenv("AGENTSIGHT_STREAM_USAGE", "False")

    config = TokenConfig.from_env()

    assert (config.api_key, config.outbox_max_mb) == ("from-environment", 5)
    assert not config.stream_usage
    assert TokenConfig(api_key="given").api_key == "given"


@pytest.mark.parametrize(
    ("word", "is_on"),
    [
        *((word, True) for word in ("on", "Yes", "true", "1")),
        *((word, False) for word in ("off", "No", "FALSE", "0")),
    ],
)
def test_a_flag_is_told_in_words(
    monkeypatch: pytest.MonkeyPatch, word: str, *, is_on: bool
) -> None:
    """`on` and `off`, as the README has it, are understood."""
    monkeypatch.setenv("AGENTSIGHT_WIRE_TAPS", word)

    assert TokenConfig().wire_taps is is_on


def test_an_empty_variable_is_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable leaves the default."""
    monkeypatch.setenv("AGENTSIGHT_OUTBOX_MAX_MB", "")
    monkeypatch.setenv("AGENTSIGHT_API_ENDPOINT", "")

    assert TokenConfig().outbox_max_mb == 64
    assert TokenConfig().endpoint is None


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AGENTSIGHT_OUTBOX_MAX_MB", "many"),
        ("AGENTSIGHT_OUTBOX_MAX_MB", "0"),
        ("AGENTSIGHT_HTTP_TIMEOUT_SECONDS", "-1"),
        ("AGENTSIGHT_STREAM_USAGE", "perhaps"),
        ("AGENTSIGHT_LOG_LEVEL", "loud"),
        ("AGENTSIGHT_COST_RATES__X", "cheap"),
        ("AGENTSIGHT_HASH_USER_IDS", "true"),
    ],
)
def test_what_cannot_be_read_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    """A bad setting fails at the start and says which it is."""
    monkeypatch.setenv(variable, value)

    with pytest.raises(ConfigurationError, match=variable):
        TokenConfig()


def test_rates_are_read_under_both_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """The older prefix is read too; our own wins."""
    monkeypatch.setenv("MAMBA_COST_RATES__MY_MODEL", "0.001")
    monkeypatch.setenv("MAMBA_COST_RATES__OTHER", "0.5")
    monkeypatch.setenv("AGENTSIGHT_COST_RATES__OTHER", "0.25")

    assert TokenConfig().cost_rates == {"MY_MODEL": 0.001, "OTHER": 0.25}


def test_handlers_are_a_list_with_commas() -> None:
    """Names are trimmed and in lower case."""
    assert TokenConfig(token_handler=" LangChain, llamaindex,").handlers == (
        "langchain",
        "llamaindex",
    )
    assert TokenConfig().handlers == ()


def test_a_configuration_survives_as_a_dict() -> None:
    """What `to_dict` gives, `from_dict` takes."""
    config = TokenConfig(environment="production", cost_rates={"m": 0.5})

    assert TokenConfig.from_dict(config.to_dict()) == config


def test_unknown_settings_are_refused() -> None:
    """The error lists the fields that there are."""
    with pytest.raises(ConfigurationError, match="api_key"):
        TokenConfig.from_dict({"api_kee": "x"})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.toml", 'environment = "file"\napi_key = "k"'),
        ("c.json", '{"environment": "file", "api_key": "k"}'),
    ],
)
def test_files_are_read_and_the_environment_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    """A file gives settings; a variable that is set wins over it."""
    (tmp_path / name).write_text(text)
    monkeypatch.setenv("AGENTSIGHT_API_KEY", "variable")

    config = TokenConfig.from_file(tmp_path / name)

    assert (config.environment, config.api_key) == ("file", "variable")


@pytest.mark.parametrize("text", [None, "environment = ", "x"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: str | None) -> None:
    """A missing or broken file raises with its name."""
    file = tmp_path / "c.toml"
    if text is not None:
        file.write_text(text)

    with pytest.raises(ConfigurationError, match=r"c\.toml"):
        TokenConfig.from_file(file)


def test_the_default_directory_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a setting, data lie where the platform puts them."""
    monkeypatch.delenv("AGENTSIGHT_DATA_DIR")

    assert TokenConfig().directory.name == "agentsight-tokens"
