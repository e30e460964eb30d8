"""The stand-alone usage tracker."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import pytest

from agentsight_tokens import InvalidCountError, TokenUsage, UsageTracker
from agentsight_tokens.errors import InvalidScopeError


@pytest.fixture
def usage_tracker() -> UsageTracker:
    with UsageTracker() as tracker:
        yield tracker


def test_calls_are_summed_listed_and_forgotten(usage_tracker: UsageTracker) -> None:
    """The samples of the document."""
    usage_tracker.record_usage(input_tokens=100, output_tokens=50, model="gpt-4o")
    summary = usage_tracker.get_summary()
    (record,) = usage_tracker.get_history()

    assert (summary.total_tokens, summary.request_count) == (150, 1)
    assert summary.cost == record.cost == Decimal("0.00075")
    assert (record.prompt_tokens, record.completion_tokens, record.model) == (100, 50, "gpt-4o")
    usage_tracker.reset()
    assert usage_tracker.get_summary().request_count == 0
    assert usage_tracker.get_history() == []


def test_calls_are_grouped(usage_tracker: UsageTracker) -> None:
    """One dimension gives its values as keys, several give tuples."""
    usage_tracker.record_usage(1, 0, "gpt-4o", user_id="a")
    usage_tracker.record_usage(2, 0, "gpt-4o", user_id="b", tool_name="t")
    at = usage_tracker.record_usage(4, 0, "gpt-4o-mini", user_id="b").at

    def sums(*dimensions: str, **span: object) -> dict[object, int]:
        groups = usage_tracker.group_by(*dimensions, **span)
        return {key: group.input_tokens for key, group in groups.items()}

    assert sums("user_id") == {"a": 1, "b": 6}
    assert sums("user_id", "model")["b", "gpt-4o-mini"] == 4
    assert sums("tool_name") == {None: 5, "t": 2}
    assert sums("model", since=at + timedelta(seconds=1)) == {}
    assert sums("model", until=at + timedelta(seconds=1)) == {"gpt-4o": 3, "gpt-4o-mini": 4}
    with pytest.raises(InvalidScopeError, match="'colour'"):
        usage_tracker.group_by("colour")


def test_a_response_is_recorded_once(usage_tracker: UsageTracker) -> None:
    """The same response id is the same call."""
    first = usage_tracker.record_usage(1, response_id="r")
    again = usage_tracker.record_usage(1, response_id="r")

    assert again == first
    assert usage_tracker.get_summary().request_count == 1


def test_whole_usages_are_taken(usage_tracker: UsageTracker) -> None:
    """All counters can be given at once."""
    usage_tracker.record_usage(usage=TokenUsage(input_tokens=5, cache_read_tokens=2))

    assert usage_tracker.get_summary().cache_read_tokens == 2


def test_bad_input_changes_nothing(usage_tracker: UsageTracker) -> None:
    """A refused call is not recorded."""
    with pytest.raises(InvalidCountError):
        usage_tracker.record_usage(-1)
    with pytest.raises(InvalidScopeError):
        usage_tracker.record_usage(1, colour="red")

    assert usage_tracker.get_history() == []
