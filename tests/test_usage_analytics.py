"""What trackers are asked besides their sums: by user, session, tool, day, or any dimension."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from agentsight_tokens import ConversationTracker, TokenConfig, UsageTracker
from agentsight_tokens.errors import InvalidScopeError


class Questions:
    """A tracker of either kind, and the one way to count in it."""

    def __init__(self, tracker: Any) -> None:
        self.tracker = tracker

    def count(self, tokens: int, model: str | None = "gpt-4o", **more: Any) -> None:
        tool = more.pop("tool_name", None)
        if isinstance(self.tracker, UsageTracker):
            self.tracker.record_usage(tokens, 0, model, tool_name=tool, **more)
            return
        with self.tracker.attribution(**more):
            self.tracker.track_token_usage(tokens, 0, model=model, tool_name=tool)


@pytest.fixture(params=[UsageTracker, ConversationTracker])
def asked(request: pytest.FixtureRequest) -> Iterator[Questions]:
    """Each kind of tracker, with four calls of two users."""
    with request.param() as tracker:
        asked = Questions(tracker)
        asked.count(1000, user_id="alice", session_id="s1")
        asked.count(2000, "gpt-4o-mini", user_id="alice", session_id="s2", tool_name="search")
        asked.count(4000, user_id="bob", tool_name="search")
        asked.count(8000, "nobody-knows-it", user_id="bob", tool_name="read")
        yield asked


def test_a_users_and_a_sessions_use(asked: Questions) -> None:
    """Everything else is left out."""
    tracker = asked.tracker

    assert tracker.get_user_usage("alice").total_tokens == 3000
    assert tracker.get_user_usage("alice", model="gpt-4o").total_tokens == 1000
    assert tracker.get_user_usage("nobody").request_count == 0
    assert tracker.get_session_usage("s2").total_tokens == 2000


def test_a_hashed_users_use() -> None:
    """The tracker is asked by the id that the program knows."""
    with ConversationTracker(config=TokenConfig(hash_user_ids=True, hash_key="k" * 32)) as tracker:
        Questions(tracker).count(10, user_id="alice")

        assert tracker.get_user_usage("alice").total_tokens == 10


def test_what_tools_used(asked: Questions) -> None:
    """Calls outside of tools are in none."""
    tools = asked.tracker.get_breakdown_by_tool()

    assert {name: usage.total_tokens for name, usage in tools.items()} == {
        "search": 6000,
        "read": 8000,
    }
    of_bob = asked.tracker.get_breakdown_by_tool(user_id="bob")
    assert of_bob["search"].total_tokens == 4000


def test_what_was_tracked_in_plain_values(asked: Questions) -> None:
    """What has no price is told apart."""
    assert asked.tracker.get_tracking_stats() == {
        "calls": 4,
        "total_tokens": 15_000,
        "embedding_tokens": 0,
        "cost_usd": Decimal("0.0128"),
        "unreported_calls": 0,
        "unpriced_calls": 1,
        "estimated_calls": 0,
        "models": ["gpt-4o", "gpt-4o-mini", "nobody-knows-it"],
    }


def test_analytics_have_totals_groups_and_averages(asked: Questions) -> None:
    """Averages are of what is known: a call without a price makes none cheaper."""
    analytics = asked.tracker.get_usage_analytics()
    of_alice = asked.tracker.get_usage_analytics("alice", group_by="session_id")

    assert analytics.total.average_tokens == 3750
    assert analytics.total.average_cost == Decimal("0.0128") / 3
    assert analytics.total.cost_per_token == Decimal("0.0128") / 7000
    assert analytics.groups["gpt-4o"].cost_per_token == Decimal("0.0000025")
    assert analytics.groups["nobody-knows-it"].cost_per_token is None
    assert analytics.groups["nobody-knows-it"].average_cost is None
    assert {key: group.total_tokens for key, group in of_alice.groups.items()} == {
        "s1": 1000,
        "s2": 2000,
    }


def test_analytics_of_nothing_have_no_averages(asked: Questions) -> None:
    """Nothing is divided by 0, and nothing is 0 that is not known."""
    total = asked.tracker.get_usage_analytics("nobody").total

    assert (total.average_tokens, total.average_cost, total.cost_per_token) == (None, None, None)


def test_analytics_of_a_time(asked: Questions) -> None:
    """By a duration that ends now, or from a time on."""
    tracker = asked.tracker
    today = f"{datetime.now(timezone.utc):%Y-%m-%d}"

    by_day = tracker.get_usage_analytics(time_range="7d", group_by="day")
    ahead = tracker.get_usage_analytics(since=datetime.now(timezone.utc) + timedelta(hours=1))

    assert sum(group.total_tokens for group in by_day.groups.values()) == 15_000
    assert max(map(str, by_day.groups)) == today
    assert by_day.since is not None
    assert timedelta(days=6) < datetime.now(timezone.utc) - by_day.since < timedelta(days=8)
    assert (ahead.total.request_count, ahead.groups) == (0, {})


def test_groups_by_several_dimensions(asked: Questions) -> None:
    """Their keys are tuples; filters select before."""
    groups = asked.tracker.group_by("user_id", "tool_name", model="gpt-4o")
    months = asked.tracker.group_by("month")

    assert {key: group.total_tokens for key, group in groups.items()} == {
        ("alice", None): 1000,
        ("bob", "search"): 4000,
    }
    assert all(len(str(month)) == 7 for month in months)
    assert asked.tracker.group_by()[()].total_tokens == 15_000


def test_questions_that_cannot_be_answered_are_refused(asked: Questions) -> None:
    """The error names what is wrong, and what is known."""
    tracker = asked.tracker

    with pytest.raises(InvalidScopeError, match=r"'colour'; known are .*model.*day, month"):
        tracker.get_usage_analytics(group_by="colour")
    with pytest.raises(InvalidScopeError, match="'colour' is no filter"):
        tracker.get_usage_analytics(colour="red")
    with pytest.raises(ValueError, match="'1M' is not known"):
        tracker.get_usage_analytics(time_range="1M")
    with pytest.raises(ValueError, match="since and time_range"):
        tracker.get_usage_analytics(time_range="1h", since=datetime.now(timezone.utc))
