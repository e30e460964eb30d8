"""The destinations that a configuration names, made."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from .config import TokenConfig, environment_variables
from .destinations import Destination
from .destinations.embedded import CycleStore, EmbeddedDestination
from .errors import ConfigurationError
from .pricing import CostEstimator

__all__ = ["DESTINATIONS", "configured_destinations", "embedded_store", "estimator_of"]


def configured_destinations(config: TokenConfig) -> list[Destination]:
    """
    Return the destinations that a configuration asks for.

    Without a list it is the backend if there is an endpoint, else the embedded store.

    Raises:
        ConfigurationError: For one that is unknown, or lacks a setting or a package.
    """
    named = [part.strip() for part in config.destinations.split(",") if part.strip()]
    destinations: dict[str, Destination] = {}
    for text in named or ["http" if config.endpoint else "embedded"]:
        name, _, argument = text.partition(":")
        if name not in DESTINATIONS:
            raise ConfigurationError(
                f"AGENTSIGHT_DESTINATIONS names {name!r}; known are {', '.join(DESTINATIONS)}"
            )
        destination = DESTINATIONS[name](config, argument or None)
        destinations[destination.identity] = destination
    return list(destinations.values())


def embedded_store(directory: Path) -> Callable[[], CycleStore]:
    """Return what opens the store of a data directory."""

    def open_store() -> CycleStore:
        # Imported when it is needed: most of the backend is for servers.
        from .backend.store import SQLiteStore
        from .backend.store.sqlite import STORE_FILE

        return SQLiteStore(directory / STORE_FILE)

    return open_store


def _embedded(config: TokenConfig, _: str | None) -> Destination:
    return EmbeddedDestination(embedded_store(config.directory))


# Imported when they are named: most programs keep their own store.


def _http(config: TokenConfig, argument: str | None) -> Destination:
    from .destinations.http import HTTPDestination

    endpoint = argument or config.endpoint
    if endpoint is None:
        raise ConfigurationError("AGENTSIGHT_DESTINATIONS names http: set AGENTSIGHT_API_ENDPOINT")
    return HTTPDestination(endpoint, config.api_key, timeout_seconds=config.http_timeout_seconds)


def _jsonl(config: TokenConfig, argument: str | None) -> Destination:
    from .destinations.jsonl import JSONLinesDestination

    return JSONLinesDestination(Path(argument) if argument else config.directory / "calls.jsonl")


def _otlp(config: TokenConfig, argument: str | None) -> Destination:
    _need_opentelemetry("otlp")
    from .destinations.connection import checked_endpoint
    from .destinations.otlp import OTLPSpansDestination

    if argument is not None:
        argument = checked_endpoint(argument, "AGENTSIGHT_DESTINATIONS")
    return OTLPSpansDestination(
        argument, estimator=estimator_of(config), timeout_seconds=config.http_timeout_seconds
    )


def _otlp_metrics(config: TokenConfig, argument: str | None) -> Destination:
    _need_opentelemetry("otlp-metrics")
    from .destinations.connection import checked_endpoint
    from .destinations.otlp import OTLPMetricsDestination

    if argument is not None:
        argument = checked_endpoint(argument, "AGENTSIGHT_DESTINATIONS")
    return OTLPMetricsDestination(argument, timeout_seconds=config.http_timeout_seconds)


def _langfuse(config: TokenConfig, argument: str | None) -> Destination:
    _need_opentelemetry("langfuse")
    from .destinations.vendors import LANGFUSE_HOST, LangfuseDestination

    variables = environment_variables()
    host = variables.get("LANGFUSE_BASE_URL") or variables.get("LANGFUSE_HOST")
    return LangfuseDestination(
        _needed("langfuse", "LANGFUSE_PUBLIC_KEY"),
        _needed("langfuse", "LANGFUSE_SECRET_KEY"),
        host=argument or host or LANGFUSE_HOST,
        estimator=estimator_of(config),
        timeout_seconds=config.http_timeout_seconds,
    )


def _langsmith(config: TokenConfig, argument: str | None) -> Destination:
    _need_opentelemetry("langsmith")
    from .destinations.vendors import LANGSMITH_ENDPOINT, LangSmithDestination

    variables = environment_variables()
    return LangSmithDestination(
        _needed("langsmith", "LANGSMITH_API_KEY"),
        project=variables.get("LANGSMITH_PROJECT"),
        endpoint=argument or variables.get("LANGSMITH_ENDPOINT") or LANGSMITH_ENDPOINT,
        estimator=estimator_of(config),
        timeout_seconds=config.http_timeout_seconds,
    )


DESTINATIONS: Final[dict[str, Callable[[TokenConfig, str | None], Destination]]] = {
    "embedded": _embedded,
    "http": _http,
    "jsonl": _jsonl,
    "otlp": _otlp,
    "otlp-metrics": _otlp_metrics,
    "langfuse": _langfuse,
    "langsmith": _langsmith,
}
"""What makes a destination, by its name; the second argument is what stands behind a colon."""


def estimator_of(config: TokenConfig) -> CostEstimator:
    """Return what prices calls, by the configuration's rates and prices."""
    return CostEstimator(config.cost_rates or None, prices_file=config.prices)


def _need_opentelemetry(name: str) -> None:
    try:
        found = find_spec("opentelemetry.exporter.otlp.proto.http")
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise ConfigurationError(
            f"AGENTSIGHT_DESTINATIONS names {name}, which needs opentelemetry-sdk: "
            "pip install 'agentsight-tokens[otlp]'"
        )


def _needed(name: str, variable: str) -> str:
    value = environment_variables().get(variable)
    if value is None:
        raise ConfigurationError(f"AGENTSIGHT_DESTINATIONS names {name}: set {variable}")
    return value
