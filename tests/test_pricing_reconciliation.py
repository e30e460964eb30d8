"""A provider's own report beside the ledger."""

from __future__ import annotations

import csv
import json
from datetime import date, datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from agentsight_tokens.errors import ConfigurationError
from agentsight_tokens.pricing import CostEstimator
from agentsight_tokens.pricing.provider_exports import ProviderUsage, read_export
from agentsight_tokens.pricing.reconciliation import reconciled
from agentsight_tokens.pricing.repricing import repriced
from agentsight_tokens.usage import TokenUsage, UsageRecord

AT = datetime(2026, 11, 20, 12, tzinfo=timezone.utc)


def record(model: str | None = "gpt-4o", **fields: Any) -> UsageRecord:
    usage = fields.pop("usage", TokenUsage(input_tokens=2000, output_tokens=500))
    return UsageRecord(id="1", at=fields.pop("at", AT), usage=usage, model=model, **fields)


# -- exports -----------------------------------------------------------------------------------

DAY = date(2026, 11, 20)
OPENAI_USAGE = {
    "object": "page",
    "data": [
        {
            "object": "bucket",
            "start_time": int(datetime(2026, 11, 20, tzinfo=timezone.utc).timestamp()),
            "results": [
                {
                    "object": "organization.usage.completions.result",
                    "input_tokens": 2000,
                    "output_tokens": 500,
                    "input_cached_tokens": 1024,
                    "num_model_requests": 1,
                    "model": "gpt-4o-2024-08-06",
                },
                {
                    "object": "organization.usage.embeddings.result",
                    "input_tokens": 70,
                    "num_model_requests": 2,
                    "model": "text-embedding-3-small",
                },
            ],
        }
    ],
}
OPENAI_COSTS = {
    "data": [
        {
            "start_time": OPENAI_USAGE["data"][0]["start_time"],  # type: ignore[index]
            "results": [
                {"amount": {"value": 0.005, "currency": "usd"}, "line_item": "gpt-4o-2024-08-06, input"},
                {"amount": {"value": "0.0025", "currency": "usd"}, "line_item": "gpt-4o-2024-08-06, output"},
                {"amount": {"value": 1, "currency": "usd"}, "line_item": None},
            ],
        }
    ]
}  # fmt: skip
ANTHROPIC_USAGE = {
    "data": [
        {
            "starting_at": "2026-11-20T00:00:00Z",
            "ending_at": "2026-11-21T00:00:00Z",
            "results": [
                {
                    "uncached_input_tokens": 1000,
                    "cache_creation": {
                        "ephemeral_1h_input_tokens": 1000,
                        "ephemeral_5m_input_tokens": 2000,
                    },
                    "cache_read_input_tokens": 8000,
                    "output_tokens": 500,
                    "server_tool_use": {"web_search_requests": 2},
                    "model": "claude-sonnet-4-5-20250929",
                }
            ],
        }
    ],
    "has_more": False,
}
ANTHROPIC_COST = {
    "data": [
        {
            "starting_at": "2026-11-20T00:00:00Z",
            "results": [
                {"currency": "USD", "amount": "123.45", "model": "claude-sonnet-4-5-20250929"},
                {"currency": "USD", "amount": "1.5", "model": None},
            ],
        }
    ]
}


def written(tmp_path: Path, content: object, name: str = "export.json") -> Path:
    file = tmp_path / name
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def test_openai_usage_is_read(tmp_path: Path) -> None:
    """Input contains what was cached; embeddings stand apart."""
    lines = read_export(written(tmp_path, OPENAI_USAGE))

    assert lines == [
        ProviderUsage(
            "openai",
            DAY,
            "gpt-4o-2024-08-06",
            TokenUsage(input_tokens=2000, output_tokens=500, cache_read_tokens=1024),
            calls=1,
        ),
        ProviderUsage(
            "openai", DAY, "text-embedding-3-small", TokenUsage(embedding_tokens=70), calls=2
        ),
    ]


def test_openai_costs_are_read(tmp_path: Path) -> None:
    """A line item names the model before its comma."""
    lines = read_export(written(tmp_path, OPENAI_COSTS))

    assert [(line.model, line.cost_pico_usd) for line in lines] == [
        ("gpt-4o-2024-08-06", 5_000_000_000),
        ("gpt-4o-2024-08-06", 2_500_000_000),
        (None, 10**12),
    ]


