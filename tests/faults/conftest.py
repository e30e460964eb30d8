"""
The fault matrix: real processes, a backend on loopback, and the damage that hosts suffer.

`pytest tests/faults` runs a short form of each fault, with `--full` the long one; .ci/run does
the former. They need root or `sudo` without a password, to mount small disks, and libfaketime.
Each test states its figure, which stands below the dots.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.backend import Backend, running_backend
from tests.faults.hosts import Hosts, small_disk


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the long form of each fault")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [r for kind in ("passed", "failed") for r in terminalreporter.stats.get(kind, [])]
    figures = [text for r in reports for name, text in r.user_properties if name == "figure"]
    if figures:
        terminalreporter.section("figures")
        for text in figures:
            terminalreporter.write_line(text)


@pytest.fixture
def full(request: pytest.FixtureRequest) -> bool:
    """Whether the long form is wanted."""
    return bool(request.config.getoption("--full", default=False))


@pytest.fixture
def figure(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """State what was measured."""

    def state(text: str) -> None:
        record_property("figure", text)

    return state


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    with running_backend(tmp_path / "backend") as backend:
        yield backend


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    """Programs that use the package, in processes of their own."""
    hosts = Hosts(tmp_path / "data", tmp_path)
    yield hosts
    hosts.end()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 12 MB."""
    with small_disk(tmp_path / "disk") as mounted:
        yield mounted
