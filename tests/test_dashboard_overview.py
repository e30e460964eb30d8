"""The overview: its numbers are the store's, and what is not known is shown as such."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest

from agentsight_tokens import Scope, TokenUsage, UsageRecord
from agentsight_tokens.backend.analytics import usage_by
from agentsight_tokens.backend.app import create_app
from agentsight_tokens.backend.store import SQLiteStore, Store
from agentsight_tokens.cycle import Cycle
from tests.dashboard_kit import Visitor, text_of, titles_of, values_of
from tests.records import call

NOW = datetime.now(timezone.utc)
HOSTILE = ("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "مرحبا", "x" * 1000, "'")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with SQLiteStore(tmp_path / "store.db") as store:
        yield store


def ingest(store: Store, *records: UsageRecord, environment: str = "production") -> None:
    cycle = Cycle.of(
        records,
        key=f"k-{records[0].id}",
        conversation_id="c",
        sealed_by="send",
        sealed_at=NOW,
        environment=environment,
    )
    store.ingest([cycle])


def test_the_numbers_are_the_stores(store: Store) -> None:
    """To the last digit, in the tiles, the chart and the rankings."""
    records = [
        call(
            number,
            at=NOW - timedelta(days=number % 40),
            model=f"m-{number % 9}",
            usage=TokenUsage(input_tokens=1000 + number, output_tokens=7, cache_read_tokens=500),
            cost_pico_usd=123_456_789_012_345 + number,
            scope=Scope(conversation_id="c", user_id=f"u-{number % 3}"),
        )
        for number in range(200)
    ]
    ingest(store, *records)
    since = datetime(NOW.year, NOW.month, NOW.day, tzinfo=timezone.utc) - timedelta(days=29)
    total = usage_by(store, [], where={"since": since}).total

    answer = Visitor(create_app(store)).get("/")

    titles = titles_of(answer)
    assert f"{total.cost.normalize():f} USD" in titles
    assert f"{total.total_tokens:,}" in titles
    assert f"{total.cache_read_tokens:,} of {total.input_tokens:,}" in titles
    assert sum(map(Decimal, values_of(answer))) == total.cost
    for name, usage in usage_by(store, ["user"], where={"since": since}).groups:
        assert f"{usage.cost.normalize():f} USD" in titles
        assert str(name[0]) in text_of(answer)
    assert "4 others" in text_of(answer)
    for metric, whole in (("tokens", total.total_tokens), ("calls", total.request_count)):
        charted = Visitor(create_app(store)).get(f"/?metric={metric}")
        assert sum(map(int, values_of(charted))) == whole


def test_what_is_not_known_is_no_zero(store: Store) -> None:
    """Unpriced and unreported calls are shown beside the totals, never as $0."""
    unpriced = call(1, at=NOW, model="in-house", cost_pico_usd=None, cost_status="unpriced")
    silent = call(
        2,
        at=NOW,
        model="silent",
        cost_pico_usd=None,
        cost_status=None,
        usage=TokenUsage(),
        unreported_reason="provider_silent",
    )
    guessed = call(3, at=NOW, source="estimated", cost_pico_usd=None, cost_status="unpriced")
    ingest(store, unpriced, silent, guessed)

    text = text_of(Visitor(create_app(store)).get("/"))

    assert "Spend unpriced" in text
    assert "12 tokens of 2 calls have no known price, and are not in the spend" in text
    assert "never said what 1 call used" in text
    assert "The tokens of 1 call were counted by us" in text
    assert "in-house unpriced" in text
    assert "silent unreported" in text


def test_the_span_before_is_as_long(store: Store) -> None:
    """A span that goes on is compared with as much of the one before it."""
    ingest(store, call(1, at=NOW - timedelta(days=1), cost_pico_usd=3 * 10**12))
    ingest(store, call(1, at=NOW - timedelta(days=9), cost_pico_usd=2 * 10**12))
    visitor = Visitor(create_app(store))

    answer = visitor.get("/?range=7d")

    assert "+50.0% vs. the 7 days before" in text_of(answer)
    assert "2 USD the 7 days before" in titles_of(answer)
    assert "vs. " not in text_of(visitor.get("/?range=all"))


def test_all_time_has_every_month(store: Store) -> None:
    """Those without calls too, over the turn of a year; an empty selection has none."""
    ingest(store, call(1, at=datetime(2024, 11, 5, tzinfo=timezone.utc)))
    ingest(store, call(1, at=datetime(2025, 2, 5, tzinfo=timezone.utc)))
    visitor = Visitor(create_app(store))

    html = visitor.get("/?range=all").body.decode()

    assert re.findall(r'<th scope="row">([\d-]+)</th>', html) == [
        "2024-11",
        "2024-12",
        "2025-01",
        "2025-02",
    ]
    assert "over all time" in html
    assert "No calls in this selection" in text_of(visitor.get("/?range=all&model=x"))


def test_nothing_says_what_to_do(store: Store) -> None:
    """Without calls, how to send some; without any in the selection, how to see others."""
    visitor = Visitor(create_app(store))
    assert "export AGENTSIGHT_API_ENDPOINT=http://localhost:8765" in text_of(visitor.get("/"))

    ingest(store, call(1, at=NOW - timedelta(days=400)))

    assert "No calls in this selection" in text_of(visitor.get("/"))
    assert "No calls" not in text_of(visitor.get("/?range=all"))


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text(store: Store, name: str) -> None:
    """Whatever users call their models, users and features, and whatever the address says."""
    scope = Scope(conversation_id=name, user_id=name, feature=name, tags=(name,))
    ingest(store, call(1, at=NOW, model=name, scope=scope), environment=name)
    visitor = Visitor(create_app(store))

    page = visitor.get("/")

    html = page.body.decode()
    assert "<script>alert" not in html
    assert "<img" not in html
    assert name in text_of(page).replace("  ", " ") or name in titles_of(page)


def test_filters_are_in_the_address(store: Store) -> None:
    """Each is a chip that can be taken away; a form adds one."""
    ingest(store, call(1, at=NOW, model="a", cost_pico_usd=10**12))
    ingest(store, call(1, at=NOW, model="b", cost_pico_usd=10**12), environment="staging")
    visitor = Visitor(create_app(store))
    for query, cost in (
        ("", "2 USD"),
        ("model=a", "1 USD"),
        ("environment=staging&zone=Asia/Kathmandu", "1 USD"),
        ("add=model&to=b&zone=", "1 USD"),
    ):
        assert cost in titles_of(visitor.get(f"/?{query}"))

    html = visitor.get("/?model=a&environment=production&range=7d").body.decode()

    assert (
        'href="/?range=7d&amp;environment=production" aria-label="Remove the filter model a"'
        in html
    )


@pytest.mark.parametrize(
    "query",
    [
        "range=never",
        "zone=Mars/Olympus",
        "zone=../../etc/passwd",
        "range=custom&since=yesterday",
        "range=custom&since=2026-02-02&until=2026-02-01",
        "range=custom&since=0001-01-01",
        "range=custom&until=9999-12-31",
        "metric=happiness",
        "nothing=1",
        "zone=%00",
    ],
)
def test_addresses_that_say_nothing_are_told(store: Store, query: str) -> None:
    """With 400 and a reason."""
    answer = Visitor(create_app(store)).get(f"/?{query}")

    assert answer.status == 400
    assert "Bad Request" in text_of(answer)


@pytest.mark.parametrize(
    ("query", "steps"),
    [
        ("range=24h", 24),
        ("range=7d", 7),
        ("range=30d&zone=America/New_York", 30),
        ("range=90d", 90),
        ("range=custom&since=2026-03-29&until=2026-03-29&zone=Europe/Zurich", 23),
        ("range=custom&since=2026-10-25&until=2026-10-25&zone=Europe/Zurich", 25),
        ("range=custom&since=2026-01-01&until=2026-12-31", 53),
        ("range=custom&since=2023-01-01&until=2026-12-31", 48),
        ("range=custom&since=2000-01-01&until=2019-12-31", 20),
    ],
)
def test_every_step_is_drawn(store: Store, query: str, steps: int) -> None:
    """Those without calls too, and the hours that a change of clocks takes or gives."""
    records = [
        call(1, at=datetime(2000 + n // 12, 1 + n % 12, 25, 0, 30, tzinfo=timezone.utc))
        for n in range(324)
    ]
    records += [call(1, at=NOW), call(1, at=datetime(2026, 3, 29, 12, tzinfo=timezone.utc))]
    ingest(store, *records)

    answer = Visitor(create_app(store)).get(f"/?{query}")

    assert answer.body.decode().count('<th scope="row">') == steps
