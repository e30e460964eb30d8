"""A clean environment for every test: an empty data directory, no settings, no handlers."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import certifi
import pytest

from agentsight_tokens import ConversationTracker
from agentsight_tokens.faults import raising_faults
from agentsight_tokens.handlers import deactivate
from agentsight_tokens.meter import meter
from agentsight_tokens.runtime import runtimes

FOREIGN_SETTINGS = (
    *("OPENAI_", "ANTHROPIC_", "LANGSMITH_", "LANGCHAIN_", "AGENTSIGHT_", "MAMBA_"),
    "TIKTOKEN_CACHE_DIR",  # `import litellm` sets it
)

_END = "-----END CERTIFICATE-----\n"
SERVICES = ("running_redis", "redis_server", "own_redis", "postgresql")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a server: such a test runs in CI, where the server is installed."""
    for item in items:
        parameters = getattr(getattr(item, "callspec", None), "params", {})
        # Such as `postgresql packed`: a store of a kind, and what is in it.
        kinds = {str(value).partition(" ")[0] for value in parameters.values()}
        if {"redis", "postgresql"} & kinds or {*SERVICES} & {*getattr(item, "fixturenames", ())}:
            item.add_marker("services")


@pytest.fixture(scope="session")
def one_authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of one certificate: to read all of them takes a client 40 ms, and few need any."""
    first, end, _ = Path(certifi.where()).read_text(encoding="utf-8").partition(_END)
    bundle = tmp_path_factory.mktemp("tls") / "one.pem"
    bundle.write_text(first + end, encoding="utf-8")
    return bundle


@pytest.fixture(autouse=True)
def clean_environment(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, one_authority: Path
) -> Iterator[None]:
    """Take away every setting, and take down what a test set up."""
    for variable in list(os.environ):
        if variable.startswith(FOREIGN_SETTINGS):
            monkeypatch.delenv(variable)
    monkeypatch.setenv("AGENTSIGHT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SSL_CERT_FILE", str(one_authority))
    with raising_faults():
        yield
    for runtime in runtimes():
        runtime.close()
    deactivate()
    meter.default_recorder = None


@pytest.fixture(autouse=True, scope="module")
def litellm_leaves_nothing() -> Iterator[None]:
    """Let go of the clients that LiteLLM keeps and never closes, lest another test be blamed."""
    yield
    kept = getattr(sys.modules.get("litellm"), "in_memory_llm_clients_cache", None)
    if getattr(kept, "cache_dict", None):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kept.flush_cache()
            gc.collect()


@pytest.fixture
def tracker() -> Iterator[ConversationTracker]:
    """A tracker of the test's own data directory."""
    with ConversationTracker() as tracker:
        yield tracker
