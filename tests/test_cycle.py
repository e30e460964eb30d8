"""Cycles and their wire format."""

from __future__ import annotations

import gc
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inline_snapshot import snapshot

from agentsight_tokens import Cycle, Scope, TokenUsage, UsageRecord
from agentsight_tokens.cycle import cycle_key, decode_cycles, encode_cycles
from tests.records import AT, call

FROZEN = Cycle.of(
    [
        UsageRecord(
            id="019b7d2c0a2e70008000000000000001",
            at=AT,
            usage=TokenUsage(
                input_tokens=100,
                output_tokens=20,
                cache_read_tokens=40,
                cache_creation_tokens=10,
                cache_creation_1h_tokens=4,
                reasoning_tokens=5,
            ),
            scope=Scope(conversation_id="c", session_id="s", user_id="u", tags=("a", "b")),
            model="gpt-4o",
            provider="openai",
            cost_pico_usd=450_000_000,
            prompt_cost_pico_usd=250_000_000,
            completion_cost_pico_usd=200_000_000,
            cost_status="priced",
            price_key="gpt-4o",
            price_version="2026-11-01",
            duration_seconds=1.25,
            time_to_first_token_seconds=0.5,
            handler="langchain",
            response_id="chatcmpl-1",
        ),
        UsageRecord(
            id="019b7d2c0a2e70008000000000000002",
            at=AT + timedelta(seconds=1),
            scope=Scope(conversation_id="c", session_id="s"),
            status="cancelled",
            unreported_reason="cancelled",
        ),
    ],
    key=cycle_key("019b7d2c0a2e70008000000000000000", "c", 3),
    conversation_id="c",
    sealed_by="send",
    sealed_at=AT + timedelta(seconds=2),
    environment="production",
)


def test_the_wire_format_is_frozen() -> None:
    """What version 1 looks like never changes; fields may be added, none taken away."""
    assert msgspec.json.decode(encode_cycles([FROZEN])) == snapshot(
        {
            "cycles": [
                {
                    "version": 1,
                    "key": "019b7d2c0a2e70008000000000000000:c:3",
                    "conversation_id": "c",
                    "sealed_by": "send",
                    "opened_at": "2026-01-02T03:04:05.678901Z",
                    "sealed_at": "2026-01-02T03:04:07.678901Z",
                    "environment": "production",
                    "calls": 2,
                    "unreported_calls": 1,
                    "cost_pico_usd": 450000000,
                    "totals": {
                        "input_tokens": 100,
                        "output_tokens": 20,
                        "total_tokens": 120,
                        "cache_read_tokens": 40,
                        "cache_creation_tokens": 10,
                        "cache_creation_1h_tokens": 4,
                        "reasoning_tokens": 5,
                    },
                    "records": [
                        {
                            "id": "019b7d2c0a2e70008000000000000001",
                            "at": "2026-01-02T03:04:05.678901Z",
                            "usage": {
                                "input_tokens": 100,
                                "output_tokens": 20,
                                "total_tokens": 120,
                                "cache_read_tokens": 40,
                                "cache_creation_tokens": 10,
                                "cache_creation_1h_tokens": 4,
                                "reasoning_tokens": 5,
                            },
                            "scope": {
                                "conversation_id": "c",
                                "session_id": "s",
                                "user_id": "u",
                                "tags": ["a", "b"],
                            },
                            "model": "gpt-4o",
                            "provider": "openai",
                            "cost_pico_usd": 450000000,
                            "prompt_cost_pico_usd": 250000000,
                            "completion_cost_pico_usd": 200000000,
                            "cost_status": "priced",
                            "price_key": "gpt-4o",
                            "price_version": "2026-11-01",
                            "duration_seconds": 1.25,
                            "time_to_first_token_seconds": 0.5,
                            "handler": "langchain",
                            "response_id": "chatcmpl-1",
                        },
                        {
                            "id": "019b7d2c0a2e70008000000000000002",
                            "at": "2026-01-02T03:04:06.678901Z",
                            "scope": {"conversation_id": "c", "session_id": "s"},
                            "status": "cancelled",
                            "unreported_reason": "cancelled",
                        },
                    ],
                }
            ]
        }
    )


def test_decoding_gives_the_cycle_back() -> None:
    """A cycle survives the wire."""
    assert decode_cycles(encode_cycles([FROZEN])) == [FROZEN]


def test_the_collector_passes_cycles_over() -> None:
    """Nothing of a cycle can be in a circle of references; the collector has nothing to look at."""
    cycle = decode_cycles(encode_cycles([FROZEN]))[0]
    record = cycle.records[0]

    assert not any(map(gc.is_tracked, (cycle, record, record.usage, record.scope)))


def test_fields_that_are_not_known_are_passed_over() -> None:
    """A newer client may say more than this version knows."""
    body = msgspec.json.decode(encode_cycles([FROZEN]))
    body["cycles"][0]["new"] = body["cycles"][0]["records"][0]["newer"] = 1

    assert decode_cycles(msgspec.json.encode(body)) == [FROZEN]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"cycles": [{}]}', b'{"cycles": 1}'])
def test_what_is_no_cycle_is_refused(body: bytes) -> None:
    """A body of another shape raises and says where."""
    with pytest.raises(msgspec.DecodeError):
        decode_cycles(body)


@given(st.lists(st.integers(min_value=1, max_value=10**9), min_size=1, max_size=20))
def test_totals_equal_the_sum_of_the_records(numbers: list[int]) -> None:
    """Whatever the records, the totals are their sum."""
    cycle = Cycle.of(
        [call(n) for n in numbers], key="k", conversation_id="c", sealed_by="send", sealed_at=AT
    )

    assert cycle.totals == TokenUsage(input_tokens=sum(numbers), output_tokens=2 * sum(numbers))
    assert cycle.calls == len(numbers)
    assert cycle.cost_pico_usd == 7 * sum(numbers)


def test_what_is_not_known_is_counted() -> None:
    """Unreported and unpriced calls are told apart."""
    assert (FROZEN.unreported_calls, FROZEN.unpriced_calls) == (1, 0)
    unpriced = Cycle.of(
        [call(1, cost_pico_usd=None)],
        key="k",
        conversation_id="c",
        sealed_by="send",
        sealed_at=AT,
    )
    assert (unpriced.unreported_calls, unpriced.unpriced_calls) == (0, 1)


def test_keys_tell_journal_conversation_sequence_and_part() -> None:
    """A key is made of what does not change."""
    assert cycle_key("j", "c", 1) == "j:c:1"
    assert cycle_key("j", "c", 1, "1-500") == "j:c:1:1-500"
