"""Speed, spending, caches and recommendations, each with what it is computed of."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from decimal import Decimal

import pytest

from agentsight_tokens import CostEstimator, Scope, TokenUsage, UsageRecord
from agentsight_tokens.backend.analytics import (
    Recommendation,
    cache_use,
    conversations,
    expensive_operations,
    recommendations,
    speed,
    top_spenders,
)
from agentsight_tokens.backend.analytics.cache import Cached, saving_of
from agentsight_tokens.backend.analytics.sample import MOST_CALLS, newest_sample
from agentsight_tokens.backend.analytics.siblings import cheaper_sibling
from agentsight_tokens.backend.store import Store
from agentsight_tokens.errors import InvalidQueryError, InvalidScopeError
from agentsight_tokens.usage import STATED_BY_PROVIDER, pico_usd
from tests.analytics_kit import keep, one_cycle
from tests.records import AT, call
from tests.store_kit import postgresql, store

__all__ = ["postgresql", "store"]

PRICES = CostEstimator(
    {
        "big": {"input": 10, "output": 40, "cache_read": 1, "cache_write": "12.5"},
        "big-mini": {"input": 1, "output": 4, "cache_read": "0.1"},
        "plain": {"input": 2, "output": 8},
    }
)
NOW = datetime(2026, 1, 3, tzinfo=timezone.utc)


def made(number: int = 1, *, usage: TokenUsage, model: str = "big", **facts: object) -> UsageRecord:
    """Return a call with the cost that it has by these prices."""
    unpriced = call(
        number, model=model, usage=usage, cost_pico_usd=None, cost_status="unpriced", **facts
    )
    return PRICES.priced(unpriced)


def test_speed_is_of_calls_that_ended_well(store: Store) -> None:
    """Durations and tokens a second leave out what failed; failures are counted beside."""
    usage = TokenUsage(input_tokens=200, output_tokens=100)
    keep(
        store,
        *(
            call(n, usage=usage, duration_seconds=float(n), time_to_first_token_seconds=n / 10)
            for n in range(1, 21)
        ),
        call(30, usage=usage, status="error", duration_seconds=900.0),
        call(31, usage=TokenUsage(), status="partial", cost_pico_usd=None),
        call(32, usage=TokenUsage(), status="cancelled", cost_pico_usd=None),
        call(33, usage=usage, model="other", duration_seconds=None, cost_pico_usd=0),
    )

    report = speed(store, ["model"])

    group, other = report.groups
    assert group.key == ("gpt-4o",)
    assert group.duration == (20, 10.5, 10.0, 19.0)
    assert group.first_token == pytest.approx((20, 1.05, 1.0, 1.9))
    assert group.tokens_per_second == 2000 / 210
    assert (group.failed_calls, group.failed_ratio) == (2, 2 / 23)
    assert group.output_per_input == 0.5
    assert other.duration == (0, None, None, None)
    assert other.tokens_per_second is None
    assert report.total.key == ()
    assert report.total.usage.request_count == 24
    assert report.total.failed_ratio == 2 / 24
    assert report.sample == (24, 24, None)


def test_efficiency_is_of_calls_that_have_a_price(store: Store) -> None:
    """What has no price adds neither cost nor output, and is told beside."""
    usage = TokenUsage(input_tokens=1_000, output_tokens=500)
    keep(
        store,
        made(1, usage=usage, conversation="a"),
        made(2, usage=usage, conversation="a"),
        made(3, usage=usage, conversation="b"),
        call(4, usage=usage, conversation="c", model="unknown", cost_pico_usd=None),
    )

    total = speed(store).total

    assert total.cost_per_1000_output_tokens_pico_usd == pico_usd(Decimal("0.06"))
    assert total.conversations == 2
    assert total.cost_per_conversation_pico_usd == pico_usd(Decimal("0.045"))
    assert total.usage.unpriced_calls == 1
    assert [key for key, *_ in speed(store, ["day"]).groups] == [("2026-01-02",)]


def test_speed_of_nothing(store: Store) -> None:
    """Without a call every ratio is unknown, not 0."""
    total = speed(store).total

    assert total.duration == total.first_token == (0, None, None, None)
    assert {total.tokens_per_second, total.failed_ratio, total.output_per_input} == {None}
    assert total.cost_per_1000_output_tokens_pico_usd is None
    assert total.cost_per_conversation_pico_usd is None
    with pytest.raises(InvalidScopeError, match="'colour' is nothing to group by"):
        speed(store, ["colour"])


def test_of_many_calls_the_newest_are_looked_at(store: Store) -> None:
    """A sample says how many it is of how many, and since when."""
    store.ingest([one_cycle([call(n // 2) for n in range(20)])])

    sample, where = newest_sample(store, {"model": "gpt-4o"}, most=8)

    assert sample == (8, 20, AT + timedelta(seconds=5, microseconds=1))
    assert where == {"model": "gpt-4o", "since": sample.since}
    sample, where = newest_sample(store, {"until": AT + timedelta(seconds=5)}, most=10)
    assert sample == (10, 10, None)
    assert where == {"until": AT + timedelta(seconds=5)}


def test_the_top_spenders(store: Store) -> None:
    """The costliest come first with their share; those that are cut off are in the total."""
    keep(
        store,
        call(1, scope=Scope(user_id="ana"), cost_pico_usd=60),
        call(1, scope=Scope(user_id="ana"), cost_pico_usd=None, cost_status="unpriced"),
        call(1, scope=Scope(user_id="ben"), cost_pico_usd=30),
        call(1, cost_pico_usd=10),
    )

    found = top_spenders(store, limit=2)

    assert found.by == "user_id"
    assert [(s.name, s.cost_share, s.cost_per_call_pico_usd) for s in found.spenders] == [
        ("ana", 0.6, 60),
        ("ben", 0.3, 30),
    ]
    assert found.spenders[0].usage.unpriced_calls == 1
    assert found.total.cost_pico_usd == 100
    assert [s.name for s in top_spenders(store, "day").spenders] == ["2026-01-02"]
    keep(store, call(1, conversation="d", cost_pico_usd=200, model="b"))
    found = top_spenders(store, "conversation", where={"since": AT})
    assert [(s.name, s.usage.cost_pico_usd) for s in found.spenders] == [("d", 200), ("c", 10)]
    found = top_spenders(store, "conversation", where={"model": "b"})
    assert [(s.name, s.cost_share) for s in found.spenders] == [("d", 1.0)]
    assert top_spenders(store, where={"model": "nothing"}).spenders == ()
    nothing = top_spenders(store, where={"user_id": "ana", "status": "error"})
    assert nothing.total.request_count == 0
    with pytest.raises(InvalidQueryError, match="between 1 and 1,000, not 0"):
        top_spenders(store, limit=0)


def test_expensive_operations(store: Store) -> None:
    """Calls and kinds of calls come by their cost, beside what is usual."""
    keep(
        store,
        *(call(n, cost_pico_usd=10) for n in range(5)),
        call(9, cost_pico_usd=80, id="dear", scope=Scope(feature="search", agent="x")),
        call(1, cost_pico_usd=None, cost_status="unpriced", tool_name="free"),
        call(1, cost_pico_usd=30, model="other", tool_name="map"),
    )

    found = expensive_operations(store, limit=2)

    assert (found.calls[0].call.id, found.calls[0].times_median) == ("dear", 8.0)
    assert found.calls[1].times_median == 1.0
    first, second = found.groups
    assert first[:5] == ("search", "x", None, "gpt-4o", "chat")
    assert (first.cost_share, first.cost_per_call_pico_usd) == (0.5, 80)
    assert (second.usage.request_count, second.costliest_call_pico_usd) == (5, 10)
    assert found.sample.calls == 8
    tools = expensive_operations(store, where={"tool_name": "free"})
    assert tools.calls == tools.groups == ()


CACHED = TokenUsage(input_tokens=10_000, output_tokens=10, cache_read_tokens=8_000)
WRITTEN = TokenUsage(input_tokens=10_000, output_tokens=10, cache_creation_tokens=4_000)


def test_what_caches_saved(store: Store) -> None:
    """Reads save the difference to the input's price, writes cost what they cost more."""
    keep(store, made(1, usage=CACHED), made(2, usage=WRITTEN), made(3, usage=CACHED, model="plain"))

    report = cache_use(store, estimator=PRICES)

    big, plain = report.models
    # 8,000 at 9 USD a million less, 4,000 at 2.5 USD a million more.
    assert big.saved_pico_usd == pico_usd(Decimal("0.072") - Decimal("0.01"))
    assert (big.model, big.hit_ratio, big.unknown_tokens) == ("big", 0.4, 0)
    # The price knows no cache, so that reading from one is as dear as input.
    assert (plain.saved_pico_usd, plain.hit_ratio) == (0, 0.8)
    assert report.total.saved_pico_usd == big.saved_pico_usd
    assert report.total.hit_ratio == 16_000 / 30_000
    assert not report.is_estimated


