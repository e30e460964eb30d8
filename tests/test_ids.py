"""Time-ordered ids."""

from __future__ import annotations

import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from agentsight_tokens.ids import time_ordered_id


def test_ids_are_uuids_of_version_7() -> None:
    """An id is a UUID of version 7 whose time is now."""
    before = time.time_ns() // 1_000_000

    made = uuid.UUID(time_ordered_id())

    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert before <= (made.int >> 80) <= before + 5_000


def test_ids_are_unique_and_sorted_within_a_thread() -> None:
    """Many ids within a millisecond still sort by the order in which they were made."""
    ids = [time_ordered_id() for _ in range(20_000)]

    assert ids == sorted(set(ids))


def test_ids_of_threads_are_unique() -> None:
    """Threads never make the same id."""
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: [time_ordered_id() for _ in range(2_000)], range(8)))

    assert len({id for ids in made for id in ids}) == 16_000


def test_a_clock_that_is_set_back_does_not_disorder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids go on rising when the clock goes back."""
    first = time_ordered_id()
    monkeypatch.setattr(time, "time_ns", lambda: 0)

    assert time_ordered_id() > first
