"""Handlers, the meter and the boundary for faults."""

from __future__ import annotations

import importlib.metadata
import logging
from typing import ClassVar

import pytest

from agentsight_tokens import (
    BudgetExceededError,
    ConversationTracker,
    HandlerSkippedWarning,
    TokenConfig,
    TokenUsage,
)
from agentsight_tokens import faults as faults_module
from agentsight_tokens.faults import contained, fault_counts, guarded
from agentsight_tokens.handlers import registered_handlers
from agentsight_tokens.meter import Meter, meter
from agentsight_tokens.scope import tool_scope


class Installed:
    """A handler whose framework is the standard library's."""

    name: ClassVar[str] = "installed"
    framework: ClassVar[str] = "json"
    extra: ClassVar[str] = "agentsight-tokens[installed]"
    live: ClassVar[list[Installed]] = []

    def install(self, meter: Meter, config: TokenConfig) -> None:
        """Note that it is on."""
        self.live.append(self)

    def uninstall(self) -> None:
        """Note that it is off."""
        self.live.remove(self)


class Absent(Installed):
    """A handler whose framework nobody has."""

    name: ClassVar[str] = "absent"
    framework: ClassVar[str] = "no_such_framework"
    extra: ClassVar[str] = "agentsight-tokens[absent]"


@pytest.fixture
def two_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register the two handlers above and no other."""

    def entry_points(group: str) -> list[importlib.metadata.EntryPoint]:
        return [
            importlib.metadata.EntryPoint(name, f"{__name__}:{name.title()}", group)
            for name in ("installed", "absent")
        ]

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)


@pytest.fixture
def faults_are_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do in this test what is done in users' programs."""
    monkeypatch.setattr(faults_module, "_raises", False)


def test_our_handlers_are_registered() -> None:
    """The wheel's handlers are found by their entry points."""
    assert {"langchain", "llamaindex"} <= registered_handlers().keys()


@pytest.mark.usefixtures("two_handlers")
def test_a_handler_is_installed_once() -> None:
    """The second tracker finds the handler active."""
    with (
        ConversationTracker(token_handler="installed") as first,
        ConversationTracker(token_handler="Installed, ") as second,
    ):
        assert first.handler_status == second.handler_status == {"installed": "active"}
        assert len(Installed.live) == 1


@pytest.mark.usefixtures("two_handlers")
def test_a_missing_framework_is_skipped_with_one_warning() -> None:
    """The warning and the status say how to install it, and the tracker works."""
    with pytest.warns(HandlerSkippedWarning, match=r"agentsight-tokens\[absent\]") as caught:
        tracker = ConversationTracker(token_handler="absent,installed")
    with tracker:
        assert len(caught) == 1
        assert tracker.handler_status["installed"] == "active"
        assert tracker.handler_status["absent"].startswith("skipped: no module named")
        tracker.track_token_usage(1)
        assert tracker.get_token_usage()["prompt_llm_token_count"] == 1


@pytest.mark.usefixtures("two_handlers")
def test_auto_takes_what_is_installed_without_a_warning() -> None:
    """`auto` skips what is not there in silence; the status tells."""
    with ConversationTracker(token_handler="auto") as tracker:
        assert tracker.handler_status["installed"] == "active"
        assert "skipped" in tracker.handler_status["absent"]


@pytest.mark.usefixtures("two_handlers")
def test_the_variable_is_read_when_a_tracker_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Setting the variable after the import is early enough."""
    monkeypatch.setenv("AGENTSIGHT_TOKEN_HANDLER_TYPE", "installed")
    with ConversationTracker() as tracker:
        assert tracker.handler_status == {"installed": "active"}


def test_a_call_finishes_once(tracker: ConversationTracker) -> None:
    """What comes after the first end is ignored, also after a drop."""
    call = meter.begin("test", model="gpt-4o")
    call.first_token()
    record = call.finish(TokenUsage(input_tokens=1))
    assert call.finish(TokenUsage(input_tokens=5)) is None
    dropped = meter.begin("test")
    dropped.drop()
    assert dropped.finish(TokenUsage(input_tokens=5)) is None
    assert dropped.is_finished

    assert record.duration_seconds >= record.time_to_first_token_seconds >= 0
    assert tracker.get_usage().input_tokens == 1


def test_metadata_wins_over_the_scope(tracker: ConversationTracker) -> None:
    """What a call says of itself wins; the framework's own names come last."""
    metadata = {"agentsight_conversation_id": "m", "agentsight_user_id": "u", "other": 1}
    with tracker.conversation("s"), tool_scope("search"):
        explicit = meter.begin("test", metadata=metadata, fallback_conversation_id="f", agent="a")
        scoped = meter.begin("test", fallback_conversation_id="f")
    fallback = meter.begin("test", fallback_conversation_id="f")

    assert (explicit.scope.conversation_id, explicit.scope.user_id) == ("m", "u")
    assert (explicit.scope.agent, explicit.tool_name) == ("a", "search")
    assert scoped.scope.conversation_id == "s"
    assert fallback.scope.conversation_id == "f"


def test_no_usage_is_unreported(tracker: ConversationTracker) -> None:
    """A call without usage counts as unreported, with the reason."""
    silent = meter.begin("test").finish(None)
    cancelled = meter.begin("test").finish(None, unreported_reason="cancelled")

    assert silent.unreported_reason == "provider_silent"
    assert cancelled.unreported_reason == "cancelled"
    assert silent.cost is None
    assert tracker.get_usage().unreported_calls == 2


@pytest.mark.usefixtures("faults_are_swallowed")
def test_faults_are_contained_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    """A fault is logged once for its place, counted each time, and passed on never."""

    @guarded
    def faulty() -> int:
        raise ZeroDivisionError

    with caplog.at_level(logging.ERROR):
        assert faulty() is None
        assert faulty() is None
        with contained("a place of this test"):
            raise ZeroDivisionError

    assert fault_counts()[faulty.__qualname__] == 2
    assert fault_counts()["a place of this test"] == 1
    assert len(caplog.records) == 2


@pytest.mark.usefixtures("faults_are_swallowed")
def test_a_budget_passes_the_boundary() -> None:
    """`BudgetExceededError` is the one exception that reaches the program."""

    @guarded
    def stop() -> None:
        raise BudgetExceededError("too much")

    with pytest.raises(BudgetExceededError):
        stop()
    with pytest.raises(BudgetExceededError), contained("x"):
        raise BudgetExceededError("too much")


@pytest.mark.usefixtures("faults_are_swallowed")
def test_reads_wait_for_late_callbacks(
    tracker: ConversationTracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A barrier runs before each read and each send; its fault stops neither."""

    def land() -> None:
        meter.begin("test").finish(TokenUsage(input_tokens=1))

    monkeypatch.setattr(meter, "barriers", [land, lambda: 1 / 0])

    assert tracker.get_token_usage()["prompt_llm_token_count"] == 1
    assert tracker.send_tracked_data().totals.input_tokens == 2
