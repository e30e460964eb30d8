"""What `doctor` looks at, and what it finds."""

from __future__ import annotations

import difflib
import importlib.metadata
import platform
import warnings
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timezone
from typing import Any, Final

from agentsight_tokens import __version__
from agentsight_tokens.config import (
    COST_RATE_PREFIXES,
    VARIABLES,
    TokenConfig,
    environment_variables,
)
from agentsight_tokens.errors import AgentSightError, AgentSightWarning, ConfigurationError
from agentsight_tokens.faults import fault_counts
from agentsight_tokens.handlers import activate, deactivate, is_installed, registered_handlers
from agentsight_tokens.pricing import CostEstimator
from agentsight_tokens.pricing.catalog import OLD_AFTER_DAYS

from .finding import Finding
from .screen import plural
from .stored import examine_data

__all__ = ["examine"]

_PREFIX: Final = "AGENTSIGHT_"
_SECRETS: Final = {"api_key", "hash_key", "database_url"}
_DISTRIBUTIONS: Final = {
    "langchain": ("langchain-core", "langchain-openai", "langchain-anthropic", "langgraph"),
    "llamaindex": (
        "llama-index-core",
        "llama-index-llms-openai",
        "llama-index-llms-anthropic",
        "llama-index-embeddings-openai",
    ),
}
"""What is worth knowing the version of, by the handler; by default what is named like it."""


def examine(data_dir: str | None, *, today: date | None = None) -> Iterator[Finding]:
    """
    Look at everything that counting depends on, and change nothing.

    Args:
        data_dir: The data directory in place of the configured one.
        today: The day on which the age of the prices is told.
    """
    today = today or datetime.now(timezone.utc).date()
    before = fault_counts()
    yield Finding(
        "version",
        "ok",
        f"agentsight-tokens {__version__}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}",
        facts={"version": __version__, "python": platform.python_version()},
    )
    try:
        config = TokenConfig()
        if data_dir is not None:
            config = config.replace(data_dir=data_dir)
    except ConfigurationError as error:
        yield Finding("settings", "broken", str(error), "correct or unset the variable")
        return
    yield from _settings(config)
    yield from examine_data(config)
    yield _prices(config, today)
    yield from _handlers(config)
    yield _faults(before)


def _settings(config: TokenConfig) -> Iterator[Finding]:
    variables = environment_variables()
    shown = {
        variable: "(secret)" if field in _SECRETS else variables[variable]
        for field, variable in VARIABLES.items()
        if variable in variables
    }
    rates = plural(len(config.cost_rates), "own cost rate") if config.cost_rates else ""
    texts = [*(f"{name}={value}" for name, value in shown.items()), *filter(None, [rates])]
    yield Finding("settings", "ok", "\n".join(texts) or "none, everything by default", facts=shown)
    for name in sorted(variables):
        is_ours = name in VARIABLES.values() or name.startswith(COST_RATE_PREFIXES)
        if name.startswith(_PREFIX) and not is_ours:
            ours = {variable.removeprefix(_PREFIX): variable for variable in VARIABLES.values()}
            near = difflib.get_close_matches(name.removeprefix(_PREFIX), ours, n=1)
            yield Finding(
                "settings",
                "note",
                f"{name} is set, but nothing reads it",
                f"did you mean {ours[near[0]]}?" if near else None,
            )


def _prices(config: TokenConfig, today: date) -> Finding:
    try:
        estimator = CostEstimator(config.cost_rates or None, prices_file=config.prices)
        version = estimator.catalog.version
        models = len(estimator.catalog)
    except (AgentSightError, OSError, ValueError) as error:
        return Finding("prices", "broken", str(error), "correct or unset AGENTSIGHT_PRICES_FILE")
    age = (today - date.fromisoformat(version)).days
    text = f"of {version}, {age} days old, {models:,} models"
    facts = {"version": version, "age_days": age, "models": models}
    if age <= OLD_AFTER_DAYS:
        return Finding("prices", "ok", text, facts=facts)
    return Finding(
        "prices",
        "note",
        f"{text}: newer models may be unpriced and changed rates are not known",
        "pip install --upgrade agentsight-tokens, or give a newer map in AGENTSIGHT_PRICES_FILE",
        facts,
    )


def _handlers(config: TokenConfig) -> Iterator[Finding]:
    known = registered_handlers()
    if not known:
        yield Finding(
            "handlers", "broken", "no handler is registered", "install agentsight-tokens again"
        )
    for name in config.handlers:
        if name != "auto" and name not in known:
            near = difflib.get_close_matches(name, [*known, "auto"], n=1)
            yield Finding(
                f"handler {name}",
                "broken",
                f"AGENTSIGHT_TOKEN_HANDLER_TYPE={config.token_handler!r} names it, but no "
                f"installed package registers it; known are {', '.join(known)} and auto",
                f"did you mean {near[0]!r}?" if near else "a tracker cannot be constructed so",
            )
    for name in known:
        yield _handler(name, config)


def _handler(name: str, config: TokenConfig) -> Finding:
    subject = f"handler {name}"
    found = {
        distribution: version
        for distribution in _DISTRIBUTIONS.get(name, (name,))
        if (version := _version(distribution))
    }
    versions = ", ".join(f"{each} {version}" for each, version in found.items())
    facts: dict[str, Any] = {"versions": found}
    is_asked_for = name in config.handlers
    try:
        if not is_asked_for and "auto" not in config.handlers:
            return _unasked(name, versions, facts)
        status = _activated(name, config)
    except Exception as error:  # noqa: BLE001  # a third party's handler may raise anything
        return Finding(
            subject, "broken", f"it does not work: {type(error).__name__}: {error}", facts=facts
        )
    if status == "active":
        return Finding(subject, "ok", f"active{versions and f': {versions}'}", facts=facts)
    why, _, how = status.removeprefix("skipped: ").partition("; ")
    return Finding(subject, "broken" if is_asked_for else "off", f"skipped: {why}", how, facts)


def _unasked(name: str, versions: str, facts: dict[str, Any]) -> Finding:
    handler = registered_handlers()[name].load()
    if not is_installed(handler.framework):
        text, advice = "not installed", f"pip install {handler.extra!r}"
    else:
        text = f"installed, not switched on{versions and f': {versions}'}"
        advice = f"AGENTSIGHT_TOKEN_HANDLER_TYPE={name} switches it on"
    return Finding(f"handler {name}", "off", text, advice, facts)


def _activated(name: str, config: TokenConfig) -> str:
    """Return the status that a tracker would report, and leave the framework as it was."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AgentSightWarning)
        try:
            return activate([name], config)[name]
        finally:
            deactivate()


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _faults(before: Mapping[str, int]) -> Finding:
    counts = {
        place: count - before.get(place, 0)
        for place, count in fault_counts().items()
        if count > before.get(place, 0)
    }
    if not counts:
        return Finding("faults", "ok", "none while looking", facts=counts)
    text = ", ".join(f"{place}: {count}" for place, count in counts.items())
    return Finding("faults", "broken", text, "the log above has the first of each", counts)
