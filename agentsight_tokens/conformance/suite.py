"""The suite: scenarios of the installed frameworks, run against the loopback provider."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Final, NamedTuple

from agentsight_tokens.config import TokenConfig
from agentsight_tokens.handlers import deactivate, is_installed
from agentsight_tokens.testing import LoopbackProvider
from agentsight_tokens.tracker import ConversationTracker

from .clients import Clients
from .figures import Figures
from .meter_under_test import MeterUnderTest, TrackerUnderTest
from .scenario import MiscountError, Result, Scenario, Verdict, judged

__all__ = [
    "FRAMEWORKS",
    "clients_of",
    "run_scenario",
    "run_suite",
    "run_with_tracker",
    "scenarios_of",
    "versions",
]

_DISTRIBUTIONS: Final = (
    "langchain-core",
    "langchain-openai",
    "langchain-anthropic",
    "langgraph",
    "llama-index-core",
    "llama-index-llms-openai",
    "llama-index-llms-anthropic",
    "llama-index-embeddings-openai",
    "litellm",
    "openai",
    "anthropic",
)


class Framework(NamedTuple):
    """Where a framework and its scenarios are found."""

    module: str
    """The framework's top-level module."""
    clients: str
    """The class of its clients, in the scenarios' module `clients`."""


FRAMEWORKS: Final = {
    "langchain": Framework("langchain_core", "LangChainClients"),
    "llamaindex": Framework("llama_index.core", "LlamaIndexClients"),
    "litellm": Framework("litellm", "LiteLLMClients"),
}
"""The frameworks that have scenarios, by the names of their handlers."""

_WORST_FIRST: Final[tuple[Verdict, ...]] = ("over", "under", "unreported", "exact")


def scenarios_of(framework: str) -> Sequence[Scenario]:
    """Return a framework's scenarios; this imports the framework."""
    found: Sequence[Scenario] = importlib.import_module(f"{__package__}.{framework}").SCENARIOS
    return found


def clients_of(framework: str, provider: LoopbackProvider) -> Clients:
    """Return what makes a framework's clients; this imports the framework."""
    module = importlib.import_module(f"{__package__}.{framework}.clients")
    clients: Clients = getattr(module, FRAMEWORKS[framework].clients)(provider)
    return clients


def versions() -> dict[str, str]:
    """Return the versions of what the scenarios call, as far as it is installed."""
    # Imported here: only who prints the versions needs it.
    from importlib import metadata

    found = {}
    for name in _DISTRIBUTIONS:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def run_suite(
    framework: str, *, handlers: str | None = None, config: TokenConfig | None = None
) -> Iterator[Result]:
    """
    Run a framework's scenarios, each with a provider, a tracker and handlers of its own.

    Args:
        framework: One of `FRAMEWORKS`.
        handlers: The handlers to switch on, with commas; the framework's own by default.
        config: The settings of the trackers, but for their data directory.

    Yields:
        What became of each scenario; one that stands for all where the framework is absent.
    """
    missing = _missing(framework)
    if missing:
        yield Result(framework, "all", "skipped", Figures(), reason=missing)
        return
    for scenario in scenarios_of(framework):
        with (
            tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
            LoopbackProvider(keep_alive=False) as provider,
        ):
            settings = (config or TokenConfig()).replace(
                data_dir=folder, exit_flush_seconds=0, endpoint=None, conversation_id=None
            )
            yield run_with_tracker(
                framework, scenario, provider, settings.replace(token_handler=handlers or framework)
            )


def run_scenario(
    framework: str, scenario: Scenario, clients: Clients, meter: MeterUnderTest
) -> Result:
    """Run one scenario with a meter that is switched on, and judge what it counted."""
    clients.meter = meter
    try:
        with meter.conversation("c"):
            scenario.act(clients)
    except MiscountError as error:
        verdict: Verdict = "over" if error.counted > error.expected else "under"
        return Result(framework, scenario.name, verdict, scenario.expected, reason=str(error))
    except Exception as error:  # noqa: BLE001  # a framework of any version may raise anything
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        return Result(framework, scenario.name, "skipped", scenario.expected, reason=reason)
    clients.provider.settle()
    return _judged(framework, scenario, meter)


def run_with_tracker(
    framework: str, scenario: Scenario, provider: LoopbackProvider, config: TokenConfig
) -> Result:
    """
    Run one scenario with a tracker of its own, whose handlers are switched on for it.

    Args:
        framework: One of `FRAMEWORKS`.
        scenario: One of its scenarios.
        provider: Whom to call.
        config: The tracker's settings, its handlers among them.
    """
    clients = clients_of(framework, provider)
    try:
        clients.built = scenario.build(clients) if scenario.build is not None else None
    except ModuleNotFoundError as error:
        return Result(framework, scenario.name, "skipped", scenario.expected, reason=str(error))
    with _switched_on(config) as tracker:
        status = tracker.handler_status.get(framework, "the handler is off")
        if status != "active":
            return Result(framework, scenario.name, "skipped", scenario.expected, reason=status)
        return run_scenario(framework, scenario, clients, TrackerUnderTest(tracker))


@contextmanager
def _switched_on(config: TokenConfig) -> Iterator[ConversationTracker]:
    tracker = ConversationTracker(None, "default", config=config)
    try:
        yield tracker
    finally:
        deactivate()
        tracker.close()


def _judged(framework: str, scenario: Scenario, meter: MeterUnderTest) -> Result:
    shares = {
        name: Figures(prompt, completion, prompt + completion)
        for name, (prompt, completion) in scenario.shares.items()
    } or {scenario.conversation: scenario.expected}
    found = []
    for name, expected in shares.items():
        verdict, reason = judged(expected, meter.figures(name))
        found.append((verdict, f"{name}: {reason}" if reason and scenario.shares else reason))
    verdict, reason = min(found, key=lambda each: _WORST_FIRST.index(each[0]))
    whole = meter.figures()
    if verdict in {"exact", "unreported"}:
        elsewhere, wrong = judged(scenario.expected, whole)
        if elsewhere == "over":
            verdict, reason = "over", f"in another conversation too: {wrong}"
    return Result(framework, scenario.name, verdict, scenario.expected, whole, reason)


def _missing(framework: str) -> str | None:
    module = FRAMEWORKS[framework].module
    return None if is_installed(module) else f"no module named {module!r}"