def test_savings_are_what_the_call_would_have_cost_more(store: Store) -> None:
    """For the catalog's own models, the saving is the cost without a cache less the real one."""
    prices = CostEstimator()
    usages = [
        TokenUsage(input_tokens=9_000, output_tokens=5, cache_read_tokens=3_000),
        TokenUsage(
            input_tokens=300_000,  # above the length from which Claude Sonnet 4.5 costs more
            output_tokens=5,
            cache_read_tokens=200_000,
            cache_creation_tokens=50_000,
            cache_creation_1h_tokens=20_000,
        ),
    ]
    calls = []
    for model in ("claude-sonnet-4-5", "gpt-4o", "gemini-2.5-pro"):
        for usage in usages:
            bare = call(1, model=model, usage=usage, cost_pico_usd=None, cost_status="unpriced")
            calls.append(prices.priced(bare))
    keep(store, *calls)

    saved = cache_use(store, estimator=prices).total.saved_pico_usd

    expected = 0
    for record in calls:
        usage = record.usage
        plain = TokenUsage(input_tokens=usage.input_tokens, output_tokens=usage.output_tokens)
        cost = prices.price(plain, record.model, at=record.at).cost_pico_usd
        assert cost is not None
        assert record.cost_pico_usd is not None
        expected += cost - record.cost_pico_usd
    assert saved == expected > 0


