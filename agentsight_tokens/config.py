"""The configuration, and the only reader of the environment."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from .errors import ConfigurationError

__all__ = ["COST_RATE_PREFIXES", "VARIABLES", "TokenConfig", "environment_variables"]

COST_RATE_PREFIXES: Final = ("MAMBA_COST_RATES__", "AGENTSIGHT_COST_RATES__")
"""Prefixes of the variables that carry a model's flat rate; the last one wins."""

VARIABLES: Final[dict[str, str]] = {}
"""The environment variable of each field of `TokenConfig`."""

_LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_T = TypeVar("_T")


def environment_variables() -> Mapping[str, str]:
    """Return the environment; an empty variable is unset."""
    return {name: value for name, value in os.environ.items() if value}


def _read(variable: str, kind: Callable[[str], _T], default: _T | None) -> _T | None:
    text = os.environ.get(variable)
    if not text:
        return default
    try:
        return kind(text)
    except ValueError as error:
        raise ConfigurationError(f"{variable}={text!r} cannot be read: {error}") from None


def _setting(variable: str, kind: Callable[[str], _T], *, default: _T | None) -> Any:
    """Declare a field that is read from its variable when no argument is given."""
    field = msgspec.field(default_factory=lambda: _read(variable, kind, default))
    _declared.append(variable)
    return field


_declared: list[str] = []


def _flag(text: str) -> bool:
    return msgspec.convert(text.lower(), bool, strict=False)


def _number(text: str) -> float:
    return msgspec.convert(text, float, strict=False)


def _whole(text: str) -> int:
    return msgspec.convert(text, int, strict=False)


def _cost_rates() -> dict[str, float]:
    rates: dict[str, float] = {}
    for prefix in COST_RATE_PREFIXES:
        for variable, text in os.environ.items():
            if variable.startswith(prefix) and text:
                rates[variable[len(prefix) :]] = _read(variable, _number, None) or 0.0
    return rates


def _default_data_dir() -> str:
    # Imported here because most programs name their directory.
    from platformdirs import user_data_path

    return str(user_data_path("agentsight-tokens", appauthor=False))


class TokenConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """
    Every setting. An argument wins over the environment, the environment over the default.

    Raises:
        ConfigurationError: If a setting cannot be read; the message names the variable.
    """

    token_handler: str = _setting("AGENTSIGHT_TOKEN_HANDLER_TYPE", str, default="")
    """AGENTSIGHT_TOKEN_HANDLER_TYPE: handlers to switch on, with commas, or `auto`."""
    api_key: str | None = _setting("AGENTSIGHT_API_KEY", str, default=None)
    """AGENTSIGHT_API_KEY: the key that the backend asks for."""
    endpoint: str | None = _setting("AGENTSIGHT_API_ENDPOINT", str, default=None)
    """AGENTSIGHT_API_ENDPOINT: the backend's address; unset, the embedded store is used."""
    conversation_id: str | None = _setting("AGENTSIGHT_CONVERSATION_ID", str, default=None)
    """AGENTSIGHT_CONVERSATION_ID: the conversation of calls that name none."""
    environment: str | None = _setting("AGENTSIGHT_ENVIRONMENT", str, default=None)
    """AGENTSIGHT_ENVIRONMENT: production, staging, ...; stored with every cycle."""
    log_level: str | None = _setting("AGENTSIGHT_LOG_LEVEL", str.upper, default=None)
    """AGENTSIGHT_LOG_LEVEL: the level of the `agentsight_tokens` logger; unset, untouched."""
    data_dir: str = _setting("AGENTSIGHT_DATA_DIR", str, default="")
    """AGENTSIGHT_DATA_DIR: where the journal, the outbox and the embedded store lie."""
    database_url: str | None = _setting("AGENTSIGHT_DATABASE_URL", str, default=None)
    """AGENTSIGHT_DATABASE_URL: the server's store; unset, SQLite in the data directory."""
    cost_rates: dict[str, float] = msgspec.field(default_factory=_cost_rates)
    """AGENTSIGHT_COST_RATES__<MODEL>: USD per 1,000 tokens, in and out, of your own models."""
    prices_file: str | None = _setting("AGENTSIGHT_PRICES_FILE", str, default=None)
    """AGENTSIGHT_PRICES_FILE: a price map that overrides the one in the package."""
    hash_user_ids: bool = _setting("AGENTSIGHT_HASH_USER_IDS", _flag, default=False)
    """AGENTSIGHT_HASH_USER_IDS: replace user ids by an HMAC before they reach the disk."""
    hash_key: str | None = _setting("AGENTSIGHT_HASH_KEY", str, default=None)
    """AGENTSIGHT_HASH_KEY: the key of that HMAC; needed when hashing is on."""
    stream_usage: bool = _setting("AGENTSIGHT_STREAM_USAGE", _flag, default=True)
    """AGENTSIGHT_STREAM_USAGE: ask providers to report what a stream used."""
    capture_embeddings: bool = _setting("AGENTSIGHT_CAPTURE_EMBEDDINGS", _flag, default=True)
    """AGENTSIGHT_CAPTURE_EMBEDDINGS: count embeddings, for which frameworks fire no event."""
    outbox_max_mb: int = _setting("AGENTSIGHT_OUTBOX_MAX_MB", _whole, default=64)
    """AGENTSIGHT_OUTBOX_MAX_MB: the size at which cycles are no longer sealed but grow."""
    outbox_max_days: float = _setting("AGENTSIGHT_OUTBOX_MAX_DAYS", _number, default=7.0)
    """AGENTSIGHT_OUTBOX_MAX_DAYS: the age at which an undelivered cycle is set aside."""
    http_timeout_seconds: float = _setting("AGENTSIGHT_HTTP_TIMEOUT_SECONDS", _number, default=10.0)
    """AGENTSIGHT_HTTP_TIMEOUT_SECONDS: how long one delivery may take."""
    exit_flush_seconds: float = _setting("AGENTSIGHT_EXIT_FLUSH_SECONDS", _number, default=2.0)
    """AGENTSIGHT_EXIT_FLUSH_SECONDS: how long the exit waits for deliveries."""

    def __post_init__(self) -> None:
        if not self.data_dir:
            msgspec.structs.force_setattr(self, "data_dir", _default_data_dir())
        if self.log_level is not None and self.log_level not in _LOG_LEVELS:
            raise ConfigurationError(
                f"AGENTSIGHT_LOG_LEVEL={self.log_level!r} is no level; "
                f"the levels are {', '.join(_LOG_LEVELS)}"
            )
        for name in ("outbox_max_mb", "outbox_max_days", "http_timeout_seconds"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(
                    f"{VARIABLES[name]} must be above 0, not {getattr(self, name)!r}"
                )
        if self.hash_user_ids and not self.hash_key:
            raise ConfigurationError(
                "AGENTSIGHT_HASH_USER_IDS is on, but AGENTSIGHT_HASH_KEY is unset: "
                "set it to a long random string and keep it secret"
            )

    @property
    def handlers(self) -> tuple[str, ...]:
        """The names of the handlers to switch on."""
        return tuple(part.strip().lower() for part in self.token_handler.split(",") if part.strip())

    @property
    def directory(self) -> Path:
        """The data directory."""
        return Path(self.data_dir).expanduser().absolute()

    @property
    def prices(self) -> str | None:
        """Where newer prices are: the file that is set, else what updates have written."""
        updates = self.directory / "prices"
        return self.prices_file or (str(updates) if updates.is_dir() else None)

    @classmethod
    def from_env(cls) -> TokenConfig:
        """Return the configuration that the environment describes."""
        return cls()

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> TokenConfig:
        """
        Return the configuration of a mapping of field names; what it lacks is read as usual.

        Raises:
            ConfigurationError: For an unknown field or a value of the wrong type.
        """
        try:
            return msgspec.convert(dict(settings), cls, strict=False)
        except msgspec.ValidationError as error:
            raise ConfigurationError(
                f"the configuration cannot be read: {error}; "
                f"the fields are {', '.join(cls.__struct_fields__)}"
            ) from None

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> TokenConfig:
        """
        Return the configuration of a JSON or TOML file; the environment wins over the file.

        Raises:
            ConfigurationError: If the file cannot be read or holds what is no setting.
        """
        file = Path(path)
        decode = msgspec.json.decode if file.suffix == ".json" else msgspec.toml.decode
        try:
            settings = decode(file.read_bytes(), type=dict[str, Any])
        except (OSError, ImportError, msgspec.DecodeError) as error:
            raise ConfigurationError(f"{str(file)!r} cannot be read: {error}") from None
        given = {name for name, variable in VARIABLES.items() if os.environ.get(variable)}
        return cls.from_dict({name: v for name, v in settings.items() if name not in given})

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and their values, as `from_dict` takes them."""
        return msgspec.structs.asdict(self)

    def replace(self, **changes: Any) -> TokenConfig:
        """Return this configuration with some settings changed."""
        return msgspec.structs.replace(self, **changes)


_fields_with_variable = [name for name in TokenConfig.__struct_fields__ if name != "cost_rates"]
VARIABLES.update(zip(_fields_with_variable, _declared, strict=True))