def test_anthropic_usage_becomes_inclusive(tmp_path: Path) -> None:
    """Cache reads and writes are added to the uncached input."""
    (line,) = read_export(written(tmp_path, ANTHROPIC_USAGE))

    assert (line.provider, line.day, line.model) == ("anthropic", DAY, "claude-sonnet-4-5-20250929")
    assert line.usage == TokenUsage(
        input_tokens=12_000,
        output_tokens=500,
        cache_read_tokens=8000,
        cache_creation_tokens=3000,
        cache_creation_1h_tokens=1000,
        web_search_requests=2,
    )


def test_anthropic_costs_are_cents(tmp_path: Path) -> None:
    """Amounts are decimal strings of cents."""
    lines = read_export(written(tmp_path, ANTHROPIC_COST))

    assert [line.cost_pico_usd for line in lines] == [1_234_500_000_000, 15_000_000_000]


def test_pages_may_be_a_list_or_lines(tmp_path: Path) -> None:
    """A list of pages, JSON lines and single buckets are read alike."""
    page, bucket = json.dumps(ANTHROPIC_USAGE), json.dumps(ANTHROPIC_USAGE["data"][0])  # type: ignore[index]

    as_list = read_export(written(tmp_path, [ANTHROPIC_USAGE, ANTHROPIC_USAGE]))
    as_lines = read_export(written(tmp_path, f"{page}\n\n{bucket}\n", "export.jsonl"))

    assert len(as_list) == len(as_lines) == 2
    assert as_list == as_lines


def sheet(tmp_path: Path, *rows: dict[str, str]) -> Path:
    file = tmp_path / "export.csv"
    with file.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return file


def test_console_sheets_are_read(tmp_path: Path) -> None:
    """The CSV files of both consoles, of usage and of cost."""
    openai = sheet(
        tmp_path,
        {"start_time_iso": "2026-11-20T00:00:00+00:00", "model": "gpt-4o", "num_model_requests": "3",
         "input_tokens": "10", "output_tokens": "", "input_cached_tokens": "4"},
    )  # fmt: skip
    assert read_export(openai) == [
        ProviderUsage(
            "openai", DAY, "gpt-4o", TokenUsage(input_tokens=10, cache_read_tokens=4), calls=3
        )
    ]
    without_calls = sheet(
        tmp_path, {"start_time": "1795132800.0", "model": "", "input_tokens": "1"}
    )
    assert read_export(without_calls) == [
        ProviderUsage("openai", DAY, None, TokenUsage(input_tokens=1))
    ]
    anthropic = sheet(
        tmp_path,
        {"usage_date_utc": "2026-11-20", "model_version": "claude-x", "usage_input_tokens_no_cache": "1",
         "usage_input_tokens_cache_read": "2", "usage_input_tokens_cache_write_5m": "3",
         "usage_input_tokens_cache_write_1h": "4", "usage_output_tokens": "5", "web_search_count": "6"},
    )  # fmt: skip
    assert read_export(anthropic) == [
        ProviderUsage(
            "anthropic",
            DAY,
            "claude-x",
            TokenUsage(
                input_tokens=10,
                output_tokens=5,
                cache_read_tokens=2,
                cache_creation_tokens=7,
                cache_creation_1h_tokens=4,
                web_search_requests=6,
            ),
        )
    ]
    costs = sheet(
        tmp_path, {"usage_date_utc": "2026-11-20", "model": "claude-x", "cost_usd": "1.25"}
    )
    assert read_export(costs)[0].cost_pico_usd == 1_250_000_000_000


def test_days_are_days_in_utc(tmp_path: Path) -> None:
    """A time of another zone belongs to its day in UTC."""
    rows = sheet(
        tmp_path,
        {"start_time_iso": "2026-11-20T23:00:00-05:00", "model": "m", "input_tokens": "1"},
        {"start_time_iso": "2026-11-20T23:00:00", "model": "m", "input_tokens": "1"},
    )

    assert [line.day.day for line in read_export(rows)] == [21, 20]


@pytest.mark.parametrize(
    "content", ["no json", "{}", '{"data": []}', '{"data": [{"start_time": "x"}]}', "[3]"]
)
def test_an_export_of_no_known_shape_is_named(tmp_path: Path, content: str) -> None:
    """What is no export raises with its path."""
    with pytest.raises(ConfigurationError, match=r"export\.json"):
        read_export(written(tmp_path, content))