def test_savings_that_are_not_known(store: Store) -> None:
    """No price, the provider's own cost or a price that is gone: unknown, never 0."""
    keep(
        store,
        call(1, model="unknown", usage=CACHED, cost_pico_usd=None, cost_status="unpriced"),
        call(2, model="big", usage=CACHED, price_key=STATED_BY_PROVIDER),
        call(3, model="big", usage=CACHED, price_version="1999-01-01 nobody"),
        call(4, model=None, usage=CACHED),
        call(5, model="none", usage=TokenUsage(input_tokens=5)),
    )

    report = cache_use(store, estimator=PRICES)

    found = {use.model: (use.saved_pico_usd, use.unknown_tokens) for use in report.models}
    assert found == {
        "unknown": (None, 8_000),
        "big": (None, 16_000),
        None: (None, 8_000),
        "none": (0, 0),
    }
    assert report.total.saved_pico_usd is None
    assert report.total.unknown_tokens == 32_000
    assert cache_use(store, where={"model": "x"}).total.hit_ratio is None


def test_savings_of_more_calls_than_can_be_looked_at(store: Store) -> None:
    """Beyond the sample, savings are of daily sums, and say so."""
    old = [made(1, usage=CACHED), made(2, usage=WRITTEN), made(3, usage=CACHED, model="no")]
    store.ingest([one_cycle([*old, *(call(n, model="plain") for n in range(4, MOST_CALLS + 2))])])

    report = cache_use(store, estimator=PRICES)

    assert report.is_estimated
    assert report.sample[:2] == (MOST_CALLS, MOST_CALLS + 1)
    assert report.models[0].saved_pico_usd == pico_usd(Decimal("0.062"))
    assert report.total.unknown_tokens == 8_000
    assert report.total.usage.request_count == MOST_CALLS + 1


def test_a_price_without_input_saves_nothing_that_is_known() -> None:
    """Where a rate that is needed is not known, neither is the saving."""
    line = CostEstimator().line("azure/babbage")
    assert line is not None
    card = line.card_at(NOW)
    rates = card.bands[0]._replace(rates=(None,) * len(card.bands[0].rates))
    card.bands = (rates,)

    assert saving_of(Cached(100, 50, 0, 0, 0), card) is None
    assert saving_of(Cached(100, 0, 0, 0, 0), card) == 0


def found(store: Store, **where: object) -> dict[str, list[Recommendation]]:
    """Return what is recommended, by kind."""
    by_kind: dict[str, list[Recommendation]] = {}
    for each in recommendations(store, where=where, estimator=PRICES, now=NOW).found:
        by_kind.setdefault(each.kind, []).append(each)
    return by_kind


SHORT = TokenUsage(input_tokens=500, output_tokens=100)


