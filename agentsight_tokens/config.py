"""The configuration, and the only reader of the environment."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec

from .errors import ConfigurationError
from .presets import PRESETS

__all__ = [
    "COST_RATE_PREFIXES",
    "VARIABLES",
    "TokenConfig",
    "environment_variables",
    "share_metrics_in",
]

COST_RATE_PREFIXES: Final = ("MAMBA_COST_RATES__", "AGENTSIGHT_COST_RATES__")
"""Prefixes of the variables that carry a model's flat rate; the last one wins."""

VARIABLES: Final[dict[str, str]] = {}
"""The environment variable of each field of `TokenConfig`."""

_LOG_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_FLAGS: Final = {"on": "1", "yes": "1", "off": "0", "no": "0"}
"""Words of flags, besides those of JSON and 1 and 0."""
_CHOICES: Final = {
    "on_limit": ("error", "warning", "off"),
    "on_store_error": ("local_share", "open", "closed"),
}
_T = TypeVar("_T")


def environment_variables() -> Mapping[str, str]:
    """Return the environment; an empty variable is unset."""
    return {name: value for name, value in os.environ.items() if value}


def share_metrics_in(directory: str) -> None:
    """Let prometheus_client, which reads the environment too, add up processes in a directory."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = directory


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
    word = text.strip().lower()
    return msgspec.convert(_FLAGS.get(word, word), bool, strict=False)


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
    destinations: str = _setting("AGENTSIGHT_DESTINATIONS", str, default="")
    """AGENTSIGHT_DESTINATIONS: where cycles go, with commas: embedded, http, jsonl, otlp, ..."""
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
    wire_taps: bool = _setting("AGENTSIGHT_WIRE_TAPS", _flag, default=True)
    """AGENTSIGHT_WIRE_TAPS: read beneath frameworks what the SDKs are told; off, callbacks only."""
    outbox_max_mb: int = _setting("AGENTSIGHT_OUTBOX_MAX_MB", _whole, default=64)
    """AGENTSIGHT_OUTBOX_MAX_MB: the size at which cycles are no longer sealed but grow."""
    outbox_max_days: float = _setting("AGENTSIGHT_OUTBOX_MAX_DAYS", _number, default=7.0)
    """AGENTSIGHT_OUTBOX_MAX_DAYS: the age at which an undelivered cycle is set aside."""
    http_timeout_seconds: float = _setting("AGENTSIGHT_HTTP_TIMEOUT_SECONDS", _number, default=10.0)
    """AGENTSIGHT_HTTP_TIMEOUT_SECONDS: how long one delivery may take."""
    exit_flush_seconds: float = _setting("AGENTSIGHT_EXIT_FLUSH_SECONDS", _number, default=2.0)
    """AGENTSIGHT_EXIT_FLUSH_SECONDS: how long the exit waits for deliveries."""
    hourly_token_limit: int | None = _setting("AGENTSIGHT_HOURLY_TOKEN_LIMIT", _whole, default=None)
    """AGENTSIGHT_HOURLY_TOKEN_LIMIT: tokens per hour of all calls together."""
    daily_token_limit: int | None = _setting("AGENTSIGHT_DAILY_TOKEN_LIMIT", _whole, default=None)
    """AGENTSIGHT_DAILY_TOKEN_LIMIT: tokens per day."""
    monthly_token_limit: int | None = _setting(
        "AGENTSIGHT_MONTHLY_TOKEN_LIMIT", _whole, default=None
    )
    """AGENTSIGHT_MONTHLY_TOKEN_LIMIT: tokens per month."""
    session_token_limit: int | None = _setting(
        "AGENTSIGHT_SESSION_TOKEN_LIMIT", _whole, default=None
    )
    """AGENTSIGHT_SESSION_TOKEN_LIMIT: tokens of each session."""
    per_call_token_limit: int | None = _setting(
        "AGENTSIGHT_PER_CALL_TOKEN_LIMIT", _whole, default=None
    )
    """AGENTSIGHT_PER_CALL_TOKEN_LIMIT: tokens of each call, prompt and output."""
    hourly_cost_limit_usd: float | None = _setting(
        "AGENTSIGHT_HOURLY_COST_LIMIT_USD", _number, default=None
    )
    """AGENTSIGHT_HOURLY_COST_LIMIT_USD: USD per hour of all calls together."""
    daily_cost_limit_usd: float | None = _setting(
        "AGENTSIGHT_DAILY_COST_LIMIT_USD", _number, default=None
    )
    """AGENTSIGHT_DAILY_COST_LIMIT_USD: USD per day."""
    monthly_cost_limit_usd: float | None = _setting(
        "AGENTSIGHT_MONTHLY_COST_LIMIT_USD", _number, default=None
    )
    """AGENTSIGHT_MONTHLY_COST_LIMIT_USD: USD per month."""
    session_cost_limit_usd: float | None = _setting(
        "AGENTSIGHT_SESSION_COST_LIMIT_USD", _number, default=None
    )
    """AGENTSIGHT_SESSION_COST_LIMIT_USD: USD of each session."""
    per_call_cost_limit_usd: float | None = _setting(
        "AGENTSIGHT_PER_CALL_COST_LIMIT_USD", _number, default=None
    )
    """AGENTSIGHT_PER_CALL_COST_LIMIT_USD: USD of each call."""
    on_limit: Literal["error", "warning", "off"] = _setting(
        "AGENTSIGHT_ON_LIMIT", str.lower, default="error"
    )
    """AGENTSIGHT_ON_LIMIT: `error` stops calls at a limit, `warning` alerts, `off` ignores it."""
    alert_at: float = _setting("AGENTSIGHT_ALERT_AT", _number, default=0.8)
    """AGENTSIGHT_ALERT_AT: the part of a limit at which the first alert is given."""
    alert_webhook_url: str | None = _setting("AGENTSIGHT_ALERT_WEBHOOK_URL", str, default=None)
    """AGENTSIGHT_ALERT_WEBHOOK_URL: where alerts are posted, such as Slack's incoming webhook."""
    alert_webhook_secret: str | None = _setting(
        "AGENTSIGHT_ALERT_WEBHOOK_SECRET", str, default=None
    )
    """AGENTSIGHT_ALERT_WEBHOOK_SECRET: signs what is posted there."""
    budget_timezone: str = _setting("AGENTSIGHT_BUDGET_TIMEZONE", str, default="UTC")
    """AGENTSIGHT_BUDGET_TIMEZONE: the IANA zone in which hours, days and months begin."""
    budget_store: str | None = _setting("AGENTSIGHT_BUDGET_STORE", str, default=None)
    """AGENTSIGHT_BUDGET_STORE: a `redis://` address, a file, or `memory`; unset, SQLite."""
    on_store_error: Literal["local_share", "open", "closed"] = _setting(
        "AGENTSIGHT_ON_STORE_ERROR", str.lower, default="local_share"
    )
    """AGENTSIGHT_ON_STORE_ERROR: what calls are allowed while that store is away."""
    budget_output_tokens: int | None = _setting(
        "AGENTSIGHT_BUDGET_OUTPUT_TOKENS", _whole, default=None
    )
    """AGENTSIGHT_BUDGET_OUTPUT_TOKENS: what is held for the output of a call that sets no
    maximum; unset, all that the model can produce."""
    compress_context: bool = _setting("AGENTSIGHT_COMPRESS_CONTEXT", _flag, default=False)
    """AGENTSIGHT_COMPRESS_CONTEXT: let the middleware compress contexts that grow too long."""
    compression_threshold: float = _setting(
        "AGENTSIGHT_COMPRESSION_THRESHOLD", _number, default=0.85
    )
    """AGENTSIGHT_COMPRESSION_THRESHOLD: the part of the window above which it does."""

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
        _check_budgets(self)
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
    def limits_calls(self) -> bool:
        """Whether there is a budget."""
        return self.on_limit != "off" and any(
            getattr(self, name) is not None for name in BUDGET_LIMITS
        )

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
        return cls.from_dict(_not_in_environment(settings))

    @classmethod
    def production(cls, **changes: Any) -> TokenConfig:
        """Return limits that are enforced, alerts and compression."""
        return cls.preset("production", **changes)

    @classmethod
    def development(cls, **changes: Any) -> TokenConfig:
        """Return low limits that only warn."""
        return cls.preset("development", **changes)

    @classmethod
    def enterprise(cls, **changes: Any) -> TokenConfig:
        """Return high limits that are enforced, and an earlier compression."""
        return cls.preset("enterprise", **changes)

    @classmethod
    def preset(cls, name: str, **changes: Any) -> TokenConfig:
        """
        Return the settings of an environment; the environment's variables win over them.

        Args:
            name: production, development, enterprise, staging, research, demo, minimal,
                migration (production's limits, not enforced) or testing (no limits).
            **changes: Settings that win over both.

        Raises:
            ConfigurationError: For a name that no preset has.
        """
        if name not in PRESETS:
            raise ConfigurationError(f"{name!r} is no preset; they are {', '.join(PRESETS)}")
        settings = {"environment": name, **PRESETS[name]}
        return cls(**{**_not_in_environment(settings), **changes})

    @classmethod
    def detected(cls, **changes: Any) -> TokenConfig:
        """
        Return the preset of the environment in which this runs.

        That is `AGENTSIGHT_ENVIRONMENT` if it names one, testing under pytest or with TESTING,
        development with DEBUG, and else production.
        """
        variables = environment_variables()
        named = variables.get("AGENTSIGHT_ENVIRONMENT", "").lower()
        if named not in PRESETS:
            named = next((p for v, p in _SIGNS.items() if _is_on(variables.get(v))), "production")
        return cls.preset(named, **changes)

    @classmethod
    def problems(cls, settings: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with a mapping of settings; nothing if `from_dict` takes it."""
        try:
            cls.from_dict(settings)
        except ConfigurationError as error:
            return [str(error)]
        return []

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the settings to a JSON file, as `from_file` reads it; keys and secrets too."""
        text = msgspec.json.format(msgspec.json.encode(self.to_dict()))
        Path(path).write_bytes(text)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields and their values, as `from_dict` takes them."""
        return msgspec.structs.asdict(self)

    def replace(self, **changes: Any) -> TokenConfig:
        """Return this configuration with some settings changed."""
        return msgspec.structs.replace(self, **changes)


_SIGNS: Final = {
    "PYTEST_CURRENT_TEST": "testing",
    "TESTING": "testing",
    "DEBUG": "development",
}
BUDGET_LIMITS: Final = tuple(
    f for f in TokenConfig.__struct_fields__ if f.endswith(("_token_limit", "_usd"))
)


def _is_on(text: str | None) -> bool:
    return text is not None and text.lower() not in ("0", "false", "no", "off")


def _not_in_environment(settings: Mapping[str, Any]) -> dict[str, Any]:
    given = {name for name, variable in VARIABLES.items() if os.environ.get(variable)}
    return {name: value for name, value in settings.items() if name not in given}


def _check_budgets(config: TokenConfig) -> None:
    for name in BUDGET_LIMITS:
        limit = getattr(config, name)
        if limit is not None and not 0 <= limit < float("inf"):
            raise ConfigurationError(f"{VARIABLES[name]} must be at least 0, not {limit!r}")
    for name, choices in _CHOICES.items():
        chosen = getattr(config, name)
        if chosen not in choices:
            raise ConfigurationError(
                f"{VARIABLES[name]}={chosen!r} is none of {', '.join(choices)}"
            )
    for name in ("alert_at", "compression_threshold"):
        part = getattr(config, name)
        if not 0 < part <= 1:
            raise ConfigurationError(
                f"{VARIABLES[name]} must lie above 0 and at most at 1, not {part!r}"
            )


_fields_with_variable = [name for name in TokenConfig.__struct_fields__ if name != "cost_rates"]
VARIABLES.update(zip(_fields_with_variable, _declared, strict=True))