# -- reconciling -------------------------------------------------------------------------------


def test_a_ledger_that_agrees_has_no_differences(tmp_path: Path) -> None:
    """Dated and undated names of one family are compared together."""
    export = read_export(written(tmp_path, OPENAI_USAGE))
    usage = TokenUsage(input_tokens=2000, output_tokens=500, cache_read_tokens=1024)
    records = [
        record("gpt-4o", usage=usage, provider="openai"),
        record("text-embedding-3-small", usage=TokenUsage(embedding_tokens=30)),
        record("text-embedding-3-small", usage=TokenUsage(embedding_tokens=40)),
        record("claude-sonnet-4-5", provider="anthropic"),
        record("gpt-4o", at=datetime(2026, 11, 19, tzinfo=timezone.utc)),
    ]

    comparisons = reconciled(records, export)

    assert [(c.day, c.model, c.agrees) for c in comparisons] == [
        (DAY, "gpt-4o", True),
        (DAY, "text-embedding-3-small", True),
    ]


def test_a_difference_names_its_place_and_likely_cause(tmp_path: Path) -> None:
    """What differs is told by counter, with the unreported calls beside it."""
    export = read_export(written(tmp_path, OPENAI_USAGE))
    records = [
        record("gpt-4o", usage=TokenUsage(input_tokens=1500, output_tokens=500)),
        record("gpt-4o", unreported_reason="stream_abandoned"),
        record("o3", usage=TokenUsage(input_tokens=7)),
    ]

    gpt, o3, embedding = reconciled(records, export)

    assert gpt.differences == {"calls": 1, "input_tokens": -500, "cache_read_tokens": -1024}
    assert gpt.unreported_calls == 1
    assert (o3.model, o3.differences) == ("o3", {"calls": 1, "input_tokens": 7})
    assert embedding.differences == {"calls": -2, "embedding_tokens": -70}
    assert not embedding.agrees


def test_costs_are_compared_within_a_tolerance(tmp_path: Path) -> None:
    """Costs may differ by a cent; more is a difference."""
    export = read_export(written(tmp_path, OPENAI_COSTS))[:2]
    (repricing,) = repriced([record()], CostEstimator())
    call = repricing.new_record  # 0.01, against 0.0075

    (close,) = reconciled([call], export)
    (strict,) = reconciled([call], export, cost_tolerance_usd=Decimal(0))
    (missing,) = reconciled([], [ProviderUsage("openai", DAY, "gpt-4o", cost_pico_usd=10**12)])

    assert close.agrees
    assert strict.differences == {"cost_pico_usd": 2_500_000_000}
    assert missing.differences == {"cost_pico_usd": -(10**12)}
    assert (missing.ledger.calls, missing.provider.usage) == (0, None)


def test_an_export_without_models_is_compared_by_day() -> None:
    """Where the provider did not group by model, whole days are compared."""
    export = [ProviderUsage("openai", DAY, None, TokenUsage(input_tokens=30, output_tokens=3))]
    records = [
        record("gpt-4o", usage=TokenUsage(input_tokens=10, output_tokens=1)),
        record("o3", usage=TokenUsage(input_tokens=20, output_tokens=2)),
    ]

    (day,) = reconciled(records, export)

    assert (day.model, day.agrees, day.ledger.calls) == (None, True, 2)


def test_cache_writes_are_compared_where_they_are_reported(tmp_path: Path) -> None:
    """Anthropic reports writes, and they count."""
    export = read_export(written(tmp_path, ANTHROPIC_USAGE))
    usage = TokenUsage(input_tokens=12_000, output_tokens=500, cache_read_tokens=8000)

    (comparison,) = reconciled([record("claude-sonnet-4-5", usage=usage)], export)

    assert comparison.differences == {"cache_creation_tokens": -3000}


def test_a_call_without_a_model_is_compared_as_such() -> None:
    """A call that names no model stands alone."""
    export = [ProviderUsage("openai", DAY, "gpt-4o", TokenUsage(input_tokens=1))]

    comparisons = reconciled([record(None, usage=TokenUsage(input_tokens=1))], export)

    assert [(c.model, c.differences) for c in comparisons] == [
        (None, {"input_tokens": 1}),
        ("gpt-4o", {"input_tokens": -1}),
    ]