def test_short_calls_could_go_to_a_smaller_model(store: Store) -> None:
    """Only short calls count, and the saving is what the smaller one takes less."""
    keep(
        store,
        *(made(n, usage=SHORT, scope=Scope(feature="title")) for n in range(25)),
        *(made(n, usage=TokenUsage(input_tokens=500, output_tokens=900)) for n in range(25)),
        *(made(n, usage=SHORT, model="big-mini") for n in range(25)),
        *(made(n, usage=SHORT, scope=Scope(feature="rare")) for n in range(19)),
    )

    [downgrade] = found(store)["could_downgrade"]

    assert (downgrade.model, downgrade.instead, downgrade.feature) == ("big", "big-mini", "title")
    assert (downgrade.calls, downgrade.tokens) == (25, 15_000)
    assert downgrade.cost_pico_usd == 25 * pico_usd(Decimal("0.009"))
    assert downgrade.saving_pico_usd == 25 * pico_usd(Decimal("0.0081"))
    assert "25 calls of at most 2,000 input" in downgrade.evidence


def test_no_smaller_model_no_advice(store: Store) -> None:
    """What thinks, has no sibling or was sold at another tier is left alone."""
    keep(
        store,
        *(made(n, usage=SHORT, model="plain") for n in range(25)),
        *(made(n, usage=SHORT, service_tier="flex") for n in range(25)),
        *(
            made(n, usage=TokenUsage(input_tokens=50, output_tokens=100, reasoning_tokens=50))
            for n in range(25)
        ),
        *(call(n, usage=SHORT, model="unknown", cost_pico_usd=None) for n in range(25)),
        *(call(n, usage=SHORT, model="elsewhere", cost_pico_usd=10**9) for n in range(25)),
        *(call(n, usage=SHORT, model=None, cost_pico_usd=10**9) for n in range(25)),
        *(call(n, usage=SHORT, model="big", cost_pico_usd=1) for n in range(25)),
    )

    assert "could_downgrade" not in found(store)


LONG = TokenUsage(input_tokens=5_000, output_tokens=5)


@pytest.mark.parametrize(
    ("model", "provider", "sibling"),
    [
        ("gpt-4o", "openai", "gpt-4o-mini"),
        ("gpt-4o-2024-08-06", "openai", "gpt-4o-mini"),
        ("gpt-5.1", "openai", "gpt-5-mini"),
        ("gpt-4o-mini", "openai", None),
        ("claude-sonnet-4-5-20250929", "anthropic", "claude-haiku-4-5"),
        ("gemini-2.5-pro", "google", "gemini-2.5-flash"),
        ("mistral-large-latest", "mistral", "mistral-small"),
        ("gpt-4", "openai", None),
        ("our-own", None, None),
    ],
)
def test_siblings(model: str, provider: str | None, sibling: str | None) -> None:
    """A sibling has its own price, is of the same seller and cheaper both ways."""
    found = cheaper_sibling(model, provider, CostEstimator(), NOW)

    assert (None if found is None else found[0]) == sibling


def turns(conversation: str, *inputs: int, read: int = 0, model: str = "big") -> list[UsageRecord]:
    """Return the calls of a conversation, a minute apart."""
    return [
        made(
            60 * n,
            conversation=conversation,
            model=model,
            usage=TokenUsage(input_tokens=tokens, output_tokens=900, cache_read_tokens=read),
        )
        for n, tokens in enumerate(inputs)
    ]


def test_long_conversations_could_be_cached(store: Store) -> None:
    """What each call repeats of the one before could be read, and the rest is written once."""
    for n in range(10):
        keep(store, *turns(f"c{n}", 2_000, 3_000, 4_000))

    [caching] = found(store)["caching_would_pay"]

    assert (caching.model, caching.calls) == ("big", 20)
    assert caching.tokens == 10 * (2_000 + 3_000)
    # 50,000 read at 9 USD a million less, 40,000 written at 2.5 USD a million more.
    assert caching.saving_pico_usd == pico_usd(Decimal("0.45") - Decimal("0.1"))
    assert "0% of the input was read from a cache" in caching.evidence
    assert caching.advice.endswith("and mark it for the cache")


