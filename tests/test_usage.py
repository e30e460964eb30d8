"""Usage, scope and records."""

from __future__ import annotations

from datetime import datetime, timezone
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentsight_tokens import InvalidCountError, Scope, TokenUsage, UsageRecord, UsageSummary
from agentsight_tokens.errors import InvalidScopeError
from agentsight_tokens.usage import MAX_COUNT, USAGE_FIELDS, checked_count, pico_usd, usd

AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc)
usages = st.builds(
    TokenUsage, **dict.fromkeys(USAGE_FIELDS, st.integers(min_value=0, max_value=10**6))
)


def test_a_total_that_is_not_given_is_the_sum() -> None:
    """The total is input + output unless the provider reported one."""
    assert TokenUsage(input_tokens=3, output_tokens=4).total_tokens == 7
    assert TokenUsage(input_tokens=3, output_tokens=4, total_tokens=9).total_tokens == 9


def test_embeddings_are_never_in_the_total() -> None:
    """Embedding tokens stand apart."""
    assert TokenUsage(embedding_tokens=5).total_tokens == 0


@given(st.lists(usages, max_size=5))
def test_sums_are_exact_in_any_order(parts: list[TokenUsage]) -> None:
    """Adding up forwards, backwards and field by field gives the same."""
    forwards = sum(parts, start=TokenUsage())
    backwards = sum(reversed(parts), start=TokenUsage())

    assert forwards == backwards
    for name in USAGE_FIELDS:
        assert getattr(forwards, name) == sum(getattr(part, name) for part in parts)


def test_usage_is_added_to_usage_alone() -> None:
    """Anything else is no addend."""
    with pytest.raises(TypeError):
        _ = TokenUsage() + 1


def test_usage_cannot_be_changed() -> None:
    """A usage is immutable."""
    with pytest.raises(AttributeError):
        TokenUsage().input_tokens = 1


def test_an_empty_usage_is_false() -> None:
    """A usage is true when it counts anything."""
    assert not TokenUsage()
    assert TokenUsage(embedding_tokens=1)


class OwnInteger(int):
    """As some libraries have for their numbers."""


def test_counts_of_any_integer_class_are_plain() -> None:
    """A count is stored as a plain integer, for no other is written as JSON."""
    usage = TokenUsage(input_tokens=OwnInteger(5))

    assert type(usage.input_tokens) is int
    assert msgspec.json.encode(usage) == b'{"input_tokens":5,"total_tokens":5}'


@pytest.mark.parametrize("value", [-1, 1.5, 2.0, "7", True, float("nan"), 10**16, object()])
def test_bad_counts_are_refused_with_their_value(value: object) -> None:
    """The error names the field and the value."""
    with pytest.raises(InvalidCountError, match="prompt_tokens must") as error:
        checked_count("prompt_tokens", value)

    assert repr(value) in str(error.value)


def test_none_counts_as_zero() -> None:
    """None is a count of 0, the limit itself is allowed."""
    assert checked_count("x", None) == 0
    assert checked_count("x", MAX_COUNT) == MAX_COUNT


def test_numbers_of_other_libraries_are_counts() -> None:
    """What has an index is a whole number; a usage turns it into an int."""

    class Whole:
        def __index__(self) -> int:
            return 7

    assert type(TokenUsage(input_tokens=Whole()).input_tokens) is int


def test_a_negative_usage_is_refused() -> None:
    """A usage checks its own counters."""
    with pytest.raises(InvalidCountError, match="output_tokens"):
        TokenUsage(output_tokens=-1)


def test_a_scope_is_replaced_field_by_field() -> None:
    """What is not given, or None, stays; tags are sorted and unique."""
    scope = Scope().replace(conversation_id="c", tags=["b", "a", "b"])

    assert scope.replace(user_id=7, conversation_id=None) == Scope(
        conversation_id="c", user_id="7", tags=("a", "b")
    )
    assert scope.replace(tags="x").tags == ("x",)


@pytest.mark.parametrize(
    "fields", [{"who": "x"}, {"user_id": ""}, {"agent": "a" * 1025}, {"tags": 5}]
)
def test_a_bad_scope_is_refused(fields: dict[str, Any]) -> None:
    """Unknown fields, empty and endless values and what is no tags raise."""
    with pytest.raises(InvalidScopeError):
        Scope().replace(**fields)


def test_records_have_the_documented_aliases() -> None:
    """A record can be read by the older names."""
    record = UsageRecord(
        id="1",
        at=AT,
        usage=TokenUsage(input_tokens=3, output_tokens=4, cache_read_tokens=2, embedding_tokens=5),
        scope=Scope(conversation_id="c"),
        cost_pico_usd=1_500_000_000_000,
    )

    assert record.timestamp == AT
    assert (record.prompt_tokens, record.completion_tokens, record.total_tokens) == (3, 4, 7)
    assert (record.input_tokens, record.output_tokens, record.embedding_tokens) == (3, 4, 5)
    assert record.cached_tokens == 2
    assert record.conversation_id == "c"
    assert record.tool_name is None
    assert record.cost == Decimal("1.5")
    assert not record.is_unreported


def test_an_unpriced_record_has_no_cost() -> None:
    """None is unknown and is never 0."""
    assert UsageRecord(id="1", at=AT).cost is None


def test_records_survive_the_wire() -> None:
    """Decoding what was encoded gives the same record."""
    record = UsageRecord(id="1", at=AT, usage=TokenUsage(input_tokens=1), model="m")

    assert msgspec.json.decode(msgspec.json.encode(record), type=UsageRecord) == record


def test_money_is_exact() -> None:
    """Pico-USD become Decimal without rounding."""
    assert usd(1) == Decimal("0.000000000001")
    assert usd(10**24) == Decimal(10**12)


@pytest.mark.parametrize(
    ("pico", "printed"),
    [(0, "0"), (10**14, "100"), (1_200_000_000, "0.0012"), (-5 * 10**11, "-0.5")],
)
def test_money_is_printed_without_zeros_at_its_end(pico: int, printed: str) -> None:
    """Nothing is `0`, not `0E-12`, and a hundred is `100`."""
    assert str(usd(pico)) == printed
    assert pico_usd(usd(pico)) == pico


@given(st.lists(usages, max_size=5))
def test_records_add_up_to_a_summary(parts: list[TokenUsage]) -> None:
    """Counts, money, and what is not known of each call; also model by model."""
    records = [
        UsageRecord(id=str(n), at=AT, usage=part, model="gpt-4o", cost_pico_usd=n, source=source)
        for n, part in enumerate(parts)
        for source in ("provider", "estimated")
    ]
    silent = UsageRecord(id="s", at=AT, unreported_reason="provider_silent")
    unpriced = UsageRecord(id="u", at=AT, usage=TokenUsage(input_tokens=3, embedding_tokens=4))

    summary = UsageSummary.of_calls([*records, silent, unpriced])

    total = sum((r.usage for r in records), start=unpriced.usage)
    assert [getattr(summary, name) for name in USAGE_FIELDS] == [
        getattr(total, name) for name in USAGE_FIELDS
    ]
    assert summary.request_count == 2 * len(parts) + 2
    assert summary.cost_pico_usd == sum(r.cost_pico_usd for r in records)
    assert (summary.unreported_calls, summary.unpriced_calls, summary.unpriced_tokens) == (1, 1, 7)
    assert summary.estimated_calls == len(parts)
    assert summary.by_model["unknown"].request_count == 2
    assert UsageSummary.of_calls([]) == UsageSummary()
