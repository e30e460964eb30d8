"""Forecast, anomalies, recommendations, caches and speed: as analytics tell them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from agentsight_tokens import Scope, TokenUsage, UsageRecord
from agentsight_tokens.backend.analytics import (
    anomalies,
    cache_use,
    forecast,
    recommendations,
    speed,
)
from agentsight_tokens.backend.app import create_app
from agentsight_tokens.backend.dashboard.figures import (
    change,
    count,
    duration,
    money,
    share,
    sparkline,
)
from agentsight_tokens.backend.store import SQLiteStore, Store
from agentsight_tokens.cycle import Cycle
from agentsight_tokens.pricing import CostEstimator
from tests.dashboard_kit import Visitor, text_of, titles_of
from tests.records import call

NOW = datetime.now(timezone.utc)
PRICE_VERSION = CostEstimator().estimate(1, 1, "gpt-4o", provider="openai").price_version


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with SQLiteStore(tmp_path / "store.db") as store:
        yield store


@pytest.fixture
def visitor(store: Store) -> Visitor:
    return Visitor(create_app(store))


def ingest(store: Store, *records: UsageRecord) -> None:
    cycle = Cycle.of(
        records, key=records[0].id, conversation_id="c", sealed_by="send", sealed_at=NOW
    )
    store.ingest([cycle])


def day(ago: int, usd: int, **facts: object) -> UsageRecord:
    """Return a call of a day before today that cost some USD."""
    given = {
        "at": NOW - timedelta(days=ago),
        "cost_pico_usd": usd * 10**12,
        "usage": TokenUsage(input_tokens=100_000, output_tokens=1_000, cache_read_tokens=60_000),
        "provider": "openai",
        "price_key": "gpt-4o",
        "price_version": PRICE_VERSION,
        "scope": Scope(conversation_id=f"c-{ago}", user_id="ann", feature="search"),
        "duration_seconds": 2.0,
        "time_to_first_token_seconds": 0.5,
    }
    return call(ago, **{**given, **facts})


def test_the_forecast_is_the_analytics(store: Store, visitor: Visitor) -> None:
    """With its interval and how such forecasts did; too little history is told as such."""
    ingest(store, day(1, 3))
    assert "No forecast:" in text_of(visitor.get("/"))
    ingest(store, *(day(ago, 3 + ago % 3) for ago in range(1, 80)))
    found = forecast(store.of_project(1))

    text = text_of(visitor.get("/"))

    # With each moment less is left of today.
    spends = [found.spend_pico_usd, forecast(store.of_project(1)).spend_pico_usd]
    intervals = [spend for spend in spends if spend is not None]
    assert len(intervals) == 2
    assert any(f"{money(spend.expected).text} by its end" in text for spend in intervals)
    assert any(f"above {money(spend.low).text} , nine of ten" in text for spend in intervals)
    assert any(f"nine of ten below {money(spend.high).text}" in text for spend in intervals)
    assert found.backtest is not None
    assert f"Of {found.backtest.forecasts} forecasts made so before" in text


def test_days_that_stand_out_are_shown(store: Store, visitor: Visitor) -> None:
    """On the overview and among the insights; a link leads to the day."""
    assert "A day can be judged when" in text_of(visitor.get("/insights"))
    ingest(store, *(day(ago, 500 if ago == 2 else 3) for ago in range(1, 80)))
    [anomaly] = anomalies(store.of_project(1), now=NOW).found

    for path in ("/", "/insights"):
        answer = visitor.get(path)
        assert f"{anomaly.day}" in text_of(answer)
        assert "more $500.00" in text_of(answer)
        assert "500 USD" in titles_of(answer)
        assert (
            f"range=custom&amp;since={anomaly.day}&amp;until={anomaly.day}" in answer.body.decode()
        )


def test_recommendations_come_with_their_evidence(store: Store, visitor: Visitor) -> None:
    """And with what they save, where that is known."""
    assert "Nothing stands out" in text_of(visitor.get("/insights"))
    unpriced = [
        day(ago, 0, model="in-house-9", cost_pico_usd=None, cost_status="unpriced")
        for ago in range(1, 20)
    ]
    ingest(store, *unpriced, *(day(ago, 5) for ago in range(1, 20)))
    found = recommendations(store.of_project(1), now=NOW).found
    assert "price_models" in {each.kind for each in found}

    text = text_of(visitor.get("/insights"))

    for each in found[:12]:
        assert " ".join(each.advice.split()) in text
        assert " ".join(each.evidence.split()) in text


def test_expensive_operations_come_afterwards(store: Store, visitor: Visitor) -> None:
    """The browser asks for them when it has the page."""
    assert "/insights/costly?model=gpt-4o" in visitor.get("/insights?model=gpt-4o").body.decode()
    assert "No call of this selection" in text_of(visitor.get("/insights/costly"))
    ingest(store, day(1, 4), day(2, 8))

    text = text_of(visitor.get("/insights/costly"))

    assert "search none none gpt-4o 2 $6.00 $12.00" in text
    assert visitor.get("/insights/costly?range=x").status == 400


def test_speed_and_caches_are_the_analytics(store: Store, visitor: Visitor) -> None:
    """By model; what no call has told is a dash."""
    ingest(store, *(day(ago, 1, duration_seconds=1 + ago / 10) for ago in range(1, 20)))
    ingest(store, day(1, 1, model="mute", duration_seconds=None, time_to_first_token_seconds=None))
    [fast, _] = sorted(speed(store.of_project(1), ["model"]).groups, key=lambda g: g.key)

    text = text_of(visitor.get("/models/speed"))

    assert fast.tokens_per_second is not None
    assert f"gpt-4o 19 2.0 s 2.9 s 500 ms {fast.tokens_per_second:,.0f} 0.0%" in text
    assert "mute 1 - - - - 0.0%" in text
    caches = {each.model: each for each in cache_use(store.of_project(1)).models}
    saved = caches["gpt-4o"].saved_pico_usd
    assert saved is not None, caches
    answer = visitor.get("/models/cache")
    assert "60.0%" in text_of(answer)
    assert money(saved).text in text_of(answer)
    assert "No models" in text_of(visitor.get("/models/speed?model=x"))
    assert "No models" in text_of(visitor.get("/models/cache?model=x"))


def test_a_filtered_overview_adds_up_the_rest_afterwards(store: Store, visitor: Visitor) -> None:
    """The browser asks for the rankings when it has the page."""
    ingest(store, day(1, 4), day(1, 5, scope=Scope(conversation_id="c", user_id="bob")))
    page = visitor.get("/?model=gpt-4o")
    assert "/ranking?model=gpt-4o&amp;by=user" in page.body.decode()
    assert "bob" not in text_of(page)

    users = text_of(visitor.get("/ranking?model=gpt-4o&by=user"))

    assert "Top users All users bob $5.00" in users
    assert "ann $4.00" in users
    assert visitor.get("/ranking?by=secret").status == 400


def test_long_spans_tell_models_without_providers(store: Store, visitor: Visitor) -> None:
    """All providers' calls of a model are one row."""
    ingest(store, day(1, 4), day(1, 5, provider="azure"))

    assert "gpt-4o openai" in text_of(visitor.get("/models"))
    assert "gpt-4o all providers" in text_of(visitor.get("/models?range=all"))


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (count(9_999), "9,999"),
        (count(10_000), "10.0K"),
        (count(999_499), "999K"),
        (count(999_600), "1.00M"),
        (count(12_345_678_901), "12.3B"),
        (count(10**16), "10,000T"),
        (money(0), "$0.00"),
        (money(None), "unpriced"),
        (money(1), "<$0.000001"),
        (money(123_000_000), "$0.00012"),
        (money(42_100_000_000), "$0.042"),
        (money(1_234_560_000_000_000), "$1,234.56"),
        (money(2_500_000 * 10**12), "$2.50M"),
        (share(1, 3), "33.3%"),
        (share(1, 100_000), "<0.1%"),
        (share(1, 0), "-"),
        (duration(0.0421), "42 ms"),
        (duration(61), "1 min 1 s"),
        (duration(7_260), "2 h 1 min"),
        (duration(None), "-"),
    ],
)
def test_numbers_are_short(figure: tuple[str, str, bool], text: str) -> None:
    """Three digits where that is enough; the exact value stands beside it."""
    assert figure[0] == text


def test_numbers_that_begin_at_nothing_do_not_change() -> None:
    """A growth of nothing is none, and one point is no line."""
    assert change(5, 0, count(0)) is None
    fallen = change(5, 10, count(10))
    assert fallen is not None
    assert (fallen.text, fallen.is_more) == ("-50.0%", False)
    assert sparkline([1]) == ""
    assert sparkline([0, 1, 2]).startswith("M0.0,31.0 L60.0,16.0")