def test_nothing_to_cache(store: Store) -> None:
    """No advice where much is read already, too late, too short or without a cache's price."""
    for n in range(25):
        keep(
            store,
            *turns(f"read{n}", 2_000, 2_000, read=1_500),
            *turns(f"short{n}", 900, 900),
            *turns(f"plain{n}", 2_000, 2_000, model="plain"),
            *turns(f"one{n}", 2_000, model="big-mini"),
            *turns(f"grown{n}", 1_100, 20_000),
            *(call(k, conversation=f"x{n}", model="x", usage=LONG) for k in range(2)),
            made(900, usage=TokenUsage(input_tokens=5_000, output_tokens=1), conversation=f"l{n}"),
            made(
                1_500, usage=TokenUsage(input_tokens=5_000, output_tokens=1), conversation=f"l{n}"
            ),
        )

    assert "caching_would_pay" not in found(store)


def test_what_is_not_known_is_recommended_to_be_told(store: Store) -> None:
    """Models without a price and silent streams are named, without a saving."""
    keep(
        store,
        call(7, model="mine", cost_pico_usd=None, cost_status="unpriced"),
        call(1, model=None, cost_pico_usd=None, cost_status="unpriced"),
        call(
            3,
            usage=TokenUsage(),
            cost_pico_usd=None,
            unreported_reason="stream_without_usage",
        ),
        call(3, usage=TokenUsage(), cost_pico_usd=None, unreported_reason="cancelled"),
    )

    by_kind = found(store)

    named, nameless = by_kind["price_models"]
    assert "a price of 'mine'" in named.advice
    assert (named.calls, named.tokens, named.cost_pico_usd) == (1, 21, None)
    assert "the name of the model" in nameless.advice
    [stream] = by_kind["report_streams"]
    assert (stream.model, stream.calls, stream.saving_pico_usd) == ("gpt-4o", 1, None)
    assert set(by_kind) == {"price_models", "report_streams"}


def test_failures_that_were_paid(store: Store) -> None:
    """Calls that did not end well and cost something, with what they cost."""
    keep(
        store,
        call(5, status="partial", cost_pico_usd=10**12),
        call(6, status="partial", cost_pico_usd=10**12, model="gpt-4o"),
        call(90, model="gpt-4o"),
        call(5, status="error", cost_pico_usd=0),
        call(5, status="error", usage=TokenUsage(), cost_pico_usd=None, conversation="d"),
    )

    [failure] = found(store)["paid_failures"]

    assert (failure.calls, failure.tokens, failure.cost_pico_usd) == (2, 33, 2 * 10**12)
    assert failure.saving_pico_usd is None
    assert failure.evidence == (
        "2 calls ended with partial after the provider had billed 33 tokens. 1 of them were "
        "followed within a minute by another call of the same conversation and model."
    )
    assert found(store, status="error") == {}


def test_what_saves_most_comes_first(store: Store) -> None:
    """Recommendations come by what they save, then by what they cost."""
    for n in range(10):
        keep(store, *turns(f"c{n}", 2_000, 3_000, 4_000))
    keep(
        store,
        *(made(n, usage=SHORT) for n in range(60)),
        call(1, status="error", cost_pico_usd=10**13),
        call(1, model="mine", cost_pico_usd=None, cost_status="unpriced"),
    )

    kinds = [each.kind for each in recommendations(store, estimator=PRICES, now=NOW).found]

    assert kinds == ["could_downgrade", "caching_would_pay", "paid_failures", "price_models"]


def test_costs_beyond_64_bits(store: Store) -> None:
    """Calls whose costs together fit no integer of a database break nothing."""
    most = 2**63 - 1
    for n in range(10):
        keep(
            store,
            *(
                call(60 * k, conversation=f"c{n}", model="big", usage=LONG, cost_pico_usd=most)
                for k in range(3)
            ),
            call(n, model="big", usage=SHORT, status="error", cost_pico_usd=most),
            *(call(n, model="big", usage=SHORT, cost_pico_usd=most) for _ in range(2)),
        )

    by_kind = found(store)

    assert by_kind["caching_would_pay"][0].cost_pico_usd == 30 * most
    assert by_kind["paid_failures"][0].cost_pico_usd == 10 * most
    [downgrade] = by_kind["could_downgrade"]
    assert downgrade.saving_pico_usd == 20 * (most - pico_usd(Decimal("0.0009")))
    whole = speed(store).total
    assert whole.cost_per_conversation_pico_usd is not None
    assert expensive_operations(store).groups[0].usage.cost_pico_usd == 60 * most
    assert conversations(store, order="costliest").rows[0].usage.cost_pico_usd >= 3 * most
    assert conversations(store, where={"model": "big"}, order="costliest").next_cursor is None
